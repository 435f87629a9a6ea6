//! `lakeward compact`: rewrites small and much-deleted files now, whether it is worth it or not.
use clap::Args;
use lakeward_engine::supervise::Command;
use tokio::sync::oneshot;

use super::{FileArg, out, stopped};
use crate::control::{self, Request, table_id};
use crate::exit::Failure;
use crate::loaded;
use crate::screen::Screen;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward compact shop.yaml
  lakeward compact shop.yaml public.orders

A running pipeline is asked through its control socket; this command then waits for its answer.")]
pub(super) struct CompactArgs {
    #[command(flatten)]
    file: FileArg,
    /// The table, as `schema.table`; without it, all
    table: Option<String>,
}

pub(super) async fn run(args: CompactArgs, screen: Option<Screen>) -> Result<(), Failure> {
    let loaded = loaded::load(&args.file.file)?;
    let table = args.table.as_deref().map(table_id).transpose()?;
    let about = args.table.clone().unwrap_or_else(|| "all tables".into());
    let request = Request::Compact { table: args.table };
    if let Some(answer) = control::call(&loaded.options.state_dir, &request).await? {
        out::line(&format!("{about}: {}", answer.as_str().unwrap_or("done")));
        return Ok(());
    }
    let opened = loaded.open().await?;
    let (reply, answer) = oneshot::channel();
    let order = Command::Compact { table, reply };
    stopped::carry_out(opened, [order], vec![(about, answer)], screen).await
}
