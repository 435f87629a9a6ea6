//! `lakeward run`: one pipeline in the foreground, until it ends, is told to, or fails.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use lakeward_core::Result;
use lakeward_engine::supervise::{Command, Pipeline, RunEnd, RunMode, Status};
use tokio::sync::mpsc;

use super::{FileArg, out};
use crate::control::Control;
use crate::exit::{Failure, OPERATOR};
use crate::loaded::{self, Opened};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{http, progress};

/// Commands that wait for the pipeline; more clients wait themselves.
const COMMANDS_MAX: usize = 32;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward run shop.yaml
  lakeward run shop.yaml --until-caught-up
  lakeward run shop.yaml --log-format json --log-level debug
  lakeward run shop.yaml --take-over

The first SIGINT or SIGTERM drains: what is accepted is committed, then the process ends with 0.
The second aborts: what is not committed is read again at the next start. Neither loses anything.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    file: FileArg,
    /// End when everything that existed at the start is in the lake
    #[arg(long)]
    until_caught_up: bool,
    /// Fence a writer of this pipeline that is still alive; it ends with status 3
    #[arg(long)]
    take_over: bool,
}

pub(super) async fn run(args: RunArgs, screen: Option<Screen>) -> Result<(), Failure> {
    let opened = loaded::open_patiently(&args.file.file).await?;
    let mode = if args.until_caught_up { RunMode::UntilCaughtUp } else { RunMode::Follow };
    let (commands, orders) = mpsc::channel(COMMANDS_MAX);
    let running = Running { opened, mode, take_over: args.take_over, screen };
    let end = running.run(commands, orders).await?;
    out::line(&end);
    Ok(())
}

/// A pipeline with everything around it.
pub(super) struct Running {
    pub(super) opened: Opened,
    pub(super) mode: RunMode,
    pub(super) take_over: bool,
    pub(super) screen: Option<Screen>,
}

/// What the signals asked for.
enum Stop {
    Ended(Result<RunEnd>),
    Dropped,
}

impl Running {
    /// Runs it. Returns the sentence that says how it ended.
    pub(super) async fn run(
        self,
        commands: mpsc::Sender<Command>,
        orders: mpsc::Receiver<Command>,
    ) -> Result<String, Failure> {
        let signals = Signals::listen()?;
        let Opened { options, .. } = &self.opened;
        let (name, state_dir) = (options.name.clone(), options.state_dir.clone());
        let control = Control::bind(&state_dir, self.take_over).await?;
        let status = Arc::new(Status::new());
        let metrics = self.metrics(&name, &status).await?;
        let aborted = Arc::new(AtomicBool::new(false));

        let Self { opened: Opened { source, sink, options, env }, mode, take_over, screen } = self;
        let pipeline = Pipeline::new(source, sink, options, env);
        let stop = tokio::select! {
            biased; // The pipeline's own end says most; then signals; the others only serve.
            end = pipeline.run(mode, take_over, orders, Arc::clone(&status)) => Stop::Ended(end),
            () = signals.rule(commands.clone(), Arc::clone(&aborted)) => Stop::Dropped,
            () = control.serve(commands, Arc::clone(&status)) => Stop::Dropped,
            () = metrics => Stop::Dropped,
            () = progress::show(name.clone(), Arc::clone(&status), screen.clone()) => Stop::Dropped,
        };
        progress::show_end(&name, &status, screen.as_ref());
        end_words(&name, stop, aborted.load(Ordering::Relaxed), status.snapshot().epoch)
    }

    /// Serves metrics where the file asks for it; else waits for ever.
    async fn metrics(
        &self,
        name: &str,
        status: &Arc<Status>,
    ) -> Result<impl Future<Output = ()> + use<>> {
        let address = match self.opened.options.http.as_ref().map(|http| http.address()) {
            Some(Ok(address)) => Some(address),
            _ => None,
        };
        let listener = match address {
            Some(address) => Some(http::bind(address).await?),
            None => None,
        };
        let (name, status) = (name.to_owned(), Arc::clone(status));
        Ok(async move {
            match listener {
                Some(listener) => http::serve(listener, name, status).await,
                None => std::future::pending().await,
            }
        })
    }
}

fn end_words(name: &str, stop: Stop, aborted: bool, epoch: u64) -> Result<String, Failure> {
    match stop {
        Stop::Ended(Err(error)) => Err(error.into()),
        Stop::Ended(Ok(_)) | Stop::Dropped if aborted => {
            tracing::warn!(epoch, "aborted; the next start goes on after this epoch");
            Err(Failure::Told(OPERATOR))
        }
        Stop::Ended(Ok(RunEnd::CaughtUp)) => Ok(format!("{name}: caught up at epoch {epoch}")),
        Stop::Ended(Ok(RunEnd::Drained)) | Stop::Dropped => {
            Ok(format!("{name}: drained at epoch {epoch}"))
        }
    }
}
