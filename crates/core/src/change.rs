//! Changes as Arrow columns, and the events in which a source delivers them.
//!
//! A batch holds one table under one schema version, in log order. Rows never exist as objects.
use std::sync::Arc;
use std::time::SystemTime;

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use serde::{Deserialize, Serialize};

use crate::position::Position;
use crate::schema::{SchemaChange, TableId, TableSchema};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// A row as a chunk of the initial load saw it.
    Read,
    /// As `Read`, and no row of its key was ever written to this copy of the table: none needs to be looked for.
    ReadFirst,
    /// A row came.
    Insert,
    /// A row changed; the batch's row is the after image.
    Update,
    /// A row went; the batch's row is the before image, of which at least the key is known.
    Delete,
}

/// A transaction's identity in its source (PostgreSQL: the 32-bit xid), opaque elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId(pub u64);

/// A part of a transaction that can be rolled back alone (a savepoint's subtransaction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartId(pub u64);

/// A transaction, or one part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionRef {
    /// The transaction.
    pub id: TransactionId,
    /// The part; `None`: the transaction itself.
    pub part: Option<PartId>,
}

/// Which partition leaf or shard a row came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(pub String);

/// What is known of the transaction that a run of rows belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionInfo {
    /// Transaction and part.
    pub transaction: TransactionRef,
    /// Its end, when the source knows it already; `None`: still open, and the rows may yet be aborted.
    pub end: Option<TransactionEnd>,
}

/// A transaction's end in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionEnd {
    /// The position right behind it. `position.at` is what [`covers`](crate::source::Source::covers) compares.
    pub position: Position,
    /// The source's commit time.
    pub committed_at: SystemTime,
}

/// A run of consecutive rows from one transaction.
#[derive(Debug, Clone)]
pub struct Run {
    /// Number of rows, at least 1.
    pub rows: u32,
    /// Where they come from.
    pub transaction: Arc<TransactionInfo>,
}

/// Before images of some of a batch's rows.
#[derive(Debug, Clone)]
pub struct BeforeImages {
    /// Indices of the batch's rows that have one, ascending.
    pub at: Vec<u32>,
    /// The images, one per entry of `at`, with the columns of the batch's schema.
    pub rows: RecordBatch,
    /// Whether only the key's columns are known (all others are NULL and mean nothing).
    pub key_only: bool,
}

/// Cells of one column that the log did not carry: unknown, NOT NULL. Their slots in the batch hold NULL.
#[derive(Debug, Clone)]
pub struct AbsentColumn {
    /// Index of the column in the batch's schema.
    pub column: u32,
    /// One bit per row of the batch; set: the cell is missing.
    pub missing: BooleanBuffer,
}

/// The missing cells of a batch, by column; a column without missing cells is not listed.
#[derive(Debug, Clone, Default)]
pub struct AbsentCells {
    /// Ascending by column.
    pub columns: Vec<AbsentColumn>,
}

/// Changes of one table under one schema version, in log order.
///
/// Invariants: `ops.len() == rows.num_rows() ==` sum of `runs`; the columns of `rows` are those of
/// `schema.arrow()`; the key columns of every row are known. `Update` rows whose key did not change carry no
/// before image. An `Update` with a before image changed its key (or the table has no key).
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// The schema of `rows`.
    pub schema: Arc<TableSchema>,
    /// One per row.
    pub ops: Vec<Op>,
    /// After images; for `Delete` the before image.
    pub rows: RecordBatch,
    /// Before images where the key changed, or the table has no key.
    pub before: Option<BeforeImages>,
    /// Cells that the log did not carry.
    pub absent: Option<AbsentCells>,
    /// Partition leaf or shard, where tables are merged.
    pub origin: Option<OriginId>,
    /// Which rows came from which transaction. Empty for chunk rows.
    pub runs: Vec<Run>,
}

impl ChangeBatch {
    /// Number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of memory that its columns hold, for the memory budget.
    pub fn memory_bytes(&self) -> u64 {
        let before = self.before.as_ref().map_or(0, |b| b.rows.get_array_memory_size());
        (self.rows.get_array_memory_size() + before + self.ops.len()) as u64
    }

    /// Rows `offset .. offset + length` as a batch of its own; columns are shared, not copied.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            schema: Arc::clone(&self.schema),
            ops: self.ops[offset..offset + length].to_vec(),
            rows: self.rows.slice(offset, length),
            before: self.before.as_ref().and_then(|b| b.slice(offset, length)),
            absent: self.absent.as_ref().and_then(|a| a.slice(offset, length)),
            origin: self.origin.clone(),
            runs: slice_runs(&self.runs, offset, length),
        }
    }
}

impl BeforeImages {
    fn slice(&self, offset: usize, length: usize) -> Option<Self> {
        let start = self.at.partition_point(|at| (*at as usize) < offset);
        let end = self.at.partition_point(|at| (*at as usize) < offset + length);
        (start < end).then(|| Self {
            at: self.at[start..end].iter().map(|at| at - offset as u32).collect(),
            rows: self.rows.slice(start, end - start),
            key_only: self.key_only,
        })
    }
}

impl AbsentCells {
    fn slice(&self, offset: usize, length: usize) -> Option<Self> {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|c| AbsentColumn { column: c.column, missing: c.missing.slice(offset, length) })
            .filter(|c| c.missing.count_set_bits() > 0)
            .collect();
        (!columns.is_empty()).then_some(Self { columns })
    }

    /// Whether this row lacks any cell.
    pub fn row_is_incomplete(&self, row: usize) -> bool {
        self.columns.iter().any(|c| c.missing.value(row))
    }
}

fn slice_runs(runs: &[Run], offset: usize, length: usize) -> Vec<Run> {
    let (mut start, end) = (0usize, offset + length);
    let mut out = Vec::new();
    for run in runs {
        let stop = start + run.rows as usize;
        let rows = stop.min(end).saturating_sub(start.max(offset));
        if rows > 0 {
            out.push(Run { rows: rows as u32, transaction: Arc::clone(&run.transaction) });
        }
        start = stop;
    }
    out
}

/// Why a table's lake copy can no longer follow from the log alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Divergence {
    /// The table was rewritten (`ALTER … TYPE … USING`, a volatile default): rows changed without being sent.
    Rewritten,
    /// The catalogue no longer tells which column is which at this place of the log.
    SchemaUnknown,
    /// Another reason, in words.
    Other(String),
}

/// What a source's log says, in order.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// Changes. Their transactions may still be open (`TransactionInfo::end` is `None`).
    Rows(ChangeBatch),
    /// A table has become another version.
    Schema(SchemaChange),
    /// All rows of a table went.
    Truncate {
        /// The table.
        table: TableId,
        /// The leaf or shard, where tables are merged.
        origin: Option<OriginId>,
        /// Its transaction.
        transaction: Arc<TransactionInfo>,
    },
    /// Rows changed that the log does not carry. Effective at once.
    Diverged {
        /// The table.
        table: TableId,
        /// Why.
        why: Divergence,
    },
    /// A transaction ended. The only place where an epoch may be cut. Closed transactions before it in the log
    /// may have been folded into it: everything up to `end.position` has been delivered when this comes.
    /// For a transaction that was sent while open: its held rows become real, at this place of the order.
    Commit {
        /// The transaction.
        transaction: TransactionId,
        /// Its end.
        end: TransactionEnd,
    },
    /// Of a transaction, or a part of it, that was sent while open: its held rows are dropped.
    Abort(TransactionRef),
    /// Nothing happened up to this position.
    Idle {
        /// All that ends before it has been delivered.
        position: Position,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u64, rows: u32) -> Run {
        let transaction = TransactionRef { id: TransactionId(id), part: None };
        Run { rows, transaction: Arc::new(TransactionInfo { transaction, end: None }) }
    }

    #[test]
    fn slicing_runs_keeps_counts() {
        let runs = [run(1, 3), run(2, 1), run(3, 4)];
        let counts = |offset, length| -> Vec<(u64, u32)> {
            slice_runs(&runs, offset, length)
                .iter()
                .map(|r| (r.transaction.transaction.id.0, r.rows))
                .collect()
        };
        assert_eq!(counts(0, 8), vec![(1, 3), (2, 1), (3, 4)]);
        assert_eq!(counts(2, 3), vec![(1, 1), (2, 1), (3, 1)]);
        assert_eq!(counts(4, 4), vec![(3, 4)]);
        assert_eq!(counts(3, 0), vec![]);
    }
}
