//! A table's key in SQL: how it is written, compared and cut, and its values as text.
//!
//! The server compares, by the columns' own collations; nothing is ordered here.
use arrow_array::RecordBatch;
use lakeward_core::{Chunk, Error, ErrorKind, KeyText, Result, TableSchema};

use crate::catalog::{Attribute, Described};
use crate::quote::{ident, literal};
use crate::types::{Transfer, render};

/// A key's columns as SQL expressions.
#[derive(Debug, Clone)]
pub(crate) struct KeySql {
    columns: Vec<KeyColumn>,
}

#[derive(Debug, Clone)]
struct KeyColumn {
    /// What is compared.
    ordered: String,
    /// Its output text.
    text: String,
}

impl KeySql {
    /// The key of a table; `None` when it has none.
    pub(crate) fn of(described: &Described) -> Option<Self> {
        let columns: Option<Vec<_>> =
            described.key.iter().map(|number| key_column(described.attribute(*number)?)).collect();
        columns.filter(|columns| !columns.is_empty()).map(|columns| Self { columns })
    }

    fn row(parts: impl Iterator<Item = String>) -> String {
        let parts: Vec<String> = parts.collect();
        format!("({})", parts.join(", "))
    }

    fn columns(&self) -> String {
        Self::row(self.columns.iter().map(|c| c.ordered.clone()))
    }

    /// The columns to sort by.
    pub(crate) fn order(&self) -> String {
        self.columns.iter().map(|c| c.ordered.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The key's columns as text, for a SELECT list; the n-th is named `kN`.
    pub(crate) fn texts(&self) -> String {
        let named = |(at, column): (usize, &KeyColumn)| format!("{} AS k{at}", column.text);
        self.columns.iter().enumerate().map(named).collect::<Vec<_>>().join(", ")
    }

    /// Number of columns.
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    fn values(&self, key: &KeyText) -> Result<String> {
        if key.len() != self.len() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "a key has another number of columns than its table",
            )
            .with("expected", self.len())
            .with("found", key.len()));
        }
        Ok(Self::row(key.iter().map(|text| literal(text))))
    }

    /// `from < key`.
    pub(crate) fn above(&self, from: &KeyText) -> Result<String> {
        Ok(format!("{} > {}", self.columns(), self.values(from)?))
    }

    fn up_to(&self, to: &KeyText) -> Result<String> {
        Ok(format!("{} <= {}", self.columns(), self.values(to)?))
    }

    fn one_of(&self, keys: &[KeyText]) -> Result<String> {
        let rows = keys.iter().map(|key| self.values(key)).collect::<Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Ok("false".into());
        }
        Ok(format!("{} IN ({})", self.columns(), rows.join(", ")))
    }
}

/// Queries name their table `t`: a bare name in ORDER BY could mean an output column.
fn qualified(attribute: &Attribute) -> String {
    format!("t.{}", ident(&attribute.name))
}

fn key_column(attribute: &Attribute) -> Option<KeyColumn> {
    let name = qualified(attribute);
    let text = format!("concat({name})");
    let ordered = match attribute.pg_type.as_ref()?.ordered {
        true => name,
        false => format!("concat({name}) COLLATE \"C\""),
    };
    Some(KeyColumn { ordered, text })
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
        Chunk::Whole | Chunk::Range { from: None, to: None } => Ok("true".into()),
        Chunk::Range { from: Some(from), to: None } => keyed()?.above(from),
        Chunk::Range { from: None, to: Some(to) } => keyed()?.up_to(to),
        Chunk::Range { from: Some(from), to: Some(to) } => {
            Ok(format!("{} AND {}", keyed()?.above(from)?, keyed()?.up_to(to)?))
        }
        Chunk::Keys(keys) => keyed()?.one_of(keys),
    }
}

/// A column in a chunk's SELECT list. Output functions say what the log says; casts to text often do not.
pub(crate) fn selected(attribute: &Attribute) -> String {
    let name = qualified(attribute);
    match attribute.pg_type.as_ref().map(|t| t.transfer) {
        Some(Transfer::Binary) => name,
        // `IS NULL` is also true of a composite of NULLs, and `concat` makes NULL empty.
        _ => format!("CASE WHEN {name} IS DISTINCT FROM NULL THEN concat({name}) END"),
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
