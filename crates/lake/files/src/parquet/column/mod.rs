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
use arrow_buffer::BooleanBufferBuilder;
use arrow_buffer::bit_iterator::BitSliceIterator;
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::schema::types::ColumnDescPtr;

use super::desk::Desk;
use super::encoding::{PAGE_BYTES, PAGE_ROWS};

mod bits;
mod bounds;
mod delta;
mod dictionary;
mod pages;
mod values;

use dictionary::Dictionary;
use pages::{DataPage, Pages};
use values::Values;
pub(super) use values::is_encoded;

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
    page: PageCounts,
    nulls: u64,
    /// The row group's dictionary, after it was given up.
    full: Option<Dictionary>,
    dictionary_pages: i32,
    pages: Pages,
}

#[derive(Debug, Default)]
struct PageCounts {
    rows: usize,
    nulls: usize,
}

impl Column {
    /// An encoder for a type that [`is_encoded`].
    pub(super) fn new(descriptor: ColumnDescPtr, data_type: DataType, choice: Choice) -> Self {
        let nullable = descriptor.max_def_level() > 0;
        Self {
            levels: nullable.then(|| BooleanBufferBuilder::new(0)),
            values: Values::new(&descriptor, choice),
            descriptor,
            data_type,
            page: PageCounts::default(),
            nulls: 0,
            full: None,
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
            if self.page.rows >= PAGE_ROWS
                || self.values.bytes() >= PAGE_BYTES
                || self.values.is_full()
            {
                self.end_page(desk)?;
            }
        }
        Ok(())
    }

    /// How many of the rows from `from` on the page takes; at least one.
    fn room(&self, array: &dyn Array, from: usize) -> usize {
        let rows = (array.len() - from).min(PAGE_ROWS - self.page.rows);
        let bytes = PAGE_BYTES.saturating_sub(self.values.bytes());
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
                self.values.append(array, rows)?;
                count
            }
            Some(nulls) => {
                let first = nulls.offset() + rows.start;
                let mut valid = 0;
                for (from, to) in BitSliceIterator::new(nulls.validity(), first, count) {
                    self.values.append(array, rows.start + from..rows.start + to)?;
                    valid += to - from;
                }
                valid
            }
        };
        self.page.rows += count;
        self.page.nulls += count - valid;
        Ok(())
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
        let encoding = self.values.end_page(values);
        self.dictionary_pages += i32::from(encoding == Encoding::RLE_DICTIONARY);
        if self.values.is_full() {
            // One that was too large once would be so again: the file has no other in this column.
            self.full = self.values.dictionary().take();
        }
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
        let dictionary = self.full.as_mut().or(self.values.dictionary().as_mut());
        if let Some(dictionary) = dictionary.filter(|_| self.dictionary_pages > 0) {
            let (plain, entries) = (dictionary.plain(), dictionary.len());
            dictionary_bytes = self.pages.dictionary(plain, entries, &mut desk.compressor)?;
            dictionary.clear();
        }
        self.full = None;
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
            .set_statistics(self.values.take_bounds(&self.descriptor, self.nulls))
            .build()
    }

    /// Takes back the bytes of [`close`](Self::close), for their memory.
    pub(super) fn recycle(&mut self, bytes: Bytes) {
        self.pages.recycle(bytes);
    }

    /// Bytes that the row group's part takes so far, about.
    pub(super) fn bytes(&self) -> usize {
        let full = self.full.as_ref().map_or(0, |dictionary| dictionary.plain().len());
        self.pages.bytes.len() + self.values.bytes() + self.values.dictionary_bytes() + full
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let levels = self.levels.as_ref().map_or(0, |levels| levels.capacity() / 8);
        let full = self.full.as_ref().map_or(0, Dictionary::memory);
        levels + self.values.memory() + full + self.pages.bytes.capacity()
    }
}

/// How many rows from `from` on hold so many bytes.
fn rows_of(offsets: &[i32], from: usize, bytes: usize) -> usize {
    let (first, bytes) = (i64::from(offsets[from]), bytes as i64);
    offsets[from + 1..].partition_point(|end| i64::from(*end) - first <= bytes)
}
