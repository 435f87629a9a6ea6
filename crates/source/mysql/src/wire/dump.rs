//! The log as the server writes it into a connection: asked for behind a set of transactions, every event checked.
//!
//! A task of its own reads, so that a slow consumer never makes half-read packets, and hands over what one read brought,
//! with its buffer: events are read where they stand. The queue between is bounded. Deliberately absent: what events mean,
//! and reconnecting.
use std::ops::Range;
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Conn, Failure, REFUSED, Refusal, is_end};
use crate::binlog::Flavour;
use crate::binlog::event::{CHECKSUM_BYTES, HEADER_BYTES, Header, format_has_checksums};
use crate::config::Settings;
use crate::position::GtidSet;

/// Who has not even sent a heartbeat for as long as so many should take is gone. A server that looks for the place in its
/// files is silent too.
const HEARTBEATS_MISSED: u32 = 60;
/// How long the server may wait for us to read: a consumer that holds the log back must not end the connection.
const WRITE_TIMEOUT_SECONDS: u32 = 30 * 24 * 3600;
/// Bytes of log that go over at once at most, but for one larger event. More saves nothing; fewer costs a wake-up more
/// often.
const GROUP_BYTES: usize = 1 << 20;
/// Groups that wait for the consumer. With events of the largest size this is the memory that waits.
const GROUPS_WAITING: usize = 2;

const REGISTER: u8 = 0x15;
const DUMP: u8 = 0x12;
const DUMP_BEHIND: u8 = 0x1E;

/// Events that came together, their checksums verified.
#[derive(Debug, Default)]
pub struct Group {
    bytes: Vec<u8>,
    events: Vec<(Header, Range<usize>)>,
}

impl Group {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What stands before an event, and its body: what stands behind its header, without the checksum.
    pub fn get(&self, at: usize) -> Option<(&Header, &[u8])> {
        let (header, body) = self.events.get(at)?;
        Some((header, self.bytes.get(body.clone())?))
    }
}

/// The log as it comes.
#[derive(Debug)]
pub struct Dump {
    groups: mpsc::Receiver<Result<Group>>,
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
    pub(crate) async fn open(
        mut conn: Conn,
        settings: &Settings,
        behind: &GtidSet,
    ) -> Result<Self> {
        ask(&mut conn, settings, behind).await.map_err(broken)?;
        let silence = settings.heartbeat.saturating_mul(HEARTBEATS_MISSED);
        conn.expect_many();
        let (send, groups) = mpsc::channel(GROUPS_WAITING);
        Ok(Self { groups, reader: tokio::spawn(read(conn, silence, send)) })
    }

    /// The next events, at least one. Cancel safe.
    ///
    /// # Errors
    /// `LogGone` when the server no longer has what was asked for; `Unreachable`, `Conflict`, `Corrupt`.
    pub async fn next(&mut self) -> Result<Group> {
        match self.groups.recv().await {
            Some(group) => group,
            None => Err(self.ended().await),
        }
    }

    /// Events that are there already; `None`: none.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn ready(&mut self) -> Result<Option<Group>> {
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

async fn ask(
    conn: &mut Conn,
    settings: &Settings,
    behind: &GtidSet,
) -> std::result::Result<(), Failure> {
    let flavour = match behind {
        GtidSet::MariaDb(_) => Flavour::MariaDb,
        GtidSet::MySql(_) => Flavour::MySql,
    };
    conn.run("SET @master_binlog_checksum=@@GLOBAL.binlog_checksum").await?;
    let sets = match flavour {
        Flavour::MariaDb => ask_mariadb(behind, settings.heartbeat),
        Flavour::MySql => ask_mysql(settings.heartbeat),
    };
    for set in sets {
        conn.run(&set).await?;
    }
    let server = settings.server_id.to_le_bytes();
    // No name, user, password, port, rank and master.
    let registration = [&server[..], &[0; 3], &[0; 2], &[0; 4], &[0; 4]].concat();
    conn.command(REGISTER, &registration).await?;
    conn.answer().await?;
    match flavour {
        // From the first byte of any file; no flags; the server finds the file.
        Flavour::MariaDb => conn.command(DUMP, &[&[4, 0, 0, 0, 0, 0], &server[..]].concat()).await,
        Flavour::MySql => {
            let set = encoded(behind);
            let head = [&[4, 0][..], &server, &[0; 4], &[4, 0, 0, 0, 0, 0, 0, 0]].concat();
            let length = (set.len() as u32).to_le_bytes();
            conn.command(DUMP_BEHIND, &[&head, &length[..], &set].concat()).await
        }
    }
}

fn ask_mariadb(behind: &GtidSet, heartbeat: Duration) -> Vec<String> {
    vec![
        // 4: knows global transaction ids; there are no BEGIN statements then.
        "SET @mariadb_slave_capability=4".into(),
        format!("SET @slave_connect_state='{behind}'"),
        "SET @slave_gtid_strict_mode=1".into(),
        "SET @slave_gtid_ignore_duplicates=0".into(),
        format!("SET @master_heartbeat_period={}", heartbeat.as_nanos()),
        format!("SET SESSION net_write_timeout={WRITE_TIMEOUT_SECONDS}"),
    ]
}

fn ask_mysql(heartbeat: Duration) -> Vec<String> {
    let heartbeat = heartbeat.as_nanos();
    vec![
        format!("SET @source_heartbeat_period={heartbeat}, @master_heartbeat_period={heartbeat}"),
        format!("SET SESSION net_write_timeout={WRITE_TIMEOUT_SECONDS}"),
    ]
}

/// A set as MySQL's command carries it.
fn encoded(set: &GtidSet) -> Vec<u8> {
    let GtidSet::MySql(sources) = set else { return Vec::new() };
    let plain: Vec<_> = sources.iter().filter(|(source, _)| source.tag.is_empty()).collect();
    let mut bytes = (plain.len() as u64).to_le_bytes().to_vec();
    for (source, intervals) in plain {
        bytes.extend(source.uuid);
        bytes.extend((intervals.len() as u64).to_le_bytes());
        for (first, last) in intervals {
            bytes.extend(first.to_le_bytes());
            bytes.extend(last.saturating_add(1).to_le_bytes());
        }
    }
    bytes
}

/// Reads until the connection ends or nobody listens.
async fn read(mut conn: Conn, silence: Duration, send: mpsc::Sender<Result<Group>>) {
    let mut checksums = false;
    loop {
        let group = gather(&mut conn, silence, &mut checksums).await;
        let is_last = group.is_err();
        if send.send(group).await.is_err() || is_last {
            return;
        }
    }
}

/// Waits for an event, and takes what came with it.
async fn gather(conn: &mut Conn, silence: Duration, checksums: &mut bool) -> Result<Group> {
    let Ok(first) = timeout(silence, conn.place()).await else {
        return Err(Error::new(ErrorKind::Unreachable, "the server fell silent"));
    };
    let mut place = first.map_err(broken)?;
    let mut events = Vec::new();
    loop {
        events.push(checked(conn.inbox.at(place.clone()), place.start, checksums)?);
        if conn.inbox.given() >= GROUP_BYTES {
            break;
        }
        match conn.place_of_next().map_err(broken)? {
            Some(next) => place = next,
            None => break,
        }
    }
    Ok(Group { bytes: conn.inbox.take_given(), events })
}

const FORMAT: u8 = 15;

/// Checks the event in a packet that stands at `at`. Returns its header, and where its body stands.
fn checked(packet: &[u8], at: usize, checksums: &mut bool) -> Result<(Header, Range<usize>)> {
    let event = match packet.split_first() {
        Some((0, event)) => event,
        Some((&REFUSED, _)) => return Err(broken(Failure::Refused(Refusal::parse(packet)))),
        _ if is_end(packet) => return Err(closed()),
        _ => return Err(not_understood()),
    };
    let header = Header::parse(event)?;
    let Some(body) = event.get(HEADER_BYTES..).filter(|_| header.size as usize == event.len())
    else {
        return Err(not_understood());
    };
    let begin = at + 1 + HEADER_BYTES;
    if header.kind == FORMAT {
        // It says whether the events behind it carry checksums, and always carries one itself.
        *checksums = format_has_checksums(body)?;
    }
    if !*checksums {
        return Ok((header, begin..begin + body.len()));
    }
    let (body, checksum) = body.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(not_understood)?;
    if header.checksum(&[body]) != u32::from_le_bytes(*checksum) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "an event of the binary log does not have the checksum that it says",
        )
        .with("kind", header.kind)
        .with("position", header.next));
    }
    Ok((header, begin..begin + body.len()))
}

/// The server's number for all that keeps it from sending the log.
const CANNOT_SEND: u16 = 1236;

/// An error of the connection on which the log comes. Never carries what was sent.
fn broken(failure: Failure) -> Error {
    match failure {
        Failure::Refused(refusal) if refusal.code == CANNOT_SEND => cannot_send(&refusal.message),
        Failure::Refused(refusal) => {
            let kind = match refusal.code {
                1044 | 1045 | 1227 | 1142 => ErrorKind::Auth,
                _ => ErrorKind::Unreachable,
            };
            Error::new(kind, "the server does not send its binary log")
                .with("server", format!("{}: {}", refusal.code, refusal.message))
        }
        Failure::Broken(_) => closed(),
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
