//! `lakeward rebuild-ledger`: makes a lost or damaged ledger again from the marks of the lake's tables.
use clap::Args;
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_engine::commit::ledger::{Entrance, read_state};
use lakeward_engine::commit::rebuild::{Trust, is_outdated, rebuild};

use super::drop::{forget, refuse_if_running};
use super::{FileArg, out};
use crate::exit::Failure;
use crate::loaded::{self, Opened, OpenedSink};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward rebuild-ledger shop.yaml                  every table is loaded again; readers see the old rows until then
  lakeward rebuild-ledger shop.yaml --trust-marks    tables go on from their marks

Marks do not say which tables had diverged and waited to be loaded again. Trust them only if none did: if
`lakeward tables` showed no note before the ledger was lost. A ledger that knows all marks is left as it is.")]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    file: FileArg,
    /// The sink whose ledger is lost, where the pipeline has several
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Go on from the tables' marks, without loading them again
    #[arg(long)]
    trust_marks: bool,
}

pub(super) async fn run(args: RebuildArgs) -> Result<(), Failure> {
    let loaded = loaded::load(&args.file.file)?;
    refuse_if_running(&loaded.options.state_dir).await?;
    let opened = loaded.open().await?;
    let sink = opened.sink(args.sink.as_deref())?;
    refuse_if_whole(&opened, sink).await?;
    forget(sink).await?;
    let trust = if args.trust_marks { Trust::Marks } else { Trust::Nothing };
    let entrance = Entrance {
        writer: sink.env.writer.clone(),
        lock: sink.env.writer.clone(),
        predecessor_lock: None,
        take_over: true,
        commit_interval: opened.options.commit_interval.0,
    };
    let (source, routing) = (opened.source.as_ref(), &opened.options.routing_hash);
    let tables = rebuild(source, sink.sink.as_ref(), &sink.env, &entrance, routing, trust).await?;
    for table in tables {
        let what = match &table.diverged {
            Some(why) => format!("will be loaded again: {why}"),
            None => "goes on from its mark".to_owned(),
        };
        out::line(&format!("{}: {what}", table.table));
    }
    out::line("ledger: made again; start the pipeline: `lakeward run`");
    Ok(())
}

/// A ledger that can be read, and that the tables were written by, says more than marks.
async fn refuse_if_whole(opened: &Opened, sink: &OpenedSink) -> Result<()> {
    let state = match read_state(sink.ledger().as_ref()).await {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(()),
        Err(error) => return Err(error),
    };
    let (source, to) = (opened.source.as_ref(), sink.sink.as_ref());
    if is_outdated(source, to, &sink.env, &state).await? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, "the ledger can be read; nothing is to be made again")
        .with("sink", &sink.env.name)
        .remedied("`lakeward resync` loads tables again"))
}
