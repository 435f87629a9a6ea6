//! Batches to the bytes of a Parquet file, row group by row group, in memory.
//!
//! Flat columns of common types are encoded by [`Column`], all others and the footer by the library. Deliberately
//! absent: when a row group ends, and where the bytes go.
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;

use super::column::{Choice, Column, is_encoded};
use super::desk::Desk;
use super::encoding::is_flat;

/// Encodes one file.
pub(super) struct Encoder {
    file: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
    /// One per top-level field.
    fields: Vec<Leaves>,
    desk: Desk,
    /// Rows of the row group in progress.
    rows: usize,
    groups: usize,
}

/// The leaf columns of a top-level field.
enum Leaves {
    Ours(Box<Column>),
    Library(Vec<ArrowColumnWriter>),
}

impl Encoder {
    /// `columns` is the Parquet form of `schema`.
    ///
    /// # Errors
    /// When a type has no Parquet form.
    pub(super) fn new(
        schema: SchemaRef,
        columns: &SchemaDescriptor,
        properties: WriterProperties,
        whole_bounds: bool,
    ) -> Result<Self> {
        let root = columns.root_schema_ptr();
        let file = SerializedFileWriter::new(Vec::new(), root, Arc::new(properties))?;
        let descriptor = file.schema_descr();
        let mut leaf = 0;
        let fields = schema.fields().iter().enumerate().map(|(root, field)| {
            let first = leaf;
            while leaf < descriptor.num_columns() && descriptor.get_column_root_idx(leaf) == root {
                leaf += 1;
            }
            let column = descriptor.column(first);
            let ours = leaf == first + 1
                && is_flat(descriptor, first)
                && is_encoded(field.data_type(), column.physical_type());
            if !ours {
                return Leaves::Library(Vec::new());
            }
            let dictionary = file.properties().dictionary_enabled(column.path());
            let choice = Choice { dictionary, whole_bounds };
            Leaves::Ours(Box::new(Column::new(column, field.data_type().clone(), choice)))
        });
        let fields = fields.collect();
        Ok(Self { fields, desk: Desk::new()?, rows: 0, groups: 0, file, schema })
    }

    /// Appends rows to the row group in progress.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if self.rows == 0 {
            self.begin_group()?;
        }
        self.rows += rows.num_rows();
        let fields = self.schema.fields().iter().zip(rows.columns());
        for ((field, array), leaves) in fields.zip(&mut self.fields) {
            match leaves {
                Leaves::Ours(column) => column.write(array, &mut self.desk)?,
                Leaves::Library(writers) => {
                    for (leaf, writer) in compute_leaves(field, array)?.iter().zip(writers) {
                        writer.write(leaf)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The library's columns are made anew for each row group.
    fn begin_group(&mut self) -> Result<()> {
        if self.fields.iter().all(|leaves| matches!(leaves, Leaves::Ours(_))) {
            return Ok(());
        }
        let factory = ArrowRowGroupWriterFactory::new(&self.file, self.schema.clone());
        let descriptor = self.file.schema_descr();
        let made = factory.create_column_writers(self.groups)?;
        for (leaf, writer) in made.into_iter().enumerate() {
            if let Some(Leaves::Library(writers)) =
                self.fields.get_mut(descriptor.get_column_root_idx(leaf))
            {
                writers.push(writer);
            }
        }
        Ok(())
    }

    /// Ends the row group in progress, if it has rows.
    pub(super) fn end_group(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let expected = self.group_bytes();
        self.file.inner_mut().reserve(expected);
        let mut group = self.file.next_row_group()?;
        for leaves in &mut self.fields {
            match leaves {
                Leaves::Ours(column) => {
                    let (bytes, close) = column.close(&mut self.desk)?;
                    group.append_column(&bytes, close)?;
                    column.recycle(bytes);
                }
                Leaves::Library(writers) => {
                    for writer in std::mem::take(writers) {
                        writer.close()?.append_to_row_group(&mut group)?;
                    }
                }
            }
        }
        group.close()?;
        self.rows = 0;
        self.groups += 1;
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(&mut self) -> Result<ParquetMetaData> {
        self.end_group()?;
        self.file.finish()
    }

    /// Takes the bytes of the file that are complete.
    pub(super) fn take(&mut self) -> Result<Vec<u8>> {
        self.file.flush()?;
        Ok(std::mem::take(self.file.inner_mut()))
    }

    /// Bytes of the row group in progress, about.
    pub(super) fn group_bytes(&self) -> usize {
        let bytes = |leaves: &Leaves| match leaves {
            Leaves::Ours(column) => column.bytes(),
            Leaves::Library(writers) => {
                writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
            }
        };
        self.fields.iter().map(bytes).sum()
    }

    /// Bytes that were encoded and not taken yet, the row group in progress included (about).
    pub(super) fn bytes(&self) -> usize {
        self.file.inner().len() + self.group_bytes()
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let memory = |leaves: &Leaves| match leaves {
            Leaves::Ours(column) => column.memory(),
            Leaves::Library(writers) => writers.iter().map(ArrowColumnWriter::memory_size).sum(),
        };
        let columns: usize = self.fields.iter().map(memory).sum();
        columns + self.desk.memory() + self.file.inner().capacity()
    }
}
