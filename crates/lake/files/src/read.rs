//! Reading rows of data files: chosen columns by field id, chosen rows, deletes applied.
//!
//! A column that a file lacks reads as NULL; a narrower type is widened. Files without any field ids are read by name. Deliberately absent: which files and rows.
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use lakeward_core::{Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use roaring::RoaringBitmap;

use crate::layout::{cast, field_id};
use crate::store::{Store, missing};

/// Rows in one batch read: as many as one batch written.
const ROWS_AT_ONCE: usize = 8 * 1024;

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

/// An open data file: its footer has been read. Cheap to clone.
#[derive(Clone)]
pub struct DataFileReader {
    store: Store,
    path: Arc<str>,
    metadata: ArrowReaderMetadata,
}

impl DataFileReader {
    /// Opens a file.
    ///
    /// # Errors
    /// `Corrupt` when it is missing or is no Parquet file; those of the store.
    pub async fn open(store: &Store, path: &str) -> Result<Self> {
        let size = store.size(path).await?.ok_or_else(|| missing(path))?;
        let mut bytes = Source { store: store.clone(), path: path.into(), metadata: None };
        let footer = ParquetMetaDataReader::new()
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .load_and_finish(&mut bytes, size)
            .await
            .map_err(|e| unreadable(path, e))?;
        // What another writer noted about its Arrow types is not followed: the caller's schema decides.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(Arc::new(footer), options)
            .map_err(|e| unreadable(path, e))?;
        Ok(Self { store: store.clone(), path: path.into(), metadata })
    }

    /// Rows in the file.
    pub fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().unsigned_abs()
    }

    /// The chosen rows in the file's order, with exactly the fields of `schema` (found by field id).
    ///
    /// # Errors
    /// `Corrupt` when a column cannot be read as its type, or a column that may not be NULL is not there.
    pub fn stream(
        &self,
        schema: &SchemaRef,
        rows: &RowChoice,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let fields = self.metadata.parquet_schema().root_schema().get_fields();
        let ids: HashMap<i32, usize> = fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.get_basic_info().has_id())
            .map(|(at, field)| (field.get_basic_info().id(), at))
            .collect();
        // Another writer's file without any ids can be read by name only.
        let by_name = |name: &str| fields.iter().position(|field| field.name() == name);
        let wanted: Vec<Option<usize>> = schema
            .fields()
            .iter()
            .map(|field| match ids.is_empty() {
                true => by_name(field.name()),
                false => field_id(field).and_then(|id| ids.get(&id).copied()),
            })
            .collect();
        let mut roots: Vec<usize> = wanted.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let places = wanted.iter().map(|root| root.and_then(|r| roots.binary_search(&r).ok()));
        let shape =
            Shape { path: self.path.clone(), schema: schema.clone(), places: places.collect() };
        let source = Source {
            store: self.store.clone(),
            path: self.path.clone(),
            metadata: Some(self.metadata.metadata().clone()),
        };
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let mut builder =
            ParquetRecordBatchStreamBuilder::new_with_metadata(source, self.metadata.clone())
                .with_projection(mask)
                .with_batch_size(ROWS_AT_ONCE);
        if let Some(selection) = selection(rows, self.rows()) {
            builder = builder.with_row_selection(selection);
        }
        let batches = builder.build().map_err(|e| unreadable(&self.path, e))?;
        Ok(batches.map(move |batch| shape.fit(batch)).boxed())
    }
}

/// How a file's columns become the caller's.
struct Shape {
    path: Arc<str>,
    schema: SchemaRef,
    /// For each of the caller's columns its place among the columns read.
    places: Vec<Option<usize>>,
}

impl Shape {
    fn fit(&self, batch: Result<RecordBatch, ParquetError>) -> Result<RecordBatch> {
        let batch = batch.map_err(|e| unreadable(&self.path, e))?;
        let columns = self
            .schema
            .fields()
            .iter()
            .zip(&self.places)
            .map(|(field, place)| match place {
                Some(place) => cast(batch.column(*place), field.data_type())
                    .map_err(|_| self.mistyped(field.name())),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|_| self.mistyped("(any)"))
    }

    fn mistyped(&self, column: &str) -> Error {
        Error::new(ErrorKind::Corrupt, "a data file's column does not fit the table")
            .with("path", &self.path)
            .with("column", column)
    }
}

/// `None`: all rows.
fn selection(rows: &RowChoice, total: u64) -> Option<RowSelection> {
    let ranges = match rows {
        RowChoice::All => return None,
        RowChoice::Except(gone) if gone.is_empty() => return None,
        RowChoice::Only(rows) => ranges(rows, total),
        RowChoice::Except(gone) => gaps(&ranges(gone, total), total as usize),
    };
    Some(RowSelection::from_consecutive_ranges(ranges.into_iter(), total as usize))
}

/// A set of rows as ascending ranges.
fn ranges(rows: &RoaringBitmap, total: u64) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows.iter().map(|row| row as usize).take_while(|row| (*row as u64) < total) {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// What lies between ranges.
fn gaps(ranges: &[Range<usize>], total: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|r| r.end));
    let ends = ranges.iter().map(|r| r.start).chain(std::iter::once(total));
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
}

fn unreadable(path: &str, error: ParquetError) -> Error {
    let kind = match &error {
        // The store's own errors travel through the Parquet reader.
        ParquetError::External(cause) => {
            cause.downcast_ref::<Error>().map_or(ErrorKind::Corrupt, Error::kind)
        }
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, "a data file could not be read").with("path", path).caused_by(error)
}

/// A store's object as the Parquet reader wants it.
struct Source {
    store: Store,
    path: Arc<str>,
    metadata: Option<Arc<ParquetMetaData>>,
}

impl Source {
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let parts = self.store.get_ranges(&self.path, ranges).await;
        parts.map_err(|e| ParquetError::External(Box::new(e)))
    }
}

impl AsyncFileReader for Source {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let parts = self.read(std::slice::from_ref(&range)).await?;
            parts.into_iter().next().ok_or_else(|| ParquetError::EOF("no bytes".to_owned()))
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = self.metadata.clone();
        async move { metadata.ok_or_else(|| ParquetError::General("no footer".to_owned())) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_ranges_leave() {
        let gone: RoaringBitmap = [0, 1, 4, 9].into_iter().collect();
        assert_eq!(ranges(&gone, 10), [0..2, 4..5, 9..10]);
        assert_eq!(gaps(&ranges(&gone, 10), 10), [2..4, 5..9]);
        assert_eq!(gaps(&[], 3), vec![0..3; 1]);
        assert_eq!(ranges(&gone, 4), vec![0..2; 1]);
    }
}
