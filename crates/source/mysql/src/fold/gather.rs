//! Rows of closed transactions, or of one open transaction, gathered into one batch per table.
//!
//! Knows when a batch must go out for its size. Deliberately absent: what a transaction is.
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use lakeward_core::{Error, ErrorKind, Result, SourceEvent, TableId, TransactionInfo};

use crate::batch::{Plan, Scratch, TableBatch};
use crate::binlog::rows::Rows;

/// A table's batch goes out at this many rows. More saves nothing; fewer costs an allocation per column more often.
const BATCH_ROWS: usize = 1 << 16;
/// Or at this many bytes of log: with narrow rows that is about as many rows as above.
const BATCH_BYTES: usize = 6 << 20;
/// All batches together go out at this many bytes of log: many tables with few rows each must not add up.
const ALL_BYTES: usize = 16 << 20;

/// What gathers, and what is ready to go out.
#[derive(Debug, Default)]
pub(super) struct Gather {
    batches: Vec<TableBatch>,
    index: HashMap<TableId, usize>,
    /// Batches that may hold rows, in the order of their first.
    filled: Vec<usize>,
    bytes: usize,
    events: VecDeque<SourceEvent>,
    scratch: Scratch,
}

impl Gather {
    pub(super) fn pop(&mut self) -> Option<SourceEvent> {
        self.events.pop_front()
    }

    pub(super) fn push(&mut self, event: SourceEvent) {
        self.events.push_back(event);
    }

    /// The batch that takes a plan's rows, which may be `known`. Rows that were gathered under another plan go out.
    pub(super) fn batch_of(&mut self, plan: &Arc<Plan>, known: usize) -> Result<usize> {
        if self.batches.get(known).is_some_and(|batch| Arc::ptr_eq(batch.plan(), plan)) {
            return Ok(known);
        }
        if let Some(at) = self.index.get(&plan.schema.table).copied() {
            let fits = self.batches.get(at).is_some_and(|b| Arc::ptr_eq(b.plan(), plan));
            if !fits {
                self.flush_one(at)?;
                if let Some(batch) = self.batches.get_mut(at) {
                    *batch = TableBatch::new(Arc::clone(plan))?;
                }
            }
            return Ok(at);
        }
        self.batches.push(TableBatch::new(Arc::clone(plan))?);
        self.index.insert(plan.schema.table.clone(), self.batches.len() - 1);
        Ok(self.batches.len() - 1)
    }

    /// Whose rows the batch `at` takes.
    pub(super) fn table(&self, at: usize) -> Option<TableId> {
        self.batches.get(at).map(|batch| batch.plan().schema.table.clone())
    }

    /// Adds an event's rows to the batch `at`.
    pub(super) fn add(
        &mut self,
        at: usize,
        rows: &Rows<'_>,
        of: &Arc<TransactionInfo>,
    ) -> Result<()> {
        let mut from = 0;
        while from < rows.images.len() {
            let Some(batch) = self.batches.get_mut(at) else { return Err(lost()) };
            if batch.is_empty() {
                self.filled.push(at);
            }
            let next = batch.add_some(rows, from, BATCH_ROWS, of, &mut self.scratch)?;
            if next <= from {
                return Err(Error::new(ErrorKind::Corrupt, "a row of the log has no columns"));
            }
            self.bytes += next - from;
            from = next;
            let full = batch.len() >= BATCH_ROWS || batch.bytes() >= BATCH_BYTES;
            if self.bytes >= ALL_BYTES {
                self.flush()?;
            } else if full {
                self.flush_one(at)?;
            }
        }
        Ok(())
    }

    /// Lets all rows go out.
    pub(super) fn flush(&mut self) -> Result<()> {
        for at in std::mem::take(&mut self.filled) {
            let rows = self.batches.get_mut(at).map(TableBatch::finish).transpose()?.flatten();
            self.events.extend(rows.map(SourceEvent::Rows));
        }
        self.bytes = 0;
        Ok(())
    }

    /// Lets a table's rows go out: something else of it follows.
    pub(super) fn flush_table(&mut self, table: &TableId) -> Result<()> {
        match self.index.get(table).copied() {
            Some(at) => self.flush_one(at),
            None => Ok(()),
        }
    }

    fn flush_one(&mut self, at: usize) -> Result<()> {
        let Some(batch) = self.batches.get_mut(at) else { return Ok(()) };
        self.bytes = self.bytes.saturating_sub(batch.bytes());
        let rows = batch.finish()?;
        self.events.extend(rows.map(SourceEvent::Rows));
        Ok(())
    }
}

#[cold]
fn lost() -> Error {
    Error::new(ErrorKind::Bug, "a batch is lost")
}
