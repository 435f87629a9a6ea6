//! The cells of a column that is being filled, by the Arrow type that they will have.
//!
//! Values go in one by one ([`push`](Cells::push)), or many at once by whoever knows their bytes. Deliberately absent:
//! which cells are NULL, and what becomes of values that have no place.
use std::mem;
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use lakeward_core::{Error, ErrorKind, Result};

use super::bytes::{binary, text, uuid};
use super::kind::Kind;
use super::value::Value;
use super::{BadValue, civil, number};

/// More is not set aside for the next batch, however large the last one was.
const RESERVED_ROWS_MAX: usize = 1 << 16;
const RESERVED_BYTES_MAX: usize = 8 << 20;

const OTHER_TYPE: BadValue = BadValue::Malformed("a value of another type than its column");
const TOO_LARGE: BadValue = BadValue::Malformed("a number that its column's type does not hold");
const TOO_MUCH: BadValue = BadValue::Malformed("more than 2 GiB of one column in one batch");

/// The cells, by Arrow type; what NULLs hold does not matter.
#[derive(Debug)]
pub(crate) enum Cells {
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8 },
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>, Option<Arc<str>>),
    Uuid(Vec<u8>),
    Text(Bytes),
    Binary(Bytes),
}

/// Values of different lengths, one behind the other.
#[derive(Debug)]
pub(crate) struct Bytes {
    /// Where each begins, and where the last one ends.
    pub(crate) offsets: Vec<i32>,
    pub(crate) data: Vec<u8>,
}

impl Cells {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Int16 => Self::Int16(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) if *scale >= 0 => Self::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: scale.cast_unsigned(),
            },
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp(Vec::new(), zone.clone())
            }
            DataType::FixedSizeBinary(16) => Self::Uuid(Vec::new()),
            DataType::Utf8 => Self::Text(Bytes::new()),
            DataType::Binary => Self::Binary(Bytes::new()),
            other => {
                return Err(Error::new(ErrorKind::Bug, "no column is built of this type")
                    .with("type", other));
            }
        })
    }

    #[inline]
    pub(super) fn push(
        &mut self,
        kind: &Kind,
        value: Value<'_>,
        scratch: &mut String,
    ) -> Result<(), BadValue> {
        match self {
            Self::Int16(v) => v.push(integer(value)?.try_into().map_err(|_| TOO_LARGE)?),
            Self::Int32(v) => v.push(integer(value)?.try_into().map_err(|_| TOO_LARGE)?),
            Self::Int64(v) => v.push(integer(value)?.try_into().map_err(|_| TOO_LARGE)?),
            Self::Float32(v) => v.push(match value {
                Value::Float(float) => float,
                Value::Text(text) => number::parse(text)?,
                _ => return Err(OTHER_TYPE),
            }),
            Self::Float64(v) => v.push(match value {
                Value::Double(double) => double,
                Value::Float(float) => f64::from(float),
                Value::Text(text) => number::parse(text)?,
                _ => return Err(OTHER_TYPE),
            }),
            Self::Decimal { values, precision, scale } => {
                values.push(decimal(value, *precision, *scale)?);
            }
            Self::Date(v) => v.push(match value {
                Value::Date { year, month, day } | Value::DateTime { year, month, day, .. } => {
                    civil::date(year, month, day)?
                }
                Value::Text(text) => civil::date_text(text)?,
                _ => return Err(OTHER_TYPE),
            }),
            Self::Time(v) => v.push(match value {
                Value::Time { negative, hours, minutes, seconds, micros } => {
                    civil::time_of_day(negative, hours, minutes, seconds, micros)?
                }
                Value::Text(text) => civil::time_text(text)?,
                _ => return Err(OTHER_TYPE),
            }),
            Self::Timestamp(v, _) => v.push(timestamp(value)?),
            Self::Uuid(v) => v.extend_from_slice(&uuid(value)?),
            Self::Text(v) => v.append(|out| text(kind, value, scratch, out))?,
            Self::Binary(v) => v.append(|out| binary(kind, value, out))?,
        }
        Ok(())
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Int16(v) => v.push(0),
            Self::Int32(v) | Self::Date(v) => v.push(0),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.push(0),
            Self::Float32(v) => v.push(0.0),
            Self::Float64(v) => v.push(0.0),
            Self::Decimal { values, .. } => values.push(0),
            Self::Uuid(v) => v.extend_from_slice(&[0; 16]),
            Self::Text(v) | Self::Binary(v) => v.offsets.push(v.data.len() as i32),
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Int16(v) => v.truncate(len),
            Self::Int32(v) | Self::Date(v) => v.truncate(len),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.truncate(len),
            Self::Float32(v) => v.truncate(len),
            Self::Float64(v) => v.truncate(len),
            Self::Decimal { values, .. } => values.truncate(len),
            Self::Uuid(v) => v.truncate(len * 16),
            Self::Text(v) | Self::Binary(v) => {
                v.offsets.truncate(len + 1);
                v.data.truncate(v.end());
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Int16(v) => v.len(),
            Self::Int32(v) | Self::Date(v) => v.len(),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.len(),
            Self::Float32(v) => v.len(),
            Self::Float64(v) => v.len(),
            Self::Decimal { values, .. } => values.len(),
            Self::Uuid(v) => v.len() / 16,
            Self::Text(v) | Self::Binary(v) => v.offsets.len() - 1,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Int16(v) => v.len() * 2,
            Self::Int32(v) | Self::Date(v) => v.len() * 4,
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.len() * 8,
            Self::Float32(v) => v.len() * 4,
            Self::Float64(v) => v.len() * 8,
            Self::Decimal { values, .. } => values.len() * 16,
            Self::Uuid(v) => v.len(),
            Self::Text(v) | Self::Binary(v) => v.offsets.len() * 4 + v.data.len(),
        }
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Int16(v) => primitive::<Int16Type>(v, nulls, None),
            Self::Int32(v) => primitive::<Int32Type>(v, nulls, None),
            Self::Int64(v) => primitive::<Int64Type>(v, nulls, None),
            Self::Float32(v) => primitive::<Float32Type>(v, nulls, None),
            Self::Float64(v) => primitive::<Float64Type>(v, nulls, None),
            Self::Decimal { values, precision, scale } => {
                let exact = DataType::Decimal128(*precision, scale.cast_signed());
                primitive::<Decimal128Type>(values, nulls, Some(exact))
            }
            Self::Date(v) => primitive::<Date32Type>(v, nulls, None),
            Self::Time(v) => primitive::<Time64MicrosecondType>(v, nulls, None),
            Self::Timestamp(v, zone) => {
                let exact = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                primitive::<TimestampMicrosecondType>(v, nulls, Some(exact))
            }
            Self::Uuid(v) => {
                let values = Buffer::from(renew(v, RESERVED_BYTES_MAX));
                Ok(Arc::new(FixedSizeBinaryArray::try_new(16, values, nulls)?))
            }
            Self::Text(v) => {
                let (offsets, data) = v.finish();
                Ok(Arc::new(StringArray::try_new(offsets, data, nulls)?))
            }
            Self::Binary(v) => {
                let (offsets, data) = v.finish();
                Ok(Arc::new(BinaryArray::try_new(offsets, data, nulls)?))
            }
        }
    }
}

impl Bytes {
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    fn end(&self) -> usize {
        self.offsets.last().map_or(0, |end| *end as usize)
    }

    /// Adds what `write` appends; nothing when it fails.
    fn append(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), BadValue>,
    ) -> Result<(), BadValue> {
        let written = write(&mut self.data);
        let end = written.and(i32::try_from(self.data.len()).map_err(|_| TOO_MUCH));
        match end {
            Ok(end) => self.offsets.push(end),
            Err(bad) => {
                self.data.truncate(self.end());
                return Err(bad);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let data = Buffer::from(renew(&mut self.data, RESERVED_BYTES_MAX));
        let full = renew(&mut self.offsets, RESERVED_ROWS_MAX);
        self.offsets.push(0);
        (OffsetBuffer::new(ScalarBuffer::from(full)), data)
    }
}

fn integer(value: Value<'_>) -> Result<i128, BadValue> {
    Ok(match value {
        Value::Int(number) => i128::from(number),
        Value::UInt(number) => i128::from(number),
        Value::Year(year) => i128::from(year),
        Value::Text(text) => number::parse(text)?,
        _ => return Err(OTHER_TYPE),
    })
}

fn decimal(value: Value<'_>, precision: u8, scale: u8) -> Result<i128, BadValue> {
    match value {
        Value::Decimal { unscaled, scale: from } => {
            number::fits(number::rescale(unscaled, from, scale)?, precision)
        }
        Value::Text(text) => number::decimal(text, precision, scale),
        other => number::fits(number::rescale(integer(other)?, 0, scale)?, precision),
    }
}

fn timestamp(value: Value<'_>) -> Result<i64, BadValue> {
    match value {
        Value::Timestamp { seconds, micros } => civil::timestamp(seconds, micros),
        Value::DateTime { year, month, day, hour, minute, second, micros } => {
            let days = civil::date(year, month, day)?;
            let time = civil::time_of_day(false, u32::from(hour), minute, second, micros)?;
            Ok(i64::from(days) * civil::DAY + time)
        }
        Value::Date { year, month, day } => {
            Ok(i64::from(civil::date(year, month, day)?) * civil::DAY)
        }
        Value::Text(text) => civil::datetime_text(text),
        _ => Err(OTHER_TYPE),
    }
}

/// The vector's content; in its place an empty one that is as roomy as the content was long.
fn renew<T>(vector: &mut Vec<T>, most: usize) -> Vec<T> {
    let room = vector.len().min(most);
    mem::replace(vector, Vec::with_capacity(room))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    exact: Option<DataType>,
) -> Result<ArrayRef, ArrowError> {
    let values = ScalarBuffer::from(renew(values, RESERVED_ROWS_MAX));
    let array = PrimitiveArray::<T>::try_new(values, nulls)?;
    Ok(match exact {
        Some(data_type) => Arc::new(array.with_data_type(data_type)),
        None => Arc::new(array),
    })
}
