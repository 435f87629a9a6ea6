//! Which Arrow type holds a PostgreSQL type, and columns built from the server's own bytes.
//!
//! The log (text) and a chunk (binary, or text where binary says less) give identical arrays for the same value.
//! Knows nothing of tables or of the catalogue: [`crate::catalog`] resolves domains and arrays first.
mod array;
mod builder;
mod civil;
mod number;
#[cfg(test)]
mod properties;
mod render;
mod validity;

use arrow_schema::{DataType, Field, TimeUnit};
use lakeward_core::{Error, ErrorKind, TableId, TableSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use builder::ColumnBuilder;
pub use render::render;

/// What becomes of values that their column's type in the lake cannot hold: NaN and infinity in `numeric(p,s)`,
/// infinite dates and timestamps and those before the year 1, the time 24:00:00, arrays that are not
/// one-dimensional with lower bound 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unrepresentable {
    /// Stop, naming table and column.
    #[default]
    Fail,
    /// Write NULL, count it and say so in the log. A key column still stops: two such keys would become one.
    Null,
    /// Let all columns of such types (numeric, date, time, timestamp, arrays) land as text, so that nothing is lost.
    Text,
}

/// Why a value could not be taken in. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadValue {
    /// The server's value is fine, but the column's type in the lake cannot hold it: the policy decides.
    Unrepresentable(&'static str),
    /// These bytes are not what a server writes for the type.
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

/// How a chunk asks the server for a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// The type's binary form, read by [`ColumnBuilder::push_binary`].
    Binary,
    /// The type's output text, read by [`ColumnBuilder::push_text`].
    Text,
}

/// A column's type after domains were resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgType {
    /// As the server prints it: `numeric(12,2)`, `text[]`.
    pub declared: String,
    /// The Arrow type of its values.
    pub data_type: DataType,
    /// How a chunk reads it.
    pub transfer: Transfer,
    /// Whether it lands as text only because the lake has nothing better.
    pub as_text: bool,
    /// Whether the server orders its values by operators of its own, found whatever the search path is. Values of
    /// other types (extensions, composites) are ordered by their text.
    pub ordered: bool,
}

/// What a type is built on, as the catalogue resolved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// A type of the server itself or of an extension, by oid.
    Scalar(u32),
    /// An enumeration.
    Enum,
    /// A composite, range, multirange or pseudo type.
    Other,
}

/// A resolved type: its base, modifier, and whether it is an array of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The base of the type, or of its elements.
    pub base: Base,
    /// The modifier of the base; -1: none.
    pub modifier: i32,
    /// For an array: what stands between two elements in its text.
    pub array_delimiter: Option<u8>,
    /// As the server prints the type.
    pub declared: String,
}

impl PgType {
    /// Maps a resolved type under a policy.
    pub fn new(resolved: Resolved, policy: Unrepresentable) -> Self {
        let Resolved { base, modifier, array_delimiter, declared } = resolved;
        let ordered = match base {
            Base::Scalar(oid) => oid < oid::FIRST_OF_USERS,
            Base::Enum => true,
            Base::Other => false,
        };
        let (element, transfer, as_text) = scalar(base, modifier, policy);
        let text = |as_text| (DataType::Utf8, Transfer::Text, as_text);
        let (data_type, transfer, as_text) = match array_delimiter {
            None => (element, transfer, as_text),
            Some(b',') if policy != Unrepresentable::Text => (list(element), transfer, as_text),
            Some(_) => text(true),
        };
        Self { declared, data_type, transfer, as_text, ordered }
    }
}

fn list(element: DataType) -> DataType {
    DataType::List(Field::new("element", element, true).into())
}

/// Type oids that the server's catalogue fixes for ever.
mod oid {
    /// Lower oids are the server's own.
    pub(super) const FIRST_OF_USERS: u32 = 16_384;
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const CHAR: u32 = 18;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const JSON: u32 = 114;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const DATE: u32 = 1082;
    pub(super) const TIME: u32 = 1083;
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const UUID: u32 = 2950;
    pub(super) const JSONB: u32 = 3802;
}

fn scalar(base: Base, modifier: i32, policy: Unrepresentable) -> (DataType, Transfer, bool) {
    use DataType as D;
    let native = |data_type| (data_type, Transfer::Binary, false);
    let text = |as_text| (D::Utf8, Transfer::Text, as_text);
    let timestamp = |zone: Option<&str>| D::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let Base::Scalar(oid) = base else { return text(base == Base::Other) };
    let may_be_unrepresentable =
        matches!(oid, oid::NUMERIC | oid::DATE | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ);
    if may_be_unrepresentable && policy == Unrepresentable::Text {
        return text(true);
    }
    match oid {
        oid::BOOL => native(D::Boolean),
        oid::INT2 => native(D::Int16),
        oid::INT4 => native(D::Int32),
        oid::INT8 => native(D::Int64),
        oid::FLOAT4 => native(D::Float32),
        oid::FLOAT8 => native(D::Float64),
        oid::NUMERIC => decimal(modifier).map_or(text(true), native),
        oid::BYTEA => native(D::Binary),
        oid::DATE => native(D::Date32),
        oid::TIME => native(D::Time64(TimeUnit::Microsecond)),
        oid::TIMESTAMP => native(timestamp(None)),
        oid::TIMESTAMPTZ => native(timestamp(Some("UTC"))),
        oid::UUID => native(D::FixedSizeBinary(16)),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON => native(D::Utf8),
        oid::CHAR | oid::JSONB => text(false),
        _ => text(true),
    }
}

/// `numeric(p,s)` where 38 digits hold it exactly.
fn decimal(modifier: i32) -> Option<DataType> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = (packed >> 16) & 0xffff;
    let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
    let digits = precision.max(scale).max(precision - scale);
    let (digits, scale) = (u8::try_from(digits).ok()?, i8::try_from(scale.max(0)).ok()?);
    (digits <= 38).then_some(DataType::Decimal128(digits, scale))
}

/// One builder per column of `schema`.
///
/// # Errors
/// `Bug` for a type that [`PgType::new`] never gives.
pub fn builders(
    schema: &TableSchema,
    policy: Unrepresentable,
) -> lakeward_core::Result<Vec<ColumnBuilder>> {
    schema
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let is_key = schema.key.contains(&(index as u32));
            ColumnBuilder::new(&column.data_type, policy == Unrepresentable::Null && !is_key)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typmod(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn numerics_that_fit_are_decimals() {
        let cases = [
            (typmod(12, 2), Some((12, 2))),
            (typmod(38, 38), Some((38, 38))),
            (typmod(38, 0), Some((38, 0))),
            (typmod(39, 0), None),
            (typmod(5, -3), Some((8, 0))),
            (typmod(37, -2), None),
            (typmod(3, 5), Some((5, 5))),
            (typmod(1, 39), None),
            (typmod(1000, 1000), None),
            (-1, None),
        ];
        for (modifier, expected) in cases {
            let expected = expected.map(|(p, s)| DataType::Decimal128(p, s));
            assert_eq!(decimal(modifier), expected, "{modifier}");
        }
    }

    #[test]
    fn policy_text_gives_up_types_that_could_fail() {
        let of = |base, delimiter, policy| {
            let resolved = Resolved {
                base: Base::Scalar(base),
                modifier: -1,
                array_delimiter: delimiter,
                declared: String::new(),
            };
            PgType::new(resolved, policy).data_type
        };
        assert_eq!(of(oid::DATE, None, Unrepresentable::Null), DataType::Date32);
        assert_eq!(of(oid::DATE, None, Unrepresentable::Text), DataType::Utf8);
        assert_eq!(of(oid::INT4, Some(b','), Unrepresentable::Text), DataType::Utf8);
        assert_eq!(of(oid::INT4, Some(b','), Unrepresentable::Fail), list(DataType::Int32));
        assert_eq!(of(603, Some(b';'), Unrepresentable::Fail), DataType::Utf8);
    }
}
