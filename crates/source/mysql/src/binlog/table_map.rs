//! A table as the log announces it before its rows: columns with their types, names, character sets and labels.
//!
//! Needs `binlog_row_metadata=FULL` on the server: without it there are no names, and nothing is guessed.
use super::Flavour;
use super::cursor::{Cursor, Malformed};

/// More columns than this no server allows.
const COLUMNS_MAX: usize = 4096;

/// Column types by the log's number, as far as they are told apart here.
pub mod code {
    #![allow(missing_docs, reason = "the names are the server's own")]
    pub const DECIMAL: u8 = 0;
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// A column as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogColumn {
    /// Its name; `None` when the server does not log names.
    pub name: Option<String>,
    /// Its type, one of [`code`]; `ENUM` and `SET` where the log says `STRING` and means those.
    pub code: u8,
    /// The type's own metadata, the first byte lowest: `VARCHAR` bytes at most; `NEWDECIMAL` precision, then scale;
    /// `BIT` bits beyond whole bytes, then whole bytes; temporal types digits of the fraction; blobs bytes of the
    /// length; `STRING` as it came; `ENUM` and `SET` bytes of the value.
    pub meta: u16,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// Whether its number has no sign.
    pub unsigned: bool,
    /// Its collation's number; 63: bytes; 0: not told.
    pub collation: u16,
    /// The labels of `ENUM` and `SET`, in the column's character set.
    pub labels: Option<Vec<Vec<u8>>>,
    /// Its place in the primary key.
    pub in_key: Option<u32>,
}

/// A table as the log announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap {
    /// The number under which rows name it, for a while.
    pub id: u64,
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<LogColumn>,
    /// Whether names were logged.
    pub has_names: bool,
}

/// The number under which rows name the table, and what follows: equal bytes mean an equal table.
///
/// # Errors
/// [`Malformed`].
pub fn identity(body: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let mut cursor = Cursor(body);
    let id = cursor.number(6)?;
    Ok((id, cursor.0))
}

/// Database and name alone.
///
/// # Errors
/// [`Malformed`].
pub fn name_of(body: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut cursor = Cursor(body);
    cursor.bytes(8)?;
    let database = text(cursor.short()?)?;
    cursor.u8()?;
    Ok((database, text(cursor.short()?)?))
}

/// Reads the body of an event as a server of this flavour writes it.
///
/// # Errors
/// [`Malformed`].
pub fn parse(body: &[u8], flavour: Flavour) -> Result<TableMap, Malformed> {
    let mut cursor = Cursor(body);
    let id = cursor.number(6)?;
    cursor.u16()?;
    let database = text(cursor.short()?)?.to_owned();
    cursor.u8()?;
    let name = text(cursor.short()?)?.to_owned();
    cursor.u8()?;
    let count = cursor.count()?;
    if count > COLUMNS_MAX {
        return Err(Malformed("a table has too many columns"));
    }
    let types = cursor.bytes(count)?;
    let mut metadata = Cursor(cursor.counted()?);
    let nullable = cursor.bytes(count.div_ceil(8))?;
    let mut columns = Vec::with_capacity(count);
    for (at, number) in types.iter().enumerate() {
        let (code, meta) = column_type(*number, &mut metadata)?;
        columns.push(LogColumn {
            name: None,
            code,
            meta,
            nullable: bit_from_low(nullable, at),
            unsigned: false,
            collation: 0,
            labels: None,
            in_key: None,
        });
    }
    let has_names = optional(cursor, &mut columns, flavour)?;
    Ok(TableMap { id, database, name, columns, has_names })
}

fn column_type(number: u8, metadata: &mut Cursor<'_>) -> Result<(u8, u16), Malformed> {
    Ok(match number {
        code::FLOAT
        | code::DOUBLE
        | code::TIMESTAMP2
        | code::DATETIME2
        | code::TIME2
        | code::JSON
        | code::VECTOR
        | code::TINY_BLOB
        | code::MEDIUM_BLOB
        | code::LONG_BLOB
        | code::BLOB
        | code::BLOB_COMPRESSED
        | code::GEOMETRY => (number, u16::from(metadata.u8()?)),
        code::VARCHAR | code::VARCHAR_COMPRESSED | code::NEWDECIMAL | code::BIT => {
            (number, metadata.u16()?)
        }
        code::STRING | code::VAR_STRING | code::ENUM | code::SET => {
            let meta = metadata.u16()?;
            match meta as u8 {
                real @ (code::ENUM | code::SET) => (real, meta >> 8),
                _ => (number, meta),
            }
        }
        code::DECIMAL..=code::LONG
        | code::NULL
        | code::TIMESTAMP
        | code::LONGLONG
        | code::INT24
        | code::DATE
        | code::TIME
        | code::DATETIME
        | code::YEAR
        | code::NEWDATE => (number, 0),
        _ => return Err(Malformed("a column's type is not known")),
    })
}

const SIGNEDNESS: u8 = 1;
const DEFAULT_CHARSET: u8 = 2;
const COLUMN_CHARSET: u8 = 3;
const COLUMN_NAME: u8 = 4;
const SET_LABELS: u8 = 5;
const ENUM_LABELS: u8 = 6;
const PRIMARY_KEY: u8 = 8;
const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
const LABEL_DEFAULT_CHARSET: u8 = 10;
const LABEL_COLUMN_CHARSET: u8 = 11;

/// Reads the fields that a server with full metadata adds. Returns whether names are among them.
fn optional(
    mut cursor: Cursor<'_>,
    columns: &mut [LogColumn],
    flavour: Flavour,
) -> Result<bool, Malformed> {
    let mut has_names = false;
    let is_text = match flavour {
        Flavour::MariaDb => is_text_of_mariadb,
        Flavour::MySql => is_text,
    };
    while !cursor.is_empty() {
        let field = cursor.u8()?;
        let value = Cursor(cursor.counted()?);
        match field {
            SIGNEDNESS => signedness(value, columns)?,
            DEFAULT_CHARSET => default_charset(value, columns, is_text)?,
            COLUMN_CHARSET => column_charset(value, columns, is_text)?,
            LABEL_DEFAULT_CHARSET => default_charset(value, columns, has_labels)?,
            LABEL_COLUMN_CHARSET => column_charset(value, columns, has_labels)?,
            COLUMN_NAME => {
                names(value, columns)?;
                has_names = true;
            }
            SET_LABELS => labels(value, columns, code::SET)?,
            ENUM_LABELS => labels(value, columns, code::ENUM)?,
            PRIMARY_KEY => key(value, columns, false)?,
            PRIMARY_KEY_WITH_PREFIX => key(value, columns, true)?,
            _ => {}
        }
    }
    Ok(has_names)
}

fn is_number(column: &LogColumn) -> bool {
    matches!(
        column.code,
        code::TINY
            | code::SHORT
            | code::INT24
            | code::LONG
            | code::LONGLONG
            | code::NEWDECIMAL
            | code::FLOAT
            | code::DOUBLE
            | code::YEAR
    )
}

fn is_text(column: &LogColumn) -> bool {
    matches!(
        column.code,
        code::STRING
            | code::VAR_STRING
            | code::VARCHAR
            | code::VARCHAR_COMPRESSED
            | code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::BLOB_COMPRESSED
    )
}

/// MariaDB counts geometries among the columns that have a character set.
fn is_text_of_mariadb(column: &LogColumn) -> bool {
    is_text(column) || column.code == code::GEOMETRY
}

fn has_labels(column: &LogColumn) -> bool {
    matches!(column.code, code::ENUM | code::SET)
}

fn signedness(value: Cursor<'_>, columns: &mut [LogColumn]) -> Result<(), Malformed> {
    let numbers = columns.iter_mut().filter(|column| is_number(column));
    for (at, column) in numbers.enumerate() {
        let byte = value.0.get(at / 8).ok_or(Malformed("signs are missing"))?;
        column.unsigned = byte & (0x80 >> (at % 8)) != 0;
    }
    Ok(())
}

fn default_charset(
    mut value: Cursor<'_>,
    columns: &mut [LogColumn],
    kind: fn(&LogColumn) -> bool,
) -> Result<(), Malformed> {
    let default = collation(&mut value)?;
    let mut chosen: Vec<_> = columns.iter_mut().filter(|column| kind(column)).collect();
    chosen.iter_mut().for_each(|column| column.collation = default);
    while !value.is_empty() {
        let at = value.count()?;
        let own = collation(&mut value)?;
        let column = chosen.get_mut(at).ok_or(Malformed("a character set has no column"))?;
        column.collation = own;
    }
    Ok(())
}

fn column_charset(
    mut value: Cursor<'_>,
    columns: &mut [LogColumn],
    kind: fn(&LogColumn) -> bool,
) -> Result<(), Malformed> {
    for column in columns.iter_mut().filter(|column| kind(column)) {
        column.collation = collation(&mut value)?;
    }
    Ok(())
}

fn collation(value: &mut Cursor<'_>) -> Result<u16, Malformed> {
    u16::try_from(value.packed()?).map_err(|_| Malformed("a collation is not known"))
}

fn names(mut value: Cursor<'_>, columns: &mut [LogColumn]) -> Result<(), Malformed> {
    for column in columns {
        column.name = Some(text(value.counted()?)?.to_owned());
    }
    Ok(())
}

fn labels(mut value: Cursor<'_>, columns: &mut [LogColumn], kind: u8) -> Result<(), Malformed> {
    for column in columns.iter_mut().filter(|column| column.code == kind) {
        let mut labels = Vec::new();
        for _ in 0..value.count()? {
            labels.push(value.counted()?.to_vec());
        }
        column.labels = Some(labels);
    }
    Ok(())
}

fn key(
    mut value: Cursor<'_>,
    columns: &mut [LogColumn],
    with_prefix: bool,
) -> Result<(), Malformed> {
    let mut place = 0;
    while !value.is_empty() {
        let at = value.count()?;
        if with_prefix {
            value.packed()?;
        }
        let column = columns.get_mut(at).ok_or(Malformed("a key has no column"))?;
        column.in_key = Some(place);
        place += 1;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_| Malformed("a name is not UTF-8"))
}

/// Bit `at`, counted from the lowest of the first byte.
pub(super) fn bit_from_low(bits: &[u8], at: usize) -> bool {
    bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s.t(id int primary key, v varchar(20), e enum('a','b'), y year, u int unsigned)` as MariaDB 10.11 logs it.
    const LOGGED: &str = "1200000000000100017300017400050\
        3 0f fe 0d 03 04 14 00 f7 01 1e 01 01 60 02 01 08 04 0b 02 69 64 01 76 01 65 01 79 01 75 \
        0a 01 08 06 05 02 01 61 01 62 08 01 00";

    fn logged() -> Vec<u8> {
        let digits: Vec<u8> = LOGGED.bytes().filter(|byte| *byte != b' ').collect();
        let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks_exact(2).map(pair).collect()
    }

    #[test]
    fn a_table_of_the_server_is_read() {
        let table = parse(&logged(), Flavour::MariaDb).unwrap();
        assert_eq!((table.id, table.database.as_str(), table.name.as_str()), (18, "s", "t"));
        assert_eq!(name_of(&logged()).unwrap(), ("s", "t"));
        let names: Vec<_> = table.columns.iter().filter_map(|c| c.name.as_deref()).collect();
        assert_eq!(names, ["id", "v", "e", "y", "u"]);
        let codes: Vec<_> = table.columns.iter().map(|c| c.code).collect();
        assert_eq!(codes, [code::LONG, code::VARCHAR, code::ENUM, code::YEAR, code::LONG]);
        let unsigned: Vec<_> = table.columns.iter().map(|c| c.unsigned).collect();
        assert_eq!(unsigned, [false, false, false, true, true]);
        assert_eq!((table.columns[1].meta, table.columns[2].meta), (20, 1));
        assert_eq!((table.columns[1].collation, table.columns[2].collation), (8, 8));
        assert_eq!(table.columns[2].labels, Some(vec![b"a".to_vec(), b"b".to_vec()]));
        let keys: Vec<_> = table.columns.iter().map(|c| c.in_key).collect();
        assert_eq!(keys, [Some(0), None, None, None, None]);
        let nullable: Vec<_> = table.columns.iter().map(|c| c.nullable).collect();
        assert_eq!(nullable, [false, true, true, true, true]);
    }

    #[test]
    fn every_cut_is_an_error_or_a_table_without_names() {
        let whole = logged();
        for cut in 0..whole.len() {
            if let Ok(table) = parse(&whole[..cut], Flavour::MariaDb) {
                assert!(table.columns.len() == 5, "{cut}");
            }
        }
    }
}
