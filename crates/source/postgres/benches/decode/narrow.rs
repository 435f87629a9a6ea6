//! The narrow table of 6 columns, as a server sends its rows: texts in the log, binary in a COPY.
//!
//! Values are made from hashes of the key, so that every run makes the same bytes.
use std::io::Write as _;
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use lakeward_core::{Column, ColumnId, TableId, TableIdentity, TableSchema};

/// Columns of the table.
pub(crate) const COLUMNS: usize = 6;
/// Of the column `amount`.
const SCALE: u64 = 100;
/// 2023-11-14, in microseconds since 2000-01-01.
const TIMES_FROM: u64 = 753_235_200_000_000;

/// A row.
pub(crate) struct Row {
    id: u64,
    a: u64,
    b: u64,
    /// In hundredths, below a hundred million.
    amount: u64,
    /// Second of a day, and microseconds of the second.
    at: (u64, u64),
    note: String,
}

/// What its rows become.
pub(crate) fn schema() -> Arc<TableSchema> {
    let types = [
        ("id", DataType::Int64),
        ("a", DataType::Int32),
        ("b", DataType::Int32),
        ("amount", DataType::Decimal128(12, 2)),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("note", DataType::Utf8),
    ];
    let column = |(at, (name, data_type)): (usize, (&str, DataType))| Column {
        id: ColumnId(at as i32 + 1),
        name: name.into(),
        data_type,
        declared: String::new(),
        nullable: at > 0,
    };
    let columns = types.into_iter().enumerate().map(column).collect();
    let (table, identity) = (TableId::new("bench", "narrow"), TableIdentity("1".into()));
    Arc::new(TableSchema::new(table, identity, columns, vec![0], String::new()))
}

/// A hash of a number.
pub(crate) fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Row {
    /// The row of a key; `turn`: how often it was changed.
    pub(crate) fn of(id: u64, turn: u64) -> Self {
        let hash = mixed(id ^ mixed(turn));
        Self {
            id,
            a: hash % 10_000,
            b: (hash >> 16) % 1_000,
            amount: (hash >> 8) % 100_000_000,
            at: ((hash >> 20) % 86_400, (hash >> 32) % 1_000_000),
            note: format!("{hash:020x}"),
        }
    }

    /// Appends the row as `pgoutput` writes it; `key_only`: the other columns are NULL.
    pub(crate) fn log(&self, key_only: bool, out: &mut Vec<u8>) {
        out.extend((COLUMNS as u16).to_be_bytes());
        text(format_args!("{}", self.id), out);
        if key_only {
            out.extend([b'n'; COLUMNS - 1]);
            return;
        }
        text(format_args!("{}", self.a), out);
        text(format_args!("{}", self.b), out);
        text(format_args!("{}.{:02}", self.amount / SCALE, self.amount % SCALE), out);
        let (second, micros) = self.at;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        text(format_args!("2023-11-14 {hour:02}:{minute:02}:{:02}.{micros:06}", second % 60), out);
        text(format_args!("{}", self.note), out);
    }

    /// Appends the row as a binary COPY writes it.
    pub(crate) fn copy(&self, out: &mut Vec<u8>) {
        out.extend((COLUMNS as u16).to_be_bytes());
        field(&self.id.to_be_bytes(), out);
        field(&(self.a as u32).to_be_bytes(), out);
        field(&(self.b as u32).to_be_bytes(), out);
        field(&numeric(self.amount), out);
        let at = TIMES_FROM + self.at.0 * 1_000_000 + self.at.1;
        field(&at.to_be_bytes(), out);
        field(self.note.as_bytes(), out);
    }
}

/// A value of the log: kind, length, text.
fn text(value: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    out.push(b't');
    let from = out.len();
    out.extend([0; 4]);
    out.write_fmt(value).unwrap();
    let length = (out.len() - from - 4) as u32;
    out[from..from + 4].copy_from_slice(&length.to_be_bytes());
}

fn field(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}

/// Hundredths as the server stores them: groups of four digits about the point, none of them empty at either end.
fn numeric(hundredths: u64) -> Vec<u8> {
    const POSITIVE: u16 = 0;
    let whole = hundredths / SCALE;
    let groups = [whole / 10_000, whole % 10_000, hundredths % SCALE * 100];
    let first = groups.iter().position(|group| *group > 0).unwrap_or(groups.len());
    let last = groups.iter().rposition(|group| *group > 0).map_or(first, |at| at + 1);
    let weight = if first == groups.len() { 0 } else { 1 - first as i16 };
    let head = [(last - first) as u16, weight as u16, POSITIVE, 2];
    let groups = groups[first..last].iter().map(|group| *group as u16);
    head.into_iter().chain(groups).flat_map(u16::to_be_bytes).collect()
}
