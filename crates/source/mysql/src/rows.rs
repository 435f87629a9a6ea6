//! Rows of a query as Arrow batches.
use std::sync::Arc;

use arrow_array::RecordBatch;
use lakeward_core::{Error, ErrorKind, Result, TableSchema};
use mysql_async::{Row, Value as Given};

use crate::types::{self, BadValue, ColumnBuilder, Kind, Unrepresentable, Value};

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
    pub(crate) fn push(&mut self, row: &Row) -> Result<()> {
        for (at, (kind, builder)) in self.kinds.iter().zip(&mut self.builders).enumerate() {
            let given = row.as_ref(at).unwrap_or(&Given::NULL);
            let pushed = value(kind, given).and_then(|value| builder.push(value));
            pushed.map_err(|bad| {
                let name = self.schema.columns.get(at).map_or("?", |c| c.name.as_str());
                bad.in_column(&self.schema.table, name)
            })?;
            self.bytes += size(given);
        }
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

fn size(given: &Given) -> usize {
    match given {
        Given::Bytes(bytes) => bytes.len() + 4,
        _ => 8,
    }
}

/// What the binary protocol gave, as what it means for a column.
fn value<'a>(kind: &Kind, given: &'a Given) -> Result<Value<'a>, BadValue> {
    Ok(match given {
        Given::NULL => Value::Null,
        Given::Int(number) => Value::Int(*number),
        Given::UInt(number) => Value::UInt(*number),
        Given::Float(number) => Value::Float(*number),
        Given::Double(number) => Value::Double(*number),
        Given::Bytes(bytes) => match kind {
            Kind::Binary(_) | Kind::Bit(_) | Kind::Geometry => Value::Bytes(bytes),
            _ => Value::Text(bytes),
        },
        Given::Date(year, month, day, hour, minute, second, micros) => match kind {
            Kind::Date => Value::Date { year: *year, month: *month, day: *day },
            _ => Value::DateTime {
                year: *year,
                month: *month,
                day: *day,
                hour: *hour,
                minute: *minute,
                second: *second,
                micros: *micros,
            },
        },
        Given::Time(negative, days, hours, minutes, seconds, micros) => Value::Time {
            negative: *negative,
            hours: days.saturating_mul(24).saturating_add(u32::from(*hours)),
            minutes: *minutes,
            seconds: *seconds,
            micros: *micros,
        },
    })
}
