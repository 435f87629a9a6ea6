//! One table's changes on their way from the wire into one [`ChangeBatch`].
//!
//! Cells go straight into column builders: no row objects, no allocation per row. Knows nothing of transactions'
//! order, of the socket or of the catalogue.
use std::mem;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::SchemaRef;
use lakeward_core::{
    AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Error, ErrorKind, Op, Result, Run,
    TableSchema, TransactionInfo,
};

use crate::decode::{Cell, Cells, OldTuple, Tuple};
use crate::relation::Default as Missing;
use crate::types::{self, ColumnBuilder, Unrepresentable};

/// How rows of one `Relation` message become columns of one schema version.
#[derive(Debug)]
pub struct Layout {
    /// The table's oid.
    pub relid: u32,
    /// What its rows become.
    pub schema: Arc<TableSchema>,
    /// Per column of the message its place in `schema`; `None`: not followed.
    slots: Vec<Option<u32>>,
    /// Per column of the message: part of the schema's key.
    key: Vec<bool>,
    /// Columns of `schema` that the message lacks, and what its rows hold there.
    defaults: Vec<(u32, Missing)>,
    arrow: SchemaRef,
    policy: Unrepresentable,
}

impl Layout {
    /// `slots`: per column of the message its place in `schema`. Every column of `schema` has exactly one, or a default.
    pub fn new(
        relid: u32,
        schema: Arc<TableSchema>,
        slots: Vec<Option<u32>>,
        policy: Unrepresentable,
    ) -> Self {
        let key = slots.iter().map(|s| s.is_some_and(|s| schema.key.contains(&s))).collect();
        let defaults = Vec::new();
        Self { relid, arrow: schema.arrow(), schema, slots, key, defaults, policy }
    }

    /// Says what rows hold in columns that came later.
    #[must_use]
    pub fn with_defaults(mut self, defaults: Vec<(u32, Missing)>) -> Self {
        self.defaults = defaults;
        self
    }

    fn corrupt(&self, what: &'static str) -> Error {
        Error::new(ErrorKind::Corrupt, what).with("table", &self.schema.table)
    }

    fn check(&self, tuple: &Tuple<'_>) -> Result<()> {
        if tuple.columns() == self.slots.len() {
            return Ok(());
        }
        Err(self.corrupt("a row does not have the columns that the log announced"))
    }
}

/// A batch being filled.
#[derive(Debug)]
pub struct TableBatch {
    layout: Arc<Layout>,
    rows: Rows,
    before: Vec<ColumnBuilder>,
    before_at: Vec<u32>,
    before_full: bool,
    ops: Vec<Op>,
    runs: Vec<Run>,
    bytes: usize,
}

/// The cells of a batch's rows, and which of them the log did not carry.
#[derive(Debug)]
struct Rows {
    columns: Vec<ColumnBuilder>,
    absent: Vec<Vec<u32>>,
}

impl TableBatch {
    /// An empty batch.
    ///
    /// # Errors
    /// `Bug` for a schema whose types have no builder.
    pub fn new(layout: Arc<Layout>) -> Result<Self> {
        let columns = layout.schema.columns.len();
        Ok(Self {
            rows: Rows {
                columns: types::builders(&layout.schema, layout.policy)?,
                absent: vec![Vec::new(); columns],
            },
            before: types::builders(&layout.schema, layout.policy)?,
            before_at: Vec::new(),
            before_full: false,
            ops: Vec::new(),
            runs: Vec::new(),
            bytes: 0,
            layout,
        })
    }

    /// The layout of its rows.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
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

    /// Adds an insert.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`.
    pub fn insert(&mut self, new: Tuple<'_>, of: &Arc<TransactionInfo>) -> Result<()> {
        let Self { layout, rows, .. } = self;
        layout.check(&new)?;
        let mut cells = new.cells();
        for slot in &layout.slots {
            let cell = next(layout, &mut cells)?;
            let Some(slot) = slot else { continue };
            rows.push(layout, *slot, cell)?;
        }
        self.defaults()?;
        self.row(Op::Insert, new.bytes(), of);
        Ok(())
    }

    /// Adds an update. Cells that the log did not carry are taken from the old row where it has them, else they are absent.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`.
    pub fn update(
        &mut self,
        old: Option<OldTuple<'_>>,
        new: Tuple<'_>,
        of: &Arc<TransactionInfo>,
    ) -> Result<()> {
        self.layout.check(&new)?;
        let Some(old) = old else {
            self.after(new)?;
            self.defaults()?;
            self.row(Op::Update, new.bytes(), of);
            return Ok(());
        };
        self.layout.check(&old.tuple)?;
        if self.after_with(old, new)? || self.layout.schema.key.is_empty() {
            self.before(old)?;
        }
        self.defaults()?;
        self.row(Op::Update, new.bytes() + old.tuple.bytes(), of);
        Ok(())
    }

    /// Adds a delete.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`.
    pub fn delete(&mut self, old: OldTuple<'_>, of: &Arc<TransactionInfo>) -> Result<()> {
        let Self { layout, rows, .. } = self;
        layout.check(&old.tuple)?;
        let mut cells = old.tuple.cells();
        for (slot, key) in layout.slots.iter().zip(&layout.key) {
            let cell = next(layout, &mut cells)?;
            let Some(slot) = slot else { continue };
            rows.push(layout, *slot, if old.full || *key { cell } else { Cell::Null })?;
        }
        for (slot, _) in &layout.defaults {
            rows.push(layout, *slot, Cell::Null)?;
        }
        self.row(Op::Delete, old.tuple.bytes(), of);
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
        let rows = columns(&mut self.rows.columns, &self.layout)?;
        let before = self.finish_before()?;
        self.report_nulled();
        self.bytes = 0;
        let reserve = count.min(RESERVED_ROWS_MAX);
        Ok(Some(ChangeBatch {
            schema: Arc::clone(&self.layout.schema),
            ops: mem::replace(&mut self.ops, Vec::with_capacity(reserve)),
            rows,
            before,
            absent: absent(&mut self.rows.absent, count),
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
            rows: columns(&mut self.before, &self.layout)?,
            key_only: !self.before_full,
        }))
    }

    fn report_nulled(&mut self) {
        let builders = self.rows.columns.iter_mut().chain(&mut self.before);
        let nulled: u64 = builders.map(ColumnBuilder::take_nulled).sum();
        if nulled > 0 {
            tracing::warn!(
                table = %self.layout.schema.table,
                values = nulled,
                "values that the lake cannot hold became NULL"
            );
        }
    }

    fn row(&mut self, op: Op, bytes: usize, of: &Arc<TransactionInfo>) {
        self.ops.push(op);
        self.bytes += bytes;
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.transaction, of) => run.rows += 1,
            _ => self.runs.push(Run { rows: 1, transaction: Arc::clone(of) }),
        }
    }

    fn after(&mut self, new: Tuple<'_>) -> Result<()> {
        let (at, Self { layout, rows, .. }) = (self.ops.len() as u32, self);
        let mut cells = new.cells();
        for (slot, key) in layout.slots.iter().zip(&layout.key) {
            let cell = next(layout, &mut cells)?;
            let Some(slot) = slot else { continue };
            if cell == Cell::Unchanged {
                rows.missing(layout, *slot, *key, at)?;
            } else {
                rows.push(layout, *slot, cell)?;
            }
        }
        Ok(())
    }

    /// As `after`, beside the old row; returns whether the key changed.
    fn after_with(&mut self, old: OldTuple<'_>, new: Tuple<'_>) -> Result<bool> {
        let (at, Self { layout, rows, .. }) = (self.ops.len() as u32, self);
        let (mut cells, mut olds) = (new.cells(), old.tuple.cells());
        let mut key_changed = false;
        for (slot, key) in layout.slots.iter().zip(&layout.key) {
            let (cell, was) = (next(layout, &mut cells)?, next(layout, &mut olds)?);
            let Some(slot) = slot else { continue };
            let known = old.full || *key;
            match cell {
                Cell::Unchanged if known && was != Cell::Unchanged => {
                    rows.push(layout, *slot, was)?;
                }
                Cell::Unchanged => rows.missing(layout, *slot, *key, at)?,
                _ => {
                    key_changed |= *key && cell != was;
                    rows.push(layout, *slot, cell)?;
                }
            }
        }
        Ok(key_changed)
    }

    fn before(&mut self, old: OldTuple<'_>) -> Result<()> {
        let Self { layout, before, .. } = self;
        let mut cells = old.tuple.cells();
        for (slot, key) in layout.slots.iter().zip(&layout.key) {
            let cell = next(layout, &mut cells)?;
            let Some(slot) = slot else { continue };
            let cell = if old.full || *key { cell } else { Cell::Null };
            push(before, layout, *slot, cell)?;
        }
        for (slot, _) in &layout.defaults {
            push(before, layout, *slot, Cell::Null)?;
        }
        self.before_full = old.full;
        self.before_at.push(self.ops.len() as u32);
        Ok(())
    }

    #[inline]
    fn defaults(&mut self) -> Result<()> {
        let (at, Self { layout, rows, .. }) = (self.ops.len() as u32, self);
        for (slot, missing) in &layout.defaults {
            match missing {
                Missing::Null => rows.push(layout, *slot, Cell::Null)?,
                Missing::Text(text) => rows.push(layout, *slot, Cell::Text(text.as_bytes()))?,
                Missing::Absent => rows.missing(layout, *slot, false, at)?,
            }
        }
        Ok(())
    }
}

impl Rows {
    /// A cell of row `at` that the log did not carry.
    fn missing(&mut self, layout: &Layout, slot: u32, key: bool, at: u32) -> Result<()> {
        if key {
            return Err(layout.corrupt("a row came without its key"));
        }
        if let Some(rows) = self.absent.get_mut(slot as usize) {
            rows.push(at);
        }
        self.push(layout, slot, Cell::Null)
    }

    #[inline]
    fn push(&mut self, layout: &Layout, slot: u32, cell: Cell<'_>) -> Result<()> {
        push(&mut self.columns, layout, slot, cell)
    }
}

/// More is not set aside for the next batch, however large the last one was.
const RESERVED_ROWS_MAX: usize = 1 << 16;

#[inline]
fn next<'a>(layout: &Layout, cells: &mut Cells<'a>) -> Result<Cell<'a>> {
    match cells.next_cell() {
        Ok(Some(cell)) => Ok(cell),
        Ok(None) => Err(layout.corrupt("a row has too few columns")),
        Err(error) => Err(error.with("table", &layout.schema.table)),
    }
}

#[inline]
fn push(columns: &mut [ColumnBuilder], layout: &Layout, slot: u32, cell: Cell<'_>) -> Result<()> {
    let Some(column) = columns.get_mut(slot as usize) else {
        return Err(layout.corrupt("a row has too many columns"));
    };
    let pushed = match cell {
        Cell::Text(text) => column.push_text(text),
        Cell::Null => {
            column.push_null();
            Ok(())
        }
        Cell::Binary(bytes) => column.push_binary(bytes),
        Cell::Unchanged => return Err(layout.corrupt("a new row came without a value")),
    };
    pushed.map_err(|bad| {
        let name = layout.schema.columns.get(slot as usize).map_or("?", |c| c.name.as_str());
        bad.in_column(&layout.schema.table, name)
    })
}

fn columns(builders: &mut [ColumnBuilder], layout: &Layout) -> Result<RecordBatch> {
    let arrays = builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(&layout.arrow), arrays).map_err(|error| {
        Error::new(ErrorKind::Bug, "a batch's columns contradict its schema")
            .with("table", &layout.schema.table)
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
