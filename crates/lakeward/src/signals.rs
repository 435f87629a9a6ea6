//! SIGINT and SIGTERM: the first drains, the second aborts. Both are safe: what is not committed is read again.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Result};
use lakeward_engine::supervise::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long an aborted pipeline may take to notice it.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// The two signals, heard from the moment of [`Signals::listen`].
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen: from here on a signal no longer kills the process.
    ///
    /// # Errors
    /// `Exhausted` when the system refuses.
    pub(crate) fn listen() -> Result<Self> {
        let refused = |error: std::io::Error| {
            Error::new(ErrorKind::Exhausted, "signals cannot be listened to").caused_by(error)
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Turns signals into commands; `aborted` is set by the second. Returns only when the pipeline must be dropped as
    /// it stands.
    pub(crate) async fn rule(mut self, commands: mpsc::Sender<Command>, aborted: Arc<AtomicBool>) {
        self.next().await;
        tracing::info!("draining; a second signal aborts");
        // The second signal counts even while the pipeline takes no commands.
        let sender = commands.clone();
        let drain = async {
            _ = sender.send(Command::Drain).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.next() => {}
            () = drain => {}
        }
        aborted.store(true, Ordering::Relaxed);
        tracing::warn!("aborting: what is not committed is read again at the next start");
        _ = tokio::time::timeout(ABORT_GRACE, commands.send(Command::Abort)).await;
        tokio::time::sleep(ABORT_GRACE).await;
    }
}
