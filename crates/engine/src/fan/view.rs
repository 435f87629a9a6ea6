//! What one sink gets of a log that is read once for several sinks. Pure: events in, events out.
//!
//! When a sink that was away joins, the log is opened again where that sink stands; the others must not get anything
//! twice. Each view knows what its sink has, passes over what that covers, and hands the rest on with schemas that
//! follow from the ones the sink knows.
use std::collections::HashMap;
use std::sync::Arc;

use lakeward_core::{
    ChangeBatch, Column, ColumnId, Coverage, Divergence, Fill, PartId, Position, SchemaChange,
    SourceEvent, TableId, TableIdentity, TableSchema, TransactionId, TransactionInfo,
    TransactionRef,
};

use crate::stream::held::keep_runs;

/// Whether everything that ends at the second position is part of what ends at the first.
pub(super) type Covers<'a> = &'a (dyn Fn(&Position, &Position) -> Coverage + Sync);

/// A table, whatever other table had its name before.
type Table = (TableId, TableIdentity);

/// A schema that an open transaction, or a part of it, brought.
type Brought = (Option<PartId>, Arc<TableSchema>);

/// One sink's view of the log.
pub(super) struct View {
    /// Everything up to here has been handed on.
    through: Position,
    /// Whether the log has come past `through` since it was opened.
    passed: bool,
    /// Whether rows were handed on since `through`.
    tail: bool,
    /// Open transactions of which something was handed on, with the schemas that they brought.
    open: HashMap<TransactionId, Vec<Brought>>,
    /// The schema under which the sink expects a table's next rows.
    known: HashMap<Table, Arc<TableSchema>>,
    /// What old rows hold in columns that changes brought which were passed over.
    fills: HashMap<(Table, ColumnId), Fill>,
    /// Events that belong to whatever comes next, while it is not known whether that is to be handed on.
    waiting: Vec<SourceEvent>,
}

impl View {
    /// A view of a sink that has everything up to `through` and knows these schemas.
    pub(super) fn new(through: Position, known: &[Arc<TableSchema>]) -> Self {
        Self {
            through,
            passed: false,
            tail: false,
            open: HashMap::new(),
            known: known.iter().map(|s| (table(s), Arc::clone(s))).collect(),
            fills: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Where its sink stands.
    pub(super) fn through(&self) -> &Position {
        &self.through
    }

    /// The schemas that its sink knows.
    pub(super) fn known(&self) -> impl Iterator<Item = &Arc<TableSchema>> {
        self.known.values()
    }

    /// Whether the log may be opened again here: no transaction is half handed on, but for open ones.
    pub(super) fn at_boundary(&self) -> bool {
        !self.tail
    }

    /// The log will be opened again, at or before `through`. Open transactions come again whole; the sink is told to
    /// forget what it holds of them.
    pub(super) fn rewind(&mut self) -> Vec<SourceEvent> {
        (self.passed, self.tail) = (false, false);
        self.waiting.clear();
        self.open.drain().map(|(id, _)| SourceEvent::Abort(whole(id))).collect()
    }

    /// What the sink gets of an event.
    pub(super) fn offer(&mut self, event: SourceEvent, covers: Covers<'_>) -> Vec<SourceEvent> {
        let mut out = Vec::new();
        match event {
            SourceEvent::Rows(batch) => self.rows(batch, covers, &mut out),
            SourceEvent::Schema(change) => self.schema(change, &mut out),
            SourceEvent::Truncate { table, origin, transaction } => {
                if self.wants(&transaction, covers) {
                    self.touched(&transaction, &mut out);
                    out.push(SourceEvent::Truncate { table, origin, transaction });
                }
            }
            diverged @ SourceEvent::Diverged { .. } => match self.passed {
                true => out.push(diverged),
                false => self.waiting.push(diverged),
            },
            SourceEvent::Commit { transaction, end } => {
                if self.is_past(&end.position, covers) {
                    self.release(&mut out);
                    self.adopt(transaction);
                    self.reached(end.position.clone());
                    out.push(SourceEvent::Commit { transaction, end });
                } else {
                    self.pass_over();
                    if self.open.remove(&transaction).is_some() {
                        out.push(SourceEvent::Abort(whole(transaction)));
                    }
                }
            }
            SourceEvent::Abort(aborted) => {
                out.extend(self.forget(aborted).then_some(SourceEvent::Abort(aborted)));
            }
            SourceEvent::Idle { position } => {
                if self.is_past(&position, covers) {
                    self.release(&mut out);
                    self.reached(position.clone());
                    out.push(SourceEvent::Idle { position });
                } else {
                    self.pass_over();
                }
            }
        }
        out
    }

    fn rows(&mut self, batch: ChangeBatch, covers: Covers<'_>, out: &mut Vec<SourceEvent>) {
        let first = batch.runs.first().map(|run| Arc::clone(&run.transaction));
        let open = first.filter(|info| info.end.is_none());
        let batch = match (&open, self.passed) {
            (Some(_), _) | (None, true) => Some(batch),
            (None, false) => keep_runs(&batch, |run| self.wants(&run.transaction, covers)),
        };
        let Some(batch) = batch else { return };
        if let Some(last) = batch.runs.last() {
            self.touched(&last.transaction, out);
        }
        // The schema of an open transaction travels with it.
        if open.is_none() {
            self.expect(&batch.schema, out);
        }
        out.push(SourceEvent::Rows(batch));
    }

    fn schema(&mut self, change: SchemaChange, out: &mut Vec<SourceEvent>) {
        if let Some(open) = change.transaction {
            self.remember_fills(&change);
            let schemas = self.open.entry(open.id).or_default();
            schemas.push((open.part, Arc::clone(&change.after)));
            out.push(SourceEvent::Schema(change));
        } else if self.passed {
            self.hand_on(change, out);
        } else {
            self.waiting.push(SourceEvent::Schema(change));
        }
    }

    /// Whether a transaction's changes are to be handed on. Of an open one that is decided at its end.
    fn wants(&self, info: &TransactionInfo, covers: Covers<'_>) -> bool {
        info.end.as_ref().is_none_or(|end| self.is_past(&end.position, covers))
    }

    fn is_past(&self, position: &Position, covers: Covers<'_>) -> bool {
        self.passed || covers(&self.through, position) != Coverage::Covered
    }

    /// Something of a transaction is handed on. What waits has its place before a closed one.
    fn touched(&mut self, info: &TransactionInfo, out: &mut Vec<SourceEvent>) {
        match info.end {
            None => {
                self.open.entry(info.transaction.id).or_default();
            }
            Some(_) => {
                self.release(out);
                self.tail = true;
            }
        }
    }

    /// An open transaction ended well: its schemas are the tables' now.
    fn adopt(&mut self, transaction: TransactionId) {
        for (_, schema) in self.open.remove(&transaction).unwrap_or_default() {
            self.known.insert(table(&schema), schema);
        }
    }

    /// An open transaction, or a part of it, was rolled back. Whether anything of it was handed on.
    fn forget(&mut self, aborted: TransactionRef) -> bool {
        let Some(part) = aborted.part else { return self.open.remove(&aborted.id).is_some() };
        let Some(schemas) = self.open.get_mut(&aborted.id) else { return false };
        schemas.retain(|(of, _)| *of != Some(part));
        true
    }

    fn reached(&mut self, position: Position) {
        (self.through, self.passed, self.tail) = (position, true, false);
    }

    /// What waited belongs to something that the sink has.
    fn pass_over(&mut self) {
        for event in std::mem::take(&mut self.waiting) {
            if let SourceEvent::Schema(change) = event {
                self.remember_fills(&change);
            }
        }
    }

    /// What waited belongs to something that is handed on, or to what came before it: a table's changes up to the
    /// schema that the sink knows are passed over.
    fn release(&mut self, out: &mut Vec<SourceEvent>) {
        let waiting = std::mem::take(&mut self.waiting);
        for (n, event) in waiting.iter().enumerate() {
            match event {
                SourceEvent::Schema(change) if self.comes_again(change, &waiting[n..]) => {
                    self.remember_fills(change);
                }
                SourceEvent::Schema(change) => self.hand_on(change.clone(), out),
                other => out.push(other.clone()),
            }
        }
    }

    /// Whether this change, or one behind it, leads to the schema that the sink knows already.
    fn comes_again(&self, change: &SchemaChange, later: &[SourceEvent]) -> bool {
        let about = table(&change.after);
        let Some(known) = self.known.get(&about) else { return false };
        later.iter().any(|event| match event {
            SourceEvent::Schema(c) => table(&c.after) == about && c.after.version == known.version,
            _ => false,
        })
    }

    fn remember_fills(&mut self, change: &SchemaChange) {
        let about = table(&change.after);
        for (column, fill) in change.after.columns.iter().zip(&change.fill) {
            if change.before.column(column.id).is_none() {
                self.fills.insert((about.clone(), column.id), fill.clone());
            }
        }
    }

    /// Hands a change on as one from the schema that the sink knows.
    fn hand_on(&mut self, change: SchemaChange, out: &mut Vec<SourceEvent>) {
        self.remember_fills(&change);
        let renamed = change.before.table != change.after.table;
        let from = self.known.remove(&table(&change.before));
        let same = from.as_ref().is_some_and(|known| {
            known.version == change.after.version && known.note == change.after.note
        });
        self.known.insert(table(&change.after), Arc::clone(&change.after));
        if same {
            return;
        }
        match from {
            Some(known) if !renamed && known.version != change.before.version => {
                self.step(&known, &change.after, out);
            }
            _ => out.push(SourceEvent::Schema(change)),
        }
    }

    /// Rows come under this schema now: the sink is told if it knows another.
    fn expect(&mut self, schema: &Arc<TableSchema>, out: &mut Vec<SourceEvent>) {
        let known = self.known.insert(table(schema), Arc::clone(schema));
        let Some(known) = known.filter(|known| known.version != schema.version) else { return };
        self.step(&known, schema, out);
    }

    /// A step that no single change of the log tells. Where a column id has another name on the other side, it cannot be
    /// told a rename from an id that was given twice: the table is loaded again.
    fn step(&self, known: &Arc<TableSchema>, after: &Arc<TableSchema>, out: &mut Vec<SourceEvent>) {
        let renamed = |column: &Column| {
            known.column(column.id).is_some_and(|(_, other)| other.name != column.name)
        };
        out.push(SourceEvent::Schema(self.between(known, after)));
        if after.columns.iter().any(renamed) {
            let why = Divergence::SchemaUnknown;
            out.push(SourceEvent::Diverged { table: after.table.clone(), why });
        }
    }

    fn between(&self, known: &Arc<TableSchema>, after: &Arc<TableSchema>) -> SchemaChange {
        let about = table(after);
        let fill = |id: ColumnId| match known.column(id) {
            Some(_) => Fill::Null,
            None => self.fills.get(&(about.clone(), id)).cloned().unwrap_or(Fill::Unknown),
        };
        SchemaChange {
            before: Arc::clone(known),
            after: Arc::clone(after),
            fill: after.columns.iter().map(|column| fill(column.id)).collect(),
            transaction: None,
        }
    }
}

fn whole(id: TransactionId) -> TransactionRef {
    TransactionRef { id, part: None }
}

fn table(schema: &TableSchema) -> Table {
    (schema.table.clone(), schema.identity.clone())
}

#[cfg(test)]
mod tests;
