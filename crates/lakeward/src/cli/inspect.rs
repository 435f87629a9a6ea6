//! `lakeward inspect`: what the ledger holds. Safe beside a running pipeline; changes nothing.
use std::sync::Arc;

use clap::{Args, Subcommand};
use lakeward_core::{Error, ErrorKind, LedgerStore, Result};
use lakeward_engine::commit::ledger::{read_entries, read_points, read_state};
use lakeward_engine::commit::state::{Body, ConsistentPoint, Entry, State};
use serde_json::json;

use super::{FileArg, out};
use crate::control::table_id;
use crate::exit::Failure;
use crate::loaded;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Consistent points: for each epoch the table versions that show exactly one position of the source
    #[command(after_help = "\
Examples:
  lakeward inspect points shop.yaml --last 5
  lakeward inspect points shop.yaml --json

With --json each line is {\"epoch\", \"position\", \"tables\": {\"schema.table\": \"version\"}}.")]
    Points {
        #[command(flatten)]
        file: SinkArg,
        /// Print one JSON object a point
        #[arg(long)]
        json: bool,
        /// Only the newest points
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// The entries of the ledger, oldest first
    #[command(after_help = "\
Example:
  lakeward inspect ledger shop.yaml --json")]
    Ledger {
        #[command(flatten)]
        file: SinkArg,
        /// Print one JSON object an entry
        #[arg(long)]
        json: bool,
    },
    /// What the ledger knows of one table: columns, key, version, load
    #[command(after_help = "\
Example:
  lakeward inspect table shop.yaml public.orders")]
    Table {
        #[command(flatten)]
        file: SinkArg,
        /// The table, as `schema.table`
        table: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(args: InspectArgs) -> Result<(), Failure> {
    match args.what {
        What::Points { file, json, last } => points(open(file).await?.as_ref(), json, last).await?,
        What::Ledger { file, json } => entries(open(file).await?.as_ref(), json).await?,
        What::Table { file, table, json } => {
            table_state(open(file).await?.as_ref(), &table, json).await?
        }
    }
    Ok(())
}

/// The pipeline file, and which sink's ledger is meant.
#[derive(Debug, Args)]
struct SinkArg {
    #[command(flatten)]
    file: FileArg,
    /// The sink, where the pipeline has several
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

async fn open(of: SinkArg) -> Result<Arc<dyn LedgerStore>, Failure> {
    let opened = loaded::load(&of.file.file)?.open().await?;
    Ok(opened.sink(of.sink.as_deref())?.ledger())
}

async fn points(ledger: &dyn LedgerStore, as_json: bool, last: Option<usize>) -> Result<()> {
    let points = read_points(ledger).await?;
    let skip = points.len().saturating_sub(last.unwrap_or(usize::MAX));
    for point in &points[skip..] {
        if as_json {
            out::json(point)?;
        } else {
            point_words(point).iter().for_each(|line| out::line(line));
        }
    }
    Ok(())
}

fn point_words(point: &ConsistentPoint) -> Vec<String> {
    let head = format!("epoch {} at {}", point.epoch, point.position);
    let tables = point.tables.iter().map(|(table, version)| format!("  {table}  {}", version.0));
    std::iter::once(head).chain(tables).collect()
}

async fn entries(ledger: &dyn LedgerStore, as_json: bool) -> Result<()> {
    for (number, entry) in read_entries(ledger).await? {
        if as_json {
            out::json(&json!({ "number": number, "entry": entry }))?;
        } else {
            out::line(&entry_words(number, &entry));
        }
    }
    Ok(())
}

fn entry_words(number: u64, entry: &Entry) -> String {
    let what = match &entry.body {
        Body::Takeover { .. } => "takeover".to_owned(),
        Body::Release => "release".to_owned(),
        Body::Plan(plan) => format!("plan of {} generation {}", plan.schema.table, plan.generation),
        Body::Intent(intent) => {
            let tables = intent.tables.len();
            format!("intent of epoch {} through {}, {tables} tables", intent.epoch, intent.through)
        }
        Body::Done(done) => {
            let full = if done.full { ", complete state" } else { "" };
            format!("done with epoch {} at {}{full}", done.epoch, done.through)
        }
    };
    format!("{number:>8}  {}  {what}", entry.writer)
}

async fn table_state(ledger: &dyn LedgerStore, table: &str, as_json: bool) -> Result<()> {
    let id = table_id(table)?;
    let state = read_state(ledger).await?;
    let State { tables, schemas, .. } = &state;
    let Some(known) = tables.get(&id) else {
        return Err(Error::new(ErrorKind::Config, "this pipeline has no such table")
            .with("table", table)
            .remedied("`lakeward tables` lists its tables"));
    };
    let schema = schemas.get(&id);
    if as_json {
        return out::json(&json!({ "state": known, "schema": schema }));
    }
    out::line(&format!("{table}: generation {}, schema {}", known.visible, known.schema));
    out::line(&format!(
        "  in consistent points: {}",
        if known.consistent() { "yes" } else { "no" }
    ));
    for column in schema.into_iter().flat_map(|s| &s.columns) {
        let key = schema.is_some_and(|s| s.key_columns().any(|k| k.id == column.id));
        let key = if key { ", key" } else { "" };
        out::line(&format!("  {}  {} as {}{key}", column.name, column.declared, column.data_type));
    }
    Ok(())
}
