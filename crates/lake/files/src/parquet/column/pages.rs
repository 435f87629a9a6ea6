//! The pages of one column in one row group: compressed, with their headers, ready for the file.
//!
//! Deliberately absent: what the pages hold.
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::errors::{ParquetError, Result};
use parquet::file::page_index::offset_index::PageLocation;

use super::bits::{varint, zigzag};
use crate::parquet::desk::Compressor;

/// Values shrink by less than one part in so many: they are written as they are, for readers to save the time.
const SHRINK_MIN: usize = 16;
/// So many pages are not tried after one that did not shrink.
const PAGES_UNTRIED: u32 = 7;

/// One data page's content.
pub(super) struct DataPage<'a> {
    pub(super) rows: usize,
    pub(super) nulls: usize,
    pub(super) encoding: Encoding,
    pub(super) levels: &'a [u8],
    pub(super) values: &'a [u8],
}

/// Pages of one column chunk. Offsets count from its begin.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) bytes: Vec<u8>,
    pub(super) uncompressed_bytes: u64,
    pub(super) rows: u64,
    pub(super) locations: Vec<PageLocation>,
    untried: u32,
}

impl Pages {
    /// Appends a data page.
    pub(super) fn data(&mut self, page: &DataPage<'_>, compressor: &mut Compressor) -> Result<()> {
        let begin = self.bytes.len();
        let compressed = self.shrink(page.values, compressor)?;
        let values = compressed.unwrap_or(page.values);
        let sizes = (page.levels.len() + page.values.len(), page.levels.len() + values.len());
        let header = DataHeader {
            rows: page.rows,
            nulls: page.nulls,
            encoding: page.encoding,
            levels: page.levels.len(),
            is_compressed: compressed.is_some(),
        };
        let bytes = &mut self.bytes;
        page_header(PageKind::Data(header), sizes, bytes)?;
        self.uncompressed_bytes += (bytes.len() - begin + sizes.0) as u64;
        bytes.extend_from_slice(page.levels);
        bytes.extend_from_slice(values);
        self.locations.push(PageLocation {
            offset: begin as i64,
            compressed_page_size: size(bytes.len() - begin)?,
            first_row_index: self.rows as i64,
        });
        self.rows += page.rows as u64;
        Ok(())
    }

    /// The values compressed, when that is worth it.
    fn shrink<'a>(
        &mut self,
        values: &[u8],
        compressor: &'a mut Compressor,
    ) -> Result<Option<&'a [u8]>> {
        if self.untried > 0 || values.is_empty() {
            self.untried = self.untried.saturating_sub(1);
            return Ok(None);
        }
        let compressed = compressor.compress(values)?;
        if compressed.len() + values.len() / SHRINK_MIN < values.len() {
            return Ok(Some(compressed));
        }
        self.untried = PAGES_UNTRIED;
        Ok(None)
    }

    /// Puts the dictionary in front; answers its size.
    pub(super) fn dictionary(
        &mut self,
        plain: &[u8],
        entries: usize,
        compressor: &mut Compressor,
    ) -> Result<usize> {
        let compressed = compressor.compress(plain)?;
        let mut page = Vec::with_capacity(compressed.len() + self.bytes.len() + HEADER_MAX);
        page_header(PageKind::Dictionary { entries }, (plain.len(), compressed.len()), &mut page)?;
        self.uncompressed_bytes += (page.len() + plain.len()) as u64;
        page.extend_from_slice(compressed);
        let size = page.len();
        page.append(&mut self.bytes);
        self.bytes = page;
        for location in &mut self.locations {
            location.offset += size as i64;
        }
        Ok(size)
    }

    /// The chunk's bytes; give them back by [`recycle`](Self::recycle).
    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.bytes))
    }

    /// Empties the chunk and keeps its memory.
    pub(super) fn recycle(&mut self, bytes: Bytes) {
        *self = Self { bytes: Vec::from(bytes), ..Self::default() };
        self.bytes.clear();
    }
}

struct DataHeader {
    rows: usize,
    nulls: usize,
    encoding: Encoding,
    levels: usize,
    is_compressed: bool,
}

enum PageKind {
    Dictionary { entries: usize },
    Data(DataHeader),
}

/// More than any header takes.
const HEADER_MAX: usize = 64;

/// Field types of Thrift's compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I32: u8 = 5;
const STRUCT: u8 = 12;
const STOP: u8 = 0;

/// Appends a page header: the `PageHeader` of the format's Thrift file, in the compact protocol.
fn page_header(kind: PageKind, sizes: (usize, usize), out: &mut Vec<u8>) -> Result<()> {
    let (uncompressed, compressed) = (size(sizes.0)?, size(sizes.1)?);
    // Each field's first byte: how many numbers it is behind the one before, and its type.
    let i32_field = |skip: u8, value: i32, out: &mut Vec<u8>| {
        out.push(skip << 4 | I32);
        varint(zigzag(i64::from(value)), out);
    };
    let page_type = match kind {
        PageKind::Dictionary { .. } => 2,
        PageKind::Data(_) => 3,
    };
    i32_field(1, page_type, out);
    i32_field(1, uncompressed, out);
    i32_field(1, compressed, out);
    match kind {
        PageKind::Dictionary { entries } => {
            out.push(4 << 4 | STRUCT);
            i32_field(1, size(entries)?, out);
            i32_field(1, Encoding::PLAIN as i32, out);
        }
        PageKind::Data(header) => {
            out.push(5 << 4 | STRUCT);
            i32_field(1, size(header.rows)?, out);
            i32_field(1, size(header.nulls)?, out);
            i32_field(1, size(header.rows)?, out);
            i32_field(1, header.encoding as i32, out);
            i32_field(1, size(header.levels)?, out);
            i32_field(1, 0, out);
            out.push(1 << 4 | if header.is_compressed { TRUE } else { FALSE });
        }
    }
    out.extend([STOP, STOP]);
    Ok(())
}

fn size(bytes: usize) -> Result<i32> {
    i32::try_from(bytes).map_err(|_| ParquetError::General("a page is too large".to_owned()))
}
