//! Rows of a query as Arrow batches.
use std::sync::Arc;

use arrow_array::RecordBatch;
use lakeward_core::{Error, ErrorKind, Result, TableSchema};

use crate::types::{self, BadValue, ColumnBuilder, Kind, Unrepresentable};
use crate::wire::binary::BinaryRow;

/// A batch is handed on at this many rows or bytes. Larger holds more memory at a time; smaller costs more calls.
const BATCH_ROWS: usize = 16_384;
const BATCH_BYTES: usize = 2 << 20;

/// Rows that are gathered.
pub(crate) struct Rows {
    schema: Arc<TableSchema>,
    kinds: Vec<Kind>,
    builders: Vec<ColumnBuilder>,
    len: usize,
    bytes: usize,
    nulled: u64,
}

impl Rows {
    /// For the columns of `schema`, in their order.
    ///
    /// # Errors
    /// `Bug` for a schema of another source.
    pub(crate) fn new(schema: Arc<TableSchema>, policy: Unrepresentable) -> Result<Self> {
        let builders = types::builders(&schema, policy)?;
        let kinds = schema.columns.iter().filter_map(|c| Kind::of_declared(&c.declared)).collect();
        Ok(Self { schema, kinds, builders, len: 0, bytes: 0, nulled: 0 })
    }

    /// The schema of the rows.
    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Takes a row in.
    ///
    /// # Errors
    /// `BadData` naming table and column.
    pub(crate) fn push(&mut self, row: &BinaryRow<'_>) -> Result<()> {
        let Self { schema, kinds, builders, .. } = self;
        let builders = &mut builders[..];
        row.each(kinds, |at, value| match builders.get_mut(at) {
            Some(builder) => builder.push(value).map_err(|bad| in_column(schema, at, bad)),
            None => Ok(()),
        })?;
        self.bytes += row.bytes();
        self.len += 1;
        Ok(())
    }

    /// Whether it is time to take them out.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The rows so far; `None` when there are none.
    ///
    /// # Errors
    /// `Bug` when columns contradict each other.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.len == 0 {
            return Ok(None);
        }
        (self.len, self.bytes) = (0, 0);
        self.nulled += self.builders.iter_mut().map(ColumnBuilder::take_nulled).sum::<u64>();
        let arrays =
            self.builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(self.schema.arrow(), arrays).map_err(|error| {
            Error::new(ErrorKind::Bug, "a chunk's columns contradict its schema")
                .with("table", &self.schema.table)
                .caused_by(error)
        })?;
        Ok(Some(batch))
    }

    /// How many values became NULL by policy, of the rows that were taken out.
    pub(crate) fn nulled(&self) -> u64 {
        self.nulled
    }
}

#[cold]
fn in_column(schema: &TableSchema, at: usize, bad: BadValue) -> Error {
    let name = schema.columns.get(at).map_or("?", |c| c.name.as_str());
    bad.in_column(&schema.table, name)
}
