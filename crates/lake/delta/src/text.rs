//! Times of day and UUIDs as text, because Delta has no types for them, and back again for keys.
//!
//! A time is `HH:MM:SS`, with a fraction where there is one, without zeros at its end. A UUID is lower-case with dashes.
//! Deliberately absent: all other conversions. Those are casts.
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Time64MicrosecondType;
use arrow_array::{
    Array, ArrayRef, ListArray, RecordBatch, RecordBatchOptions, Time64MicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use lakeward_core::{BeforeImages, ChangeBatch, Error, ErrorKind, Result};
use uuid::Uuid;

/// The batch with all times and UUIDs as text.
pub(crate) fn batch(batch: ChangeBatch) -> Result<ChangeBatch> {
    if !batch.rows.schema().fields().iter().any(|field| is_text(field.data_type())) {
        return Ok(batch);
    }
    let before = match batch.before {
        Some(before) => Some(BeforeImages { rows: rows(&before.rows)?, ..before }),
        None => None,
    };
    Ok(ChangeBatch { rows: rows(&batch.rows)?, before, ..batch })
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Time64(TimeUnit::Microsecond) | DataType::FixedSizeBinary(16) => true,
        DataType::List(element) => is_text(element.data_type()),
        _ => false,
    }
}

fn rows(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = rows.columns().iter().map(as_text).collect::<Result<_>>()?;
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<Field> = fields
        .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|_| bug())
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Time64(TimeUnit::Microsecond) => {
            Ok(times(column.as_primitive::<Time64MicrosecondType>()))
        }
        DataType::FixedSizeBinary(16) => {
            let values = column.as_fixed_size_binary();
            let mut text = StringBuilder::with_capacity(values.len(), 36 * values.len());
            for value in values {
                text.append_option(
                    value.and_then(|bytes| Uuid::from_slice(bytes).ok()).map(|id| id.to_string()),
                );
            }
            Ok(Arc::new(text.finish()))
        }
        DataType::List(element) if is_text(element.data_type()) => {
            let list = column.as_list::<i32>();
            let values = as_text(list.values())?;
            let field = element.as_ref().clone().with_data_type(values.data_type().clone());
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            let list = ListArray::try_new(Arc::new(field), offsets, values, nulls);
            list.map(|list| Arc::new(list) as ArrayRef).map_err(|_| bug())
        }
        _ => Ok(Arc::clone(column)),
    }
}

fn times(values: &Time64MicrosecondArray) -> ArrayRef {
    let mut text = StringBuilder::with_capacity(values.len(), 15 * values.len());
    let mut line = String::new();
    for value in values {
        line.clear();
        match value {
            Some(micros) => {
                write_time(micros, &mut line);
                text.append_value(&line);
            }
            None => text.append_null(),
        }
    }
    Arc::new(text.finish())
}

fn write_time(micros: i64, out: &mut String) {
    if micros < 0 {
        out.push('-');
    }
    let (seconds, fraction) =
        (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    // Writing to a string does not fail.
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        let _ = write!(out, ".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Text of ours as the type that it came from; `None` when `data_type` is none that we write as text.
///
/// # Errors
/// `Corrupt` when the text is not of our making.
pub(crate) fn back(column: &ArrayRef, data_type: &DataType) -> Result<Option<ArrayRef>> {
    let Some(text) = column.as_string_opt::<i32>() else { return Ok(None) };
    let broken =
        || Error::new(ErrorKind::Corrupt, "a key's text in the lake is not what was written");
    match data_type {
        DataType::Time64(TimeUnit::Microsecond) => {
            let value =
                |text: Option<&str>| text.map(|t| read_time(t).ok_or_else(broken)).transpose();
            let values = text.iter().map(value).collect::<Result<Time64MicrosecondArray>>()?;
            Ok(Some(Arc::new(values)))
        }
        DataType::FixedSizeBinary(16) => {
            let mut values = FixedSizeBinaryBuilder::with_capacity(text.len(), 16);
            for value in text {
                match value.map(|t| Uuid::parse_str(t).map_err(|_| broken())).transpose()? {
                    Some(id) => values.append_value(id.as_bytes()).map_err(|_| bug())?,
                    None => values.append_null(),
                }
            }
            Ok(Some(Arc::new(values.finish())))
        }
        _ => Ok(None),
    }
}

fn read_time(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(sign * (((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros))
}

fn bug() -> Error {
    Error::new(ErrorKind::Bug, "columns as text do not make a batch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_a_server_prints_them_and_read_back() {
        let cases = [
            (0, "00:00:00"),
            (86_399_999_999, "23:59:59.999999"),
            (43_200_500_000, "12:00:00.5"),
            (86_400_000_000, "24:00:00"),
            (-3_600_000_000 * 838, "-838:00:00"),
        ];
        for (micros, text) in cases {
            let mut out = String::new();
            write_time(micros, &mut out);
            assert_eq!((out.as_str(), read_time(text)), (text, Some(micros)));
        }
        assert_eq!(read_time("noon"), None);
    }

    #[test]
    fn uuids_in_lists_and_keys_come_back() {
        let id = Uuid::from_u128(0x1234_5678_9abc_def0_0102_0304_0506_0708);
        let mut builder = FixedSizeBinaryBuilder::new(16);
        builder.append_value(id.as_bytes()).unwrap();
        builder.append_null();
        let ids: ArrayRef = Arc::new(builder.finish());
        let text = as_text(&ids).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "12345678-9abc-def0-0102-030405060708");
        assert_eq!(&back(&text, ids.data_type()).unwrap().unwrap(), &ids);
        assert!(back(&text, &DataType::Int32).unwrap().is_none());
        let field = Arc::new(Field::new("item", DataType::FixedSizeBinary(16), true));
        let list = ListArray::new(field, arrow_buffer::OffsetBuffer::from_lengths([2]), ids, None);
        let list = as_text(&(Arc::new(list) as ArrayRef)).unwrap();
        assert_eq!(list.as_list::<i32>().value(0).as_string::<i32>().value(0).len(), 36);
    }
}
