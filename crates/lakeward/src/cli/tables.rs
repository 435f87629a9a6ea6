//! `lakeward tables`: the pipeline's tables, from the running process or from the ledger.
use clap::Args;
use lakeward_core::Result;
use lakeward_engine::commit::ledger::read_state;
use lakeward_engine::commit::state::{State, TableState};
use serde_json::{Value, json};

use super::{FileArg, out};
use crate::control::{self, Request};
use crate::exit::Failure;
use crate::{loaded, progress};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward tables shop.yaml
  lakeward tables shop.yaml --json

A table that is `loading` or `diverged` is in no consistent point.")]
pub(super) struct TablesArgs {
    #[command(flatten)]
    file: FileArg,
    /// Print one JSON object a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: TablesArgs) -> Result<(), Failure> {
    let loaded = loaded::load(&args.file.file)?;
    let live = control::call(&loaded.options.state_dir, &Request::Tables).await?;
    let tables = match live {
        Some(tables) => tables.as_array().cloned().unwrap_or_default(),
        None => {
            let mut tables = Vec::new();
            for sink in loaded.open().await?.sinks {
                let state = read_state(sink.ledger().as_ref()).await?;
                tables.extend(from_ledger(&sink.env.name, &state));
            }
            tables
        }
    };
    print(&tables, args.json)?;
    Ok(())
}

fn print(tables: &[Value], as_json: bool) -> Result<()> {
    if as_json {
        return tables.iter().try_for_each(out::json);
    }
    let head = ["SINK", "TABLE", "PHASE", "VERSION", "NOTE"].map(str::to_owned);
    let cell = |table: &Value, key: &str| table[key].as_str().unwrap_or_default().to_owned();
    let rows = tables
        .iter()
        .map(|t| ["sink", "table", "phase", "version", "note"].map(|key| cell(t, key)));
    let grid: Vec<_> = std::iter::once(head).chain(rows).collect();
    progress::align(&grid).iter().for_each(|line| out::line(line));
    Ok(())
}

/// The same keys as a running pipeline's answer has, as far as the ledger knows them.
fn from_ledger(sink: &str, state: &State) -> Vec<Value> {
    let table = |t: &TableState| {
        json!({
            "sink": sink,
            "table": t.table.to_string(),
            "phase": phase(t),
            "version": t.version,
            "note": t.diverged,
        })
    };
    state.tables.values().map(table).collect()
}

fn phase(t: &TableState) -> &'static str {
    match t {
        _ if t.copy.is_some() => "resyncing",
        _ if t.diverged.is_some() => "diverged",
        _ if t.visible == 0 || t.loading.is_some() => "loading",
        _ => "stopped",
    }
}
