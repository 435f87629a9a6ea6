//! The canonical identity of a row: a 128-bit hash of its key's values.
//!
//! Canonical means: the same value gives the same hash from the log, a chunk, a Parquet file, and after its type
//! was widened (integers hash as 64 bits, floats as 64 bits, text and bytes by content). With 10^10 keys in one
//! table the chance that any two collide is below 2 · 10^-19 (birthday bound, 128 bits).
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, ErrorKind, Result};

/// The identity of a row within its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub u128);

/// Hashes row by row the values of `columns` (a key's columns in key order, or all columns of a table without a key).
///
/// # Errors
/// `Unsupported` when a column's type has no canonical encoding.
pub fn hash_keys(columns: &[ArrayRef], rows: usize) -> Result<Vec<KeyHash>> {
    if let [column] = columns
        && let Some(hashes) = hash_integers(column.as_ref())
    {
        return Ok(hashes);
    }
    let mut buffer = Vec::with_capacity(32 * columns.len());
    let writers = columns.iter().map(|c| writer(c.as_ref())).collect::<Result<Vec<_>>>()?;
    let mut hashes = Vec::with_capacity(rows);
    for row in 0..rows {
        buffer.clear();
        for write in &writers {
            write(row, &mut buffer);
        }
        hashes.push(KeyHash(xxhash_rust::xxh3::xxh3_128(&buffer)));
    }
    Ok(hashes)
}

/// The commonest keys, the same way as all others but without a call per row; `None` for any other.
fn hash_integers(array: &dyn Array) -> Option<Vec<KeyHash>> {
    fn hash(values: impl Iterator<Item = i64>) -> Vec<KeyHash> {
        let mut bytes = [b'i'; 1 + size_of::<i64>()];
        let each = |value: i64| {
            bytes[1..].copy_from_slice(&value.to_le_bytes());
            KeyHash(xxhash_rust::xxh3::xxh3_128(&bytes))
        };
        values.map(each).collect()
    }
    if array.null_count() > 0 {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int16 => {
            hash(array.as_primitive::<Int16Type>().values().iter().map(|v| i64::from(*v)))
        }
        DataType::Int32 => {
            hash(array.as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)))
        }
        DataType::Int64 => hash(array.as_primitive::<Int64Type>().values().iter().copied()),
        _ => return None,
    })
}

type Writer<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

fn tagged<'a, const N: usize>(
    array: &'a dyn Array,
    tag: u8,
    value: impl Fn(usize) -> [u8; N] + 'a,
) -> Writer<'a> {
    Box::new(move |row, out| {
        if array.is_null(row) {
            out.push(0);
        } else {
            out.push(tag);
            out.extend_from_slice(&value(row));
        }
    })
}

fn sized<'a>(array: &'a dyn Array, tag: u8, value: impl Fn(usize) -> &'a [u8] + 'a) -> Writer<'a> {
    Box::new(move |row, out| {
        if array.is_null(row) {
            out.push(0);
        } else {
            let bytes = value(row);
            out.push(tag);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    })
}

macro_rules! integer {
    ($array:expr, $type:ty) => {{
        let values = $array.as_primitive::<$type>();
        tagged($array, b'i', move |row| i64::from(values.value(row)).to_le_bytes())
    }};
}

fn writer(array: &dyn Array) -> Result<Writer<'_>> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            tagged(array, b'o', move |row| [u8::from(values.value(row))])
        }
        DataType::Int8 => integer!(array, Int8Type),
        DataType::Int16 => integer!(array, Int16Type),
        DataType::Int32 => integer!(array, Int32Type),
        DataType::Int64 => integer!(array, Int64Type),
        DataType::UInt8 => integer!(array, UInt8Type),
        DataType::UInt16 => integer!(array, UInt16Type),
        DataType::UInt32 => integer!(array, UInt32Type),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            tagged(array, b'n', move |row| i128::from(values.value(row)).to_le_bytes())
        }
        DataType::Decimal128(_, _) => {
            let values = array.as_primitive::<Decimal128Type>();
            tagged(array, b'n', move |row| values.value(row).to_le_bytes())
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            tagged(array, b'f', move |row| f64::from(values.value(row)).to_bits().to_le_bytes())
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            tagged(array, b'f', move |row| values.value(row).to_bits().to_le_bytes())
        }
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>();
            tagged(array, b'd', move |row| values.value(row).to_le_bytes())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let values = array.as_primitive::<Time64MicrosecondType>();
            tagged(array, b'm', move |row| values.value(row).to_le_bytes())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            tagged(array, b't', move |row| values.value(row).to_le_bytes())
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            sized(array, b's', move |row| values.value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            let values = array.as_string::<i64>();
            sized(array, b's', move |row| values.value(row).as_bytes())
        }
        DataType::Utf8View => {
            let values = array.as_string_view();
            sized(array, b's', move |row| values.value(row).as_bytes())
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            sized(array, b'b', move |row| values.value(row))
        }
        DataType::LargeBinary => {
            let values = array.as_binary::<i64>();
            sized(array, b'b', move |row| values.value(row))
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            sized(array, b'b', move |row| values.value(row))
        }
        DataType::List(_) => list(array)?,
        other => {
            return Err(Error::new(ErrorKind::Unsupported, "this type cannot be part of a key")
                .with("type", other));
        }
    })
}

fn list(array: &dyn Array) -> Result<Writer<'_>> {
    let lists = array.as_list::<i32>();
    let element = writer(lists.values().as_ref())?;
    Ok(Box::new(move |row, out| {
        if lists.is_null(row) {
            return out.push(0);
        }
        let offsets = lists.value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        out.push(b'l');
        out.extend_from_slice(&((end - start) as u64).to_le_bytes());
        for at in start..end {
            element(at, out);
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_widened_integer_hashes_the_same() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![Some(-7), None]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(-7), None]));
        assert_eq!(hash_keys(&[narrow], 2).unwrap(), hash_keys(&[wide], 2).unwrap());
    }

    #[test]
    fn keys_hash_the_same_whether_or_not_a_null_is_among_them() {
        for value in [0, 1, -1, i16::MAX, i16::MIN] {
            let alone: [ArrayRef; 3] = [
                Arc::new(arrow_array::Int16Array::from(vec![value])),
                Arc::new(Int32Array::from(vec![i32::from(value)])),
                Arc::new(Int64Array::from(vec![i64::from(value)])),
            ];
            let with_null: ArrayRef =
                Arc::new(Int64Array::from(vec![Some(i64::from(value)), None]));
            let expected = hash_keys(&[with_null], 2).unwrap()[0];
            for column in alone {
                assert_eq!(hash_keys(&[column], 1).unwrap(), [expected], "{value}");
            }
        }
    }

    #[test]
    fn columns_do_not_run_together() {
        let one: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["ab"])), Arc::new(StringArray::from(vec!["c"]))];
        let two: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec!["a"])), Arc::new(StringArray::from(vec!["bc"]))];
        assert_ne!(hash_keys(&one, 1).unwrap(), hash_keys(&two, 1).unwrap());
        let (null, empty): (ArrayRef, ArrayRef) = (
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(StringArray::from(vec![""])),
        );
        assert_ne!(hash_keys(&[null], 1).unwrap(), hash_keys(&[empty], 1).unwrap());
    }
}
