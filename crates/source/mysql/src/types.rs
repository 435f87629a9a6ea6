//! Which Arrow type holds a MariaDB or MySQL type, and columns built from values that log and chunks give alike.
//!
//! ```text
//!  row image of the log ──▶ Value ──▶ ColumnBuilder ──▶ Arrow
//!  row of a chunk       ──▶ Value ──┘
//! ```
//!
//! One way from a value to a cell, so that the same value gives the same array whatever brought it. Knows nothing of
//! tables, of the log's bytes or of the catalogue.
mod builder;
mod bytes;
mod cells;
mod charset;
pub(crate) mod civil;
mod declared;
mod inet;
mod kind;
mod number;
mod render;
mod value;

use lakeward_core::{Error, ErrorKind, TableId, TableSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use builder::ColumnBuilder;
pub(crate) use cells::{Bytes, Cells};
pub use charset::{Charset, Charsets};
pub use declared::literal;
pub use kind::{Kind, Text, Unsupported};
pub use render::render;
pub use value::Value;

/// What becomes of values that their column's type in the lake cannot hold: zero dates and dates that no calendar has,
/// dates before the year 1, times below zero or of 24 hours and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unrepresentable {
    /// Stop, naming table and column.
    #[default]
    Fail,
    /// Write NULL, count it and say so in the log. A key column still stops: two such keys would become one.
    Null,
    /// Let all columns of such types (date, time, datetime, timestamp) land as text, so that nothing is lost.
    Text,
}

/// Why a value could not be taken in. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadValue {
    /// The server's value is fine, but the column's type in the lake cannot hold it: the policy decides.
    Unrepresentable(&'static str),
    /// This is not what a server gives for the type.
    Malformed(&'static str),
}

impl BadValue {
    /// The error that names the place.
    pub fn in_column(self, table: &TableId, column: &str) -> Error {
        let error = match self {
            Self::Unrepresentable(what) => Error::new(
                ErrorKind::BadData,
                format!("a value has no place in the lake: {what}"),
            )
            .remedied(
                "set `unrepresentable: null` or `unrepresentable: text` in the source's options \
                 (text lands the column as text), or change the row",
            ),
            Self::Malformed(what) => {
                Error::new(ErrorKind::BadData, format!("a value cannot be read: {what}"))
            }
        };
        error.with("table", table).with("column", column)
    }
}

/// One builder per column of `schema`, for values of the kinds that its columns were declared as.
///
/// # Errors
/// `Bug` for a column that this source never makes.
pub fn builders(
    schema: &TableSchema,
    policy: Unrepresentable,
) -> lakeward_core::Result<Vec<ColumnBuilder>> {
    schema
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let kind = Kind::of_declared(&column.declared).ok_or_else(|| {
                Error::new(ErrorKind::Bug, "a column of an unknown type")
                    .with("table", &schema.table)
                    .with("column", &column.name)
            })?;
            let is_key = schema.key.contains(&(index as u32));
            ColumnBuilder::new(&kind, &column.data_type, policy == Unrepresentable::Null && !is_key)
        })
        .collect()
}
