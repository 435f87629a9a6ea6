//! Events by kind: who begins and ends a transaction, what a statement was, and which bytes are rows.
use std::borrow::Cow;

use super::compress::unpack;
use super::cursor::{Cursor, Malformed};
use crate::position::{Gtid, GtidSet, Source};

/// Bytes before an event's body.
pub const HEADER_BYTES: usize = 19;
/// Behind every event, where the log has checksums.
pub const CHECKSUM_BYTES: usize = 4;
/// Set in the format event of the file that is being written; cleared before its checksum is computed.
const IN_USE: u16 = 0x1;
/// An event that whoever does not know it may skip.
const IGNORABLE: u16 = 0x80;

/// What stands before every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// When it was written, in seconds since 1970; 0 for events that the server makes up for the connection.
    pub timestamp: u32,
    /// Its kind, by number.
    pub kind: u8,
    /// The server that wrote it first.
    pub server: u32,
    /// Header, body and checksum, in bytes.
    pub size: u32,
    /// Where the next one stands in its file, modulo 4 GiB; 0 for made up ones.
    pub next: u32,
    /// Flags.
    pub flags: u16,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Malformed`] when there are too few bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        Ok(Self {
            timestamp: cursor.u32()?,
            kind: cursor.u8()?,
            server: cursor.u32()?,
            size: cursor.u32()?,
            next: cursor.u32()?,
            flags: cursor.u16()?,
        })
    }

    fn bytes(&self, flags: u16) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5..9].copy_from_slice(&self.server.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.size.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.next.to_le_bytes());
        bytes[17..].copy_from_slice(&flags.to_le_bytes());
        bytes
    }

    /// CRC-32 over the event, as the server computes it. `body` is without the checksum.
    pub fn checksum(&self, body: &[&[u8]]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.bytes(self.flags & !IN_USE));
        body.iter().for_each(|part| crc.update(part));
        crc.finalize()
    }
}

/// An event's body, by what it means to a reader of rows.
#[derive(Debug)]
pub enum Event<'a> {
    /// The log's format: a new file, or a new connection.
    Format,
    /// The file that follows, without its folder.
    Rotate,
    /// A transaction begins.
    Begin(Begin),
    /// A statement, as text.
    Query(Query<'a>),
    /// A table, announced for the rows that follow.
    TableMap(&'a [u8]),
    /// Rows.
    Rows(RowsEvent<'a>),
    /// The transaction is committed.
    Commit,
    /// The transaction is prepared: it is committed or rolled back later, by another one.
    Prepare(Prepared),
    /// Nothing happens.
    Heartbeat,
    /// Something that changes neither rows nor the position.
    Nothing,
    /// Events in one compressed block (MySQL).
    Payload(&'a [u8]),
    /// The server lost events.
    Incident,
    /// A kind that must not be passed over, and is not known. Its number.
    Unknown(u8),
}

/// How a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Its id; `None` for a MySQL server without GTIDs.
    pub gtid: Option<Gtid>,
    /// It has no end event: it is one statement.
    pub standalone: bool,
    /// It ends with a prepare.
    pub prepares: bool,
    /// It commits or rolls back what another one prepared under this identity.
    pub completes: Option<XaId>,
    /// It only says that an `ALTER` begins, or that one was given up.
    pub without_effect: bool,
}

/// The identity of an XA transaction: format, both lengths, both parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XaId(Box<[u8]>);

impl XaId {
    /// Of a format and two parts.
    pub fn new(format: u32, first: &[u8], second: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(12 + first.len() + second.len());
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.extend_from_slice(&(first.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(second.len() as u32).to_le_bytes());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        Self(bytes.into())
    }

    /// Both parts, one behind the other, as `XA RECOVER` lists them.
    pub fn data(&self) -> &[u8] {
        self.0.get(12..).unwrap_or_default()
    }
}

/// What an XA prepare says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Committed at once (`XA COMMIT … ONE PHASE`).
    pub one_phase: bool,
    /// Whose prepare it is.
    pub xid: XaId,
}

/// A statement.
#[derive(Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The session's default database.
    pub database: &'a [u8],
    /// Whether values that do not fit were errors in the session.
    pub strict: bool,
    /// Its text.
    pub text: Cow<'a, [u8]>,
}

/// What a rows event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    /// Rows come.
    Write,
    /// Rows change: pairs of before and after.
    Update,
    /// Rows go.
    Delete,
}

/// A rows event.
#[derive(Debug, Clone, Copy)]
pub struct RowsEvent<'a> {
    /// What it does.
    pub kind: RowsKind,
    /// Its rows are zlib behind the column bitmaps.
    pub compressed: bool,
    /// Its post-header has extra data.
    pub second_version: bool,
    /// The body.
    pub body: &'a [u8],
}

/// Sorts an event. `body` is without header and checksum.
///
/// # Errors
/// [`Malformed`].
pub fn parse<'a>(header: &Header, body: &'a [u8]) -> Result<Event<'a>, Malformed> {
    let rows = |kind, second_version, compressed| {
        Ok(Event::Rows(RowsEvent { kind, compressed, second_version, body }))
    };
    match header.kind {
        2 => Ok(Event::Query(query(body, false)?)),
        165 => Ok(Event::Query(query(body, true)?)),
        4 => Ok(Event::Rotate),
        15 => Ok(Event::Format),
        16 => Ok(Event::Commit),
        19 => Ok(Event::TableMap(body)),
        23 => rows(RowsKind::Write, false, false),
        24 => rows(RowsKind::Update, false, false),
        25 => rows(RowsKind::Delete, false, false),
        30 => rows(RowsKind::Write, true, false),
        31 => rows(RowsKind::Update, true, false),
        32 => rows(RowsKind::Delete, true, false),
        166 => rows(RowsKind::Write, false, true),
        167 => rows(RowsKind::Update, false, true),
        168 => rows(RowsKind::Delete, false, true),
        169 => rows(RowsKind::Write, true, true),
        170 => rows(RowsKind::Update, true, true),
        171 => rows(RowsKind::Delete, true, true),
        26 => Ok(Event::Incident),
        27 | 41 => Ok(Event::Heartbeat),
        33 | 34 => Ok(Event::Begin(mysql_gtid(header.kind, body)?)),
        38 => Ok(Event::Prepare(prepared(body)?)),
        40 => Ok(Event::Payload(body)),
        162 => Ok(Event::Begin(mariadb_gtid(header, body)?)),
        // Stop, variables of statements, previous sets, annotations, checkpoints: no rows, no places.
        3 | 5 | 13 | 14 | 28 | 29 | 35 | 36 | 37 | 160 | 161 | 163 | 164 => Ok(Event::Nothing),
        _ if header.flags & IGNORABLE != 0 => Ok(Event::Nothing),
        kind => Ok(Event::Unknown(kind)),
    }
}

/// The checksum algorithm that a format event announces: whether events behind it carry CRC-32.
///
/// # Errors
/// [`Malformed`]; an algorithm that is not known.
pub fn format_has_checksums(body_with_checksum: &[u8]) -> Result<bool, Malformed> {
    let at = body_with_checksum.len().checked_sub(CHECKSUM_BYTES + 1);
    match at.and_then(|at| body_with_checksum.get(at)) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(Malformed("its checksums are not known")),
    }
}

fn query(body: &[u8], compressed: bool) -> Result<Query<'_>, Malformed> {
    let mut cursor = Cursor(body);
    cursor.bytes(8)?;
    let database_bytes = cursor.u8()?;
    cursor.u16()?;
    let variables = cursor.u16()?;
    let strict = is_strict(cursor.bytes(usize::from(variables))?);
    let database = cursor.bytes(usize::from(database_bytes))?;
    cursor.u8()?;
    if !compressed {
        return Ok(Query { database, strict, text: Cow::Borrowed(cursor.0) });
    }
    let mut text = Vec::new();
    unpack(cursor.0, &mut text)?;
    Ok(Query { database, strict, text: Cow::Owned(text) })
}

/// `STRICT_TRANS_TABLES` or `STRICT_ALL_TABLES` in the session's SQL mode, which stands among the first variables.
fn is_strict(variables: &[u8]) -> bool {
    const FLAGS: u8 = 0;
    const SQL_MODE: u8 = 1;
    const STRICT: u64 = 3 << 21;
    let mut cursor = Cursor(variables);
    loop {
        match cursor.u8() {
            Ok(FLAGS) if cursor.u32().is_ok() => {}
            Ok(SQL_MODE) => return cursor.u64().is_ok_and(|mode| mode & STRICT != 0),
            _ => return false,
        }
    }
}

const STANDALONE: u8 = 1;
const GROUP_COMMIT: u8 = 2;
const PREPARES: u8 = 64;
const COMPLETES: u8 = 128;
const MULTI_ENGINE: u8 = 1;
const START_ALTER: u8 = 2;
const ROLLBACK_ALTER: u8 = 8;

fn mariadb_gtid(header: &Header, body: &[u8]) -> Result<Begin, Malformed> {
    let mut cursor = Cursor(body);
    let (sequence, domain, flags) = (cursor.u64()?, cursor.u32()?, cursor.u8()?);
    if flags & GROUP_COMMIT != 0 {
        cursor.u64()?;
    }
    let is_xa = flags & (PREPARES | COMPLETES) != 0;
    let xid = if is_xa { Some(xa_identity(&mut cursor)?) } else { None };
    let extra = if cursor.is_empty() { 0 } else { cursor.u8()? };
    if extra & MULTI_ENGINE != 0 {
        cursor.u8()?;
    }
    Ok(Begin {
        gtid: Some(Gtid::MariaDb { domain, server: header.server, sequence }),
        standalone: flags & STANDALONE != 0,
        prepares: flags & PREPARES != 0,
        completes: xid.filter(|_| flags & COMPLETES != 0),
        without_effect: extra & (START_ALTER | ROLLBACK_ALTER) != 0,
    })
}

fn xa_identity(cursor: &mut Cursor<'_>) -> Result<XaId, Malformed> {
    let format = cursor.u32()?;
    let (first, second) = (usize::from(cursor.u8()?), usize::from(cursor.u8()?));
    Ok(XaId::new(format, cursor.bytes(first)?, cursor.bytes(second)?))
}

fn prepared(body: &[u8]) -> Result<Prepared, Malformed> {
    let mut cursor = Cursor(body);
    let (one_phase, format) = (cursor.u8()? != 0, cursor.u32()?);
    let (first, second) = (cursor.u32()? as usize, cursor.u32()? as usize);
    let xid = XaId::new(format, cursor.bytes(first)?, cursor.bytes(second)?);
    Ok(Prepared { one_phase, xid })
}

fn mysql_gtid(kind: u8, body: &[u8]) -> Result<Begin, Malformed> {
    let mut cursor = Cursor(body);
    cursor.u8()?;
    let (uuid, number) = (cursor.array()?, cursor.u64()?);
    let gtid = Gtid::MySql { source: Source { uuid, tag: String::new() }, number };
    Ok(Begin {
        gtid: (kind == 33).then_some(gtid),
        // Until a statement begins a transaction.
        standalone: true,
        prepares: false,
        completes: None,
        without_effect: false,
    })
}

/// The set that a MariaDB `GTID_LIST` event holds: what the file before it ended with.
///
/// # Errors
/// [`Malformed`].
pub fn gtid_list(body: &[u8]) -> Result<GtidSet, Malformed> {
    let mut cursor = Cursor(body);
    let mut set = GtidSet::mariadb();
    for _ in 0..cursor.u32()? & 0x0FFF_FFFF {
        let (domain, server, sequence) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
        set.add(&Gtid::MariaDb { domain, server, sequence });
    }
    Ok(set)
}
