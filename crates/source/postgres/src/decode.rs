//! `pgoutput` messages, protocol 1 to 4, read in place: a message borrows the bytes it came in.
//!
//! Nothing here allocates per row, panics, or knows tables. Deliberately absent: two-phase messages (slots are made
//! without it) and values, which go from [`Cell`] straight into column builders.
use lakeward_core::{Error, ErrorKind, Result};

/// One message of the log.
#[derive(Debug)]
pub enum Message<'a> {
    /// A committed transaction begins.
    Begin {
        /// Start of its commit record.
        commit_start: u64,
        /// Microseconds since 2000-01-01.
        committed_at: i64,
        /// Transaction id.
        xid: u32,
    },
    /// The transaction that `Begin` began ends.
    Commit(CommitEnd),
    /// A table's columns, before its first change and after each invalidation.
    Relation {
        /// The (sub)transaction inside a stream block.
        xid: Option<u32>,
        /// The table.
        relation: RelationMessage,
    },
    /// A new row.
    Insert {
        /// The (sub)transaction inside a stream block.
        xid: Option<u32>,
        /// The table's oid.
        relid: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A changed row.
    Update {
        /// The (sub)transaction inside a stream block.
        xid: Option<u32>,
        /// The table's oid.
        relid: u32,
        /// The key before, or the whole row before.
        old: Option<OldTuple<'a>>,
        /// The row after.
        new: Tuple<'a>,
    },
    /// A deleted row.
    Delete {
        /// The (sub)transaction inside a stream block.
        xid: Option<u32>,
        /// The table's oid.
        relid: u32,
        /// Its key, or the whole row.
        old: OldTuple<'a>,
    },
    /// Tables emptied together.
    Truncate {
        /// The (sub)transaction inside a stream block.
        xid: Option<u32>,
        /// The tables' oids.
        relids: Relids<'a>,
    },
    /// The stream goes on with a transaction that is still open.
    StreamStart {
        /// The top transaction.
        xid: u32,
    },
    /// The end of a piece of an open transaction.
    StreamStop,
    /// A transaction that was streamed while open ends.
    StreamCommit {
        /// The top transaction.
        xid: u32,
        /// Its end.
        end: CommitEnd,
    },
    /// A transaction that was streamed while open, or a part of it, is rolled back.
    StreamAbort {
        /// The top transaction.
        xid: u32,
        /// The part; equal to `xid` for the whole.
        part: u32,
    },
    /// `Origin`, `Type`, and messages of `pg_logical_emit_message`: nothing to do.
    Other,
}

/// Where a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitEnd {
    /// Start of the commit record.
    pub start: u64,
    /// End of the commit record.
    pub end: u64,
    /// Microseconds since 2000-01-01.
    pub committed_at: i64,
}

/// A table as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationMessage {
    /// The table's oid.
    pub relid: u32,
    /// Its schema.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Replica identity: `d`, `n`, `f` or `i`.
    pub identity: u8,
    /// Its live columns that are not generated, in attnum order.
    pub columns: Vec<RelationColumn>,
}

/// A column as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Part of the replica identity.
    pub key: bool,
    /// Name.
    pub name: String,
    /// Type oid.
    pub type_oid: u32,
    /// Type modifier, -1: none.
    pub typmod: i32,
}

/// What an update or delete tells of the row before.
#[derive(Debug, Clone, Copy)]
pub struct OldTuple<'a> {
    /// All columns (`REPLICA IDENTITY FULL`), else only those of the key.
    pub full: bool,
    /// The values.
    pub tuple: Tuple<'a>,
}

/// A row as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub struct Tuple<'a> {
    columns: u16,
    body: &'a [u8],
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// A TOASTed value that the change left alone and the log does not carry.
    Unchanged,
    /// The server's text.
    Text(&'a [u8]),
    /// The server's binary form.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// Number of columns.
    pub fn columns(&self) -> usize {
        usize::from(self.columns)
    }

    /// Bytes that the row takes in the message.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Its values.
    pub fn cells(&self) -> Cells<'a> {
        Cells { left: self.columns, body: Bytes::new(self.body, b'T') }
    }
}

/// Walks the values of a row.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    left: u16,
    body: Bytes<'a>,
}

impl<'a> Cells<'a> {
    /// The next value; `None` behind the last.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no value.
    #[inline]
    pub fn next_cell(&mut self) -> Result<Option<Cell<'a>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if let Some(text) = self.body.plain_text() {
            return Ok(Some(Cell::Text(text)));
        }
        Ok(Some(match self.body.u8()? {
            b't' => Cell::Text(self.body.counted()?),
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b'b' => Cell::Binary(self.body.counted()?),
            _ => return Err(self.body.corrupt("unknown kind of value")),
        }))
    }
}

/// The tables of a `Truncate`.
#[derive(Debug, Clone, Copy)]
pub struct Relids<'a>(&'a [u8]);

impl Relids<'_> {
    /// Their oids.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// Whether a message may need the catalogue: `Relation` and `StreamCommit`.
#[inline]
pub fn is_question(message: &[u8]) -> bool {
    matches!(message.first(), Some(b'R' | b'c'))
}

/// Reads one message. `streaming`: it stands between `StreamStart` and `StreamStop`.
///
/// # Errors
/// `Corrupt` naming the message and the offset in it; `Unsupported` for two-phase messages.
pub fn parse(message: &[u8], streaming: bool) -> Result<Message<'_>> {
    let mut bytes = Bytes::new(message, message.first().copied().unwrap_or(b'?'));
    let parsed = match bytes.u8()? {
        b'I' => insert(&mut bytes, streaming)?,
        b'U' => update(&mut bytes, streaming)?,
        b'D' => delete(&mut bytes, streaming)?,
        b'B' => Message::Begin {
            commit_start: bytes.u64()?,
            committed_at: bytes.i64()?,
            xid: bytes.u32()?,
        },
        b'C' => {
            bytes.u8()?;
            Message::Commit(commit_end(&mut bytes)?)
        }
        b'R' => relation(&mut bytes, streaming)?,
        b'T' => truncate(&mut bytes, streaming)?,
        b'S' => {
            let xid = bytes.u32()?;
            bytes.u8()?;
            Message::StreamStart { xid }
        }
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = bytes.u32()?;
            bytes.u8()?;
            Message::StreamCommit { xid, end: commit_end(&mut bytes)? }
        }
        b'A' => stream_abort(&mut bytes)?,
        b'O' | b'Y' | b'M' => return Ok(Message::Other),
        b'b' | b'P' | b'K' | b'r' | b'p' => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the slot decodes prepared transactions (two-phase)",
            )
            .remedied("drop the slot and let `lakeward` make its own: `lakeward resync`"));
        }
        _ => return Err(bytes.corrupt("unknown message")),
    };
    bytes.done()?;
    Ok(parsed)
}

fn insert<'a>(bytes: &mut Bytes<'a>, streaming: bool) -> Result<Message<'a>> {
    let (xid, relid) = (bytes.xid(streaming)?, bytes.u32()?);
    bytes.expect(b'N')?;
    Ok(Message::Insert { xid, relid, new: bytes.last_tuple()? })
}

fn update<'a>(bytes: &mut Bytes<'a>, streaming: bool) -> Result<Message<'a>> {
    let (xid, relid) = (bytes.xid(streaming)?, bytes.u32()?);
    let old = match bytes.u8()? {
        b'N' => None,
        kind @ (b'K' | b'O') => {
            let tuple = bytes.tuple()?;
            bytes.expect(b'N')?;
            Some(OldTuple { full: kind == b'O', tuple })
        }
        _ => return Err(bytes.corrupt("unknown kind of row")),
    };
    Ok(Message::Update { xid, relid, old, new: bytes.last_tuple()? })
}

fn delete<'a>(bytes: &mut Bytes<'a>, streaming: bool) -> Result<Message<'a>> {
    let (xid, relid) = (bytes.xid(streaming)?, bytes.u32()?);
    let full = match bytes.u8()? {
        b'K' => false,
        b'O' => true,
        _ => return Err(bytes.corrupt("unknown kind of row")),
    };
    Ok(Message::Delete { xid, relid, old: OldTuple { full, tuple: bytes.last_tuple()? } })
}

fn truncate<'a>(bytes: &mut Bytes<'a>, streaming: bool) -> Result<Message<'a>> {
    let xid = bytes.xid(streaming)?;
    let count = bytes.u32()? as usize;
    bytes.u8()?;
    let oids = bytes.take(count.saturating_mul(4))?;
    Ok(Message::Truncate { xid, relids: Relids(oids) })
}

fn relation<'a>(bytes: &mut Bytes<'a>, streaming: bool) -> Result<Message<'a>> {
    let (xid, relid) = (bytes.xid(streaming)?, bytes.u32()?);
    let namespace = match bytes.text()? {
        "" => "pg_catalog",
        name => name,
    };
    let namespace = namespace.to_owned();
    let name = bytes.text()?.to_owned();
    let identity = bytes.u8()?;
    let count = usize::from(bytes.u16()?);
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(RelationColumn {
            key: bytes.u8()? & 1 == 1,
            name: bytes.text()?.to_owned(),
            type_oid: bytes.u32()?,
            typmod: bytes.u32()? as i32,
        });
    }
    let relation = RelationMessage { relid, namespace, name, identity, columns };
    Ok(Message::Relation { xid, relation })
}

fn stream_abort<'a>(bytes: &mut Bytes<'a>) -> Result<Message<'a>> {
    let (xid, part) = (bytes.u32()?, bytes.u32()?);
    // Servers that stream in parallel add the abort's LSN and time.
    bytes.rest();
    Ok(Message::StreamAbort { xid, part })
}

fn commit_end(bytes: &mut Bytes<'_>) -> Result<CommitEnd> {
    Ok(CommitEnd { start: bytes.u64()?, end: bytes.u64()?, committed_at: bytes.i64()? })
}

/// Reads a message from front to back; every error names the message and the offset.
#[derive(Debug, Clone)]
struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
    message: u8,
}

impl<'a> Bytes<'a> {
    fn new(all: &'a [u8], message: u8) -> Self {
        Self { all, at: 0, message }
    }

    #[cold]
    fn corrupt(&self, what: &'static str) -> Error {
        Error::new(ErrorKind::Corrupt, what)
            .with("message", char::from(self.message).escape_default())
            .with("offset", self.at)
            .remedied("check what stands between Lakeward and the server, then run again")
    }

    /// The text of a value that is one, if it is all there.
    #[inline]
    fn plain_text(&mut self) -> Option<&'a [u8]> {
        let rest = self.all.get(self.at..)?;
        let ([b't', length @ ..], rest) = rest.split_first_chunk::<5>()? else { return None };
        let length = u32::from_be_bytes(*length) as usize;
        let text = rest.get(..length)?;
        self.at += 5 + length;
        Some(text)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length);
        match end.and_then(|end| self.all.get(self.at..end)) {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => Err(self.corrupt("message is cut short")),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.all.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(taken) => {
                self.at += N;
                Ok(*taken)
            }
            None => Err(self.corrupt("message is cut short")),
        }
    }

    #[inline]
    fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    #[inline]
    fn counted(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str> {
        let rest = self.all.get(self.at..).unwrap_or_default();
        let Some(end) = memchr::memchr(0, rest) else {
            return Err(self.corrupt("name without end"));
        };
        let name = self.take(end)?;
        self.at += 1;
        std::str::from_utf8(name).map_err(|_| self.corrupt("name is not UTF-8"))
    }

    #[inline]
    fn xid(&mut self, streaming: bool) -> Result<Option<u32>> {
        if streaming { self.u32().map(Some) } else { Ok(None) }
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.u8()? == byte { Ok(()) } else { Err(self.corrupt("unknown kind of row")) }
    }

    /// A tuple with something behind it.
    fn tuple(&mut self) -> Result<Tuple<'a>> {
        let columns = self.u16()?;
        let start = self.at;
        for _ in 0..columns {
            match self.u8()? {
                b'n' | b'u' => {}
                b't' | b'b' => drop(self.counted()?),
                _ => return Err(self.corrupt("unknown kind of value")),
            }
        }
        Ok(Tuple { columns, body: &self.all[start..self.at] })
    }

    /// The tuple that ends the message: its values are checked when they are read.
    #[inline]
    fn last_tuple(&mut self) -> Result<Tuple<'a>> {
        let columns = self.u16()?;
        Ok(Tuple { columns, body: self.rest() })
    }

    #[inline]
    fn rest(&mut self) -> &'a [u8] {
        let rest = self.all.get(self.at..).unwrap_or_default();
        self.at = self.all.len();
        rest
    }

    fn done(&self) -> Result<()> {
        if self.at == self.all.len() { Ok(()) } else { Err(self.corrupt("message is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert_bytes() -> Vec<u8> {
        let mut bytes = vec![b'I', 0, 0, 0, 9, b'N', 0, 3, b't', 0, 0, 0, 2];
        bytes.extend_from_slice(b"42nu");
        bytes
    }

    #[test]
    fn an_insert_is_read_in_place() {
        let bytes = insert_bytes();
        let Message::Insert { xid: None, relid: 9, new } = parse(&bytes, false).unwrap() else {
            panic!("not an insert");
        };
        let mut cells = new.cells();
        assert_eq!(cells.next_cell().unwrap(), Some(Cell::Text(b"42")));
        assert_eq!(cells.next_cell().unwrap(), Some(Cell::Null));
        assert_eq!(cells.next_cell().unwrap(), Some(Cell::Unchanged));
        assert_eq!(cells.next_cell().unwrap(), None);
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error_that_names_it() {
        let bytes = insert_bytes();
        for end in 0..bytes.len() {
            let read = parse(&bytes[..end], false).and_then(|message| match message {
                Message::Insert { new, .. } => {
                    let mut cells = new.cells();
                    while cells.next_cell()?.is_some() {}
                    Ok(())
                }
                _ => Ok(()),
            });
            let error = read.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {end}");
            assert!(error.context("offset").is_some());
        }
    }

    #[test]
    fn two_phase_is_refused() {
        assert_eq!(parse(b"P", false).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
