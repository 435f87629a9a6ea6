//! Statistics of a written file by field id, folded from its row groups.
//!
//! Deliberately absent: how a format serializes them.
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::encoding::is_flat;

/// Characters or bytes that a shortened bound keeps: what the reference implementation of Iceberg keeps.
const BOUND_LENGTH: usize = 16;

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
    /// At most 16 characters unless the writer was told otherwise; a shortened lower bound is a prefix, a shortened
    /// upper bound a prefix with its last character raised.
    Text(String),
    /// Shortened like text; UUIDs are whole.
    Bytes(Vec<u8>),
}

/// What a file holds in one column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnMetrics {
    /// Field id of the column, or of a list's element.
    pub field_id: i32,
    /// Compressed bytes in the file.
    pub bytes: u64,
    /// Values, NULLs included. For a list's element, empty and NULL lists are counted too.
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

/// The NaNs of a float column; `None` for any other type.
pub(super) fn nans(column: &ArrayRef) -> Option<u64> {
    let count = |n: usize| Some(n as u64);
    match column.data_type() {
        DataType::Float32 => count(
            column.as_primitive::<Float32Type>().iter().flatten().filter(|v| v.is_nan()).count(),
        ),
        DataType::Float64 => count(
            column.as_primitive::<Float64Type>().iter().flatten().filter(|v| v.is_nan()).count(),
        ),
        _ => None,
    }
}

/// Folds a file's metadata. `nans` has one entry per top-level column.
pub(super) fn fold(
    file: &ParquetMetaData,
    schema: &SchemaDescriptor,
    nans: &[Option<u64>],
    whole_bounds: bool,
) -> Vec<ColumnMetrics> {
    schema
        .columns()
        .iter()
        .enumerate()
        .filter_map(|(leaf, column)| {
            let info = column.self_type().get_basic_info();
            if !info.has_id() {
                return None;
            }
            let flat = is_flat(schema, leaf);
            let mut metrics = ColumnMetrics { field_id: info.id(), ..ColumnMetrics::default() };
            size(file.row_groups(), leaf, &mut metrics);
            if flat {
                metrics.nans = nans.get(schema.get_column_root_idx(leaf)).copied().flatten();
                bounds(file.row_groups(), leaf, column, &mut metrics);
                if !whole_bounds {
                    metrics.lower = metrics.lower.and_then(shorten_lower);
                    metrics.upper = metrics.upper.and_then(shorten_upper);
                }
            }
            Some(metrics)
        })
        .collect()
}

fn size(groups: &[RowGroupMetaData], leaf: usize, metrics: &mut ColumnMetrics) {
    for group in groups {
        let chunk = group.column(leaf);
        metrics.bytes += chunk.compressed_size().unsigned_abs();
        metrics.values += chunk.num_values().unsigned_abs();
    }
}

fn bounds(
    groups: &[RowGroupMetaData],
    leaf: usize,
    column: &ColumnDescriptor,
    metrics: &mut ColumnMetrics,
) {
    metrics.nulls = Some(0);
    let (mut lower_known, mut upper_known) = (true, true);
    for group in groups {
        let chunk = group.column(leaf);
        let values = chunk.num_values().unsigned_abs();
        let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
        metrics.nulls = metrics.nulls.zip(nulls).map(|(sum, n)| sum + n);
        if nulls == Some(values) {
            continue;
        }
        let found = chunk.statistics().map(|s| both(s, column)).unwrap_or((None, None));
        lower_known &= merge(&mut metrics.lower, found.0, |new, old| new < old);
        upper_known &= merge(&mut metrics.upper, found.1, |new, old| new > old);
    }
    if !lower_known {
        metrics.lower = None;
    }
    if !upper_known {
        metrics.upper = None;
    }
}

/// Takes `new` if it is further out; says whether there was one.
fn merge(
    bound: &mut Option<Bound>,
    new: Option<Bound>,
    further: impl Fn(&Bound, &Bound) -> bool,
) -> bool {
    let Some(new) = new else { return false };
    if bound.as_ref().is_none_or(|old| further(&new, old)) {
        *bound = Some(new);
    }
    true
}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Int(b)) => a.partial_cmp(b),
            (Self::Long(a), Self::Long(b)) => a.partial_cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.partial_cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

fn both(statistics: &Statistics, column: &ColumnDescriptor) -> (Option<Bound>, Option<Bound>) {
    let decimal = column.converted_type() == ConvertedType::DECIMAL
        || matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. }));
    match statistics {
        Statistics::Boolean(s) => pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Boolean(*v))),
        Statistics::Int32(s) if decimal => {
            pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Decimal(i128::from(*v))))
        }
        Statistics::Int64(s) if decimal => {
            pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Decimal(i128::from(*v))))
        }
        Statistics::Int32(s) => pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Int(*v))),
        Statistics::Int64(s) => pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Long(*v))),
        Statistics::Float(s) => pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Float(*v))),
        Statistics::Double(s) => pair(s.min_opt(), s.max_opt(), |v| Some(Bound::Double(*v))),
        Statistics::ByteArray(s) => {
            let text = column.converted_type() == ConvertedType::UTF8
                || matches!(column.logical_type_ref(), Some(LogicalType::String));
            pair(s.min_opt(), s.max_opt(), |v| bytes_bound(v.data(), text))
        }
        Statistics::FixedLenByteArray(s) if decimal => {
            pair(s.min_opt(), s.max_opt(), |v| big_endian(v.data()).map(Bound::Decimal))
        }
        Statistics::FixedLenByteArray(s) => {
            pair(s.min_opt(), s.max_opt(), |v| bytes_bound(v.data(), false))
        }
        Statistics::Int96(_) => (None, None),
    }
}

fn pair<T>(
    min: Option<&T>,
    max: Option<&T>,
    bound: impl Fn(&T) -> Option<Bound>,
) -> (Option<Bound>, Option<Bound>) {
    (min.and_then(&bound), max.and_then(&bound))
}

fn bytes_bound(bytes: &[u8], text: bool) -> Option<Bound> {
    if text {
        std::str::from_utf8(bytes).ok().map(|s| Bound::Text(s.to_owned()))
    } else {
        Some(Bound::Bytes(bytes.to_vec()))
    }
}

pub(super) fn big_endian(bytes: &[u8]) -> Option<i128> {
    let mut wide = [if bytes.first()? & 0x80 == 0 { 0 } else { 0xFF }; 16];
    wide.get_mut(16usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

fn shorten_lower(bound: Bound) -> Option<Bound> {
    Some(match bound {
        Bound::Text(text) => Bound::Text(text.chars().take(BOUND_LENGTH).collect()),
        Bound::Bytes(mut bytes) => {
            bytes.truncate(BOUND_LENGTH);
            Bound::Bytes(bytes)
        }
        exact => exact,
    })
}

/// `None` when no prefix can be raised.
fn shorten_upper(bound: Bound) -> Option<Bound> {
    match bound {
        Bound::Text(text) if text.chars().count() > BOUND_LENGTH => {
            raise_text(text.chars().take(BOUND_LENGTH).collect()).map(Bound::Text)
        }
        Bound::Bytes(mut bytes) if bytes.len() > BOUND_LENGTH => {
            bytes.truncate(BOUND_LENGTH);
            raise_bytes(bytes).map(Bound::Bytes)
        }
        exact => Some(exact),
    }
}

pub(super) fn raise_text(mut text: String) -> Option<String> {
    while let Some(last) = text.pop() {
        // Surrogates are no characters: the next one after them is.
        let next = (u32::from(last) + 1..=0x10_FFFF).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

pub(super) fn raise_bytes(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = bytes.pop() {
        if last < 0xFF {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_prefix_is_above_all_it_stands_for() {
        let text = |s: &str| Bound::Text(s.to_owned());
        let upper = |s: &str| shorten_upper(text(s));
        assert_eq!(upper("short"), Some(text("short")));
        assert_eq!(upper("0123456789abcdef"), Some(text("0123456789abcdef")));
        assert_eq!(upper("0123456789abcdefg"), Some(text("0123456789abcdeg")));
        let (before_surrogates, top) = ("\u{D7FF}".repeat(17), "\u{10FFFF}".repeat(17));
        let raised = "\u{D7FF}".repeat(15) + "\u{E000}";
        assert_eq!(upper(&before_surrogates), Some(text(&raised)));
        assert_eq!(upper(&top), None);
        let bytes = shorten_upper(Bound::Bytes([[1; 15].as_slice(), &[255, 9]].concat()));
        assert_eq!(bytes, Some(Bound::Bytes([[1; 14].as_slice(), &[2]].concat())));
        assert_eq!(shorten_upper(Bound::Bytes(vec![255; 17])), None);
    }

    #[test]
    fn big_endian_keeps_the_sign() {
        assert_eq!(big_endian(&[0xFF, 0xFE]), Some(-2));
        assert_eq!(big_endian(&[0x00, 0x80]), Some(128));
        assert_eq!(big_endian(&i128::MIN.to_be_bytes()), Some(i128::MIN));
        assert_eq!(big_endian(&[]), None);
    }
}
