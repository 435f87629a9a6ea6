//! The walsender connection: startup, authentication, the replication commands, and the switch into the stream.
//!
//! `tokio-postgres` has no replication mode, hence this; and its COPY hands out rows one by one, hence
//! `ReadingConnection`. Deliberately absent: the extended protocol, retries (the engine's), and any meaning of the
//! stream's messages (see [`crate::decode`]).
mod auth;
mod frames;
mod reading;
mod refusal;
mod socket;
mod window;

use std::time::{Duration, Instant};

use lakeward_core::{Error, ErrorKind, Result};
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Settings, TlsMode};
use crate::connect::{
    APPLICATION_NAME, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, SESSION_OPTIONS,
};
use crate::position::{parse_lsn, print_lsn};

pub use frames::{Frame, Frames};
pub(crate) use reading::{Copied, ReadingConnection};
pub use refusal::{Refusal, Step};
use socket::QuietSocket;
use window::Window;

/// Any byte stream that can carry the protocol.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A boxed byte stream.
pub type BoxedSocket = Box<dyn Socket>;

/// What `IDENTIFY_SYSTEM` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's system identifier.
    pub system: u64,
    /// Where its log has been flushed to.
    pub flushed: u64,
}

/// A slot that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// All commit records before it are not in the slot; all that start at or after it are.
    pub consistent_point: u64,
    /// The exported snapshot's name, when one was asked for. It lives until the connection's next command.
    pub snapshot: Option<String>,
}

/// What the server says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// The log before it is released.
    pub confirmed: Option<u64>,
    /// The server has thrown away log that the slot needs.
    pub lost: bool,
}

/// A connection in replication mode, between commands.
pub struct ReplicationConnection {
    socket: BoxedSocket,
    frames: Frames,
    out: bytes::BytesMut,
    /// The quickest answer so far.
    answered_in: Duration,
}

/// The stream, opened: where it is read and where feedback is written.
pub struct CopyBoth {
    /// Reads frames.
    pub reader: ReadHalf<BoxedSocket>,
    /// What was read already.
    pub frames: Frames,
    /// Takes status updates.
    pub writer: WriteHalf<BoxedSocket>,
}

/// One row of an answer, as text.
pub type TextRow = Vec<Option<String>>;

/// Making a slot waits for every running transaction, for as long as that takes.
const NO_LOCK_TIMEOUT: &str = " -c lock_timeout=0";

impl ReplicationConnection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`, `Config` (no such database), each with its remedy.
    pub async fn connect(settings: &Settings) -> Result<Self> {
        let options = format!("{SESSION_OPTIONS}{NO_LOCK_TIMEOUT}");
        let parameters = [("replication", "database"), ("options", options.as_str())];
        Self::connect_with(settings, Frames::new(), &parameters).await
    }

    /// Connects and logs in with further startup parameters.
    async fn connect_with(
        settings: &Settings,
        mut frames: Frames,
        parameters: &[(&str, &str)],
    ) -> Result<Self> {
        let connecting = async {
            let socket = open(settings, &mut frames).await?;
            let (out, answered_in) = (bytes::BytesMut::new(), Duration::MAX);
            let mut connection = Self { socket, frames, out, answered_in };
            connection.log_in(settings, parameters).await?;
            Ok(connection)
        };
        match timeout(settings.connect_timeout, connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable("the server did not answer in time", settings)),
        }
    }

    async fn log_in(&mut self, settings: &Settings, more: &[(&str, &str)]) -> Result<()> {
        let parameters = [
            ("user", settings.user.as_str()),
            ("database", settings.database.as_str()),
            ("application_name", APPLICATION_NAME),
            ("client_encoding", "UTF8"),
        ];
        let parameters = parameters.iter().chain(more).copied();
        frontend::startup_message(parameters, &mut self.out).map_err(|error| bad_text(&error))?;
        self.flush().await?;
        auth::authenticate(self, settings).await?;
        self.until_ready(Step::Login).await?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.out).await.map_err(broken)?;
        self.socket.flush().await.map_err(broken)?;
        self.out.clear();
        Ok(())
    }

    /// The next message: its tag and body. Notices and settings are passed over; an error of the server is an error.
    async fn receive(&mut self, step: Step) -> Result<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.frames.peek()? {
                let (tag, body) = (frame.tag, frame.body.to_vec());
                self.frames.consume();
                match tag {
                    b'E' => return Err(Refusal::parse(&body).into_error(step)),
                    b'N' | b'S' => continue,
                    _ => return Ok((tag, body)),
                }
            }
            if self.frames.fill(&mut self.socket).await.map_err(broken)? == 0 {
                return Err(closed());
            }
        }
    }

    async fn until_ready(&mut self, step: Step) -> Result<Vec<TextRow>> {
        let mut rows = Vec::new();
        loop {
            match self.receive(step).await? {
                (b'Z', _) => return Ok(rows),
                (b'D', body) => rows.push(text_row(&body)?),
                _ => {}
            }
        }
    }

    /// Runs one command and returns its rows as text.
    ///
    /// # Errors
    /// As the step says.
    pub async fn query(&mut self, command: &str, step: Step) -> Result<Vec<TextRow>> {
        let asked = Instant::now();
        self.send_query(command).await?;
        let rows = self.until_ready(step).await?;
        self.answered_in = self.answered_in.min(asked.elapsed());
        Ok(rows)
    }

    async fn send_query(&mut self, command: &str) -> Result<()> {
        frontend::query(command, &mut self.out).map_err(|error| bad_text(&error))?;
        self.flush().await
    }

    /// The cluster and where its log stands.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn identify(&mut self) -> Result<SystemIdentity> {
        let rows = self.query("IDENTIFY_SYSTEM", Step::Command).await?;
        let cell =
            |index: usize| rows.first().and_then(|r| r.get(index)).and_then(Option::as_deref);
        match (cell(0).and_then(|t| t.parse().ok()), cell(2).and_then(parse_lsn)) {
            (Some(system), Some(flushed)) => Ok(SystemIdentity { system, flushed }),
            _ => Err(unexpected("IDENTIFY_SYSTEM")),
        }
    }

    /// The state of a slot; `None`: there is none of this name.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn slot(&mut self, slot: &str) -> Result<Option<SlotState>> {
        let command = format!(
            "SELECT confirmed_flush_lsn, wal_status FROM pg_catalog.pg_replication_slots \
             WHERE slot_name = '{}'",
            slot.replace('\'', "''"),
        );
        let rows = self.query(&command, Step::Command).await?;
        Ok(rows.into_iter().next().map(|row| {
            let cell = |index: usize| row.get(index).and_then(Option::as_deref);
            SlotState { confirmed: cell(0).and_then(parse_lsn), lost: cell(1) == Some("lost") }
        }))
    }

    /// How long the server bears a silent client; `None`: for ever.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn sender_timeout(&mut self) -> Result<Option<Duration>> {
        let command =
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
        let rows = self.query(command, Step::Command).await?;
        let millis = rows.first().and_then(|r| r.first()).and_then(Option::as_deref);
        let millis = millis.and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((millis > 0).then(|| Duration::from_millis(millis)))
    }

    /// Makes a logical slot for `pgoutput`, without two-phase. With `export` a snapshot that sees exactly what is before
    /// the slot; with `temporary` it goes with the connection.
    ///
    /// # Errors
    /// `Config` for `wal_level` and for used-up slots, `Auth` without the REPLICATION right, `Conflict` when it exists.
    pub async fn create_slot(
        &mut self,
        slot: &str,
        temporary: bool,
        export: bool,
    ) -> Result<CreatedSlot> {
        let level = self.query("SHOW wal_level", Step::Command).await?;
        if level.first().and_then(|r| r.first()).is_some_and(|l| l.as_deref() != Some("logical")) {
            return Err(refusal::wal_level());
        }
        let command = format!(
            "CREATE_REPLICATION_SLOT {} {}LOGICAL pgoutput {}",
            quoted(slot),
            if temporary { "TEMPORARY " } else { "" },
            if export { "EXPORT_SNAPSHOT" } else { "NOEXPORT_SNAPSHOT" },
        );
        let made = self.query(&command, Step::CreateSlot).await;
        let rows = made.map_err(|error| error.with("slot", slot))?;
        let row = rows.into_iter().next().ok_or_else(|| unexpected("CREATE_REPLICATION_SLOT"))?;
        let point = row.get(1).and_then(Option::as_deref).and_then(parse_lsn);
        let snapshot = row.get(2).cloned().flatten().filter(|name| !name.is_empty());
        point
            .map(|consistent_point| CreatedSlot { consistent_point, snapshot })
            .ok_or_else(|| unexpected("CREATE_REPLICATION_SLOT"))
    }

    /// Opens the stream. The server skips transactions whose commit record starts before `from`.
    ///
    /// # Errors
    /// `LogGone` for a missing or invalidated slot, `Conflict` while another connection uses it.
    pub async fn stream(mut self, slot: &str, publication: &str, from: u64) -> Result<CopyBoth> {
        let names = quoted(publication).replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '2', streaming 'on', publication_names '{names}')",
            quoted(slot),
            print_lsn(from),
        );
        if self.answered_in < window::NEAR {
            self.frames.narrow();
        }
        self.send_query(&command).await?;
        match self.receive(Step::Stream).await.map_err(|error| error.with("slot", slot))? {
            (b'W', _) => {}
            _ => return Err(unexpected("START_REPLICATION")),
        }
        let (reader, writer) = tokio::io::split(self.socket);
        Ok(CopyBoth { reader, frames: self.frames, writer })
    }
}

async fn open(settings: &Settings, frames: &mut Frames) -> Result<BoxedSocket> {
    if settings.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", settings.host, settings.port);
        let socket = UnixStream::connect(path).await.map_err(|error| refused(error, settings))?;
        return Ok(Box::new(QuietSocket::unix(socket, frames.glance()).map_err(broken)?));
    }
    let socket = TcpStream::connect((settings.host.as_str(), settings.port)).await;
    let socket = socket.map_err(|error| refused(error, settings))?;
    socket.set_nodelay(true).map_err(broken)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(broken)?;
    frames.watch(Window::of(SockRef::from(&socket)).map_err(broken)?);
    let socket = QuietSocket::tcp(socket, frames.glance()).map_err(broken)?;
    match settings.tls.mode() {
        TlsMode::Disable => Ok(Box::new(socket)),
        _ => encrypt(socket, settings).await,
    }
}

async fn encrypt(mut socket: QuietSocket, settings: &Settings) -> Result<BoxedSocket> {
    let mut request = bytes::BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await.map_err(broken)?;
    match socket.read_u8().await.map_err(broken)? {
        b'S' => {}
        _ if settings.tls.mode() == TlsMode::Prefer => return Ok(Box::new(socket)),
        _ => {
            return Err(Error::new(ErrorKind::Config, "the server does not offer TLS")
                .with("host", &settings.host)
                .remedied("set `ssl = on` on the server, or `tls: {mode: disable}` here"));
        }
    }
    let socket = settings.tls.handshake(socket).await.map_err(|error| {
        Error::new(ErrorKind::Config, "the TLS handshake failed")
            .with("host", &settings.host)
            .caused_by(error)
            .remedied("give the server's certificate authority as `tls: {ca_file: …}`")
    })?;
    Ok(Box::new(socket))
}

/// A name as the replication grammar and lists of publications take it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text_row(body: &[u8]) -> Result<TextRow> {
    let row = || {
        let (count, mut rest) = body.split_first_chunk::<2>()?;
        let mut row = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(*length);
            let (cell, behind) = match usize::try_from(length) {
                Ok(length) => behind.split_at_checked(length)?,
                Err(_) => {
                    row.push(None);
                    rest = behind;
                    continue;
                }
            };
            row.push(Some(String::from_utf8_lossy(cell).into_owned()));
            rest = behind;
        }
        Some(row)
    };
    row().ok_or_else(|| Error::new(ErrorKind::Corrupt, "the server's answer is cut short"))
}

/// The line broke.
pub(crate) fn broken(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, "the connection to the server broke").caused_by(error)
}

/// The server ended the connection without a word.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unreachable, "the server closed the connection")
}

fn unreachable(what: &str, settings: &Settings) -> Error {
    Error::new(ErrorKind::Unreachable, what)
        .with("host", &settings.host)
        .with("port", settings.port)
}

fn refused(error: std::io::Error, settings: &Settings) -> Error {
    unreachable("cannot connect to the server", settings).caused_by(error)
}

fn unexpected(command: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "the server's answer is not understood").with("command", command)
}

fn bad_text(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Config, "a name holds a zero byte").with("cause", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_answers_are_read_or_refused() {
        let whole = b"\0\x02\0\0\0\x02hi\xff\xff\xff\xff";
        assert_eq!(text_row(whole).unwrap(), vec![Some("hi".to_owned()), None]);
        for end in 0..whole.len() {
            assert!(text_row(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
