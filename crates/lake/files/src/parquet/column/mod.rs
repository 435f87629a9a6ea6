//! Encodes one flat column, batch after batch, into the pages of a row group; one encoder serves all of a file's.
//!
//! ```text
//! Arrow array ─▶ levels (NULL or not) ─────────────────────────┐
//!            └▶ values: delta · lengths + content · plain bits ├▶ page ─▶ zstd ─▶ pages ─▶ column chunk
//!                       or numbers of a dictionary ────────────┘
//! ```
//! Its buffers are kept from page to page and from row group to row group, so that rows cost no allocation. Values are
//! taken from a batch's buffers as they lie there. Deliberately absent: nested columns and rare types, which the
//! library encodes.
use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_buffer::bit_chunk_iterator::UnalignedBitChunk;
use arrow_buffer::bit_iterator::BitSliceIterator;
use arrow_buffer::{ArrowNativeType, BooleanBufferBuilder, ToByteSlice};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::desk::Desk;

mod bits;
mod bounds;
mod delta;
mod dictionary;
mod pages;

use bounds::Bounds;
use delta::Delta;
use dictionary::Dictionary;
use pages::{DataPage, Pages};

/// A page ends at so many rows: delta encodings restart with each, and a reader that wants one row reads them all.
const PAGE_ROWS: usize = 64 * 1024;
/// A page ends at so many bytes of values.
const PAGE_BYTES: usize = 1 << 20;

/// How a column is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// Repeated values are written once.
    pub(super) dictionary: bool,
    /// Bounds of text and bytes are kept whole.
    pub(super) whole_bounds: bool,
}

/// Encodes one column.
pub(super) struct Column {
    descriptor: ColumnDescPtr,
    data_type: DataType,
    /// `None`: no value may be NULL.
    levels: Option<BooleanBufferBuilder>,
    values: Values,
    dictionary: Option<Dictionary>,
    /// Pages now hold numbers of the dictionary.
    in_dictionary: bool,
    bounds: Bounds,
    page: PageCounts,
    nulls: u64,
    dictionary_pages: i32,
    pages: Pages,
}

#[derive(Debug, Default)]
struct PageCounts {
    rows: usize,
    nulls: usize,
}

/// Values of the page in progress.
enum Values {
    Bits(BooleanBufferBuilder),
    Integers(Box<Delta>),
    Plain(Vec<u8>),
    Texts { lengths: Box<Delta>, content: Vec<u8> },
}

/// Whether [`Column`] encodes this type; flat columns only.
pub(super) fn is_encoded(data_type: &DataType, physical: Physical) -> bool {
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

impl Column {
    /// An encoder for a type that [`is_encoded`].
    pub(super) fn new(descriptor: ColumnDescPtr, data_type: DataType, choice: Choice) -> Self {
        let (values, width) = match descriptor.physical_type() {
            Physical::BOOLEAN => (Values::Bits(BooleanBufferBuilder::new(0)), None),
            Physical::INT32 => (Values::Integers(Box::new(Delta::new(true))), Some(4)),
            Physical::FLOAT => (Values::Plain(Vec::new()), Some(4)),
            Physical::DOUBLE => (Values::Plain(Vec::new()), Some(8)),
            Physical::FIXED_LEN_BYTE_ARRAY => {
                (Values::Plain(Vec::new()), usize::try_from(descriptor.type_length()).ok())
            }
            Physical::BYTE_ARRAY => {
                let lengths = Box::new(Delta::new(true));
                (Values::Texts { lengths, content: Vec::new() }, None)
            }
            _ => (Values::Integers(Box::new(Delta::new(false))), Some(8)),
        };
        let nullable = descriptor.max_def_level() > 0;
        Self {
            bounds: Bounds::new(&descriptor, choice.whole_bounds),
            levels: nullable.then(|| BooleanBufferBuilder::new(0)),
            dictionary: choice.dictionary.then(|| Dictionary::new(width)),
            in_dictionary: choice.dictionary,
            descriptor,
            data_type,
            values,
            page: PageCounts::default(),
            nulls: 0,
            dictionary_pages: 0,
            pages: Pages::default(),
        }
    }

    /// Appends the column's part of a batch.
    ///
    /// # Errors
    /// When the array is not what the schema says.
    pub(super) fn write(&mut self, array: &dyn Array, desk: &mut Desk) -> Result<()> {
        if *array.data_type() != self.data_type {
            return Err(ParquetError::General("a column is not of its type".to_owned()));
        }
        let mut from = 0;
        while from < array.len() {
            let to = from + self.room(array, from);
            self.append(array, from..to)?;
            from = to;
            if self.page_is_full() {
                self.end_page(desk)?;
            }
        }
        Ok(())
    }

    /// How many of the rows from `from` on the page takes; at least one.
    fn room(&self, array: &dyn Array, from: usize) -> usize {
        let rows = (array.len() - from).min(PAGE_ROWS - self.page.rows);
        let bytes = PAGE_BYTES.saturating_sub(self.page_bytes());
        let within = match &self.data_type {
            DataType::Utf8 => rows_of(array.as_string::<i32>().value_offsets(), from, bytes),
            DataType::Binary => rows_of(array.as_binary::<i32>().value_offsets(), from, bytes),
            _ => rows,
        };
        rows.min(within).max(1)
    }

    fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> Result<()> {
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        let count = rows.len();
        if let Some(levels) = &mut self.levels {
            match nulls {
                Some(nulls) => {
                    let bits = nulls.offset() + rows.start..nulls.offset() + rows.end;
                    levels.append_packed_range(bits, nulls.validity());
                }
                None => levels.append_n(count, true),
            }
        } else if nulls.is_some() {
            return Err(ParquetError::General("a required column holds NULL".to_owned()));
        }
        let valid = match nulls {
            None => {
                self.values(array, rows)?;
                count
            }
            Some(nulls) => {
                let first = nulls.offset() + rows.start;
                let mut valid = 0;
                for (from, to) in BitSliceIterator::new(nulls.validity(), first, count) {
                    self.values(array, rows.start + from..rows.start + to)?;
                    valid += to - from;
                }
                valid
            }
        };
        self.page.rows += count;
        self.page.nulls += count - valid;
        Ok(())
    }

    /// Appends values of rows that are not NULL.
    fn values(&mut self, array: &dyn Array, rows: Range<usize>) -> Result<()> {
        match &self.data_type {
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
                match self.descriptor.physical_type() {
                    Physical::FIXED_LEN_BYTE_ARRAY => self.decimals(decimals),
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
        let Values::Bits(bits) = &mut self.values else { return };
        let (values, count) = (array.as_boolean().values(), rows.len());
        let from = values.offset() + rows.start;
        let yes = UnalignedBitChunk::new(values.values(), from, count).count_ones();
        self.bounds.booleans(yes < count, yes > 0);
        bits.append_packed_range(from..from + count, values.values());
    }

    fn integers(&mut self, values: impl ExactSizeIterator<Item = i64>) {
        match (&mut self.values, self.dictionary.as_mut().filter(|_| self.in_dictionary)) {
            (_, Some(dictionary)) => {
                let width = if self.descriptor.physical_type() == Physical::INT32 { 4 } else { 8 };
                for value in values {
                    if dictionary.push(&value.to_le_bytes()[..width]) {
                        self.bounds.numbers(value, value);
                    }
                }
            }
            (Values::Integers(delta), None) => delta.extend(values),
            _ => {}
        }
    }

    fn floats<T: ArrowNativeType>(&mut self, values: &[T], number: impl Fn(T) -> f64) {
        match (&mut self.values, self.dictionary.as_mut().filter(|_| self.in_dictionary)) {
            (_, Some(dictionary)) => {
                for value in values {
                    if dictionary.push(std::slice::from_ref(value).to_byte_slice()) {
                        self.bounds.floats(std::iter::once(number(*value)));
                    }
                }
            }
            (Values::Plain(plain), None) => {
                plain.extend_from_slice(values.to_byte_slice());
                self.bounds.floats(values.iter().map(|value| number(*value)));
            }
            _ => {}
        }
    }

    fn decimals(&mut self, values: &[i128]) {
        let length = usize::try_from(self.descriptor.type_length()).unwrap_or(16).min(16);
        for value in values {
            self.fixed(&value.to_be_bytes()[16 - length..]);
        }
    }

    fn fixed(&mut self, value: &[u8]) {
        match (&mut self.values, self.dictionary.as_mut().filter(|_| self.in_dictionary)) {
            (_, Some(dictionary)) => {
                if dictionary.push(value) {
                    self.bounds.plain(value);
                }
            }
            (Values::Plain(plain), None) => {
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
        match (&mut self.values, self.dictionary.as_mut().filter(|_| self.in_dictionary)) {
            (_, Some(dictionary)) => {
                for value in each {
                    if dictionary.push(&content[value.clone()]) {
                        self.bounds.bytes(&content[value]);
                    }
                }
            }
            (Values::Texts { lengths, content: all }, None) => {
                lengths.extend(each.clone().map(|value| value.len() as i64));
                if let [first, .., last] = offsets {
                    all.extend_from_slice(&content[*first as usize..*last as usize]);
                }
                each.for_each(|value| self.bounds.bytes(&content[value]));
            }
            _ => {}
        }
    }

    fn page_is_full(&self) -> bool {
        let is_full = |dictionary: &Dictionary| self.in_dictionary && dictionary.is_full();
        self.page.rows >= PAGE_ROWS
            || self.page_bytes() >= PAGE_BYTES
            || self.dictionary.as_ref().is_some_and(is_full)
    }

    fn page_bytes(&self) -> usize {
        self.values.bytes() + self.dictionary.as_ref().map_or(0, Dictionary::page_bytes)
    }

    fn end_page(&mut self, desk: &mut Desk) -> Result<()> {
        if self.page.rows == 0 {
            return Ok(());
        }
        let Desk { compressor, levels, values } = desk;
        levels.clear();
        values.clear();
        if let Some(bits) = &mut self.levels {
            bits::levels(bits.as_slice(), bits.len(), levels);
            bits.truncate(0);
        }
        let encoding = match self.dictionary.as_mut().filter(|_| self.in_dictionary) {
            Some(dictionary) => {
                dictionary.end_page(values);
                self.dictionary_pages += 1;
                self.in_dictionary = !dictionary.is_full();
                Encoding::RLE_DICTIONARY
            }
            None => {
                self.values.end_page(values, &mut self.bounds);
                self.values.encoding()
            }
        };
        let page = std::mem::take(&mut self.page);
        self.nulls += page.nulls as u64;
        let (rows, nulls) = (page.rows, page.nulls);
        self.pages.data(&DataPage { rows, nulls, encoding, levels, values }, compressor)
    }

    /// Ends the row group: the column chunk's bytes and what the footer says of them, offsets from its begin. The bytes
    /// must come back by [`recycle`](Self::recycle).
    ///
    /// # Errors
    /// When a page is beyond the format's limits.
    pub(super) fn close(&mut self, desk: &mut Desk) -> Result<(Bytes, ColumnCloseResult)> {
        self.end_page(desk)?;
        let mut dictionary_bytes = 0;
        if let Some(dictionary) = self.dictionary.as_mut().filter(|_| self.dictionary_pages > 0) {
            dictionary_bytes = self.pages.dictionary(
                dictionary.plain(),
                dictionary.len(),
                &mut desk.compressor,
            )?;
            dictionary.clear();
        }
        // One that was too large once would be so again.
        if !self.in_dictionary {
            self.dictionary = None;
        }
        let metadata = self.metadata(dictionary_bytes)?;
        let result = ColumnCloseResult {
            bytes_written: self.pages.bytes.len() as u64,
            rows_written: self.pages.rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(OffsetIndexMetaData {
                page_locations: std::mem::take(&mut self.pages.locations),
                unencoded_byte_array_data_bytes: None,
            }),
        };
        (self.nulls, self.dictionary_pages) = (0, 0);
        Ok((self.pages.take(), result))
    }

    fn metadata(&mut self, dictionary_bytes: usize) -> Result<ColumnChunkMetaData> {
        let direct_pages = self.pages.locations.len() as i32 - self.dictionary_pages;
        let used = [
            (PageType::DICTIONARY_PAGE, Encoding::PLAIN, self.dictionary_pages.min(1)),
            (PageType::DATA_PAGE_V2, Encoding::RLE_DICTIONARY, self.dictionary_pages),
            (PageType::DATA_PAGE_V2, self.values.encoding(), direct_pages),
        ];
        let used = used.into_iter().filter(|(_, _, count)| *count > 0);
        let of_pages: Vec<_> = used
            .map(|(page_type, encoding, count)| PageEncodingStats { page_type, encoding, count })
            .collect();
        // Levels are runs.
        let levels = [Encoding::RLE];
        let encodings = of_pages.iter().map(|page| &page.encoding).chain(&levels);
        ColumnChunkMetaData::builder(self.descriptor.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings))
            .set_page_encoding_stats(of_pages.clone())
            .set_total_compressed_size(self.pages.bytes.len() as i64)
            .set_total_uncompressed_size(self.pages.uncompressed_bytes as i64)
            .set_num_values(self.pages.rows as i64)
            .set_data_page_offset(dictionary_bytes as i64)
            .set_dictionary_page_offset((dictionary_bytes > 0).then_some(0))
            .set_statistics(self.bounds.take(&self.descriptor, self.nulls))
            .build()
    }

    /// Takes back the bytes of [`close`](Self::close), for their memory.
    pub(super) fn recycle(&mut self, bytes: Bytes) {
        self.pages.recycle(bytes);
    }

    /// Bytes that the row group's part takes so far, about.
    pub(super) fn bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |d| d.plain().len());
        self.pages.bytes.len() + self.page_bytes() + dictionary
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let levels = self.levels.as_ref().map_or(0, |levels| levels.capacity() / 8);
        let dictionary = self.dictionary.as_ref().map_or(0, Dictionary::memory);
        levels + self.values.memory() + dictionary + self.pages.bytes.capacity()
    }
}

impl Values {
    fn encoding(&self) -> Encoding {
        match self {
            Self::Bits(_) | Self::Plain(_) => Encoding::PLAIN,
            Self::Integers(_) => Encoding::DELTA_BINARY_PACKED,
            Self::Texts { .. } => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        }
    }

    /// Moves the page's values to `out`, in their encoding.
    fn end_page(&mut self, out: &mut Vec<u8>, bounds: &mut Bounds) {
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

    fn bytes(&self) -> usize {
        match self {
            Self::Bits(bits) => bits.len() / 8,
            Self::Integers(delta) => delta.bytes(),
            Self::Plain(plain) => plain.len(),
            Self::Texts { lengths, content } => lengths.bytes() + content.len(),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Bits(bits) => bits.capacity() / 8,
            Self::Integers(delta) => delta.memory(),
            Self::Plain(plain) => plain.capacity(),
            Self::Texts { lengths, content } => lengths.memory() + content.capacity(),
        }
    }
}

/// The values of a batch's column; the caller has compared the type.
fn slice<T: ArrowPrimitiveType>(array: &dyn Array, rows: Range<usize>) -> &[T::Native] {
    &array.as_primitive::<T>().values()[rows]
}

/// How many rows from `from` on hold so many bytes.
fn rows_of(offsets: &[i32], from: usize, bytes: usize) -> usize {
    let (first, bytes) = (i64::from(offsets[from]), bytes as i64);
    offsets[from + 1..].partition_point(|end| i64::from(*end) - first <= bytes)
}
