//! Arrow batches in, one durable Parquet file out.
//!
//! Rows keep their order, so that a row's place is known when it is written. Memory is bounded by the row group in
//! progress. Deliberately absent: when to begin another file (the caller compares [`FileWriter::bytes`]).
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use lakeward_core::Result;

use super::metrics::ColumnMetrics;
use crate::store::Store;

/// How files are written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// A row group ends at about this many encoded bytes. It is what a writer holds in memory.
    pub row_group_bytes: usize,
    /// Bounds of text and bytes are kept whole instead of shortened to 16.
    pub whole_bounds: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { row_group_bytes: 16 << 20, whole_bounds: false }
    }
}

/// A finished file.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Path in the store.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// One entry per leaf column that has a field id, in the file's order.
    pub columns: Vec<ColumnMetrics>,
    /// Where each row group begins, ascending.
    pub split_offsets: Vec<i64>,
}

/// A Parquet file being written. Dropping it leaves no file.
pub struct FileWriter {}

impl FileWriter {
    /// Opens a file at `path` for rows of `schema` (field ids in the fields' metadata).
    ///
    /// # Errors
    /// Those of [`Store::writer`]; `Unsupported` when a type has no Parquet form.
    pub async fn create(store: &Store, path: String, schema: SchemaRef, options: WriterOptions) -> Result<Self> { todo!() }

    /// Appends rows.
    ///
    /// # Errors
    /// Those of the store. After an error only dropping is left.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> { todo!() }

    /// Rows so far.
    pub fn rows(&self) -> u64 { todo!() }

    /// Bytes so far, the row group in progress included (estimated).
    pub fn bytes(&self) -> u64 { todo!() }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> u64 { todo!() }

    /// Ends the file and makes it durable.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finish(self) -> Result<DataFile> { todo!() }
}
