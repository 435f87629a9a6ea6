//! Reading rows of data files: chosen columns by field id, chosen rows, deletes applied.
//!
//! A column that a file lacks reads as NULL; a narrower type is widened.
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use lakeward_core::Result;
use roaring::RoaringBitmap;

use crate::store::Store;

/// Which rows of a file to read.
#[derive(Debug, Clone)]
pub enum RowChoice {
    /// All.
    All,
    /// All but these.
    Except(RoaringBitmap),
    /// Only these.
    Only(RoaringBitmap),
}

/// An open data file: its footer has been read.
#[derive(Clone)]
pub struct DataFileReader { path: Arc<str> }

impl DataFileReader {
    /// Opens a file.
    ///
    /// # Errors
    /// `Corrupt` when it is missing or is no Parquet file; those of the store.
    pub async fn open(store: &Store, path: &str) -> Result<Self> { todo!() }

    /// Rows in the file.
    pub fn rows(&self) -> u64 { todo!() }

    /// The chosen rows in the file's order, with exactly the fields of `schema` (found by field id).
    ///
    /// # Errors
    /// `Corrupt` when a column cannot be read as its type.
    pub fn stream(&self, schema: &SchemaRef, rows: &RowChoice) -> Result<BoxStream<'static, Result<RecordBatch>>> { todo!() }
}
