//! Arrow columns that grow by the server's bytes, without an allocation per cell.
use std::mem;
use std::sync::Arc;

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray,
    StringArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};
use lakeward_core::{Error, ErrorKind, Result};

use super::number::Decimal;
use super::validity::Validity;
use super::{BadValue, array, civil, number};

/// More is not set aside for the next batch, however large the last one was.
const RESERVED_ROWS_MAX: usize = 1 << 16;
const RESERVED_BYTES_MAX: usize = 8 << 20;

const LENGTH: BadValue = BadValue::Malformed("a binary value of the wrong length");
const NOT_BOOL: BadValue = BadValue::Malformed("not a boolean");
const NOT_FLOAT: BadValue = BadValue::Malformed("not a floating point number");
const NOT_UTF8: BadValue = BadValue::Malformed("text that is not UTF-8");
const TOO_MUCH: BadValue = BadValue::Malformed("more than 2 GiB of one column in one batch");

/// One column of a batch that is being filled. After [`finish`](ColumnBuilder::finish) it is empty and may be used again.
#[derive(Debug)]
pub struct ColumnBuilder {
    values: Values,
    validity: Validity,
    /// Whether an unrepresentable value becomes NULL.
    lenient: bool,
    nulled: u64,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, Decimal),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>, Option<Arc<str>>),
    Uuid(Vec<u8>),
    Text(Bytes),
    Binary(Bytes),
    List(Box<List>),
}

/// Values of different lengths, one behind the other.
#[derive(Debug)]
struct Bytes {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

#[derive(Debug)]
struct List {
    field: FieldRef,
    offsets: Vec<i32>,
    elements: ColumnBuilder,
    /// Where a quoted element loses its quotes.
    scratch: Vec<u8>,
}

impl ColumnBuilder {
    /// An empty column. With `lenient`, values that the type cannot hold become NULL and are counted.
    ///
    /// # Errors
    /// `Bug` for a type that [`super::PgType::new`] never gives.
    pub fn new(data_type: &DataType, lenient: bool) -> Result<Self> {
        let values = Values::new(data_type, lenient)?;
        Ok(Self { values, validity: Validity::default(), lenient, nulled: 0 })
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
        self.values.bytes() + self.len() / 8
    }

    /// How many values became NULL by policy since the last call.
    pub fn take_nulled(&mut self) -> u64 {
        let below = match &mut self.values {
            Values::List(list) => list.elements.take_nulled(),
            _ => 0,
        };
        mem::take(&mut self.nulled) + below
    }

    /// Adds a cell from the type's output text.
    ///
    /// # Errors
    /// [`BadValue`]; the column is then as it was.
    #[inline]
    pub fn push_text(&mut self, text: &[u8]) -> Result<(), BadValue> {
        match self.values.push_text(text) {
            Ok(()) => self.validity.push_valid(),
            Err(bad) => return self.refused(bad),
        }
        Ok(())
    }

    /// Adds a cell from the type's binary form.
    ///
    /// # Errors
    /// [`BadValue`]; the column is then as it was.
    #[inline]
    pub fn push_binary(&mut self, bytes: &[u8]) -> Result<(), BadValue> {
        match self.values.push_binary(bytes) {
            Ok(()) => self.validity.push_valid(),
            Err(bad) => return self.refused(bad),
        }
        Ok(())
    }

    /// Adds NULL.
    pub fn push_null(&mut self) {
        self.values.push_null();
        self.validity.push_null();
    }

    #[cold]
    fn refused(&mut self, bad: BadValue) -> Result<(), BadValue> {
        if !(self.lenient && matches!(bad, BadValue::Unrepresentable(_))) {
            return Err(bad);
        }
        self.nulled += 1;
        self.push_null();
        Ok(())
    }

    /// Forgets all cells from `len` on. What became NULL by policy among them stays counted.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.values.truncate(len);
            self.validity.truncate(len);
        }
    }

    /// The column so far; the builder is empty afterwards.
    ///
    /// # Errors
    /// `Bug` when buffers contradict each other.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.validity.finish();
        self.values.finish(nulls).map_err(|error| {
            Error::new(ErrorKind::Bug, "a column's buffers contradict each other").caused_by(error)
        })
    }
}

impl Values {
    fn new(data_type: &DataType, lenient: bool) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int16 => Self::Int16(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                let scale = scale.cast_unsigned();
                Self::Decimal(Vec::new(), Decimal { precision: *precision, scale })
            }
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp(Vec::new(), zone.clone())
            }
            DataType::FixedSizeBinary(16) => Self::Uuid(Vec::new()),
            DataType::Utf8 => Self::Text(Bytes::new()),
            DataType::Binary => Self::Binary(Bytes::new()),
            DataType::List(field) => Self::List(Box::new(List {
                field: Arc::clone(field),
                offsets: vec![0],
                elements: ColumnBuilder::new(field.data_type(), lenient)?,
                scratch: Vec::new(),
            })),
            other => {
                return Err(Error::new(ErrorKind::Bug, "no column is built of this type")
                    .with("type", other));
            }
        })
    }

    fn push_text(&mut self, text: &[u8]) -> Result<(), BadValue> {
        match self {
            Self::Boolean(v) => v.append(match text {
                b"t" => true,
                b"f" => false,
                _ => return Err(NOT_BOOL),
            }),
            Self::Int16(v) => v.push(number::integer(text)?),
            Self::Int32(v) => v.push(number::integer(text)?),
            Self::Int64(v) => v.push(number::integer(text)?),
            Self::Float32(v) => v.push(float(text)?),
            Self::Float64(v) => v.push(float(text)?),
            Self::Decimal(v, decimal) => v.push(decimal.text(text)?),
            Self::Date(v) => v.push(civil::date_text(text)?),
            Self::Time(v) => v.push(civil::time_text(text)?),
            Self::Timestamp(v, zone) => v.push(civil::timestamp_text(text, zone.is_some())?),
            Self::Uuid(v) => v.extend_from_slice(&number::uuid(text)?),
            Self::Text(v) => v.push(utf8(text)?)?,
            Self::Binary(v) => v.push_hex(text)?,
            Self::List(v) => v.push_text(text)?,
        }
        Ok(())
    }

    fn push_binary(&mut self, bytes: &[u8]) -> Result<(), BadValue> {
        match self {
            Self::Boolean(v) => v.append(match fixed::<1>(bytes)? {
                [0] => false,
                [1] => true,
                _ => return Err(NOT_BOOL),
            }),
            Self::Int16(v) => v.push(i16::from_be_bytes(fixed(bytes)?)),
            Self::Int32(v) => v.push(i32::from_be_bytes(fixed(bytes)?)),
            Self::Int64(v) => v.push(i64::from_be_bytes(fixed(bytes)?)),
            Self::Float32(v) => {
                let value = f32::from_be_bytes(fixed(bytes)?);
                // Every NaN is one: text knows no other.
                v.push(if value.is_nan() { f32::NAN } else { value });
            }
            Self::Float64(v) => {
                let value = f64::from_be_bytes(fixed(bytes)?);
                v.push(if value.is_nan() { f64::NAN } else { value });
            }
            Self::Decimal(v, decimal) => v.push(decimal.binary(bytes)?),
            Self::Date(v) => v.push(civil::date_binary(i32::from_be_bytes(fixed(bytes)?))?),
            Self::Time(v) => v.push(civil::time_binary(i64::from_be_bytes(fixed(bytes)?))?),
            Self::Timestamp(v, _) => {
                v.push(civil::timestamp_binary(i64::from_be_bytes(fixed(bytes)?))?);
            }
            Self::Uuid(v) => v.extend_from_slice(&fixed::<16>(bytes)?),
            Self::Text(v) => v.push(utf8(bytes)?)?,
            Self::Binary(v) => v.push(bytes)?,
            Self::List(v) => v.push_binary(bytes)?,
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match self {
            Self::Boolean(v) => v.append(false),
            Self::Int16(v) => v.push(0),
            Self::Int32(v) | Self::Date(v) => v.push(0),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.push(0),
            Self::Float32(v) => v.push(0.0),
            Self::Float64(v) => v.push(0.0),
            Self::Decimal(v, _) => v.push(0),
            Self::Uuid(v) => v.extend_from_slice(&[0; 16]),
            Self::Text(v) | Self::Binary(v) => v.push_empty(),
            Self::List(v) => v.offsets.push(v.elements.len() as i32),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(v) => v.truncate(len),
            Self::Int16(v) => v.truncate(len),
            Self::Int32(v) | Self::Date(v) => v.truncate(len),
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.truncate(len),
            Self::Float32(v) => v.truncate(len),
            Self::Float64(v) => v.truncate(len),
            Self::Decimal(v, _) => v.truncate(len),
            Self::Uuid(v) => v.truncate(len * 16),
            Self::Text(v) | Self::Binary(v) => {
                v.offsets.truncate(len + 1);
                v.data.truncate(v.offsets.last().map_or(0, |end| *end as usize));
            }
            Self::List(v) => {
                v.offsets.truncate(len + 1);
                v.elements.truncate(v.offsets.last().map_or(0, |end| *end as usize));
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Boolean(v) => v.len() / 8,
            Self::Int16(v) => v.len() * 2,
            Self::Int32(v) | Self::Date(v) => v.len() * 4,
            Self::Int64(v) | Self::Time(v) | Self::Timestamp(v, _) => v.len() * 8,
            Self::Float32(v) => v.len() * 4,
            Self::Float64(v) => v.len() * 8,
            Self::Decimal(v, _) => v.len() * 16,
            Self::Uuid(v) => v.len(),
            Self::Text(v) | Self::Binary(v) => v.offsets.len() * 4 + v.data.len(),
            Self::List(v) => v.offsets.len() * 4 + v.elements.memory(),
        }
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Boolean(v) => {
                let values = v.finish();
                Ok(Arc::new(BooleanArray::new(values, nulls)))
            }
            Self::Int16(v) => primitive::<Int16Type>(v, nulls, None),
            Self::Int32(v) => primitive::<Int32Type>(v, nulls, None),
            Self::Int64(v) => primitive::<Int64Type>(v, nulls, None),
            Self::Float32(v) => primitive::<Float32Type>(v, nulls, None),
            Self::Float64(v) => primitive::<Float64Type>(v, nulls, None),
            Self::Decimal(v, d) => {
                let exact = DataType::Decimal128(d.precision, d.scale.cast_signed());
                primitive::<Decimal128Type>(v, nulls, Some(exact))
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
            Self::List(v) => v.finish(nulls),
        }
    }
}

impl Bytes {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Result<(), BadValue> {
        let end = i32::try_from(self.data.len() + bytes.len()).map_err(|_| TOO_MUCH)?;
        self.data.extend_from_slice(bytes);
        self.offsets.push(end);
        Ok(())
    }

    fn push_hex(&mut self, text: &[u8]) -> Result<(), BadValue> {
        let end = self.data.len() + text.len().saturating_sub(2) / 2;
        let end = i32::try_from(end).map_err(|_| TOO_MUCH)?;
        number::bytea(text, &mut self.data)?;
        self.offsets.push(end);
        Ok(())
    }

    fn push_empty(&mut self) {
        self.offsets.push(self.data.len() as i32);
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let data = Buffer::from(renew(&mut self.data, RESERVED_BYTES_MAX));
        (offsets(&mut self.offsets), data)
    }
}

impl List {
    fn push_text(&mut self, text: &[u8]) -> Result<(), BadValue> {
        let Self { elements, scratch, .. } = self;
        let outcome = array::text(text, scratch, |element| match element {
            Some(element) => elements.push_text(element),
            None => {
                elements.push_null();
                Ok(())
            }
        });
        self.close(outcome)
    }

    fn push_binary(&mut self, bytes: &[u8]) -> Result<(), BadValue> {
        let elements = &mut self.elements;
        let outcome = array::binary(bytes, |element| match element {
            Some(element) => elements.push_binary(element),
            None => {
                elements.push_null();
                Ok(())
            }
        });
        self.close(outcome)
    }

    fn close(&mut self, outcome: Result<(), BadValue>) -> Result<(), BadValue> {
        let end = i32::try_from(self.elements.len()).map_err(|_| TOO_MUCH);
        match outcome.and(end) {
            Ok(end) => self.offsets.push(end),
            Err(bad) => {
                self.elements.truncate(self.offsets.last().map_or(0, |end| *end as usize));
                return Err(bad);
            }
        }
        Ok(())
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let elements = self.elements.values.finish(self.elements.validity.finish())?;
        let offsets = offsets(&mut self.offsets);
        Ok(Arc::new(ListArray::try_new(Arc::clone(&self.field), offsets, elements, nulls)?))
    }
}

/// The vector's content; in its place an empty one that is as roomy as the content was long.
fn renew<T>(vector: &mut Vec<T>, most: usize) -> Vec<T> {
    let room = vector.len().min(most);
    mem::replace(vector, Vec::with_capacity(room))
}

fn offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let full = renew(offsets, RESERVED_ROWS_MAX);
    offsets.push(0);
    OffsetBuffer::new(ScalarBuffer::from(full))
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

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BadValue> {
    bytes.try_into().map_err(|_| LENGTH)
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&[u8], BadValue> {
    if bytes.is_ascii() {
        return Ok(bytes);
    }
    std::str::from_utf8(bytes).map(str::as_bytes).map_err(|_| NOT_UTF8)
}

fn float<T: std::str::FromStr>(text: &[u8]) -> Result<T, BadValue> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NOT_FLOAT)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    use super::*;

    fn list_of(element: DataType) -> DataType {
        DataType::List(arrow_schema::Field::new("element", element, true).into())
    }

    #[test]
    fn a_refused_value_leaves_no_trace() {
        let mut column = ColumnBuilder::new(&list_of(DataType::Date32), false).unwrap();
        column.push_text(b"{2000-01-01,NULL}").unwrap();
        let refused = column.push_text(b"{2000-01-02,infinity}");
        assert!(matches!(refused, Err(BadValue::Unrepresentable(_))));
        let mut binary = ColumnBuilder::new(&DataType::Binary, false).unwrap();
        assert!(binary.push_text(b"\\x0g").is_err());
        binary.push_text(b"\\x01").unwrap();
        let array = column.finish().unwrap();
        assert_eq!((array.len(), array.as_list::<i32>().values().len()), (1, 2));
        assert_eq!(binary.finish().unwrap().as_binary::<i32>().value(0), [1]);
    }

    #[test]
    fn a_lenient_column_counts_what_became_null() {
        let mut column = ColumnBuilder::new(&list_of(DataType::Date32), true).unwrap();
        column.push_text(b"{infinity,2000-01-01}").unwrap();
        column.push_text(b"{{2000-01-01}}").unwrap();
        assert_eq!((column.take_nulled(), column.take_nulled()), (2, 0));
        let array = column.finish().unwrap();
        assert!(array.is_valid(0) && array.is_null(1));
        assert!(column.is_empty());
    }

    #[test]
    fn a_builder_starts_anew_after_finish() {
        for data_type in [DataType::Utf8, DataType::Int64, list_of(DataType::Utf8)] {
            let text: &[u8] = if data_type == DataType::Int64 { b"1" } else { b"{1}" };
            let mut column = ColumnBuilder::new(&data_type, false).unwrap();
            column.push_text(text).unwrap();
            let first = column.finish().unwrap();
            column.push_text(text).unwrap();
            column.push_text(text).unwrap();
            column.truncate(1);
            assert_eq!(&first, &column.finish().unwrap());
        }
    }
}
