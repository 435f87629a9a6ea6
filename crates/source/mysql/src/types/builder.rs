//! Arrow columns that grow by values, without an allocation per cell.
use std::mem;
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
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

/// One column of a batch that is being filled. After [`finish`](ColumnBuilder::finish) it is empty and may be used again.
#[derive(Debug)]
pub struct ColumnBuilder {
    kind: Kind,
    cells: Cells,
    validity: NullBufferBuilder,
    /// Whether an unrepresentable value becomes NULL.
    lenient: bool,
    nulled: u64,
    scratch: String,
}

#[derive(Debug)]
enum Cells {
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
struct Bytes {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl ColumnBuilder {
    /// An empty column of `data_type` for values of `kind`; the type may be wider than the kind's own. With `lenient`,
    /// values that the type cannot hold become NULL and are counted.
    ///
    /// # Errors
    /// `Bug` for a type that [`Kind::data_type`] never gives.
    pub fn new(kind: &Kind, data_type: &DataType, lenient: bool) -> Result<Self> {
        Ok(Self {
            kind: kind.clone(),
            cells: Cells::new(data_type)?,
            validity: NullBufferBuilder::new(0),
            lenient,
            nulled: 0,
            scratch: String::new(),
        })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.validity.len()
    }

    /// Whether it has no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the cells take so far.
    pub fn memory(&self) -> usize {
        self.cells.bytes() + self.len() / 8
    }

    /// How many values became NULL by policy since the last call.
    pub fn take_nulled(&mut self) -> u64 {
        mem::take(&mut self.nulled)
    }

    /// Adds a cell.
    ///
    /// # Errors
    /// [`BadValue`]; the column is then as it was.
    #[inline]
    pub fn push(&mut self, value: Value<'_>) -> Result<(), BadValue> {
        if value == Value::Null {
            self.push_null();
            return Ok(());
        }
        match self.cells.push(&self.kind, value, &mut self.scratch) {
            Ok(()) => self.validity.append_non_null(),
            Err(BadValue::Unrepresentable(_)) if self.lenient => {
                self.nulled += 1;
                self.push_null();
            }
            Err(bad) => return Err(bad),
        }
        Ok(())
    }

    /// Adds NULL.
    pub fn push_null(&mut self) {
        self.cells.push_null();
        self.validity.append_null();
    }

    /// Forgets all cells from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.cells.truncate(len);
            self.validity.truncate(len);
        }
    }

    /// The column so far; the builder is empty afterwards.
    ///
    /// # Errors
    /// `Bug` when buffers contradict each other.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.validity.finish();
        self.cells.finish(nulls).map_err(|error| {
            Error::new(ErrorKind::Bug, "a column's buffers contradict each other").caused_by(error)
        })
    }
}

impl Cells {
    fn new(data_type: &DataType) -> Result<Self> {
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
    fn push(
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

    fn push_null(&mut self) {
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

    fn truncate(&mut self, len: usize) {
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

    fn bytes(&self) -> usize {
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

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
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
    fn new() -> Self {
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

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    use super::super::Unrepresentable;
    use super::*;

    fn column(declared: &str, policy: Unrepresentable, lenient: bool) -> ColumnBuilder {
        let kind = Kind::of_declared(declared).unwrap();
        let data_type = kind.data_type(policy);
        ColumnBuilder::new(&kind, &data_type, lenient).unwrap()
    }

    fn texts(declared: &str, values: &[Value<'_>]) -> Vec<String> {
        let mut column = column(declared, Unrepresentable::Text, false);
        values.iter().for_each(|value| column.push(*value).unwrap());
        let array = column.finish().unwrap();
        array.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    const ZERO_DATE: Value<'_> = Value::Date { year: 0, month: 0, day: 0 };

    #[test]
    fn a_refused_value_leaves_no_trace() {
        let mut column = column("varchar(9)", Unrepresentable::Fail, false);
        column.push(Value::Bytes(b"a")).unwrap();
        assert!(column.push(Value::Bytes(b"b\xff")).is_err());
        column.push(Value::Text("ü".as_bytes())).unwrap();
        let array = column.finish().unwrap();
        let values: Vec<_> = array.as_string::<i32>().iter().collect();
        assert_eq!(values, [Some("a"), Some("ü")]);
    }

    #[test]
    fn the_policy_decides_about_zero_dates() {
        let mut strict = column("date", Unrepresentable::Fail, false);
        assert!(matches!(strict.push(ZERO_DATE), Err(BadValue::Unrepresentable(_))));
        let mut lenient = column("date", Unrepresentable::Null, true);
        lenient.push(ZERO_DATE).unwrap();
        assert_eq!((lenient.take_nulled(), lenient.take_nulled()), (1, 0));
        assert!(lenient.finish().unwrap().is_null(0));
        assert_eq!(texts("date", &[ZERO_DATE]), ["0000-00-00"]);
    }

    #[test]
    fn text_is_the_servers() {
        let time =
            Value::Time { negative: true, hours: 838, minutes: 5, seconds: 9, micros: 120_000 };
        assert_eq!(texts("time(2)", &[time]), ["-838:05:09.12"]);
        let stamp = [
            Value::Timestamp { seconds: 0, micros: 0 },
            Value::Timestamp { seconds: 86_399, micros: 5 },
        ];
        let expected = ["0000-00-00 00:00:00.000000", "1970-01-01 23:59:59.000005"];
        assert_eq!(texts("timestamp(6)", &stamp), expected);
        let wide = [Value::Text(b"-000.50"), Value::Text(b"0012")];
        assert_eq!(texts("decimal(60,2)", &wide), ["-0.50", "12"]);
        let labels = [Value::Enum(0), Value::Enum(2), Value::Text(b"a")];
        assert_eq!(texts("enum('a','b')", &labels), ["", "b", "a"]);
        assert_eq!(texts("set('a','b','c')", &[Value::Set(5), Value::Set(0)]), ["a,c", ""]);
    }

    #[test]
    fn labels_that_are_not_there_are_refused() {
        let mut labels = column("enum('a')", Unrepresentable::Fail, false);
        assert!(labels.push(Value::Enum(2)).is_err());
        let mut set = column("set('a')", Unrepresentable::Fail, false);
        assert!(set.push(Value::Set(2)).is_err());
        assert!(set.is_empty());
    }

    #[test]
    fn binary_gets_its_zero_bytes_back() {
        let mut column = column("binary(3)", Unrepresentable::Fail, false);
        column.push(Value::Bytes(b"a")).unwrap();
        assert!(column.push(Value::Bytes(b"abcd")).is_err());
        assert_eq!(column.finish().unwrap().as_binary::<i32>().value(0), b"a\0\0");
    }

    #[test]
    fn a_narrow_value_goes_into_a_wider_column() {
        let kind = Kind::of_declared("smallint").unwrap();
        let mut column = ColumnBuilder::new(&kind, &DataType::Int64, false).unwrap();
        column.push(Value::Int(-7)).unwrap();
        let array = column.finish().unwrap();
        assert_eq!(array.as_primitive::<Int64Type>().value(0), -7);
        let unsigned = Kind::of_declared("bigint unsigned").unwrap();
        let mut column =
            ColumnBuilder::new(&unsigned, &DataType::Decimal128(20, 0), false).unwrap();
        column.push(Value::UInt(u64::MAX)).unwrap();
        let array = column.finish().unwrap();
        assert_eq!(array.as_primitive::<Decimal128Type>().value(0), i128::from(u64::MAX));
    }
}
