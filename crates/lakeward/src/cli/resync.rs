//! `lakeward resync`: loads tables again. Readers see the old rows until the new copy has caught up.
use std::collections::BTreeSet;

use clap::Args;
use lakeward_core::{Error, ErrorKind, Result, TableId};
use lakeward_engine::commit::ledger::read_state;
use lakeward_engine::supervise::Command;
use tokio::sync::oneshot;

use super::{FileArg, out, stopped};
use crate::control::{self, Request, table_id};
use crate::exit::Failure;
use crate::loaded::{self, Opened};
use crate::screen::Screen;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward resync shop.yaml public.orders
  lakeward resync shop.yaml public.orders public.customers
  lakeward resync shop.yaml --all

A running pipeline is asked through its control socket and goes on. With none running, this command runs the
pipeline itself until it has caught up.")]
pub(super) struct ResyncArgs {
    #[command(flatten)]
    file: FileArg,
    /// Tables, as `schema.table`
    #[arg(value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    tables: Vec<String>,
    /// All tables of the pipeline
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(args: ResyncArgs, screen: Option<Screen>) -> Result<(), Failure> {
    let loaded = loaded::load(&args.file.file)?;
    let named = args.tables.iter().map(|t| table_id(t)).collect::<Result<Vec<_>>>()?;
    let state_dir = loaded.options.state_dir.clone();
    let opened = loaded.open().await?;
    let tables = if args.all { all_tables(&opened).await? } else { named };
    let mut waiting = Vec::new();
    for table in tables {
        let request = Request::Resync { table: table.to_string() };
        match control::call(&state_dir, &request).await? {
            Some(answer) => {
                out::line(&format!("{table}: {}", answer.as_str().unwrap_or("accepted")))
            }
            None => waiting.push(table),
        }
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let (orders, replies) = waiting.into_iter().map(order).unzip::<_, _, Vec<_>, Vec<_>>();
    stopped::carry_out(opened, orders, replies, screen).await
}

type Replies = (String, oneshot::Receiver<Result<String>>);

fn order(table: TableId) -> (Command, Replies) {
    let (reply, answer) = oneshot::channel();
    let about = table.to_string();
    (Command::Resync { table, reply }, (about, answer))
}

async fn all_tables(opened: &Opened) -> Result<Vec<TableId>> {
    let mut tables = BTreeSet::new();
    for sink in &opened.sinks {
        tables.extend(read_state(sink.ledger().as_ref()).await?.tables.into_keys());
    }
    if tables.is_empty() {
        return Err(Error::new(ErrorKind::Config, "this pipeline has no tables yet")
            .with("pipeline", &opened.options.name)
            .remedied("start it: `lakeward run`"));
    }
    Ok(tables.into_iter().collect())
}
