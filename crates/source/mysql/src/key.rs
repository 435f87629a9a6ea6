//! The key in SQL: which rows a chunk holds, in the order in which the server's index has them.
//!
//! A key travels as text that our own code wrote: numbers and times as the server writes them, labels, strings as they
//! are, bytes in hexadecimal digits. Rows of several columns are compared column by column: the server uses an index for
//! that, and not for a comparison of rows.
use std::fmt::Write as _;

use arrow_array::RecordBatch;
use lakeward_core::{Chunk, Error, ErrorKind, KeyText, Result, TableSchema};

use crate::catalog::Described;
use crate::quote;
use crate::types::{Kind, render};

/// A key's columns in SQL. Queries name their table `t`.
#[derive(Debug, Clone)]
pub(crate) struct KeySql {
    columns: Vec<KeyColumn>,
}

#[derive(Debug, Clone)]
struct KeyColumn {
    name: String,
    kind: Kind,
}

impl KeyColumn {
    fn sql(&self) -> String {
        format!("t.{}", quote::ident(&self.name))
    }

    fn compared(&self, operator: &str, text: &str) -> Result<String> {
        Ok(format!("{} {operator} {}", self.sql(), literal(&self.kind, text)?))
    }

    /// Equal in every byte: a collation may take two strings for one.
    fn same(&self, text: &str) -> Result<String> {
        let equal = self.compared("=", text)?;
        Ok(match &self.kind {
            Kind::Text(..) => format!(
                "{equal} AND CAST(CONVERT({} USING utf8mb4) AS BINARY) = {}",
                self.sql(),
                quote::bytes(text.as_bytes())
            ),
            _ => equal,
        })
    }
}

impl KeySql {
    /// The key of a table; `None` when it has none.
    pub(crate) fn of(described: &Described) -> Option<Self> {
        let column = |name: &String| {
            let (column, kind) = described.followed().find(|(c, _)| c.name == *name)?;
            Some(KeyColumn { name: column.name.clone(), kind: kind.clone() })
        };
        let columns: Option<Vec<_>> = described.key.iter().map(column).collect();
        columns.filter(|columns| !columns.is_empty()).map(|columns| Self { columns })
    }

    /// The columns to sort by, which are also those of a SELECT list that gives keys.
    pub(crate) fn order(&self) -> String {
        self.columns.iter().map(KeyColumn::sql).collect::<Vec<_>>().join(", ")
    }

    /// The name and kind of the only column, if there is but one.
    pub(crate) fn single(&self) -> Option<(&str, &Kind)> {
        match &self.columns[..] {
            [only] => Some((&only.name, &only.kind)),
            _ => None,
        }
    }

    fn pairs<'a>(&'a self, key: &'a KeyText) -> Result<Vec<(&'a KeyColumn, &'a str)>> {
        if key.len() != self.columns.len() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "a key has another number of columns than its table",
            )
            .with("expected", self.columns.len())
            .with("found", key.len()));
        }
        Ok(self.columns.iter().zip(key.iter().map(String::as_str)).collect())
    }

    /// `from < key`.
    pub(crate) fn above(&self, from: &KeyText) -> Result<String> {
        bounded(&self.pairs(from)?, ">", ">")
    }

    /// `key <= to`.
    fn up_to(&self, to: &KeyText) -> Result<String> {
        bounded(&self.pairs(to)?, "<", "<=")
    }

    fn one_of(&self, keys: &[KeyText]) -> Result<String> {
        let mut any = Vec::with_capacity(keys.len());
        for key in keys {
            let pairs = self.pairs(key)?;
            let all = pairs.iter().map(|(c, text)| c.same(text)).collect::<Result<Vec<_>>>()?;
            any.push(format!("({})", all.join(" AND ")));
        }
        Ok(if any.is_empty() { "FALSE".into() } else { format!("({})", any.join(" OR ")) })
    }
}

/// `a > x OR (a = x AND (b > y OR …))`; the last column is compared by `last`. What stands first lets the server begin in
/// the index.
fn bounded(pairs: &[(&KeyColumn, &str)], operator: &str, last: &str) -> Result<String> {
    let Some(((column, text), rest)) = pairs.split_first() else { return Ok("TRUE".into()) };
    if rest.is_empty() {
        return column.compared(last, text);
    }
    Ok(format!(
        "({bound} AND ({beyond} OR ({equal} AND {rest})))",
        bound = column.compared(&format!("{operator}="), text)?,
        beyond = column.compared(operator, text)?,
        equal = column.compared("=", text)?,
        rest = bounded(rest, operator, last)?,
    ))
}

/// A key column's value as a literal that compares as the index is ordered: ENUM and SET by number.
fn literal(kind: &Kind, text: &str) -> Result<String> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "a key's text does not fit its column's type");
    let legal = |chars: &str| !text.is_empty() && text.chars().all(|c| chars.contains(c));
    match kind {
        Kind::Integer { .. } | Kind::Year | Kind::Decimal { .. } if legal("-0123456789.") => {
            Ok(text.to_owned())
        }
        Kind::Float | Kind::Double if legal("-+.e0123456789") => Ok(text.to_owned()),
        Kind::Date | Kind::Time(_) | Kind::DateTime(_) | Kind::Timestamp(_)
            if legal("-:. 0123456789") =>
        {
            Ok(format!("'{text}'"))
        }
        Kind::Text(..) | Kind::Inet4 | Kind::Inet6 => Ok(quote::text(text)),
        Kind::Binary(_) if text.is_empty() || legal("0123456789abcdef") => Ok(format!("X'{text}'")),
        Kind::Bit(_) => {
            u64::from_str_radix(text, 16).map(|bits| bits.to_string()).map_err(|_| corrupt())
        }
        Kind::Uuid if text.len() == 32 && legal("0123456789abcdef") => Ok(dashed(text)),
        Kind::Enum(labels) if text.is_empty() && !labels.contains(&String::new()) => Ok("0".into()),
        Kind::Enum(labels) => {
            let at = labels.iter().position(|label| label == text).ok_or_else(changed)?;
            Ok((at + 1).to_string())
        }
        Kind::Set(labels) => {
            set_bits(labels, text).map(|bits| bits.to_string()).ok_or_else(changed)
        }
        Kind::Json | Kind::Geometry => {
            Err(Error::new(ErrorKind::Unsupported, "a key of a type that has no order"))
        }
        _ => Err(corrupt()),
    }
}

fn changed() -> Error {
    Error::new(ErrorKind::Conflict, "a key holds a label that its column no longer has")
}

fn set_bits(labels: &[String], text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    text.split(',').try_fold(0, |bits, chosen| {
        let at = labels.iter().position(|label| label == chosen)?;
        1u64.checked_shl(u32::try_from(at).ok()?).map(|bit| bits | bit)
    })
}

fn dashed(digits: &str) -> String {
    let mut out = String::from("'");
    for (at, digit) in digits.char_indices() {
        if matches!(at, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        let _ = write!(out, "{digit}");
    }
    out.push('\'');
    out
}

/// The condition that picks a chunk's rows.
///
/// # Errors
/// `Corrupt` when the chunk asks for a key that the table does not have.
pub(crate) fn condition(chunk: &Chunk, key: Option<&KeySql>) -> Result<String> {
    let keyed = || {
        key.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "a chunk by key, of a table without a key")
        })
    };
    match chunk {
        Chunk::Whole | Chunk::Range { from: None, to: None } => Ok("TRUE".into()),
        Chunk::Range { from: Some(from), to: None } => keyed()?.above(from),
        Chunk::Range { from: None, to: Some(to) } => keyed()?.up_to(to),
        Chunk::Range { from: Some(from), to: Some(to) } => {
            Ok(format!("{} AND {}", keyed()?.above(from)?, keyed()?.up_to(to)?))
        }
        Chunk::Keys(keys) => keyed()?.one_of(keys),
    }
}

/// The keys of rows, as text.
pub(crate) fn key_texts(table: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>> {
    let mut keys = vec![KeyText::with_capacity(table.key.len()); rows.num_rows()];
    for index in &table.key {
        let column = rows.columns().get(*index as usize).ok_or_else(|| {
            Error::new(ErrorKind::Bug, "rows without their key's column")
                .with("table", &table.table)
        })?;
        for (row, key) in keys.iter_mut().enumerate() {
            let mut text = String::new();
            render(column, row, &mut text)?;
            key.push(text);
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(columns: &[(&str, &str)]) -> KeySql {
        let column = |(name, declared): &(&str, &str)| KeyColumn {
            name: (*name).into(),
            kind: Kind::of_declared(declared).unwrap(),
        };
        KeySql { columns: columns.iter().map(column).collect() }
    }

    fn text(parts: &[&str]) -> KeyText {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn a_range_of_two_columns_is_compared_column_by_column() {
        let key = key(&[("a", "int"), ("b", "varchar(3)")]);
        assert_eq!(
            key.above(&text(&["7", "x"])).unwrap(),
            "(t.`a` >= 7 AND (t.`a` > 7 OR (t.`a` = 7 AND t.`b` > _utf8mb4 X'78')))"
        );
        assert_eq!(
            key.up_to(&text(&["7", "x"])).unwrap(),
            "(t.`a` <= 7 AND (t.`a` < 7 OR (t.`a` = 7 AND t.`b` <= _utf8mb4 X'78')))"
        );
        assert!(key.above(&text(&["7"])).is_err());
    }

    #[test]
    fn literals_compare_as_the_index_is_ordered() {
        let of = |declared: &str, text: &str| literal(&Kind::of_declared(declared).unwrap(), text);
        assert_eq!(of("enum('a','b')", "b").unwrap(), "2");
        assert_eq!(of("enum('a','b')", "").unwrap(), "0");
        assert_eq!(of("set('a','b','c')", "a,c").unwrap(), "5");
        assert_eq!(of("bit(9)", "01ff").unwrap(), "511");
        assert_eq!(of("binary(2)", "0aff").unwrap(), "X'0aff'");
        assert_eq!(of("float", "1e-1").unwrap(), "1e-1");
        let uuid = of("uuid", "00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(uuid, "'00112233-4455-6677-8899-aabbccddeeff'");
        for (declared, text) in [("int", "1 OR 1"), ("int", ""), ("date", "'"), ("binary(1)", "x'")]
        {
            assert_eq!(of(declared, text).unwrap_err().kind(), ErrorKind::Corrupt, "{declared}");
        }
        assert_eq!(of("enum('a')", "z").unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn keys_are_the_same_in_every_byte() {
        let key = key(&[("a", "varchar(3)")]);
        let condition = key.one_of(&[text(&["x"])]).unwrap();
        assert!(condition.contains("CAST(CONVERT(t.`a` USING utf8mb4) AS BINARY) = X'78'"));
        assert_eq!(key.one_of(&[]).unwrap(), "FALSE");
    }
}
