//! `lakeward drop`: removes what the pipeline made on the source; with `--tables` its lake tables and ledger too.
use clap::Args;
use lakeward_core::{Error, ErrorKind, Result, Slot};
use lakeward_engine::commit::ledger::{Entrance, Ledger};
use lakeward_engine::commit::state::State;

use super::{FileArg, out};
use crate::control::{self, Request};
use crate::exit::Failure;
use crate::loaded::{self, Opened, OpenedSink};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward drop shop.yaml              the slot and the publication go, the lake tables stay
  lakeward drop shop.yaml --tables     the lake tables and the ledger go too

A slot that nobody reads keeps the source's log for ever: drop a pipeline that will not run again.")]
pub(super) struct DropArgs {
    #[command(flatten)]
    file: FileArg,
    /// Remove the pipeline's tables from the lake, with their rows
    #[arg(long)]
    tables: bool,
    /// Fence a writer that was active a moment ago and does not answer
    #[arg(long)]
    take_over: bool,
}

pub(super) async fn run(args: DropArgs) -> Result<(), Failure> {
    let loaded = loaded::load(&args.file.file)?;
    refuse_if_running(&loaded.options.state_dir).await?;
    let opened = loaded.open().await?;
    let mut ledgers = Vec::new();
    for sink in &opened.sinks {
        let ledger =
            match Ledger::enter(sink.ledger(), &entrance(&opened, sink, args.take_over)).await {
                Ok(ledger) => Some(ledger),
                // What was asked for removes the ledger too: that it is damaged must not be in the way.
                Err(error) if error.kind() == ErrorKind::Corrupt && args.tables => None,
                Err(error) => return Err(error.into()),
            };
        ledgers.push((sink, ledger));
    }
    if args.tables {
        for (sink, ledger) in &ledgers {
            if let Some(ledger) = ledger {
                drop_known(sink, ledger.state()).await?;
            }
            drop_by_marks(&opened, sink).await?;
        }
    }
    opened.source.remove().await?;
    out::line("source: what the pipeline made there is gone");
    for (sink, ledger) in ledgers {
        match ledger {
            Some(mut ledger) if !args.tables => ledger.release().await?,
            _ => forget(sink).await?,
        }
    }
    Ok(())
}

pub(super) async fn refuse_if_running(state_dir: &std::path::Path) -> Result<()> {
    match control::call(state_dir, &Request::Status).await {
        Ok(None) => Ok(()),
        _ => Err(Error::new(ErrorKind::Conflict, "the pipeline is running")
            .remedied("stop it first: one SIGTERM, then wait for its end")),
    }
}

fn entrance(opened: &Opened, sink: &OpenedSink, take_over: bool) -> Entrance {
    Entrance {
        writer: sink.env.writer.clone(),
        lock: sink.env.writer.clone(),
        predecessor_lock: None,
        take_over,
        commit_interval: opened.options.commit_interval.0,
    }
}

async fn drop_known(opened: &OpenedSink, state: &State) -> Result<()> {
    for (table, schema) in &state.schemas {
        if let Some(copy) = state.tables.get(table).and_then(|t| t.copy.as_ref()) {
            opened.sink.drop_copy(schema, copy.generation).await?;
        }
        opened.sink.drop_table(schema).await?;
        out::line(&format!("{table}: gone from the lake"));
    }
    Ok(())
}

/// What a lost or damaged ledger does not know: the tables' own marks say whose they are.
async fn drop_by_marks(opened: &Opened, sink: &OpenedSink) -> Result<()> {
    for schema in opened.source.discover().await? {
        let mark = match sink.sink.open_table(&schema, Slot::Visible).await {
            Ok(mut table) => table.last_commit().await?,
            Err(error) if error.kind() == ErrorKind::Config => None,
            Err(error) => return Err(error),
        };
        let (pipeline, name) = (&opened.options.name, &sink.env.name);
        if mark.is_some_and(|mark| mark.pipeline == *pipeline && mark.sink == *name) {
            sink.sink.drop_table(&schema).await?;
            out::line(&format!("{}: gone from the lake", schema.table));
        }
    }
    Ok(())
}

/// Newest first: a ledger that lost its end is only shorter; one that lost its beginning is damaged.
pub(super) async fn forget(opened: &OpenedSink) -> Result<()> {
    let ledger = opened.ledger();
    let mut names = ledger.list().await?;
    names.sort();
    for name in names.iter().rev() {
        ledger.delete(name).await?;
    }
    out::line("ledger: gone");
    Ok(())
}
