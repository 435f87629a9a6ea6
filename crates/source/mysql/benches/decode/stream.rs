//! A binary log in memory, byte for byte as MariaDB sends it to a replica: packets, headers, checksums.
//!
//! 60 of 100 changes are updates, 30 inserts, 10 deletes, in transactions of 10 to 1,000 changes.
use lakeward_source_mysql::binlog::event::Header;

use super::tables::{Table, mixed};

const TABLE_ID: u64 = 29;
/// An event of rows is closed when it has so many bytes, as the server does by default.
const EVENT_BYTES: usize = 8192;

const GTID: u8 = 162;
const TABLE_MAP: u8 = 19;
const WRITE: u8 = 23;
const UPDATE: u8 = 24;
const DELETE: u8 = 25;
const XID: u8 = 16;

/// How many changes a statement makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    /// All of one sort that a transaction has.
    Many,
    /// One.
    Single,
}

/// A stream of packets.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The packets, one behind the other.
    pub(crate) packets: Vec<u8>,
    /// How many changes are in them.
    pub(crate) changes: u64,
    at: u32,
}

impl Stream {
    /// At least so many changes of a table.
    pub(crate) fn of(table: &Table, changes: u64, statements: Statements) -> Self {
        let mut stream = Self { packets: Vec::new(), changes: 0, at: 4 };
        let map = table_map(table);
        let mut key = 1_000_000;
        for sequence in 1.. {
            if stream.changes >= changes {
                break;
            }
            let size = 10 + mixed(sequence) % 991;
            stream.event(GTID, &[sequence.to_le_bytes().to_vec(), vec![0; 11]].concat());
            let sorts = [(UPDATE, size * 6 / 10), (WRITE, size * 3 / 10), (DELETE, size / 10)];
            for (kind, rows) in sorts {
                let rows: Vec<u64> = (0..rows).map(|row| key + row).collect();
                key += rows.len() as u64;
                let at_once = if statements == Statements::Single { 1 } else { rows.len().max(1) };
                for rows in rows.chunks(at_once) {
                    stream.event(TABLE_MAP, &map);
                    stream.rows(table, kind, rows);
                }
                stream.changes += rows.len() as u64;
            }
            stream.event(XID, &sequence.to_le_bytes());
        }
        stream
    }

    fn rows(&mut self, table: &Table, kind: u8, keys: &[u64]) {
        let present = vec![0xFF; table.columns.len().div_ceil(8)];
        let mut head = TABLE_ID.to_le_bytes()[..6].to_vec();
        head.extend([1, 0, table.columns.len() as u8]);
        head.extend(&present);
        if kind == UPDATE {
            head.extend(&present);
        }
        let mut body = head.clone();
        for key in keys {
            table.image(*key, 0, &mut body);
            if kind == UPDATE {
                table.image(*key, 1, &mut body);
            }
            if body.len() >= EVENT_BYTES {
                self.event(kind, &body);
                body.clone_from(&head);
            }
        }
        if body.len() > head.len() {
            self.event(kind, &body);
        }
    }

    fn event(&mut self, kind: u8, body: &[u8]) {
        let size = 19 + body.len() as u32 + 4;
        self.at = self.at.wrapping_add(size);
        let header =
            Header { timestamp: 1_700_000_000, kind, server: 1, size, next: self.at, flags: 0 };
        let sequence = 0;
        self.packets.extend(&(size + 1).to_le_bytes()[..3]);
        self.packets.extend([sequence, 0]);
        self.packets.extend(header.timestamp.to_le_bytes());
        self.packets.push(kind);
        self.packets.extend(header.server.to_le_bytes());
        self.packets.extend(size.to_le_bytes());
        self.packets.extend(header.next.to_le_bytes());
        self.packets.extend(header.flags.to_le_bytes());
        self.packets.extend(body);
        self.packets.extend(header.checksum(&[body]).to_le_bytes());
    }
}

fn counted(content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..251 => vec![short as u8],
        long => [vec![252], (long as u16).to_le_bytes().to_vec()].concat(),
    };
    [length, content.to_vec()].concat()
}

fn field(kind: u8, content: &[u8]) -> Vec<u8> {
    [vec![kind], counted(content)].concat()
}

fn table_map(table: &Table) -> Vec<u8> {
    let columns = &table.columns;
    let types: Vec<u8> = columns.iter().map(|c| c.kind.announced().0).collect();
    let meta: Vec<u8> = columns.iter().flat_map(|c| c.kind.announced().1).collect();
    let mut nullable = vec![0u8; columns.len().div_ceil(8)];
    for (at, column) in columns.iter().enumerate() {
        nullable[at / 8] |= u8::from(column.null_every > 0) << (at % 8);
    }
    let numbers = columns.iter().filter(|c| c.kind.is_number()).count();
    let names: Vec<u8> = columns.iter().flat_map(|c| counted(c.name.as_bytes())).collect();
    [
        TABLE_ID.to_le_bytes()[..6].to_vec(),
        vec![1, 0],
        counted(b"bench"),
        vec![0],
        counted(table.name.as_bytes()),
        vec![0, columns.len() as u8],
        types,
        counted(&meta),
        nullable,
        field(1, &vec![0; numbers.div_ceil(8)]),
        field(2, &[45]),
        field(4, &names),
        field(8, &[0]),
    ]
    .concat()
}
