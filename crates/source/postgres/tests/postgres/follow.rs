//! A model of what the engine and a table do with events: as plain as it can be, so that it can judge the stream.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use lakeward_core::{
    ChangeBatch, ChangeStream, ColumnId, Coverage, Divergence, Fill, Op, Position, SchemaChange,
    SourceEvent, TableSchema, TransactionInfo, TransactionRef,
};
use lakeward_source_postgres::position::{covers, distance_bytes};
use lakeward_source_postgres::types::render;
use tokio::time::timeout;

pub type Cell = Option<String>;
pub type Row = BTreeMap<ColumnId, Cell>;

/// One table of the model.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub schema: Option<Arc<TableSchema>>,
    /// With a key.
    keyed: BTreeMap<Vec<Cell>, Row>,
    /// Without: rows and how often each is there.
    counted: BTreeMap<Row, u64>,
}

/// What was seen of the log, applied.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub tables: HashMap<String, Table>,
    held: HashMap<u64, Vec<(TransactionRef, SourceEvent)>>,
    pub diverged: Vec<(String, Divergence)>,
    pub schemas: Vec<SchemaChange>,
    pub commits: Vec<(u64, Position)>,
    pub aborts: Vec<TransactionRef>,
    /// Closed transactions by id, with their ends, in the order of their first row.
    pub closed: Vec<(u64, Position)>,
    pub idles: Vec<Position>,
    pub held_rows: usize,
    pub batches: Vec<ChangeBatch>,
    pub through: Option<Position>,
}

impl Model {
    pub fn knowing(tables: &[Arc<TableSchema>]) -> Model {
        let mut model = Model::default();
        for schema in tables {
            model.tables.entry(schema.table.name.clone()).or_default().schema =
                Some(Arc::clone(schema));
        }
        model
    }

    /// Follows until everything before `until` has come.
    pub async fn follow(&mut self, stream: &mut Box<dyn ChangeStream>, until: &Position) {
        while self.through.as_ref().is_none_or(|at| covers(at, until) != Coverage::Covered) {
            let event = timeout(Duration::from_secs(60), stream.next()).await;
            self.take(event.expect("the stream stands still").unwrap());
        }
    }

    /// Follows without applying rows: for a stream that begins in the middle.
    pub async fn deaf(&mut self, stream: &mut Box<dyn ChangeStream>, until: &Position) {
        while self.through.as_ref().is_none_or(|at| covers(at, until) != Coverage::Covered) {
            let event = timeout(Duration::from_secs(60), stream.next()).await;
            match event.expect("the stream stands still").unwrap() {
                SourceEvent::Rows(batch) => {
                    for run in batch.runs.iter().filter(|run| run.transaction.end.is_some()) {
                        self.note_closed(&run.transaction);
                    }
                }
                SourceEvent::Schema(_) => {}
                event => self.take(event),
            }
        }
    }

    pub fn take(&mut self, event: SourceEvent) {
        match &event {
            SourceEvent::Rows(batch) => {
                check(batch);
                self.batches.push(batch.clone());
                self.rows(batch);
            }
            SourceEvent::Schema(change) => match change.transaction {
                Some(open) => self.hold(open, event.clone()),
                None => self.schema(change),
            },
            SourceEvent::Truncate { transaction, .. } if transaction.end.is_none() => {
                self.hold(transaction.transaction, event.clone());
            }
            SourceEvent::Truncate { table, transaction, .. } => {
                self.note_closed(transaction);
                self.truncate(&table.name);
            }
            SourceEvent::Diverged { table, why } => {
                self.diverged.push((table.name.clone(), why.clone()));
            }
            SourceEvent::Commit { transaction, end } => {
                self.commits.push((transaction.0, end.position.clone()));
                if let Some((_, last)) = self.closed.last() {
                    let covered = covers(&end.position, last);
                    assert_eq!(covered, Coverage::Covered, "a later row before this commit");
                }
                self.advance(&end.position);
                for (_, event) in self.held.remove(&transaction.0).unwrap_or_default() {
                    match event {
                        SourceEvent::Rows(batch) => self.apply(&batch),
                        SourceEvent::Schema(change) => self.schema(&change),
                        SourceEvent::Truncate { table, .. } => self.truncate(&table.name),
                        other => panic!("not held: {other:?}"),
                    }
                }
            }
            SourceEvent::Abort(part) => {
                self.aborts.push(*part);
                match part.part {
                    None => drop(self.held.remove(&part.id.0)),
                    Some(_) => {
                        if let Some(held) = self.held.get_mut(&part.id.0) {
                            held.retain(|(of, _)| of != part);
                        }
                    }
                }
            }
            SourceEvent::Idle { position } => {
                self.idles.push(position.clone());
                self.advance(position);
            }
        }
    }

    fn advance(&mut self, position: &Position) {
        if let Some(before) = &self.through {
            assert!(distance_bytes(before, position).unwrap() > 0, "positions go forward");
        }
        self.through = Some(position.clone());
    }

    fn hold(&mut self, of: TransactionRef, event: SourceEvent) {
        self.held.entry(of.id.0).or_default().push((of, event));
    }

    fn note_closed(&mut self, info: &TransactionInfo) {
        let end = info.end.as_ref().expect("closed").position.clone();
        if let Some(through) = &self.through {
            assert_eq!(covers(through, &end), Coverage::After, "a row after its commit");
        }
        if self.closed.last().is_none_or(|(id, _)| *id != info.transaction.id.0) {
            self.closed.push((info.transaction.id.0, end));
        }
    }

    fn rows(&mut self, batch: &ChangeBatch) {
        let open = batch.runs[0].transaction.end.is_none();
        let first = batch.runs[0].transaction.transaction.id;
        let mut at = 0;
        for run in &batch.runs {
            assert_eq!(run.transaction.end.is_none(), open, "open and closed rows in one batch");
            let rows = run.rows as usize;
            if open {
                assert_eq!(
                    run.transaction.transaction.id, first,
                    "two open transactions in one batch"
                );
                self.held_rows += rows;
                self.hold(run.transaction.transaction, SourceEvent::Rows(batch.slice(at, rows)));
            } else {
                self.note_closed(&run.transaction);
                self.apply(&batch.slice(at, rows));
            }
            at += rows;
        }
    }

    fn truncate(&mut self, table: &str) {
        let table = self.tables.entry(table.to_owned()).or_default();
        table.keyed.clear();
        table.counted.clear();
    }

    fn schema(&mut self, change: &SchemaChange) {
        self.schemas.push(change.clone());
        let mut table = self.tables.remove(&change.before.table.name).unwrap_or_default();
        let evolve = |row: &mut Row| {
            row.retain(|id, _| change.after.column(*id).is_some());
            for (column, fill) in change.after.columns.iter().zip(&change.fill) {
                row.entry(column.id).or_insert_with(|| match fill {
                    Fill::Constant(value) => cell(value, 0),
                    _ => None,
                });
            }
        };
        table.keyed.values_mut().for_each(evolve);
        table.schema = Some(Arc::clone(&change.after));
        self.tables.insert(change.after.table.name.clone(), table);
    }

    fn apply(&mut self, batch: &ChangeBatch) {
        let table = self.tables.entry(batch.schema.table.name.clone()).or_default();
        if let Some(known) = &table.schema {
            assert_eq!(known.version, batch.schema.version, "rows of a version that was not told");
        }
        table.schema = Some(Arc::clone(&batch.schema));
        for row in 0..batch.len() {
            table.change(batch, row);
        }
    }

    /// A table's rows as the server would print them, sorted.
    pub fn printed(&self, table: &str) -> Vec<Vec<Cell>> {
        let Some(table) = self.tables.get(table) else { return Vec::new() };
        let Some(schema) = &table.schema else { return Vec::new() };
        let print = |row: &Row| -> Vec<Cell> {
            schema.columns.iter().map(|c| row.get(&c.id).cloned().flatten()).collect()
        };
        let counted = table.counted.iter().flat_map(|(row, n)| (0..*n).map(move |_| row));
        let mut rows: Vec<_> = table.keyed.values().chain(counted).map(print).collect();
        rows.sort();
        rows
    }
}

impl Table {
    fn change(&mut self, batch: &ChangeBatch, index: usize) {
        let (schema, op) = (&batch.schema, batch.ops[index]);
        let before = batch.before.as_ref().and_then(|before| {
            let at = before.at.binary_search(&(index as u32)).ok()?;
            Some((row(schema, &before.rows, at), before.key_only))
        });
        let mut new = row(schema, &batch.rows, index);
        if schema.key.is_empty() {
            match op {
                Op::Insert => *self.counted.entry(new).or_default() += 1,
                Op::Update => {
                    self.take(&before.expect("a table without key has the row before").0);
                    *self.counted.entry(new).or_default() += 1;
                }
                Op::Delete => self.take(&new),
                Op::Read | Op::ReadFirst => panic!("no chunks here"),
            }
            return;
        }
        let key = |row: &Row| -> Vec<Cell> {
            schema.key_columns().map(|c| row.get(&c.id).cloned().flatten()).collect()
        };
        assert!(op == Op::Update || before.is_none());
        let old = match (op, before) {
            (Op::Update, Some((before, _))) => {
                assert_ne!(key(&before), key(&new), "a before image without a change of the key");
                self.keyed.remove(&key(&before)).expect("the row before is there")
            }
            (Op::Update, None) => {
                self.keyed.remove(&key(&new)).unwrap_or_else(|| panic!("no row {:?}", key(&new)))
            }
            (Op::Delete, _) => {
                self.keyed.remove(&key(&new)).expect("the deleted row is there");
                return;
            }
            _ => Row::new(),
        };
        for absent in batch.absent.iter().flat_map(|a| &a.columns) {
            if absent.missing.value(index) {
                let id = schema.columns[absent.column as usize].id;
                assert_eq!(new[&id], None, "an absent cell holds NULL");
                new.insert(id, old.get(&id).cloned().flatten());
            }
        }
        assert!(self.keyed.insert(key(&new), new).is_none(), "a row came twice");
    }

    fn take(&mut self, row: &Row) {
        let count = self.counted.get_mut(row).expect("the row is there");
        *count -= 1;
        if *count == 0 {
            self.counted.remove(row);
        }
    }
}

fn row(schema: &TableSchema, rows: &RecordBatch, index: usize) -> Row {
    schema
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| (column.id, cell(rows.column(at), index)))
        .collect()
}

pub fn cell(array: &arrow_array::ArrayRef, index: usize) -> Cell {
    use arrow_array::Array as _;
    if array.is_null(index) {
        return None;
    }
    let mut text = String::new();
    render(array, index, &mut text).unwrap();
    Some(text)
}

/// The invariants that a batch states of itself.
fn check(batch: &ChangeBatch) {
    let runs: usize = batch.runs.iter().map(|run| run.rows as usize).sum();
    assert_eq!((batch.ops.len(), runs), (batch.rows.num_rows(), batch.rows.num_rows()));
    assert!(!batch.is_empty());
    assert_eq!(batch.rows.schema(), batch.schema.arrow());
    for key in &batch.schema.key {
        use arrow_array::Array as _;
        assert_eq!(batch.rows.column(*key as usize).null_count(), 0, "a key is known");
    }
}
