//! The control socket of a running pipeline: `<state_dir>/control.sock`, readable by its owner only.
//!
//! One JSON object a line, one answer a line. Deliberately absent: authentication beyond the file's mode.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakeward_core::{Error, ErrorKind, Result, TableId};
use lakeward_engine::supervise::{Command, Statuses};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Longer requests are refused.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// More clients wait their turn.
const CLIENTS_MAX: usize = 8;

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Everything that is known of the pipeline.
    Status,
    /// Its tables.
    Tables,
    /// Load a table again into an invisible copy.
    Resync {
        /// `schema.table`.
        table: String,
    },
    /// Compact a table, or all.
    Compact {
        /// `schema.table`.
        table: Option<String>,
    },
    /// Finish what is accepted, then end.
    Drain,
}

/// What the pipeline answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It was done; what there is to say.
    Done(Value),
    /// It was not done.
    Refused {
        /// The kind of error, by its name.
        kind: String,
        /// Why.
        message: String,
        /// What to type.
        remedy: String,
    },
}

/// Where a pipeline's socket stands.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Splits `schema.table`.
///
/// # Errors
/// `Config` when there is no dot.
pub(crate) fn table_id(text: &str) -> Result<TableId> {
    match text.split_once('.') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(TableId::new(namespace, name))
        }
        _ => Err(Error::new(ErrorKind::Config, "a table is named `schema.table`")
            .with("table", text)
            .remedied("name the table as `lakeward tables` prints it")),
    }
}

/// The listening socket. Its file goes when it is dropped, unless another process has put its own there.
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Control {
    /// Binds the socket. A file that nobody listens to any more is replaced, and with `take_over` any.
    ///
    /// # Errors
    /// `Fenced` when another process of this pipeline answers; `Config` when the socket cannot be made.
    pub(crate) async fn bind(state_dir: &Path, take_over: bool) -> Result<Self> {
        let path = path(state_dir);
        if !take_over && UnixStream::connect(&path).await.is_ok() {
            return Err(Error::new(ErrorKind::Fenced, "this pipeline is running already")
                .with("socket", path.display())
                .remedied("stop the other process, or run with --take-over to fence it"));
        }
        // Made under another name first, so that nobody can connect before the mode is set.
        let nascent = state_dir.join(format!("control.{}", std::process::id()));
        let made = bind_private(&nascent).and_then(|(listener, inode)| {
            std::fs::rename(&nascent, &path).map(|()| (listener, inode))
        });
        let (listener, inode) = made.map_err(|error| {
            Error::new(ErrorKind::Config, "the control socket cannot be made")
                .with("socket", path.display())
                .caused_by(error)
                .remedied("make the state directory writable; its path must be shorter than 80 characters")
        })?;
        Ok(Self { listener, path, inode })
    }

    /// Answers clients until it is dropped.
    pub(crate) async fn serve(&self, commands: mpsc::Sender<Command>, statuses: Arc<Statuses>) {
        let turns = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of file descriptors, most likely: others need the time more.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let (commands, statuses) = (commands.clone(), Arc::clone(&statuses));
            tokio::spawn(async move {
                _ = converse(stream, commands, statuses).await;
                drop(turn);
            });
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind_private(path: &Path) -> std::io::Result<(UnixListener, u64)> {
    use std::os::unix::fs::PermissionsExt as _;
    _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok((listener, inode(path)?))
}

fn inode(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::symlink_metadata(path)?.ino())
}

async fn converse(
    stream: UnixStream,
    commands: mpsc::Sender<Command>,
    statuses: Arc<Statuses>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = String::new();
        if (&mut lines).take(REQUEST_BYTES_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(request, &commands, &statuses).await,
            Err(error) => refused(
                &Error::new(ErrorKind::Config, "the request cannot be read")
                    .caused_by(error)
                    .remedied("use a `lakeward` of the same version"),
            ),
        };
        let mut text = serde_json::to_string(&answer).map_err(std::io::Error::other)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
    }
}

async fn answer(request: Request, commands: &mpsc::Sender<Command>, statuses: &Statuses) -> Answer {
    match carry_out(request, commands, statuses).await {
        Ok(value) => Answer::Done(value),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Answer {
    Answer::Refused {
        kind: format!("{:?}", error.kind()),
        message: error.to_string(),
        remedy: error.remedy().to_owned(),
    }
}

/// The kind of this name; `Conflict` for one that this version does not know.
fn kind_named(name: &str) -> ErrorKind {
    use ErrorKind::*;
    let known = [
        Config,
        Auth,
        Unreachable,
        LogGone,
        Unsupported,
        BadData,
        Conflict,
        OutcomeUnknown,
        Corrupt,
        Fenced,
        Exhausted,
        Bug,
    ];
    known.into_iter().find(|kind| format!("{kind:?}") == name).unwrap_or(Conflict)
}

async fn carry_out(
    request: Request,
    commands: &mpsc::Sender<Command>,
    statuses: &Statuses,
) -> Result<Value> {
    match request {
        Request::Status => serde_json::to_value(statuses.snapshots()).map_err(unprintable),
        Request::Tables => tables(statuses),
        Request::Drain => {
            send(commands, Command::Drain).await?;
            Ok(json!("draining"))
        }
        Request::Resync { table } => {
            let table = table_id(&table)?;
            ask(commands, |reply| Command::Resync { table, reply }).await
        }
        Request::Compact { table } => {
            let table = table.as_deref().map(table_id).transpose()?;
            ask(commands, |reply| Command::Compact { table, reply }).await
        }
    }
}

/// All tables of all sinks, each with its sink.
fn tables(statuses: &Statuses) -> Result<Value> {
    let mut tables = Vec::new();
    for sink in statuses.snapshots() {
        for table in sink.tables {
            let mut table = serde_json::to_value(table).map_err(unprintable)?;
            table["sink"] = json!(sink.sink);
            tables.push(table);
        }
    }
    Ok(Value::Array(tables))
}

fn unprintable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Bug, "the status cannot be printed").caused_by(error)
}

fn ended() -> Error {
    Error::new(ErrorKind::Unreachable, "the pipeline has ended")
        .remedied("start it again: `lakeward run`")
}

async fn send(commands: &mpsc::Sender<Command>, command: Command) -> Result<()> {
    commands.send(command).await.map_err(|_| ended())
}

/// Sends a command and waits for what the pipeline says about it.
pub(crate) async fn ask(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<Result<String>>) -> Command,
) -> Result<Value> {
    let (reply, answer) = oneshot::channel();
    send(commands, command(reply)).await?;
    answer.await.map_err(|_| ended())?.map(Value::from)
}

/// Asks the running pipeline; `None` when none is running.
///
/// # Errors
/// What it refused, with its remedy.
pub(crate) async fn call(state_dir: &Path, request: &Request) -> Result<Option<Value>> {
    let Ok(stream) = UnixStream::connect(path(state_dir)).await else { return Ok(None) };
    let broken = |error: std::io::Error| {
        Error::new(ErrorKind::Unreachable, "the running pipeline did not answer")
            .caused_by(error)
            .remedied("look at its log; if it has ended, run the command again")
    };
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_string(request).map_err(unprintable)?;
    line.push('\n');
    write.write_all(line.as_bytes()).await.map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(read).read_line(&mut answer).await.map_err(broken)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Done(value)) => Ok(Some(value)),
        Ok(Answer::Refused { kind, message, remedy }) => {
            Err(Error::new(kind_named(&kind), message).remedied(remedy))
        }
        Err(error) => Err(broken(std::io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests;
