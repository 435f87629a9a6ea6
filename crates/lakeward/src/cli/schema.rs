//! `lakeward schema`: the JSON schema of the pipeline file and the reference page, generated from the option types.
use std::path::{Path, PathBuf};

use clap::Args;
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_engine::spec::{file_schema, reference_page};

use super::out;
use crate::exit::{Failure, OPERATOR};
use crate::registry;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward schema > pipeline.schema.json
  lakeward schema --write docs/book
  lakeward schema --check docs/book

Editors complete and check a pipeline file that begins with the line
  # yaml-language-server: $schema=pipeline.schema.json")]
pub(super) struct SchemaArgs {
    /// Write pipeline.schema.json and configuration.md into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    write: Option<PathBuf>,
    /// Fail when the files in this directory are not what would be written
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
}

pub(super) fn run(args: &SchemaArgs) -> Result<(), Failure> {
    let files = generate()?;
    match args {
        SchemaArgs { write: Some(dir), .. } => Ok(write(dir, &files)?),
        SchemaArgs { check: Some(dir), .. } => check(dir, &files),
        _ => {
            out::line(files[0].1.trim_end());
            Ok(())
        }
    }
}

type Files = [(&'static str, String); 2];

fn generate() -> Result<Files> {
    let (sources, sinks) = (registry::sources().connectors(), registry::sinks().connectors());
    let schema = file_schema(&sources, &sinks);
    let text = serde_json::to_string_pretty(&schema).map_err(|error| {
        Error::new(ErrorKind::Bug, "the schema cannot be printed").caused_by(error)
    })?;
    Ok([("pipeline.schema.json", text + "\n"), ("configuration.md", reference_page(&schema))])
}

fn write(dir: &Path, files: &Files) -> Result<()> {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| {
            Error::new(ErrorKind::Config, "the file cannot be written")
                .with("path", path.display())
                .caused_by(error)
                .remedied("name a directory that exists and is writable")
        })?;
    }
    Ok(())
}

fn check(dir: &Path, files: &Files) -> Result<(), Failure> {
    let stale = |(name, text): &&(&str, String)| {
        std::fs::read_to_string(dir.join(name)).ok().as_ref() != Some(text)
    };
    let stale: Vec<_> = files.iter().filter(stale).map(|(name, _)| *name).collect();
    if stale.is_empty() {
        return Ok(());
    }
    out::line(&format!("not up to date: {}", stale.join(", ")));
    out::line(&format!("remedy: lakeward schema --write {}", dir.display()));
    Err(Failure::Told(OPERATOR))
}
