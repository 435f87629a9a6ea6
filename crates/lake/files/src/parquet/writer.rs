//! Arrow batches in, one durable Parquet file out.
//!
//! Rows keep their order, so that a row's place is known when it is written. Memory is bounded by the row group in
//! progress. Deliberately absent: when to begin another file (the caller compares [`FileWriter::bytes`]).
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use lakeward_core::{Error, ErrorKind, Result};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use super::encoder::Encoder;
use super::encoding::{parquet_schema, properties};
use super::metrics::{self, ColumnMetrics};
use crate::layout::{rows_within, slice_bytes};
use crate::store::{ObjectWriter, Store};

/// Rows looked at before encodings are chosen.
const SAMPLE_ROWS: usize = 4096;
/// Wide rows do not wait for that many.
const SAMPLE_BYTES: u64 = 1 << 20;
/// Bytes encoded at once: the sizes of page and row group are checked in between only.
const BYTES_AT_ONCE: u64 = 4 << 20;

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
pub struct FileWriter {
    path: String,
    schema: SchemaRef,
    columns: SchemaDescriptor,
    options: WriterOptions,
    object: ObjectWriter,
    state: State,
    rows: u64,
    nans: Vec<Option<u64>>,
}

enum State {
    /// Still looking at the first rows.
    Sampling(Vec<RecordBatch>),
    Writing(Box<Encoder>),
}

impl FileWriter {
    /// Opens a file at `path` for rows of `schema` (field ids in the fields' metadata).
    ///
    /// # Errors
    /// Those of [`Store::writer`]; `Unsupported` when a type has no Parquet form.
    pub async fn create(
        store: &Store,
        path: String,
        schema: SchemaRef,
        options: WriterOptions,
    ) -> Result<Self> {
        Ok(Self {
            columns: parquet_schema(&schema)?,
            object: store.writer(&path).await?,
            state: State::Sampling(Vec::new()),
            nans: vec![None; schema.fields().len()],
            rows: 0,
            path,
            schema,
            options,
        })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// Those of the store. After an error only dropping is left.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        for (sum, column) in self.nans.iter_mut().zip(rows.columns()) {
            *sum = metrics::nans(column).map(|n| n + sum.unwrap_or(0));
        }
        match &mut self.state {
            State::Sampling(sample) => {
                sample.push(rows.clone());
                let enough = self.rows >= SAMPLE_ROWS as u64
                    || sample.iter().map(slice_bytes).sum::<u64>() >= SAMPLE_BYTES;
                if enough { self.start().await } else { Ok(()) }
            }
            State::Writing(_) => self.encode(rows).await,
        }
    }

    /// Chooses the encodings and writes the rows held back until now.
    async fn start(&mut self) -> Result<()> {
        let State::Sampling(sample) = &mut self.state else { return Ok(()) };
        let sample = std::mem::take(sample);
        let head: Vec<_> =
            sample.iter().map(|b| b.slice(0, b.num_rows().min(SAMPLE_ROWS))).collect();
        let properties = properties(&self.columns, &head, self.options.whole_bounds);
        let (schema, whole_bounds) = (self.schema.clone(), self.options.whole_bounds);
        let encoder = Encoder::new(schema, &self.columns, properties, whole_bounds)
            .map_err(|e| failed(&self.path, e))?;
        self.state = State::Writing(Box::new(encoder));
        for rows in &sample {
            self.encode(rows).await?;
        }
        Ok(())
    }

    async fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        let at_once = rows_within(rows, BYTES_AT_ONCE);
        if at_once >= rows.num_rows() {
            return self.encode_part(rows).await;
        }
        for from in (0..rows.num_rows()).step_by(at_once) {
            self.encode_part(&rows.slice(from, at_once.min(rows.num_rows() - from))).await?;
        }
        Ok(())
    }

    async fn encode_part(&mut self, rows: &RecordBatch) -> Result<()> {
        let State::Writing(encoder) = &mut self.state else { return Ok(()) };
        encoder.write(rows).map_err(|e| failed(&self.path, e))?;
        if encoder.group_bytes() >= self.options.row_group_bytes {
            encoder.end_group().map_err(|e| failed(&self.path, e))?;
            drain(encoder, &mut self.object, &self.path).await?;
        }
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes so far, the row group in progress included (estimated).
    pub fn bytes(&self) -> u64 {
        match &self.state {
            State::Sampling(_) => self.memory_bytes(),
            State::Writing(encoder) => self.object.bytes() + encoder.bytes() as u64,
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> u64 {
        match &self.state {
            State::Sampling(sample) => sample.iter().map(slice_bytes).sum(),
            State::Writing(encoder) => encoder.memory() as u64,
        }
    }

    /// Ends the file and makes it durable.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finish(mut self) -> Result<DataFile> {
        self.start().await?;
        let State::Writing(mut encoder) = self.state else {
            return Err(Error::new(ErrorKind::Bug, "a file was ended before it was begun"));
        };
        let metadata = encoder.finish().map_err(|e| failed(&self.path, e))?;
        drain(&mut encoder, &mut self.object, &self.path).await?;
        let bytes = self.object.finish().await?;
        let columns =
            metrics::fold(&metadata, &self.columns, &self.nans, self.options.whole_bounds);
        let split_offsets = split_offsets(&metadata);
        Ok(DataFile { path: self.path, rows: self.rows, bytes, columns, split_offsets })
    }
}

/// Moves what is encoded to the object.
async fn drain(encoder: &mut Encoder, object: &mut ObjectWriter, path: &str) -> Result<()> {
    let encoded = encoder.take().map_err(|e| failed(path, e))?;
    if encoded.is_empty() { Ok(()) } else { object.write(Bytes::from(encoded)).await }
}

fn split_offsets(metadata: &ParquetMetaData) -> Vec<i64> {
    let first = |group: &parquet::file::metadata::RowGroupMetaData| {
        let column = group.columns().first()?;
        Some(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
    };
    metadata.row_groups().iter().filter_map(first).collect()
}

fn failed(path: &str, error: ParquetError) -> Error {
    // The encoder works in memory: it fails on rows that do not fit the schema, and on nothing else.
    Error::new(ErrorKind::Bug, "rows could not be encoded").with("path", path).caused_by(error)
}
