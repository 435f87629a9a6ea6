//! Statistics of a written file by field id, folded from its row groups.
//!
//! Deliberately absent: how a format serializes them.

/// A column's smallest or largest value, or a bound outside of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// Booleans.
    Boolean(bool),
    /// 32-bit integers and dates (days since 1970-01-01).
    Int(i32),
    /// 64-bit integers, times of day and timestamps (microseconds).
    Long(i64),
    /// Never NaN.
    Float(f32),
    /// Never NaN.
    Double(f64),
    /// The unscaled value.
    Decimal(i128),
    /// Text, at most 16 characters unless the writer was told otherwise; a lower bound is a prefix, an upper bound a prefix with its last character raised.
    Text(String),
    /// Bytes, shortened like text; 16-byte UUIDs are whole.
    Bytes(Vec<u8>),
}

/// What a file holds in one column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnMetrics {
    /// Field id of the column, or of a list's element.
    pub field_id: i32,
    /// Compressed bytes in the file.
    pub bytes: u64,
    /// Values, NULLs included.
    pub values: u64,
    /// NULLs; `None`: not counted (a list's element).
    pub nulls: Option<u64>,
    /// NaNs; `Some` for floats outside of lists only.
    pub nans: Option<u64>,
    /// No value is smaller. `None`: no bound is known, or there is no value.
    pub lower: Option<Bound>,
    /// No value is larger. `None`: no bound is known, or there is no value.
    pub upper: Option<Bound>,
}
