//! The outer life of one sink of a pipeline: sessions, one after the other, until it ends or may not be tried again.
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakeward_core::{Env, Error, ErrorKind, Position, Result, Retry, Sink, Source, TableId};
use tokio::sync::{mpsc, oneshot};

use crate::commit::ledger::{Entrance, Ledger};
use crate::spec::PipelineOptions;

use super::command::{Command, RunEnd, RunMode};
use super::session::{Session, prepare_positions};
use super::status::{Phase, Status};

/// What a session works with.
pub(super) struct Context {
    pub(super) source: Arc<dyn Source>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) options: PipelineOptions,
    pub(super) env: Env,
    pub(super) status: Arc<Status>,
    pub(super) mode: RunMode,
}

const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Runs one sink to its end. `take_over` fences a writer that is still alive.
///
/// # Errors
/// `Fenced` when another writer took over; errors that a person must settle, at once; errors that pass by
/// themselves, when they lasted longer than `retry_limit`.
pub(super) async fn run(
    context: &Context,
    take_over: bool,
    control: &mut mpsc::Receiver<Command>,
) -> Result<RunEnd> {
    let lock = WriterLock::take(&context.env, take_over)?;
    let entrance = Entrance {
        writer: context.env.writer.clone(),
        lock: lock.name.clone(),
        predecessor_lock: lock.predecessor.clone(),
        take_over,
        commit_interval: context.options.commit_interval.0,
    };
    let mut ledger = enter(context, &entrance).await?;
    let end = sessions(context, &mut ledger, control).await;
    if end.as_ref().err().is_none_or(|e| e.kind() != ErrorKind::Fenced) {
        // After an error the ledger may be out of reach too; the successor then waits until we are quiet.
        let released = ledger.release().await;
        if end.is_ok() {
            released?;
        }
    }
    context.status.update(|s| s.phase = Phase::Ended);
    end
}

async fn enter(context: &Context, entrance: &Entrance) -> Result<Ledger> {
    let mut retry = Backoff::new(context.options.retry_limit.0);
    loop {
        match Ledger::enter(context.sink.ledger(), entrance).await {
            Ok(ledger) => return Ok(ledger),
            Err(error) => retry.wait(context, error).await?,
        }
    }
}

/// Runs sessions until one ends for good. Every session begins from the ledger: an error in the middle of an epoch
/// leaves nothing behind but invisible files.
async fn sessions(
    context: &Context,
    ledger: &mut Ledger,
    control: &mut mpsc::Receiver<Command>,
) -> Result<RunEnd> {
    let mut retry = Backoff::new(context.options.retry_limit.0);
    let mut target = None;
    loop {
        context.status.update(|s| s.phase = Phase::Starting);
        let before = ledger.state().epoch;
        let ended = one_session(context, ledger, control, &mut target).await;
        match ended {
            Ok(end) => return Ok(end),
            Err(error) => {
                if ledger.state().epoch > before {
                    retry = Backoff::new(context.options.retry_limit.0);
                }
                match orders(control) {
                    Orders::Stop => return Ok(RunEnd::Drained),
                    Orders::Resync(asked) if error.kind() == ErrorKind::LogGone => {
                        begin_anew(context, ledger, asked, error).await?;
                    }
                    Orders::Resync(asked) => {
                        refuse(asked);
                        retry.wait(context, error).await?;
                    }
                }
            }
        }
    }
}

async fn one_session(
    context: &Context,
    ledger: &mut Ledger,
    control: &mut mpsc::Receiver<Command>,
    target: &mut Option<Position>,
) -> Result<RunEnd> {
    ledger.refresh().await?;
    prepare_positions(context, ledger).await?;
    Session::run(context, ledger, control, target).await
}

type Asked = Vec<(TableId, oneshot::Sender<Result<String>>)>;

/// Waits before a stopped sink is tried again beside others that go on. Whether it is told to end instead.
pub(super) async fn rest(control: &mut mpsc::Receiver<Command>, time: Duration) -> bool {
    let over = tokio::time::sleep(time);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return false,
            command = control.recv() => match command {
                Some(Command::Resync { reply, .. } | Command::Compact { reply, .. }) => {
                    let _ = reply.send(Err(not_now()));
                }
                Some(Command::Drain | Command::Abort) | None => return true,
            },
        }
    }
}

/// What was ordered while no session ran.
enum Orders {
    Stop,
    Resync(Asked),
}

fn orders(control: &mut mpsc::Receiver<Command>) -> Orders {
    let mut asked = Vec::new();
    while let Ok(command) = control.try_recv() {
        match command {
            Command::Drain | Command::Abort => return Orders::Stop,
            Command::Resync { table, reply } => asked.push((table, reply)),
            Command::Compact { reply, .. } => {
                let _ = reply.send(Err(not_now()));
            }
        }
    }
    Orders::Resync(asked)
}

fn refuse(asked: Asked) {
    for (_, reply) in asked {
        let _ = reply.send(Err(not_now()));
    }
}

fn not_now() -> Error {
    Error::new(
        ErrorKind::Unreachable,
        "the pipeline is waiting to try again after an error; ask again later",
    )
}

/// The log that is owed is gone, and a person asks to load every table again: the log begins anew, and every table
/// has diverged until its new copy is there.
async fn begin_anew(
    context: &Context,
    ledger: &mut Ledger,
    asked: Asked,
    error: Error,
) -> Result<()> {
    let wanted = |table: &TableId| asked.iter().any(|(t, _)| t == table);
    if ledger.state().tables.is_empty() || !ledger.state().tables.keys().all(wanted) {
        refuse(asked);
        return Err(error);
    }
    tracing::warn!(%error, "the log begins anew; every table is loaded again");
    let mut next = ledger.state().clone();
    next.epoch += 1;
    let mut copies = Vec::new();
    for table in next.tables.values_mut() {
        table.diverged = Some("the log that it was owed is gone".into());
        copies.extend(table.copy.take().map(|copy| (table.table.clone(), copy.generation)));
    }
    context.source.remove().await?;
    let tables = context.source.discover().await?;
    let prepared = context.source.prepare(&tables).await?;
    ledger.complete(&next, prepared.beginning).await?;
    for (table, generation) in copies {
        if let Some(schema) = next.schemas.get(&table) {
            context.sink.drop_copy(schema, generation).await?;
        }
    }
    for (table, reply) in asked {
        let _ = reply.send(Ok(format!("{table} is loaded again from a log that begins now")));
    }
    Ok(())
}

struct Backoff {
    since: Instant,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    fn new(limit: Duration) -> Self {
        Self { since: Instant::now(), limit, next: BACKOFF_MIN }
    }

    /// Waits before the next try, or gives the error back when there may be none.
    async fn wait(&mut self, context: &Context, error: Error) -> Result<()> {
        if error.kind().retry() != Retry::Backoff || self.since.elapsed() > self.limit {
            return Err(error);
        }
        tracing::warn!(%error, wait_ms = self.next.as_millis() as u64, "trying again");
        context.status.update(|s| {
            s.phase = Phase::Retrying;
            s.last_error = Some(error.to_string());
        });
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

/// A lock that dies with the process: who gets it knows that the earlier holder is dead.
struct WriterLock {
    name: String,
    predecessor: Option<String>,
    _file: Option<File>,
}

impl WriterLock {
    fn take(env: &Env, take_over: bool) -> Result<Self> {
        let path = env.state_dir.join("writer.lock");
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Config, "the state directory cannot be used")
                .with("path", path.display())
                .caused_by(error)
                .remedied("make `pipeline.state_dir` writable for this user")
        };
        std::fs::create_dir_all(&env.state_dir).map_err(failed)?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if take_over => {
                return Ok(Self { name: env.writer.clone(), predecessor: None, _file: None });
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Fenced,
                    "another process runs this pipeline with this state directory",
                )
                .with("path", path.display())
                .remedied("stop the other process, or run with --take-over to fence it"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut predecessor = String::new();
        file.read_to_string(&mut predecessor).map_err(failed)?;
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file.write_all(env.writer.as_bytes()).map_err(failed)?;
        let predecessor = Some(predecessor).filter(|p| !p.is_empty());
        Ok(Self { name: env.writer.clone(), predecessor, _file: Some(file) })
    }
}
