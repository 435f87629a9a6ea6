//! The types of MariaDB and MySQL as far as they decide how a value travels, and the Arrow type of each.
//!
//! A kind is made from the catalogue, or from what the log says of a column; both give the same for the same column,
//! except for types that the log hides (`UUID`, `INET`): see [`Kind::unhidden`].
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};

use super::Unrepresentable;
use super::charset::{Charset, Charsets};
use crate::binlog::table_map::{LogColumn, code};

/// A column's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An integer of 1, 2, 3, 4 or 8 bytes.
    Integer {
        /// Bytes.
        bytes: u8,
        /// Without a sign.
        unsigned: bool,
    },
    /// YEAR.
    Year,
    /// DECIMAL.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
        /// Never below zero.
        unsigned: bool,
    },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DATE.
    Date,
    /// TIME with this many digits of a second's fraction.
    Time(u8),
    /// DATETIME.
    DateTime(u8),
    /// TIMESTAMP.
    Timestamp(u8),
    /// CHAR, VARCHAR, the TEXTs.
    Text(Text, Charset),
    /// BINARY, VARBINARY, the BLOBs.
    Binary(Text),
    /// BIT of so many bits.
    Bit(u8),
    /// ENUM.
    Enum(Arc<[String]>),
    /// SET.
    Set(Arc<[String]>),
    /// MySQL's JSON. MariaDB's is LONGTEXT.
    Json,
    /// Any geometry: SRID and WKB.
    Geometry,
    /// MariaDB's UUID.
    Uuid,
    /// MariaDB's INET4.
    Inet4,
    /// MariaDB's INET6.
    Inet6,
}

/// The shape of a string type. Lengths are in characters, of binary strings in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// CHAR(n), BINARY(n).
    Fixed(u32),
    /// VARCHAR(n), VARBINARY(n).
    Variable(u32),
    /// TINYTEXT, TEXT, MEDIUMTEXT, LONGTEXT and the BLOBs: how many bytes say the length.
    Large(u8),
}

/// A type that cannot be followed, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the type {} cannot be followed", self.0)
    }
}

impl Kind {
    /// What the log says of a column.
    ///
    /// # Errors
    /// [`Unsupported`] types and character sets.
    pub fn of_log(column: &LogColumn, charsets: &Charsets) -> Result<Self, Unsupported> {
        let [first, second] = column.meta.to_le_bytes();
        let digits = first.min(6);
        Ok(match column.code {
            code::TINY => Self::integer(1, column.unsigned),
            code::SHORT => Self::integer(2, column.unsigned),
            code::INT24 => Self::integer(3, column.unsigned),
            code::LONG => Self::integer(4, column.unsigned),
            code::LONGLONG => Self::integer(8, column.unsigned),
            code::YEAR => Self::Year,
            code::NEWDECIMAL => {
                Self::Decimal { precision: first, scale: second, unsigned: column.unsigned }
            }
            code::FLOAT => Self::Float,
            code::DOUBLE => Self::Double,
            code::DATE | code::NEWDATE => Self::Date,
            code::TIME => Self::Time(0),
            code::TIME2 => Self::Time(digits),
            code::DATETIME => Self::DateTime(0),
            code::DATETIME2 => Self::DateTime(digits),
            code::TIMESTAMP => Self::Timestamp(0),
            code::TIMESTAMP2 => Self::Timestamp(digits),
            code::BIT => Self::Bit(second.saturating_mul(8).saturating_add(first)),
            code::VARCHAR | code::VAR_STRING => {
                Self::string(column, charsets, u32::from(column.meta), Text::Variable)?
            }
            // One byte more, which says how it is compressed.
            code::VARCHAR_COMPRESSED => {
                let bytes = u32::from(column.meta.saturating_sub(1));
                Self::string(column, charsets, bytes, Text::Variable)?
            }
            code::STRING => {
                // The two bits of a length above 255 hide inverted in the type's byte.
                let length = (u32::from(first & 0x30) ^ 0x30) << 4 | u32::from(second);
                Self::string(column, charsets, length, Text::Fixed)?
            }
            code::BLOB
            | code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB_COMPRESSED => Self::string(column, charsets, 0, |_| Text::Large(first))?,
            code::ENUM => Self::Enum(labels(column, charsets)?),
            code::SET => Self::Set(labels(column, charsets)?),
            code::JSON => Self::Json,
            code::GEOMETRY => Self::Geometry,
            code::DECIMAL => return Err(Unsupported("decimal of before 5.0".into())),
            other => return Err(Unsupported(format!("with the code {other}"))),
        })
    }

    fn integer(bytes: u8, unsigned: bool) -> Self {
        Self::Integer { bytes, unsigned }
    }

    fn string(
        column: &LogColumn,
        charsets: &Charsets,
        bytes: u32,
        shape: impl Fn(u32) -> Text,
    ) -> Result<Self, Unsupported> {
        match charsets.name(column.collation) {
            "binary" => Ok(Self::Binary(shape(bytes))),
            name => {
                let charset = charset(name)?;
                Ok(Self::Text(shape(bytes / charset.bytes_max()), charset))
            }
        }
    }

    /// The type behind what the log says, when `told` is one that the log hides: it shows `UUID` and `INET6` as
    /// `BINARY(16)`, `INET4` as `BINARY(4)`.
    #[must_use]
    pub fn unhidden(self, told: &Self) -> Self {
        match (&self, told) {
            (Self::Binary(Text::Fixed(16)), Self::Uuid | Self::Inet6)
            | (Self::Binary(Text::Fixed(4)), Self::Inet4) => told.clone(),
            _ => self,
        }
    }

    /// The Arrow type of its values.
    pub fn data_type(&self, policy: Unrepresentable) -> DataType {
        use DataType as D;
        match self {
            Self::Integer { bytes: 1, .. } | Self::Integer { bytes: 2, unsigned: false } => {
                D::Int16
            }
            Self::Integer { bytes: 2 | 3, .. } | Self::Integer { bytes: 4, unsigned: false } => {
                D::Int32
            }
            Self::Integer { bytes: 8, unsigned: true } => D::Decimal128(20, 0),
            Self::Integer { .. } => D::Int64,
            Self::Year => D::Int16,
            Self::Decimal { precision, scale, .. } if *precision <= 38 => {
                D::Decimal128((*precision).max(1), scale.cast_signed())
            }
            Self::Float => D::Float32,
            Self::Double => D::Float64,
            Self::Date | Self::Time(_) | Self::DateTime(_) | Self::Timestamp(_)
                if policy == Unrepresentable::Text =>
            {
                D::Utf8
            }
            Self::Date => D::Date32,
            Self::Time(_) => D::Time64(TimeUnit::Microsecond),
            Self::DateTime(_) => D::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamp(_) => D::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Uuid => D::FixedSizeBinary(16),
            Self::Binary(_) | Self::Bit(_) | Self::Geometry => D::Binary,
            Self::Decimal { .. }
            | Self::Text(..)
            | Self::Enum(_)
            | Self::Set(_)
            | Self::Json
            | Self::Inet4
            | Self::Inet6 => D::Utf8,
        }
    }

    /// Whether its values land as text only because the lake has nothing better.
    pub fn lands_as_text(&self, policy: Unrepresentable) -> bool {
        let text = self.data_type(policy) == DataType::Utf8;
        let by_nature = matches!(self, Self::Text(..) | Self::Enum(_) | Self::Set(_) | Self::Json);
        text && !by_nature
    }

    /// Whether every stored value of `self` is the same value after the column has become `to`: nothing was rewritten.
    pub fn widens_to(&self, to: &Self) -> bool {
        match (self, to) {
            (
                Self::Integer { bytes, unsigned },
                Self::Integer { bytes: to_bytes, unsigned: to_unsigned },
            ) => (bytes <= to_bytes && unsigned == to_unsigned) || (bytes < to_bytes && *unsigned),
            (
                Self::Decimal { precision, scale, unsigned },
                Self::Decimal { precision: to_precision, scale: to_scale, unsigned: to_unsigned },
            ) => {
                let whole = |precision: u8, scale: u8| precision.saturating_sub(scale);
                scale == to_scale
                    && whole(*precision, *scale) <= whole(*to_precision, *to_scale)
                    && (unsigned == to_unsigned || *unsigned)
            }
            (Self::Float, Self::Double) => true,
            (Self::Time(a), Self::Time(b))
            | (Self::DateTime(a), Self::DateTime(b))
            | (Self::Timestamp(a), Self::Timestamp(b)) => a <= b,
            (Self::Text(a, from), Self::Text(b, to)) => {
                (from == to || *to == Charset::Utf8mb4) && a.fits_into(*b, from.bytes_max())
            }
            (Self::Binary(Text::Fixed(a)), Self::Binary(Text::Fixed(b))) => a == b,
            (Self::Binary(a), Self::Binary(b)) => {
                !matches!(b, Text::Fixed(_)) && a.fits_into(*b, 1)
            }
            (Self::Enum(a), Self::Enum(b)) | (Self::Set(a), Self::Set(b)) => {
                a.iter().all(|label| b.contains(label))
            }
            _ => self == to,
        }
    }
}

impl Text {
    /// Whether every string of this shape keeps its value in the other.
    fn fits_into(self, other: Self, bytes_max: u32) -> bool {
        let most = |length: u32| u64::from(length) * u64::from(bytes_max);
        match (self, other) {
            (Self::Fixed(a) | Self::Variable(a), Self::Fixed(b) | Self::Variable(b)) => {
                // A CHAR loses the trailing spaces that a VARCHAR kept.
                a <= b && !matches!((self, other), (Self::Variable(_), Self::Fixed(_)))
            }
            (Self::Fixed(a) | Self::Variable(a), Self::Large(b)) => most(a) < 1 << (8 * b.min(4)),
            (Self::Large(a), Self::Large(b)) => a <= b,
            (Self::Large(_), _) => false,
        }
    }
}

fn charset(name: &str) -> Result<Charset, Unsupported> {
    Charset::named(name).ok_or_else(|| Unsupported(format!("of character set {name}")))
}

fn labels(column: &LogColumn, charsets: &Charsets) -> Result<Arc<[String]>, Unsupported> {
    let given = column
        .labels
        .as_ref()
        .ok_or_else(|| Unsupported("enum or set, of which the log has no labels,".into()))?;
    let name = charsets.name(column.collation);
    let charset = if name == "binary" { Charset::Utf8mb4 } else { charset(name)? };
    given
        .iter()
        .map(|label| {
            let mut text = Vec::with_capacity(label.len());
            charset.decode(label, &mut text).ok()?;
            String::from_utf8(text).ok()
        })
        .collect::<Option<Arc<[String]>>>()
        .ok_or_else(|| Unsupported("enum or set with labels that are no text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(declared: &str) -> Kind {
        Kind::of_declared(declared).unwrap()
    }

    #[test]
    fn types_have_the_arrow_type_that_holds_all_their_values() {
        use DataType as D;
        let cases = [
            ("tinyint", D::Int16),
            ("tinyint unsigned", D::Int16),
            ("smallint unsigned", D::Int32),
            ("mediumint unsigned", D::Int32),
            ("int unsigned", D::Int64),
            ("bigint", D::Int64),
            ("bigint unsigned", D::Decimal128(20, 0)),
            ("decimal(38,10)", D::Decimal128(38, 10)),
            ("decimal(39,0)", D::Utf8),
            ("bit(9)", D::Binary),
            ("date", D::Date32),
            ("uuid", D::FixedSizeBinary(16)),
        ];
        for (declared, expected) in cases {
            assert_eq!(kind(declared).data_type(Unrepresentable::Fail), expected, "{declared}");
        }
        assert_eq!(kind("date").data_type(Unrepresentable::Text), D::Utf8);
    }

    #[test]
    fn only_changes_that_keep_every_value_widen() {
        let widens = |from: &str, to: &str| kind(from).widens_to(&kind(to));
        for (from, to) in [
            ("int", "bigint"),
            ("tinyint unsigned", "smallint"),
            ("decimal(10,2)", "decimal(12,2)"),
            ("varchar(10)", "varchar(20)"),
            ("varchar(10) character set latin1", "varchar(10)"),
            ("char(10)", "varchar(10)"),
            ("varchar(16)", "text"),
            ("text", "longtext"),
            ("datetime", "datetime(6)"),
            ("float", "double"),
            ("enum('a','b')", "enum('b','a','c')"),
        ] {
            assert!(widens(from, to), "{from} -> {to}");
        }
        for (from, to) in [
            ("bigint", "int"),
            ("int", "int unsigned"),
            ("int unsigned", "int"),
            ("decimal(10,2)", "decimal(12,4)"),
            ("varchar(10)", "char(10)"),
            ("varchar(20000)", "tinytext"),
            ("text", "varchar(100)"),
            ("varchar(9)", "varchar(9) character set latin1"),
            ("datetime", "timestamp"),
            ("binary(3)", "binary(4)"),
            ("enum('a','b')", "enum('a')"),
            ("int", "varchar(20)"),
        ] {
            assert!(!widens(from, to), "{from} -> {to}");
        }
    }

    #[test]
    fn the_log_hides_some_types() {
        assert_eq!(kind("binary(16)").unhidden(&kind("uuid")), Kind::Uuid);
        assert_eq!(kind("binary(16)").unhidden(&kind("int")), kind("binary(16)"));
        assert_eq!(kind("binary(4)").unhidden(&kind("inet6")), kind("binary(4)"));
    }
}
