//! One cell on its way from the server's bytes into a column: what log and chunks have in common.

/// A cell. Borrowed, so that none is allocated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL of at most 38 digits: `unscaled / 10^scale`.
    Decimal {
        /// The digits.
        unscaled: i128,
        /// How many of them stand behind the point.
        scale: u8,
    },
    /// The server's own text of a value, in UTF-8 (decimals, labels, JSON, strings that a session gave).
    Text(&'a [u8]),
    /// Bytes as they are stored: strings in their column's character set, binary strings, BIT (big-endian), geometry.
    Bytes(&'a [u8]),
    /// DATE; parts may be 0.
    Date {
        /// 0 to 9999.
        year: u16,
        /// 0 to 12.
        month: u8,
        /// 0 to 31.
        day: u8,
    },
    /// TIME.
    Time {
        /// Below zero.
        negative: bool,
        /// 0 to 838.
        hours: u32,
        /// 0 to 59.
        minutes: u8,
        /// 0 to 59.
        seconds: u8,
        /// 0 to 999999.
        micros: u32,
    },
    /// DATETIME, or TIMESTAMP in UTC; parts may be 0.
    DateTime {
        /// 0 to 9999.
        year: u16,
        /// 0 to 12.
        month: u8,
        /// 0 to 31.
        day: u8,
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
        /// 0 to 59.
        second: u8,
        /// 0 to 999999.
        micros: u32,
    },
    /// TIMESTAMP as the log has it; all 0 is the zero timestamp.
    Timestamp {
        /// Seconds since 1970-01-01 UTC.
        seconds: i64,
        /// 0 to 999999.
        micros: u32,
    },
    /// YEAR; 0 is 0000.
    Year(u16),
    /// ENUM by index; 0 is the error value `''`.
    Enum(u16),
    /// SET by bits; the lowest is the first label.
    Set(u64),
}
