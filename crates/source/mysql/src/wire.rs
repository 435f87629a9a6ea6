//! The connection that the server writes its log into: asks for it behind a set of transactions, checks every event.
//!
//! A task of its own reads, so that a slow consumer never makes half-read packets, and hands events over in groups;
//! the queue between is bounded. Deliberately absent: what events mean, and reconnecting.
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lakeward_core::{Error, ErrorKind, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, GnoInterval, Sid};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::binlog::event::{HEADER_BYTES, Header};
use crate::position::GtidSet;

/// How often the server says that it is still there. Longer notices a dead server later; shorter wakes both for nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Who has not even sent a heartbeat for this long is gone. A server that looks for the place in its files is silent too.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the server may wait for us to read: a consumer that holds the log back must not end the connection.
const WRITE_TIMEOUT_SECONDS: u32 = 30 * 24 * 3600;
/// Events that go over at once at most. More saves nothing; fewer costs a wake-up more often.
const GROUP_EVENTS: usize = 512;
/// Or their bytes.
const GROUP_BYTES: usize = 1 << 20;
/// Groups that wait for the consumer. With events of the largest size this is the memory that waits.
const GROUPS_WAITING: usize = 4;

/// One event as it came, its checksum verified.
#[derive(Debug)]
pub struct RawEvent {
    header: Header,
    event: mysql_async::binlog::events::Event,
}

impl RawEvent {
    /// What stands before it.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What stands behind its header, without the checksum.
    pub fn body(&self) -> &[u8] {
        self.event.data()
    }
}

/// The log as it comes.
#[derive(Debug)]
pub struct Dump {
    groups: mpsc::Receiver<Result<Vec<RawEvent>>>,
    reader: JoinHandle<()>,
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Dump {
    /// Asks for everything that is not in `behind`.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`. That the log is gone is told by the first [`next`](Self::next).
    pub async fn open(mut connection: Conn, server_id: u32, behind: &GtidSet) -> Result<Self> {
        let request = BinlogStreamRequest::new(server_id).with_pos(4);
        let (sets, request) = match behind {
            GtidSet::MariaDb(_) => (ask_mariadb(behind), request),
            GtidSet::MySql(_) => (ask_mysql(), request.with_gtid().with_gtid_set(sids(behind))),
        };
        for set in sets {
            connection.query_drop(set).await.map_err(broken)?;
        }
        let stream = connection.get_binlog_stream(request).await.map_err(broken)?;
        let (send, groups) = mpsc::channel(GROUPS_WAITING);
        Ok(Self { groups, reader: tokio::spawn(read(stream, send)) })
    }

    /// The next events, at least one. Cancel safe.
    ///
    /// # Errors
    /// `LogGone` when the server no longer has what was asked for; `Unreachable`, `Conflict`, `Corrupt`.
    pub async fn next(&mut self) -> Result<Vec<RawEvent>> {
        match self.groups.recv().await {
            Some(group) => group,
            None => Err(self.ended().await),
        }
    }

    /// Events that are there already; `None`: none.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn ready(&mut self) -> Result<Option<Vec<RawEvent>>> {
        match self.groups.try_recv() {
            Ok(group) => group.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn ended(&mut self) -> Error {
        match (&mut self.reader).await {
            Err(failure) if failure.is_panic() => not_understood(),
            _ => closed(),
        }
    }
}

fn ask_mariadb(behind: &GtidSet) -> Vec<String> {
    vec![
        // 4: knows global transaction ids; there are no BEGIN statements then.
        "SET @mariadb_slave_capability=4".into(),
        format!("SET @slave_connect_state='{behind}'"),
        "SET @slave_gtid_strict_mode=1".into(),
        "SET @slave_gtid_ignore_duplicates=0".into(),
        format!("SET @master_heartbeat_period={}", HEARTBEAT.as_nanos()),
        format!("SET SESSION net_write_timeout={WRITE_TIMEOUT_SECONDS}"),
    ]
}

fn ask_mysql() -> Vec<String> {
    let heartbeat = HEARTBEAT.as_nanos();
    vec![
        format!("SET @source_heartbeat_period={heartbeat}, @master_heartbeat_period={heartbeat}"),
        format!("SET SESSION net_write_timeout={WRITE_TIMEOUT_SECONDS}"),
    ]
}

fn sids(set: &GtidSet) -> Vec<Sid<'static>> {
    let GtidSet::MySql(sources) = set else { return Vec::new() };
    let sid = |(source, intervals): (&crate::position::Source, &Vec<(u64, u64)>)| {
        let interval = |(first, last): &(u64, u64)| GnoInterval::new(*first, last + 1);
        Sid::new(source.uuid).with_intervals(intervals.iter().map(interval).collect())
    };
    sources.iter().filter(|(source, _)| source.tag.is_empty()).map(sid).collect()
}

/// Reads until the connection ends or nobody listens.
async fn read(mut stream: BinlogStream, send: mpsc::Sender<Result<Vec<RawEvent>>>) {
    loop {
        let group = gather(&mut stream).await;
        let is_last = group.is_err();
        if send.send(group).await.is_err() || is_last {
            return;
        }
    }
}

/// Waits for an event, and takes what came with it.
async fn gather(stream: &mut BinlogStream) -> Result<Vec<RawEvent>> {
    let Ok(first) = timeout(SILENCE, stream.next()).await else {
        return Err(Error::new(ErrorKind::Unreachable, "the server fell silent"));
    };
    let mut group = vec![checked(first)?];
    let mut bytes = 0;
    while group.len() < GROUP_EVENTS && bytes < GROUP_BYTES {
        let Some(next) = stream.next().now_or_never() else { break };
        let event = checked(next)?;
        bytes += event.body().len();
        group.push(event);
    }
    Ok(group)
}

fn checked(
    event: Option<std::result::Result<mysql_async::binlog::events::Event, mysql_async::Error>>,
) -> Result<RawEvent> {
    let event = event.ok_or_else(closed)?.map_err(broken)?;
    let raw = event.header();
    let header = Header {
        timestamp: raw.timestamp(),
        kind: raw.event_type_raw(),
        server: raw.server_id(),
        size: raw.event_size(),
        next: raw.log_pos(),
        flags: raw.flags_raw(),
    };
    if (header.size as usize) < HEADER_BYTES {
        return Err(not_understood());
    }
    if let Some(checksum) = event.checksum()
        && header.kind != FORMAT
        && event.fde().footer().get_checksum_enabled()
        && header.checksum(&[event.data()]) != u32::from_le_bytes(checksum)
    {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "an event of the binary log does not have the checksum that it says",
        )
        .with("kind", header.kind)
        .with("position", header.next));
    }
    Ok(RawEvent { header, event })
}

/// Carries the checksum's algorithm behind its content, and is read by the transport itself.
const FORMAT: u8 = 15;

/// The server's number for all that keeps it from sending the log.
const CANNOT_SEND: u16 = 1236;

/// An error of the connection on which the log comes. Never carries what was sent.
fn broken(error: mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(refusal) if refusal.code == CANNOT_SEND => {
            cannot_send(&refusal.message)
        }
        mysql_async::Error::Server(refusal) => {
            let kind = match refusal.code {
                1044 | 1045 | 1227 | 1142 => ErrorKind::Auth,
                _ => ErrorKind::Unreachable,
            };
            Error::new(kind, "the server does not send its binary log")
                .with("server", format!("{}: {}", refusal.code, refusal.message))
        }
        mysql_async::Error::Io(_) => closed(),
        _ => not_understood(),
    }
}

fn cannot_send(message: &str) -> Error {
    let another = message.contains("same server_uuid") || message.contains("same server_id");
    if another {
        return Error::new(
            ErrorKind::Conflict,
            "another reader of the log registered with the same server_id",
        )
        .with("server", message);
    }
    // As both flavours name what cannot be found, in all their versions.
    const GONE: [&str; 7] = [
        "purged",
        "Could not find",
        "could not find",
        "not in the master's binlog",
        "has more GTIDs",
        "impossible position",
        "diverged",
    ];
    if !GONE.iter().any(|words| message.contains(words)) {
        return Error::new(ErrorKind::Unreachable, "the server cannot read its own binary log")
            .with("server", message);
    }
    Error::new(ErrorKind::LogGone, "the server no longer has the log that is owed")
        .with("server", message)
        .remedied("load the tables again: `lakeward resync`")
}

fn closed() -> Error {
    Error::new(ErrorKind::Unreachable, "the server closed the connection on which the log comes")
}

fn not_understood() -> Error {
    Error::new(ErrorKind::Corrupt, "the server's stream is not understood")
}
