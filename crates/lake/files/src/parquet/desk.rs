//! What the columns of a file use in turn: room for a page, and one compression context.
//!
//! Deliberately absent: whether compressing is worth it.
use parquet::errors::Result;

const ZSTD_LEVEL: i32 = 1;

/// Room for the page being put together.
pub(super) struct Desk {
    pub(super) compressor: Compressor,
    pub(super) levels: Vec<u8>,
    pub(super) values: Vec<u8>,
}

/// Compresses pages, one after the other.
pub(super) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
}

impl Desk {
    /// # Errors
    /// When the compression library has no memory.
    pub(super) fn new() -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        let compressor = Compressor { zstd, compressed: Vec::new() };
        Ok(Self { compressor, levels: Vec::new(), values: Vec::new() })
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.compressor.compressed.capacity() + self.levels.capacity() + self.values.capacity()
    }
}

impl Compressor {
    /// `content` compressed.
    pub(super) fn compress(&mut self, content: &[u8]) -> Result<&[u8]> {
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(content.len()));
        self.zstd.compress_to_buffer(content, &mut self.compressed)?;
        Ok(&self.compressed)
    }
}
