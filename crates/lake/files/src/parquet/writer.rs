//! Arrow batches in, one durable Parquet file out.
//!
//! Rows keep their order, so that a row's place is known when it is written. Memory is bounded by the row group in
//! progress. Deliberately absent: when to begin another file (the caller compares [`FileWriter::bytes`]).
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use lakeward_core::{Error, ErrorKind, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

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
    encoder: Encoder,
    rows: u64,
    nans: Vec<Option<u64>>,
}

enum Encoder {
    /// Still looking at the first rows.
    Sampling(Vec<RecordBatch>),
    Writing(Box<ArrowWriter<Vec<u8>>>),
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
            encoder: Encoder::Sampling(Vec::new()),
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
        match &mut self.encoder {
            Encoder::Sampling(sample) => {
                sample.push(rows.clone());
                let enough = self.rows >= SAMPLE_ROWS as u64
                    || sample.iter().map(slice_bytes).sum::<u64>() >= SAMPLE_BYTES;
                if enough { self.start().await } else { Ok(()) }
            }
            Encoder::Writing(_) => self.encode(rows).await,
        }
    }

    /// Chooses the encodings and writes the rows held back until now.
    async fn start(&mut self) -> Result<()> {
        let Encoder::Sampling(sample) = &mut self.encoder else { return Ok(()) };
        let sample = std::mem::take(sample);
        let head: Vec<_> =
            sample.iter().map(|b| b.slice(0, b.num_rows().min(SAMPLE_ROWS))).collect();
        let properties = properties(&self.columns, &head, self.options.whole_bounds);
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(self.columns.clone());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), self.schema.clone(), options)
            .map_err(|e| failed(&self.path, e))?;
        self.encoder = Encoder::Writing(Box::new(writer));
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
        let Encoder::Writing(writer) = &mut self.encoder else { return Ok(()) };
        writer.write(rows).map_err(|e| failed(&self.path, e))?;
        if writer.in_progress_size() >= self.options.row_group_bytes {
            writer.flush().map_err(|e| failed(&self.path, e))?;
            drain(writer, &mut self.object, &self.path).await?;
        }
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes so far, the row group in progress included (estimated).
    pub fn bytes(&self) -> u64 {
        match &self.encoder {
            Encoder::Sampling(_) => self.memory_bytes(),
            Encoder::Writing(writer) => {
                self.object.bytes() + (writer.inner().len() + writer.in_progress_size()) as u64
            }
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> u64 {
        match &self.encoder {
            Encoder::Sampling(sample) => sample.iter().map(slice_bytes).sum(),
            Encoder::Writing(writer) => (writer.memory_size() + writer.inner().capacity()) as u64,
        }
    }

    /// Ends the file and makes it durable.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finish(mut self) -> Result<DataFile> {
        self.start().await?;
        let Encoder::Writing(mut writer) = self.encoder else {
            return Err(Error::new(ErrorKind::Bug, "a file was ended before it was begun"));
        };
        let metadata = writer.finish().map_err(|e| failed(&self.path, e))?;
        drain(&mut writer, &mut self.object, &self.path).await?;
        let bytes = self.object.finish().await?;
        let columns =
            metrics::fold(&metadata, &self.columns, &self.nans, self.options.whole_bounds);
        let split_offsets = split_offsets(&metadata);
        Ok(DataFile { path: self.path, rows: self.rows, bytes, columns, split_offsets })
    }
}

/// Moves what is encoded to the object.
async fn drain(
    writer: &mut ArrowWriter<Vec<u8>>,
    object: &mut ObjectWriter,
    path: &str,
) -> Result<()> {
    writer.sync().map_err(|e| failed(path, e.into()))?;
    let encoded = std::mem::take(writer.inner_mut());
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
