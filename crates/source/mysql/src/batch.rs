//! One table's changes on their way from the log into one [`ChangeBatch`].
//!
//! Cells go straight into column builders: no row objects, no allocation per row. Rows that leave nothing out go column
//! by column ([`add_some`](TableBatch::add_some)), the others row by row. Knows nothing of transactions' order, of the
//! connection or of the catalogue.
mod block;
mod fill;

use std::mem;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::SchemaRef;
use lakeward_core::{
    AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Error, ErrorKind, Op, Result, Run,
    TableSchema, TransactionInfo,
};

use crate::binlog::Malformed;
use crate::binlog::cell::Reader;
use crate::binlog::event::RowsKind;
use crate::binlog::layout::Layout;
use crate::binlog::rows::{Cell, Rows, Width, image};
use crate::binlog::table_map::LogColumn;
use crate::types::{BadValue, ColumnBuilder, Kind, Unrepresentable, Value};
pub use block::Scratch;
use fill::Fill;

/// How rows of one announced table become columns of one schema version. Made once per table and announcement.
#[derive(Debug)]
pub struct Plan {
    /// What its rows become.
    pub schema: Arc<TableSchema>,
    widths: Vec<Width>,
    readers: Vec<Reader>,
    /// Per column of `schema` the column of the log, and the kind of its values there.
    sources: Vec<Option<(usize, Kind)>>,
    /// How cells of many rows are taken, per column of `schema`.
    fills: Vec<Fill>,
    layout: Layout,
    /// The log has all columns of `schema`.
    is_complete: bool,
    /// Per column of `schema`: part of the key.
    key: Vec<bool>,
    arrow: SchemaRef,
    policy: Unrepresentable,
}

impl Plan {
    /// `slots`: per column of the log its place in `schema` and the kind of its values; `None`: not followed.
    ///
    /// # Errors
    /// `Corrupt` for columns of a type that is never logged.
    pub fn new(
        schema: Arc<TableSchema>,
        columns: &[LogColumn],
        slots: Vec<Option<(u32, Kind)>>,
        policy: Unrepresentable,
    ) -> Result<Self> {
        let mut sources = vec![None; schema.columns.len()];
        for (at, slot) in slots.into_iter().enumerate() {
            let Some((place, kind)) = slot else { continue };
            if let Some(source) = sources.get_mut(place as usize) {
                *source = Some((at, kind));
            }
        }
        let widths = columns.iter().map(Width::of).collect::<Result<Vec<_>, Malformed>>();
        let widths = widths.map_err(|error| Error::from(error).with("table", &schema.table))?;
        let fill = |source: &Option<(usize, Kind)>| match source {
            Some((at, kind)) => match (columns.get(*at), widths.get(*at)) {
                (Some(column), Some(width)) => Fill::of(column, *width, kind),
                _ => Fill::Single,
            },
            None => Fill::Single,
        };
        Ok(Self {
            fills: sources.iter().map(fill).collect(),
            layout: Layout::new(&widths),
            is_complete: sources.iter().all(Option::is_some),
            widths,
            readers: columns.iter().map(Reader::of).collect(),
            key: (0..schema.columns.len()).map(|at| schema.key.contains(&(at as u32))).collect(),
            arrow: schema.arrow(),
            sources,
            schema,
            policy,
        })
    }

    /// How many columns the log announced.
    pub fn columns(&self) -> usize {
        self.widths.len()
    }

    fn builders(&self) -> Result<Vec<ColumnBuilder>> {
        let columns = self.schema.columns.iter().zip(&self.sources).zip(&self.key);
        columns
            .map(|((column, source), is_key)| {
                let lenient = self.policy == Unrepresentable::Null && !is_key;
                let told = || Kind::of_declared(&column.declared);
                let kind = source.as_ref().map(|(_, kind)| kind.clone()).or_else(told);
                let kind = kind.ok_or_else(|| {
                    Error::new(ErrorKind::Bug, "a column of an unknown type")
                        .with("column", &column.name)
                })?;
                ColumnBuilder::new(&kind, &column.data_type, lenient)
            })
            .collect::<Result<_>>()
            .map_err(|error| error.with("table", &self.schema.table))
    }

    /// How cells of a column of the log are read.
    fn reader(&self, at: usize) -> Result<&Reader> {
        const OTHER: Malformed = Malformed("a row has other columns than its table");
        self.readers.get(at).ok_or_else(|| self.corrupt(OTHER))
    }

    #[cold]
    fn corrupt(&self, error: Malformed) -> Error {
        Error::from(error).with("table", &self.schema.table)
    }

    /// A value that a column of `schema` does not take.
    #[cold]
    fn bad(&self, slot: usize, bad: BadValue) -> Error {
        let name = self.schema.columns.get(slot).map_or("?", |c| c.name.as_str());
        bad.in_column(&self.schema.table, name)
    }
}

/// A batch being filled.
#[derive(Debug)]
pub struct TableBatch {
    plan: Arc<Plan>,
    rows: Vec<ColumnBuilder>,
    before: Vec<ColumnBuilder>,
    before_at: Vec<u32>,
    ops: Vec<Op>,
    absent: Vec<Vec<u32>>,
    runs: Vec<Run>,
    bytes: usize,
    /// The cells of the image at hand, and of the one before it.
    cells: Vec<Cell>,
    old_cells: Vec<Cell>,
    scratch: Vec<u8>,
}

impl TableBatch {
    /// An empty batch.
    ///
    /// # Errors
    /// `Bug` for a schema whose types have no builder.
    pub fn new(plan: Arc<Plan>) -> Result<Self> {
        Ok(Self {
            rows: plan.builders()?,
            before: plan.builders()?,
            before_at: Vec::new(),
            ops: Vec::new(),
            absent: vec![Vec::new(); plan.schema.columns.len()],
            runs: Vec::new(),
            bytes: 0,
            cells: Vec::with_capacity(plan.widths.len()),
            old_cells: Vec::with_capacity(plan.widths.len()),
            scratch: Vec::new(),
            plan,
        })
    }

    /// The plan of its rows.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of log that its rows took.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the next row of an event. Returns where the row behind it begins.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`.
    #[inline]
    pub fn add(
        &mut self,
        rows: &Rows<'_>,
        from: usize,
        of: &Arc<TransactionInfo>,
    ) -> Result<usize> {
        let plan = Arc::clone(&self.plan);
        let images = rows.images;
        let mut next = image(images, from, &plan.widths, rows.present, &mut self.cells)
            .map_err(|error| plan.corrupt(error))?;
        let op = match rows.kind {
            RowsKind::Write => {
                self.whole(&plan, images)?;
                Op::Insert
            }
            RowsKind::Delete => {
                self.deleted(&plan, images)?;
                Op::Delete
            }
            RowsKind::Update => {
                mem::swap(&mut self.cells, &mut self.old_cells);
                next = image(images, next, &plan.widths, rows.present_after, &mut self.cells)
                    .map_err(|error| plan.corrupt(error))?;
                self.updated(&plan, images)?;
                Op::Update
            }
        };
        self.ops.push(op);
        self.bytes += next - from;
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.transaction, of) => run.rows += 1,
            _ => self.runs.push(Run { rows: 1, transaction: Arc::clone(of) }),
        }
        Ok(next)
    }

    /// A row that came: cells that the log left out are unknown.
    fn whole(&mut self, plan: &Plan, images: &[u8]) -> Result<()> {
        for (slot, source) in plan.sources.iter().enumerate() {
            match source.as_ref().and_then(|(at, _)| self.cells.get(*at)) {
                Some(Cell::Absent) | None => self.missing(plan, slot)?,
                Some(cell) => {
                    let (at, cell) = (source.as_ref().map_or(0, |(at, _)| *at), *cell);
                    push(&mut self.rows, plan, slot, at, images, cell, &mut self.scratch)?;
                }
            }
        }
        Ok(())
    }

    /// A row that went: cells that the log left out do not matter, but for the key's.
    fn deleted(&mut self, plan: &Plan, images: &[u8]) -> Result<()> {
        for (slot, source) in plan.sources.iter().enumerate() {
            let (at, cell) = at_of(source, &self.cells);
            let is_key = plan.key.get(slot).copied().unwrap_or_default();
            if cell == Cell::Absent && (is_key || plan.schema.key.is_empty()) {
                return Err(keyless(plan));
            }
            push(&mut self.rows, plan, slot, at, images, cell, &mut self.scratch)?;
        }
        Ok(())
    }

    /// A row that changed: cells that the second image left out are as in the first, where that has them.
    fn updated(&mut self, plan: &Plan, images: &[u8]) -> Result<()> {
        let mut key_changed = plan.schema.key.is_empty();
        for (slot, source) in plan.sources.iter().enumerate() {
            let (at, new) = at_of(source, &self.cells);
            let (_, old) = at_of(source, &self.old_cells);
            let is_key = plan.key.get(slot).copied().unwrap_or_default();
            if is_key && new != Cell::Absent && old == Cell::Absent {
                return Err(keyless(plan));
            }
            key_changed |= is_key && new != Cell::Absent && !same(images, old, new);
            match if new == Cell::Absent { old } else { new } {
                Cell::Absent => self.missing(plan, slot)?,
                cell => push(&mut self.rows, plan, slot, at, images, cell, &mut self.scratch)?,
            }
        }
        if key_changed { self.before(plan, images) } else { Ok(()) }
    }

    /// Keeps the first image of an update too.
    fn before(&mut self, plan: &Plan, images: &[u8]) -> Result<()> {
        for (slot, source) in plan.sources.iter().enumerate() {
            let (at, cell) = at_of(source, &self.old_cells);
            if cell == Cell::Absent && plan.schema.key.is_empty() {
                return Err(keyless(plan));
            }
            push(&mut self.before, plan, slot, at, images, cell, &mut self.scratch)?;
        }
        self.before_at.push(self.ops.len() as u32);
        Ok(())
    }

    fn missing(&mut self, plan: &Plan, slot: usize) -> Result<()> {
        if plan.key.get(slot).copied().unwrap_or_default() {
            return Err(keyless(plan));
        }
        if let Some(rows) = self.absent.get_mut(slot) {
            rows.push(self.ops.len() as u32);
        }
        if let Some(column) = self.rows.get_mut(slot) {
            column.push_null();
        }
        Ok(())
    }

    /// Takes the rows out; the batch is empty afterwards and may be filled again. `None` when it has no rows.
    ///
    /// # Errors
    /// `Bug` when columns contradict each other.
    pub fn finish(&mut self) -> Result<Option<ChangeBatch>> {
        if self.ops.is_empty() {
            return Ok(None);
        }
        let count = self.ops.len();
        let rows = columns(&mut self.rows, &self.plan)?;
        let before = self.finish_before()?;
        self.report_nulled();
        self.bytes = 0;
        let reserve = count.min(RESERVED_ROWS_MAX);
        Ok(Some(ChangeBatch {
            schema: Arc::clone(&self.plan.schema),
            ops: mem::replace(&mut self.ops, Vec::with_capacity(reserve)),
            rows,
            before,
            absent: absent(&mut self.absent, count),
            origin: None,
            runs: mem::take(&mut self.runs),
        }))
    }

    fn finish_before(&mut self) -> Result<Option<BeforeImages>> {
        if self.before_at.is_empty() {
            return Ok(None);
        }
        Ok(Some(BeforeImages {
            at: mem::take(&mut self.before_at),
            rows: columns(&mut self.before, &self.plan)?,
            key_only: !self.plan.schema.key.is_empty(),
        }))
    }

    fn report_nulled(&mut self) {
        let nulled: u64 =
            self.rows.iter_mut().chain(&mut self.before).map(ColumnBuilder::take_nulled).sum();
        if nulled > 0 {
            tracing::warn!(
                table = %self.plan.schema.table,
                values = nulled,
                "values that the lake cannot hold became NULL"
            );
        }
    }
}

/// More is not set aside for the next batch, however large the last one was.
const RESERVED_ROWS_MAX: usize = 1 << 16;

/// Where a column's cell stands in an image; one that the log does not have is absent.
#[inline]
fn at_of(source: &Option<(usize, Kind)>, cells: &[Cell]) -> (usize, Cell) {
    match source {
        Some((at, _)) => (*at, cells.get(*at).copied().unwrap_or(Cell::Absent)),
        None => (0, Cell::Absent),
    }
}

/// Whether two cells of one column hold the same bytes.
fn same(images: &[u8], a: Cell, b: Cell) -> bool {
    let bytes = |from: u32, length: u32| images.get(from as usize..(from + length) as usize);
    match (a, b) {
        (Cell::At(a, length), Cell::At(b, other)) => {
            length == other && bytes(a, length) == bytes(b, other)
        }
        _ => a == b,
    }
}

#[inline]
fn push(
    columns: &mut [ColumnBuilder],
    plan: &Plan,
    slot: usize,
    at: usize,
    images: &[u8],
    cell: Cell,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    let reader = plan.reader(at)?;
    let Some(column) = columns.get_mut(slot) else { return Ok(()) };
    // What is absent here does not matter to anyone.
    let Cell::At(from, length) = cell else {
        column.push_null();
        return Ok(());
    };
    let bytes = images.get(from as usize..(from + length) as usize).unwrap_or_default();
    let value: Value<'_> = reader.value(bytes, scratch).map_err(|error| plan.corrupt(error))?;
    column.push(value).map_err(|bad| plan.bad(slot, bad))
}

#[cold]
fn keyless(plan: &Plan) -> Error {
    Error::new(ErrorKind::Corrupt, "a row came without what identifies it")
        .with("table", &plan.schema.table)
}

fn columns(builders: &mut [ColumnBuilder], plan: &Plan) -> Result<RecordBatch> {
    let arrays = builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(&plan.arrow), arrays).map_err(|error| {
        Error::new(ErrorKind::Bug, "a batch's columns contradict its schema")
            .with("table", &plan.schema.table)
            .caused_by(error)
    })
}

fn absent(columns: &mut [Vec<u32>], count: usize) -> Option<AbsentCells> {
    let columns: Vec<_> = columns
        .iter_mut()
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(column, rows)| AbsentColumn {
            column: column as u32,
            missing: bits(&mem::take(rows), count),
        })
        .collect();
    (!columns.is_empty()).then_some(AbsentCells { columns })
}

fn bits(rows: &[u32], count: usize) -> BooleanBuffer {
    let mut bits = BooleanBufferBuilder::new(count);
    bits.append_n(count, false);
    for row in rows {
        bits.set_bit(*row as usize, true);
    }
    bits.finish()
}

#[cfg(test)]
mod tests;
