//! One copy of one table in the lake: what the log and the chunks do to it within an epoch.
//!
//! Deliberately absent: when an epoch is cut and how it is committed (`commit::epoch`).
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use lakeward_core::{
    ChangeBatch, CommitMark, Coverage, Error, ErrorKind, Evolution, KeyHash, Op, Position, Result,
    SinkTable, Slot, TableId, TableSchema, hash_keys,
};

use crate::capture::load::{Load, Ticket};
use crate::spec::SchemaBehaviour;
use crate::stream::queue::{Item, SpillQueue};

use super::evolve::{Answer, answer};
use super::moves;

/// Log rows that must wait for a table's one exact snapshot: until it has been read, and until the log has come as far
/// as it saw. Before that the table would show rows from the future, and get them a second time.
struct Deferral {
    queue: SpillQueue,
    exact: Option<Position>,
    read: Option<(Ticket, Position)>,
}

/// One copy of one table, being written.
pub struct Lane {
    /// The source table as the log last described it.
    pub schema: Arc<TableSchema>,
    /// Which copy.
    pub slot: Slot,
    /// Its generation.
    pub generation: u32,
    /// The sink's handle.
    pub sink: Box<dyn SinkTable>,
    /// The last mark known to stand in the table.
    pub mark: Option<CommitMark>,
    /// The load, while it runs.
    pub load: Option<Load>,
    /// Whether the running epoch has work here.
    pub dirty: bool,
    /// Why the rows no longer follow from the log.
    pub diverged: Option<String>,
    /// Rows written since the process began, chunks and log.
    pub rows_written: u64,
    /// Of these, rows of chunks.
    pub rows_loaded: u64,
    behaviour: SchemaBehaviour,
    deferral: Option<Deferral>,
    owing: Vec<RecordBatch>,
}

/// What a lane needs to begin.
pub struct Opening {
    /// The source table.
    pub schema: Arc<TableSchema>,
    /// Which copy.
    pub slot: Slot,
    /// Its generation.
    pub generation: u32,
    /// The sink's handle.
    pub sink: Box<dyn SinkTable>,
    /// The last mark in the table.
    pub mark: Option<CommitMark>,
    /// The load, if one runs.
    pub load: Option<Load>,
    /// What to do when columns change.
    pub behaviour: SchemaBehaviour,
}

impl Lane {
    /// A lane at the beginning of an epoch. `spill`: a folder for rows that must wait.
    pub fn new(opening: Opening, spill: &Path) -> Self {
        let Opening { schema, slot, generation, sink, mark, load, behaviour } = opening;
        let waits = load.as_ref().is_some_and(|l| l.is_whole() && l.progress().0 == 0);
        let deferral = waits.then(|| Deferral {
            queue: SpillQueue::new(
                spill.join(format!("table-{}-{generation}.spill", schema.identity)),
            ),
            exact: None,
            read: None,
        });
        Self {
            schema,
            slot,
            generation,
            sink,
            mark,
            load,
            dirty: false,
            diverged: None,
            rows_written: 0,
            rows_loaded: 0,
            behaviour,
            deferral,
            owing: Vec::new(),
        }
    }

    /// Rows that moved to another key without all their cells while the table was loading: they must be read by key.
    /// Asking takes them.
    pub fn take_owing(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.owing)
    }

    /// The table.
    pub fn table(&self) -> &TableId {
        &self.schema.table
    }

    /// Whether the load may end once the log has passed what its chunks saw. A copy that has diverged makes way for another:
    /// it must not be shown.
    pub fn load_may_end(&mut self, passed: impl Fn(&Position) -> bool) -> bool {
        let right = self.slot == Slot::Visible || self.diverged.is_none();
        right && self.load.as_mut().is_some_and(|load| load.may_end(passed))
    }

    /// Bytes of rows that wait in memory for the exact snapshot.
    pub fn deferred_bytes(&self) -> u64 {
        self.deferral.as_ref().map_or(0, |d| d.queue.memory_bytes())
    }

    /// Moves the rows that wait to disk.
    ///
    /// # Errors
    /// The spill file's.
    pub fn spill(&mut self) -> Result<()> {
        self.deferral.as_mut().map_or(Ok(()), |d| d.queue.spill())
    }

    /// Applies what the log brought, in order. Returns why the table must be loaded again, if it must.
    ///
    /// # Errors
    /// The sink's; `Unsupported` when the columns changed and the pipeline must not follow.
    pub async fn apply(&mut self, item: Item) -> Result<Option<String>> {
        if let Some(deferral) = &mut self.deferral {
            if let Item::Schema(change) = &item {
                self.schema = Arc::clone(&change.after);
            }
            deferral.queue.push(item);
            return Ok(None);
        }
        match item {
            Item::Rows(batch) => self.rows(batch).await.map(|()| None),
            Item::Truncate { origin, .. } => {
                if let Some(load) = &mut self.load {
                    load.overwritten();
                    load.discard_all();
                }
                self.dirty = true;
                self.sink.truncate(origin).await?;
                Ok(None)
            }
            Item::Schema(change) => self.schema_change(change).await,
        }
    }

    async fn rows(&mut self, batch: ChangeBatch) -> Result<()> {
        if let Some(load) = self.load.as_mut().filter(|l| l.in_flight() > 0) {
            load.touch(touched_keys(&batch)?);
        }
        if let Some(load) = &mut self.load {
            load.overwritten();
        }
        let batch = match self.load.is_some() {
            true => {
                let (batch, owing) = moves::settle(batch)?;
                self.owing.extend(owing);
                batch
            }
            false => batch,
        };
        self.rows_written += batch.len() as u64;
        self.dirty = true;
        self.sink.write(batch).await
    }

    async fn schema_change(
        &mut self,
        change: lakeward_core::SchemaChange,
    ) -> Result<Option<String>> {
        let key_moved = key_ids(&self.schema) != key_ids(&change.after);
        let decided = answer(self.behaviour, &change, &self.schema)?;
        self.schema = Arc::clone(&change.after);
        let Answer::Apply(change) = decided else { return Ok(None) };
        if let Some(load) = &mut self.load {
            load.overwritten();
            load.discard_all();
        }
        self.dirty = true;
        match self.sink.evolve(&change).await? {
            Evolution::NeedsReload(why) => Ok(Some(why)),
            _ if key_moved && self.load.is_some() => {
                Ok(Some("its key changed while it was being loaded".into()))
            }
            Evolution::Unchanged | Evolution::Staged => Ok(None),
        }
    }

    /// A read was opened. False: it reads under another schema, or is not wanted; stop it.
    ///
    /// # Errors
    /// The sink's.
    pub async fn opened(
        &mut self,
        ticket: Ticket,
        schema: &TableSchema,
        exact: Option<Position>,
    ) -> Result<bool> {
        let Some(load) = &mut self.load else { return Ok(false) };
        if !load.expects(ticket) {
            return Ok(false);
        }
        if schema.version != self.schema.version {
            load.discard(ticket);
            return Ok(false);
        }
        if let Some(deferral) = &mut self.deferral {
            deferral.exact = Some(exact.ok_or_else(|| {
                Error::new(
                    ErrorKind::Bug,
                    "a table without a key was read without its exact position",
                )
                .with("table", &self.schema.table)
            })?);
            self.dirty = true;
            self.sink.truncate(None).await?;
        }
        Ok(true)
    }

    /// Rows of a chunk came.
    ///
    /// # Errors
    /// The sink's.
    pub async fn chunk_rows(&mut self, ticket: Ticket, rows: RecordBatch) -> Result<()> {
        let Some(load) = self.load.as_ref().filter(|l| l.expects(ticket)) else { return Ok(()) };
        let op = if !load.is_whole() && load.is_first(ticket) { Op::ReadFirst } else { Op::Read };
        let batch = read_batch(&self.schema, rows, op);
        let batch = match load.is_whole() || !load.is_touched() {
            true => Some(batch),
            false => {
                let mask = load.applicable(ticket, &row_keys(&batch)?);
                crate::capture::filter::filter_batch(&batch, &mask)
            }
        };
        let Some(batch) = batch else { return Ok(()) };
        self.rows_written += batch.len() as u64;
        self.rows_loaded += batch.len() as u64;
        self.dirty = true;
        self.sink.write(batch).await
    }

    /// A read is complete. An exact snapshot then waits for the log: [`caught_up`](Self::caught_up).
    pub fn chunk_finished(&mut self, ticket: Ticket, saw: Position) {
        let Some(load) = self.load.as_mut().filter(|l| l.expects(ticket)) else { return };
        match &mut self.deferral {
            Some(deferral) => deferral.read = Some((ticket, saw)),
            None => {
                load.finish(ticket, saw);
                self.dirty = true;
            }
        }
    }

    /// Everything up to `position` has been delivered. If that is as far as the table's exact snapshot saw, the log
    /// rows that waited follow now: those that it did not see. Returns why the table must be loaded again, if it must.
    ///
    /// # Errors
    /// The sink's, the spill file's.
    pub async fn caught_up(
        &mut self,
        position: &Position,
        covers: &(dyn Fn(&Position, &Position) -> Coverage + Sync),
    ) -> Result<Option<String>> {
        let reached = self.deferral.as_ref().is_some_and(|d| {
            let exact = d.exact.as_ref().filter(|_| d.read.is_some());
            exact.is_some_and(|exact| covers(position, exact) == Coverage::Covered)
        });
        if !reached {
            return Ok(None);
        }
        let Some(Deferral { queue, exact: Some(exact), read: Some((ticket, saw)) }) =
            self.deferral.take()
        else {
            return Ok(None);
        };
        if let Some(load) = &mut self.load {
            load.finish(ticket, saw);
        }
        self.dirty = true;
        let mut reload = None;
        for item in queue.drain()? {
            let Some(item) = unseen(item?, &exact, covers) else { continue };
            reload = self.apply(item).await?.or(reload);
        }
        Ok(reload)
    }

    /// A read failed: it will be done again. A table that is read in one snapshot begins anew, its waiting rows kept.
    pub fn chunk_failed(&mut self, ticket: Ticket) {
        if let Some(load) = &mut self.load {
            load.discard(ticket);
        }
        if let Some(deferral) = &mut self.deferral {
            (deferral.exact, deferral.read) = (None, None);
        }
    }
}

fn key_ids(schema: &TableSchema) -> Vec<lakeward_core::ColumnId> {
    schema.key_columns().map(|c| c.id).collect()
}

/// A chunk's rows as a batch.
fn read_batch(schema: &Arc<TableSchema>, rows: RecordBatch, op: Op) -> ChangeBatch {
    ChangeBatch {
        schema: Arc::clone(schema),
        ops: vec![op; rows.num_rows()],
        rows,
        before: None,
        absent: None,
        origin: None,
        runs: Vec::new(),
    }
}

fn keys_of(schema: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
    let columns: Vec<_> =
        schema.key.iter().filter_map(|i| rows.columns().get(*i as usize).cloned()).collect();
    hash_keys(&columns, rows.num_rows())
}

fn row_keys(batch: &ChangeBatch) -> Result<Vec<KeyHash>> {
    keys_of(&batch.schema, &batch.rows)
}

/// The keys that a batch touches: of its rows, and of the before images of rows that changed their key.
fn touched_keys(batch: &ChangeBatch) -> Result<Vec<KeyHash>> {
    let mut keys = row_keys(batch)?;
    if let Some(before) = &batch.before {
        keys.extend(keys_of(&batch.schema, &before.rows)?);
    }
    Ok(keys)
}

/// What an exact snapshot did not see of an item; nothing when it saw all of it.
fn unseen(
    item: Item,
    exact: &Position,
    covers: &(dyn Fn(&Position, &Position) -> Coverage + Sync),
) -> Option<Item> {
    let after = |info: &lakeward_core::TransactionInfo| {
        info.end.as_ref().is_none_or(|end| covers(exact, &end.position) != Coverage::Covered)
    };
    match item {
        Item::Rows(batch) => {
            crate::stream::held::keep_runs(&batch, |run| after(&run.transaction)).map(Item::Rows)
        }
        Item::Truncate { ref transaction, .. } if !after(transaction) => None,
        other => Some(other),
    }
}
