//! `lakeward run`: one pipeline in the foreground, until it ends, is told to, or fails.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use lakeward_core::Result;
use lakeward_engine::supervise::{Command, Landing, Pipeline, RunEnd, RunMode, Statuses};
use tokio::net::TcpListener;
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
        let listener = self.listener().await?;
        let aborted = Arc::new(AtomicBool::new(false));

        let Self { opened: Opened { source, sinks, options }, mode, take_over, screen } = self;
        let sinks = sinks.into_iter().map(Landing::from).collect();
        let pipeline = Pipeline::new(source, sinks, options);
        let statuses = pipeline.statuses();
        let metrics = metrics(listener, name.clone(), Arc::clone(&statuses));
        let stop = tokio::select! {
            biased; // The pipeline's own end says most; then signals; the others only serve.
            end = pipeline.run(mode, take_over, orders) => Stop::Ended(end),
            () = signals.rule(commands.clone(), Arc::clone(&aborted)) => Stop::Dropped,
            () = control.serve(commands, Arc::clone(&statuses)) => Stop::Dropped,
            () = metrics => Stop::Dropped,
            () = progress::show(name.clone(), Arc::clone(&statuses), screen.clone()) => Stop::Dropped,
        };
        progress::show_end(&name, &statuses, screen.as_ref());
        end_words(&name, stop, aborted.load(Ordering::Relaxed), &epochs(&statuses))
    }

    /// The socket for metrics, where the file asks for one.
    async fn listener(&self) -> Result<Option<TcpListener>> {
        match self.opened.options.http.as_ref().map(|http| http.address()) {
            Some(Ok(address)) => http::bind(address).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// Serves metrics where there is a socket; else waits for ever.
async fn metrics(listener: Option<TcpListener>, name: String, statuses: Arc<Statuses>) {
    match listener {
        Some(listener) => http::serve(listener, name, statuses).await,
        None => std::future::pending().await,
    }
}

/// The last epoch; of several sinks each with its name.
fn epochs(statuses: &Statuses) -> String {
    match &statuses.snapshots()[..] {
        [only] => only.epoch.to_string(),
        sinks => {
            let each: Vec<_> = sinks.iter().map(|s| format!("{} of {}", s.epoch, s.sink)).collect();
            each.join(", ")
        }
    }
}

fn end_words(name: &str, stop: Stop, aborted: bool, epoch: &str) -> Result<String, Failure> {
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
