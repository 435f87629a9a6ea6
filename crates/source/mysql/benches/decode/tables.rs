//! The shapes of tables that are measured, and how a row of each stands in the log.
//!
//! Values are made from hashes of key and column, so that every run writes the same bytes.
use std::fmt::Write as _;

/// How a column is announced, and how its cells are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    /// TINYINT, SMALLINT, INT, BIGINT: bytes, and how many values there are.
    Int(u8, u64),
    /// DECIMAL(precision, scale) below `10^digits` unscaled; at most 18 digits.
    Decimal(u8, u8, u32),
    /// DOUBLE.
    Double,
    /// DATETIME.
    DateTime,
    /// TIMESTAMP(6).
    Timestamp,
    /// CHAR(1).
    Char,
    /// VARCHAR(n) in utf8mb4, always `length` bytes.
    Varchar(u16, usize),
    /// TEXT that holds JSON.
    Json,
}

/// A column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) kind: Type,
    /// One cell in so many is NULL; 0: NOT NULL.
    pub(crate) null_every: u64,
}

/// A table whose first column is its key.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its columns.
    pub(crate) columns: Vec<Column>,
}

fn column(name: impl Into<String>, kind: Type, null_every: u64) -> Column {
    Column { name: name.into(), kind, null_every }
}

impl Table {
    /// The OLTP table of 6 columns.
    pub(crate) fn narrow() -> Self {
        let columns = vec![
            column("id", Type::Int(8, 1 << 40), 0),
            column("a", Type::Int(4, 10_000), 0),
            column("b", Type::Int(4, 1_000), 0),
            column("amount", Type::Decimal(12, 2, 7), 0),
            column("at", Type::Timestamp, 0),
            column("note", Type::Varchar(20, 20), 0),
        ];
        Self { name: "narrow", columns }
    }

    /// The taxi-like table of 19 columns.
    pub(crate) fn taxi() -> Self {
        let mut columns = vec![
            column("id", Type::Int(8, 1 << 40), 0),
            column("vendor", Type::Int(1, 3), 0),
            column("pickup", Type::DateTime, 0),
            column("dropoff", Type::DateTime, 0),
            column("passengers", Type::Int(1, 6), 25),
            column("distance", Type::Double, 0),
            column("rate", Type::Int(2, 6), 25),
            column("flag", Type::Char, 25),
            column("pickup_zone", Type::Int(2, 265), 0),
            column("dropoff_zone", Type::Int(2, 265), 0),
            column("payment", Type::Int(1, 5), 0),
        ];
        for name in ["fare", "extra", "tax", "tip", "tolls", "surcharge", "total", "congestion"] {
            columns.push(column(name, Type::Decimal(10, 2, 4), 0));
        }
        Self { name: "taxi", columns }
    }

    /// The wide table of 120 columns with text and JSON, a quarter of which may be NULL.
    pub(crate) fn wide() -> Self {
        let mut columns = vec![column("id", Type::Int(8, 1 << 40), 0)];
        for at in 1..120u64 {
            let kind = match at % 8 {
                0 | 1 => Type::Int(4, 100_000),
                2 => Type::Int(8, 1 << 50),
                3 => Type::Decimal(15, 4, 9),
                4 => Type::DateTime,
                5 => Type::Double,
                6 => Type::Varchar(40, 12),
                _ if at % 40 == 7 => Type::Json,
                _ => Type::Int(2, 1_000),
            };
            columns.push(column(format!("c{at}"), kind, if at % 4 == 3 { 5 } else { 0 }));
        }
        Self { name: "wide", columns }
    }

    /// Appends the image of the row `key`; `turn`: how often it was changed.
    pub(crate) fn image(&self, key: u64, turn: u64, out: &mut Vec<u8>) {
        let hash = |at: usize| mixed(key ^ mixed(turn << 8 ^ at as u64));
        let is_null = |at: usize, column: &Column| {
            column.null_every > 0 && (hash(at) >> 40).is_multiple_of(column.null_every)
        };
        // As the server does it: bits that no column has are set.
        let mut nulls = vec![0xFFu8; self.columns.len().div_ceil(8)];
        for (at, column) in self.columns.iter().enumerate() {
            if !is_null(at, column) {
                nulls[at / 8] &= !(1 << (at % 8));
            }
        }
        out.extend(nulls);
        for (at, column) in self.columns.iter().enumerate() {
            if at == 0 {
                out.extend(key.to_le_bytes());
            } else if !is_null(at, column) {
                column.kind.write(hash(at), out);
            }
        }
    }
}

/// A hash of a number.
pub(crate) fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Type {
    /// As the catalogue writes it.
    pub(crate) fn declared(self) -> String {
        match self {
            Self::Int(1, _) => "tinyint".into(),
            Self::Int(2, _) => "smallint".into(),
            Self::Int(4, _) => "int".into(),
            Self::Int(..) => "bigint".into(),
            Self::Decimal(precision, scale, _) => format!("decimal({precision},{scale})"),
            Self::Double => "double".into(),
            Self::DateTime => "datetime".into(),
            Self::Timestamp => "timestamp(6)".into(),
            Self::Char => "char(1)".into(),
            Self::Varchar(length, _) => format!("varchar({length})"),
            Self::Json => "text".into(),
        }
    }

    /// The log's number of the type, and what it says besides.
    pub(crate) fn announced(self) -> (u8, Vec<u8>) {
        match self {
            Self::Int(1, _) => (1, vec![]),
            Self::Int(2, _) => (2, vec![]),
            Self::Int(4, _) => (3, vec![]),
            Self::Int(..) => (8, vec![]),
            Self::Decimal(precision, scale, _) => (246, vec![precision, scale]),
            Self::Double => (5, vec![8]),
            Self::DateTime => (18, vec![0]),
            Self::Timestamp => (17, vec![6]),
            Self::Char => (254, vec![254, 4]),
            Self::Varchar(length, _) => (15, (length * 4).to_le_bytes().to_vec()),
            Self::Json => (252, vec![2]),
        }
    }

    /// Whether its announcement says if it has a sign.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int(..) | Self::Decimal(..) | Self::Double)
    }

    fn write(self, hash: u64, out: &mut Vec<u8>) {
        match self {
            Self::Int(bytes, values) => {
                out.extend(&(hash % values).to_le_bytes()[..usize::from(bytes)]);
            }
            Self::Decimal(precision, scale, digits) => {
                decimal(hash % 10u64.pow(digits), precision, scale, out);
            }
            Self::Double => out.extend(((hash % 100_000) as f64 / 100.0).to_le_bytes()),
            Self::DateTime => {
                let (month, day) = (2024 * 13 + 1 + hash % 12, 1 + (hash >> 8) % 28);
                let time =
                    (((hash >> 16) % 24) << 12) | (((hash >> 24) % 60) << 6) | ((hash >> 32) % 60);
                let packed = (1u64 << 39) + (month << 22) + (day << 17) + time;
                out.extend(&packed.to_be_bytes()[3..]);
            }
            Self::Timestamp => {
                out.extend((1_700_000_000 + (hash % 40_000_000) as u32).to_be_bytes());
                out.extend(&((hash >> 32) as u32 % 1_000_000).to_be_bytes()[1..]);
            }
            Self::Char => out.extend([1, if hash.is_multiple_of(50) { b'Y' } else { b'N' }]),
            Self::Varchar(most, length) => {
                let text = format!("{hash:016x}{hash:016x}{hash:016x}");
                // Where a character may take four bytes, the length takes two from 64 characters on.
                assert!(most < 64 && length <= text.len());
                out.push(length as u8);
                out.extend(&text.as_bytes()[..length]);
            }
            Self::Json => {
                let mut text = String::new();
                let _ = write!(text, r#"{{"a":{},"b":["{:x}"],"c":null}}"#, hash % 999, hash >> 20);
                out.extend((text.len() as u16).to_le_bytes());
                out.extend(text.as_bytes());
            }
        }
    }
}

/// A decimal that is not below zero as it is stored: digits in groups of nine, the odd ones outside. Each side of the
/// point has at most one full group.
fn decimal(unscaled: u64, precision: u8, scale: u8, out: &mut Vec<u8>) {
    let (whole, divisor) = (precision - scale, 10u64.pow(u32::from(scale)));
    let first = out.len();
    group(unscaled / divisor / 10u64.pow(9), whole.saturating_sub(9), out);
    group(unscaled / divisor % 10u64.pow(9), whole.min(9), out);
    group(unscaled % divisor, scale, out);
    out[first] ^= 0x80;
}

fn group(number: u64, digits: u8, out: &mut Vec<u8>) {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    out.extend(&number.to_be_bytes()[8 - BYTES[usize::from(digits)]..]);
}
