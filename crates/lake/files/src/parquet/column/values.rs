//! Values of the page in progress, taken from Arrow's buffers as they lie there, and their bounds.
//!
//! Deliberately absent: NULLs. Only rows that hold a value come here.
use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_buffer::bit_chunk_iterator::UnalignedBitChunk;
use arrow_buffer::{ArrowNativeType, BooleanBufferBuilder, ToByteSlice};
use arrow_schema::{DataType, TimeUnit};
use parquet::basic::{Encoding, Type as Physical};
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::Choice;
use super::bounds::Bounds;
use super::delta::Delta;
use super::dictionary::Dictionary;

/// A column's values.
pub(super) struct Values {
    page: Page,
    /// `None`: values are not worth one.
    dictionary: Option<Dictionary>,
    bounds: Bounds,
    /// Bytes of a value in its plain form, where all have the same.
    width: usize,
}

/// Values of a page without a dictionary.
enum Page {
    Bits(BooleanBufferBuilder),
    Integers(Box<Delta>),
    Plain(Vec<u8>),
    Texts { lengths: Box<Delta>, content: Vec<u8> },
}

/// Whether values of this type are encoded here.
pub(in crate::parquet) fn is_encoded(data_type: &DataType, physical: Physical) -> bool {
    use DataType::{
        Binary, Boolean, Date32, Decimal128, FixedSizeBinary, Float32, Float64, Int32, Int64,
        Time64, Timestamp, Utf8,
    };
    match data_type {
        Boolean => physical == Physical::BOOLEAN,
        Int32 | Date32 => physical == Physical::INT32,
        Int64 | Time64(TimeUnit::Microsecond) | Timestamp(TimeUnit::Microsecond, _) => {
            physical == Physical::INT64
        }
        Float32 => physical == Physical::FLOAT,
        Float64 => physical == Physical::DOUBLE,
        Decimal128(..) => {
            matches!(physical, Physical::INT32 | Physical::INT64 | Physical::FIXED_LEN_BYTE_ARRAY)
        }
        Utf8 | Binary => physical == Physical::BYTE_ARRAY,
        FixedSizeBinary(_) => physical == Physical::FIXED_LEN_BYTE_ARRAY,
        _ => false,
    }
}

impl Values {
    /// For a type that [`is_encoded`].
    pub(super) fn new(column: &ColumnDescriptor, choice: Choice) -> Self {
        let fixed = usize::try_from(column.type_length()).unwrap_or(0);
        let (page, width) = match column.physical_type() {
            Physical::BOOLEAN => (Page::Bits(BooleanBufferBuilder::new(0)), 0),
            Physical::INT32 => (Page::Integers(Box::new(Delta::new(true))), 4),
            Physical::FLOAT => (Page::Plain(Vec::new()), 4),
            Physical::DOUBLE => (Page::Plain(Vec::new()), 8),
            Physical::FIXED_LEN_BYTE_ARRAY => (Page::Plain(Vec::new()), fixed),
            Physical::BYTE_ARRAY => {
                let lengths = Box::new(Delta::new(true));
                (Page::Texts { lengths, content: Vec::new() }, 0)
            }
            _ => (Page::Integers(Box::new(Delta::new(false))), 8),
        };
        let may = choice.dictionary && column.physical_type() != Physical::BOOLEAN;
        let dictionary = may.then(|| Dictionary::new((width > 0).then_some(width)));
        Self { page, dictionary, bounds: Bounds::new(column, choice.whole_bounds), width }
    }

    /// Appends values of a batch's column, whose type the caller has compared.
    pub(super) fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> Result<()> {
        match array.data_type() {
            DataType::Boolean => self.booleans(array, rows),
            DataType::Int32 => {
                self.integers(slice::<Int32Type>(array, rows).iter().map(|n| i64::from(*n)))
            }
            DataType::Date32 => {
                self.integers(slice::<Date32Type>(array, rows).iter().map(|n| i64::from(*n)))
            }
            DataType::Int64 => self.integers(slice::<Int64Type>(array, rows).iter().copied()),
            DataType::Time64(_) => {
                self.integers(slice::<Time64MicrosecondType>(array, rows).iter().copied());
            }
            DataType::Timestamp(..) => {
                self.integers(slice::<TimestampMicrosecondType>(array, rows).iter().copied());
            }
            DataType::Float32 => self.floats(slice::<Float32Type>(array, rows), f64::from),
            DataType::Float64 => self.floats(slice::<Float64Type>(array, rows), |n| n),
            DataType::Decimal128(..) => {
                let decimals = slice::<Decimal128Type>(array, rows);
                match &self.page {
                    Page::Plain(_) => self.decimals(decimals),
                    _ => self.integers(decimals.iter().map(|n| *n as i64)),
                }
            }
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                self.texts(&texts.value_offsets()[rows.start..=rows.end], texts.value_data());
            }
            DataType::Binary => {
                let bytes = array.as_binary::<i32>();
                self.texts(&bytes.value_offsets()[rows.start..=rows.end], bytes.value_data());
            }
            DataType::FixedSizeBinary(_) => {
                let fixed = array.as_fixed_size_binary();
                rows.for_each(|row| self.fixed(fixed.value(row)));
            }
            _ => return Err(ParquetError::NYI("a type is not encoded here".to_owned())),
        }
        Ok(())
    }

    fn booleans(&mut self, array: &dyn Array, rows: Range<usize>) {
        let Page::Bits(bits) = &mut self.page else { return };
        let (values, count) = (array.as_boolean().values(), rows.len());
        let from = values.offset() + rows.start;
        let yes = UnalignedBitChunk::new(values.values(), from, count).count_ones();
        self.bounds.booleans(yes < count, yes > 0);
        bits.append_packed_range(from..from + count, values.values());
    }

    fn integers(&mut self, values: impl ExactSizeIterator<Item = i64>) {
        match (&mut self.page, &mut self.dictionary) {
            (_, Some(dictionary)) => {
                for value in values {
                    if dictionary.push(&value.to_le_bytes()[..self.width]) {
                        self.bounds.numbers(value, value);
                    }
                }
            }
            (Page::Integers(delta), None) => delta.extend(values),
            _ => {}
        }
    }

    fn floats<T: ArrowNativeType>(&mut self, values: &[T], number: impl Fn(T) -> f64) {
        match (&mut self.page, &mut self.dictionary) {
            (_, Some(dictionary)) => {
                for value in values {
                    if dictionary.push(std::slice::from_ref(value).to_byte_slice()) {
                        self.bounds.floats(std::iter::once(number(*value)));
                    }
                }
            }
            (Page::Plain(plain), None) => {
                plain.extend_from_slice(values.to_byte_slice());
                self.bounds.floats(values.iter().map(|value| number(*value)));
            }
            _ => {}
        }
    }

    fn decimals(&mut self, values: &[i128]) {
        let from = size_of::<i128>().saturating_sub(self.width);
        values.iter().for_each(|value| self.fixed(&value.to_be_bytes()[from..]));
    }

    fn fixed(&mut self, value: &[u8]) {
        match (&mut self.page, &mut self.dictionary) {
            (_, Some(dictionary)) => {
                let is_new = dictionary.push(value);
                if is_new {
                    self.bounds.plain(value);
                }
            }
            (Page::Plain(plain), None) => {
                plain.extend_from_slice(value);
                self.bounds.plain(value);
            }
            _ => {}
        }
    }

    /// `offsets`: where each value begins in `content`, and where the last ends.
    fn texts(&mut self, offsets: &[i32], content: &[u8]) {
        let ends = offsets.iter().skip(1);
        let each = offsets.iter().zip(ends).map(|(from, to)| *from as usize..*to as usize);
        match (&mut self.page, &mut self.dictionary) {
            (_, Some(dictionary)) => {
                for value in each {
                    if dictionary.push(&content[value.clone()]) {
                        self.bounds.bytes(&content[value]);
                    }
                }
            }
            (Page::Texts { lengths, content: all }, None) => {
                lengths.extend(each.clone().map(|value| value.len() as i64));
                if let [first, .., last] = offsets {
                    all.extend_from_slice(&content[*first as usize..*last as usize]);
                }
                each.for_each(|value| self.bounds.bytes(&content[value]));
            }
            _ => {}
        }
    }

    /// Moves the page's values to `out`; how they are encoded.
    pub(super) fn end_page(&mut self, out: &mut Vec<u8>) -> Encoding {
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.end_page(out);
            return Encoding::RLE_DICTIONARY;
        }
        self.page.end(out, &mut self.bounds);
        self.encoding()
    }

    /// The encoding of pages without a dictionary.
    pub(super) fn encoding(&self) -> Encoding {
        match self.page {
            Page::Bits(_) | Page::Plain(_) => Encoding::PLAIN,
            Page::Integers(_) => Encoding::DELTA_BINARY_PACKED,
            Page::Texts { .. } => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        }
    }

    /// The dictionary of which pages hold numbers now.
    pub(super) fn dictionary(&mut self) -> &mut Option<Dictionary> {
        &mut self.dictionary
    }

    /// What the footer says of the row group's values; the next one begins.
    pub(super) fn take_bounds(&mut self, column: &ColumnDescriptor, nulls: u64) -> Statistics {
        self.bounds.take(column, nulls)
    }

    /// Whether the dictionary should not grow any more.
    pub(super) fn is_full(&self) -> bool {
        self.dictionary.as_ref().is_some_and(Dictionary::is_full)
    }

    /// Bytes that the page takes so far, about.
    pub(super) fn bytes(&self) -> usize {
        let values = match &self.page {
            Page::Bits(bits) => bits.len() / 8,
            Page::Integers(delta) => delta.bytes(),
            Page::Plain(plain) => plain.len(),
            Page::Texts { lengths, content } => lengths.bytes() + content.len(),
        };
        values + self.dictionary.as_ref().map_or(0, Dictionary::page_bytes)
    }

    /// Bytes of the dictionary so far.
    pub(super) fn dictionary_bytes(&self) -> usize {
        self.dictionary.as_ref().map_or(0, |dictionary| dictionary.plain().len())
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let values = match &self.page {
            Page::Bits(bits) => bits.capacity() / 8,
            Page::Integers(delta) => delta.memory(),
            Page::Plain(plain) => plain.capacity(),
            Page::Texts { lengths, content } => lengths.memory() + content.capacity(),
        };
        values + self.dictionary.as_ref().map_or(0, Dictionary::memory)
    }
}

impl Page {
    fn end(&mut self, out: &mut Vec<u8>, bounds: &mut Bounds) {
        match self {
            Self::Bits(bits) => {
                out.extend_from_slice(bits.as_slice());
                bits.truncate(0);
            }
            Self::Integers(delta) => {
                if let Some((least, most)) = delta.finish(out) {
                    bounds.numbers(least, most);
                }
            }
            Self::Plain(plain) => out.append(plain),
            Self::Texts { lengths, content } => {
                lengths.finish(out);
                out.append(content);
            }
        }
    }
}

/// The values of a batch's column; the caller has compared the type.
fn slice<T: ArrowPrimitiveType>(array: &dyn Array, rows: Range<usize>) -> &[T::Native] {
    &array.as_primitive::<T>().values()[rows]
}
