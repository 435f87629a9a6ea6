//! The command line: verbs, their options, and help that teaches.
mod check;
mod compact;
mod drop;
mod inspect;
mod out;
mod rebuild_ledger;
mod resync;
mod run;
mod schema;
mod stopped;
mod tables;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exit::Failure;
use crate::logging::{self, LogFormat, LogLevel};
use crate::screen::Screen;

/// Follows the change logs of databases into lake tables, exactly once
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = OVERVIEW, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    log: LogArgs,
}

const OVERVIEW: &str = "\
Begin with:
  lakeward check shop.yaml                     what is missing, and what to type
  lakeward run shop.yaml                       load, then follow until stopped
  lakeward run shop.yaml --until-caught-up     the same file as a batch job

Exit status:
  0  done, caught up or drained      1  stopped until somebody acts
  2  wrong command line or file      3  fenced: another writer has taken over
  4  source or lake unreachable      101  a bug; please report it";

/// How the log looks.
#[derive(Debug, Clone, Copy, Args)]
struct LogArgs {
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "auto", hide_possible_values = false)]
    log_format: LogFormat,
    /// The least important lines that are shown
    #[arg(long, global = true, value_enum, default_value = "info")]
    log_level: LogLevel,
}

impl LogArgs {
    /// Starts the log; the screen, when there is a terminal.
    fn start(self) -> Option<Screen> {
        logging::start(self.log_format, self.log_level)
    }
}

/// The pipeline file that every verb but `schema` takes.
#[derive(Debug, Args)]
struct FileArg {
    /// The pipeline file
    #[arg(value_name = "PIPELINE.yaml")]
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Looks at the file, the source and the lake, and lists every finding with its remedy
    Check(check::CheckArgs),
    /// Loads the tables and follows their log
    Run(run::RunArgs),
    /// Lists the pipeline's tables and how far each is
    Tables(tables::TablesArgs),
    /// Prints what the ledger holds: consistent points, entries, one table
    Inspect(inspect::InspectArgs),
    /// Loads tables again into invisible copies, and swaps them in
    Resync(resync::ResyncArgs),
    /// Rewrites small and much-deleted files now
    Compact(compact::CompactArgs),
    /// Removes what the pipeline made on the source; asked for, its lake tables too
    Drop(drop::DropArgs),
    /// Makes a lost or damaged ledger again from the tables' own marks
    RebuildLedger(rebuild_ledger::RebuildArgs),
    /// Prints the JSON schema of the pipeline file
    Schema(schema::SchemaArgs),
}

/// Carries out what the command line asks for.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.verb {
        Verb::Run(args) => run::run(args, cli.log.start()).await,
        Verb::Resync(args) => resync::run(args, cli.log.start()).await,
        Verb::Compact(args) => compact::run(args, cli.log.start()).await,
        other => {
            // Verbs that only look or remove: their output is their answer, the log only warns.
            logging::start(LogFormat::Text, LogLevel::Warn);
            look(other).await
        }
    }
}

async fn look(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Check(args) => check::run(args).await,
        Verb::Tables(args) => tables::run(args).await,
        Verb::Inspect(args) => inspect::run(args).await,
        Verb::Drop(args) => drop::run(args).await,
        Verb::RebuildLedger(args) => rebuild_ledger::run(args).await,
        Verb::Schema(args) => schema::run(&args),
        Verb::Run(_) | Verb::Resync(_) | Verb::Compact(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
