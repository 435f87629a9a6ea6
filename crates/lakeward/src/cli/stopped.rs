//! Verbs that change a pipeline which does not run: they run it themselves until the change is made.
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_engine::supervise::{Command, RunMode};
use tokio::sync::{mpsc, oneshot};

use super::out;
use super::run::Running;
use crate::exit::Failure;
use crate::loaded::Opened;
use crate::screen::Screen;

type Reply = oneshot::Receiver<Result<String>>;

/// Runs the pipeline until it has caught up, with these orders waiting from the start.
///
/// # Errors
/// The pipeline's own, and what it refused.
pub(super) async fn carry_out(
    opened: Opened,
    orders: impl IntoIterator<Item = Command>,
    replies: Vec<(String, Reply)>,
    screen: Option<Screen>,
) -> Result<(), Failure> {
    let orders: Vec<_> = orders.into_iter().collect();
    let (commands, receiver) = mpsc::channel(orders.len().max(1));
    for order in orders {
        commands.try_send(order).map_err(|_| {
            Error::new(ErrorKind::Bug, "the orders do not fit into their own channel")
        })?;
    }
    let running = Running { opened, mode: RunMode::UntilCaughtUp, take_over: false, screen };
    // How the run failed explains more than what became of the orders.
    let end = running.run(commands, receiver).await?;
    for (about, mut reply) in replies {
        match reply.try_recv() {
            Ok(answer) => out::line(&format!("{about}: {}", answer?)),
            Err(_) => return Err(unanswered(&about).into()),
        }
    }
    out::line(&end);
    Ok(())
}

fn unanswered(about: &str) -> Error {
    Error::new(ErrorKind::Unreachable, "the pipeline ended before it took the order")
        .with("order", about)
        .remedied("run the command again")
}
