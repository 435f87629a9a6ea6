//! What happens between epochs: tables come, loads begin, schemas drift, copies are made. The slow part runs in side
//! tasks that report as notes; the session changes only while no lane holds uncommitted work.
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lakeward_core::{
    Chunk, Drift, Error, Position, Result, Retry, Slot, Source, TableId, TableSchema,
};

use crate::capture::load::Load;
use crate::stream::queue::Item;
use crate::write::lane::{Lane, Opening};

use super::session::{Between, LaneKey, Session};
use super::status::{TablePhase, TableStatus};

/// How often the source's catalogue is looked at: for new tables and for changes that no row announces.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// A table whose load can begin.
pub(super) struct Planned {
    schema: Arc<TableSchema>,
    chunks: Vec<Chunk>,
    copy: bool,
}

/// What a side task found.
pub(super) enum Note {
    /// The tables that the source has now, and the head of its log.
    Discovered(Result<(Vec<Arc<TableSchema>>, Position)>),
    /// A load can begin.
    Planned(Planned),
    /// A load cannot begin now.
    PlanFailed { tables: Vec<TableId>, error: Error },
    /// What a table has become.
    Drifted { key: LaneKey, found: Result<Option<Drift>> },
    /// Everything delivered before is visible to new snapshots.
    BarrierPassed { lanes: HashSet<LaneKey>, passed: Result<()> },
    /// Upkeep has run.
    Upkept(super::upkeep::Upkept),
}

impl Session<'_> {
    /// Looks at the catalogue every few seconds.
    pub(super) fn watch(&mut self) {
        let due = self.watched_at.is_none_or(|at| at.elapsed() >= WATCH_EVERY);
        if !due || self.watching || self.drain_by.is_some() || self.finishing.is_some() {
            return;
        }
        self.watching = true;
        self.watched_at = Some(Instant::now());
        let source = Arc::clone(&self.cx.source);
        self.side(async move {
            let found = async { Ok((source.discover().await?, source.head().await?)) };
            Note::Discovered(found.await)
        });
    }

    /// Runs something beside the session; what it finds comes back as a note.
    pub(super) fn side(&mut self, work: impl Future<Output = Note> + Send + 'static) {
        let notes = self.notes.clone();
        self.tasks.spawn(async move {
            let _ = notes.send(work.await).await;
        });
    }

    /// Lanes whose load goes on may read only what sees everything that an earlier process was given.
    pub(super) fn wait_for_barrier(&mut self) {
        let lanes = self.awaiting_barrier.clone();
        let source = Arc::clone(&self.cx.source);
        self.side(async move { Note::BarrierPassed { lanes, passed: source.barrier().await } });
    }

    /// Takes a note in.
    pub(super) fn note(&mut self, note: Note) -> Result<()> {
        match note {
            Note::Discovered(found) => {
                self.watching = false;
                let (tables, head) = found?;
                self.head = Some(head);
                self.discovered(tables);
            }
            Note::Planned(planned) => self.between.push_back(Between::Begin(planned)),
            Note::PlanFailed { tables, error } => {
                if error.kind().retry() != Retry::Backoff {
                    return Err(error);
                }
                tracing::warn!(%error, "a load could not be prepared; trying again");
                for table in tables {
                    self.planning.remove(&table);
                }
            }
            Note::Drifted { key, found } => {
                self.drifting.remove(&key);
                if let Some(drift) = found? {
                    self.between.push_back(Between::Drifted { key, drift });
                }
            }
            Note::BarrierPassed { lanes, passed } => {
                passed?;
                self.awaiting_barrier.retain(|lane| !lanes.contains(lane));
            }
            Note::Upkept(upkept) => self.between.push_back(Between::Upkept(upkept)),
        }
        Ok(())
    }

    fn discovered(&mut self, tables: Vec<Arc<TableSchema>>) {
        let now = tables.iter().map(|t| (t.table.clone(), t.identity.clone())).collect();
        self.discovered = Some(now);
        let (mut new, mut remade) = (Vec::new(), Vec::new());
        for schema in tables {
            if self.planning.contains(&schema.table) {
                continue;
            }
            match self.ledger.state().schemas.get(&schema.table) {
                None => new.push(schema),
                Some(known) if known.identity != schema.identity => remade.push(schema),
                Some(_) => self.look_for_drift(&schema),
            }
        }
        self.plan(new, false);
        self.plan(remade, true);
    }

    fn look_for_drift(&mut self, now: &Arc<TableSchema>) {
        let moved: Vec<_> = self
            .lanes
            .iter()
            .filter(|((table, _), _)| *table == now.table)
            .filter(|(_, l)| l.schema.version != now.version || l.schema.note != now.note)
            .map(|(key, lane)| (key.clone(), Arc::clone(&lane.schema)))
            .collect();
        for (key, known) in moved {
            if self.drifting.insert(key.clone()) {
                let source = Arc::clone(&self.cx.source);
                self.side(async move { Note::Drifted { key, found: source.drift(&known).await } });
            }
        }
    }

    /// Prepares loads in a side task: the log carries the tables, a barrier, then the chunks.
    fn plan(&mut self, tables: Vec<Arc<TableSchema>>, copy: bool) {
        if tables.is_empty() || self.drain_by.is_some() {
            return;
        }
        self.delivered.get_or_insert_default();
        self.planning.extend(tables.iter().map(|t| t.table.clone()));
        let source = Arc::clone(&self.cx.source);
        let rows = self.cx.options.rows_per_chunk;
        let notes = self.notes.clone();
        self.tasks.spawn(async move {
            let mut left: Vec<TableId> = tables.iter().map(|t| t.table.clone()).collect();
            let prepared = prepare(source.as_ref(), &tables).await;
            for schema in tables {
                let planned = match &prepared {
                    Ok(()) => source.split(&schema, rows).await,
                    Err(_) => break,
                };
                match planned {
                    Ok(chunks) => {
                        left.retain(|t| *t != schema.table);
                        let planned = Note::Planned(Planned { schema, chunks, copy });
                        let _ = notes.send(planned).await;
                    }
                    Err(error) => {
                        let tables = std::mem::take(&mut left);
                        let _ = notes.send(Note::PlanFailed { tables, error }).await;
                        return;
                    }
                }
            }
            if let Err(error) = prepared {
                let _ = notes.send(Note::PlanFailed { tables: left, error }).await;
            }
        });
    }

    /// Tables of which the ledger says that they must be loaded again, and for which no copy is under way that can still
    /// become right.
    pub(super) fn reload_diverged(&mut self) {
        let copied: HashSet<TableId> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.slot != Slot::Visible && lane.diverged.is_none())
            .map(|((table, _), _)| table.clone())
            .collect();
        for ((table, _), lane) in &self.lanes {
            if let (Some(why), false) = (&lane.diverged, copied.contains(table)) {
                let why = why.clone();
                self.between.push_back(Between::Reload { table: table.clone(), why });
            }
        }
    }

    /// Does what had to wait until no lane holds uncommitted work.
    pub(super) async fn between_epochs(&mut self) -> Result<()> {
        if self.between.is_empty() || self.finishing.is_some() || !self.clean() {
            return Ok(());
        }
        for _ in 0..self.between.len() {
            let Some(next) = self.between.pop_front() else { break };
            if !self.clean() {
                self.between.push_front(next);
                break;
            }
            match next {
                Between::Begin(planned) => self.begin(planned).await?,
                Between::Reload { table, why } => self.begin_reload(table, &why),
                Between::Drifted { key, drift } => self.drifted(key, drift).await?,
                Between::Upkept(upkept) => self.commit_upkeep(upkept).await?,
                Between::Compact(asked) => self.plan_compaction(asked).await?,
            }
        }
        Ok(())
    }

    fn begin_reload(&mut self, table: TableId, why: &str) {
        if self.planning.contains(&table) {
            return;
        }
        let newest = self.lanes.iter().rfind(|((t, _), _)| *t == table);
        let Some((_, lane)) = newest else { return };
        if self.discovered.is_none() {
            let why = why.to_owned();
            self.between.push_back(Between::Reload { table, why });
            return;
        }
        if !self.is_at_source(lane) {
            tracing::warn!(%table, why, "the table is not at the source under this name; it is left as it is");
            return;
        }
        tracing::info!(%table, why, "loading a new copy");
        self.plan(vec![Arc::clone(&lane.schema)], true);
    }

    /// Begins a load: its plan goes into the ledger, its lane is opened.
    async fn begin(&mut self, planned: Planned) -> Result<()> {
        let Planned { schema, chunks, copy } = planned;
        let table = schema.table.clone();
        self.planning.remove(&table);
        let schema = self.as_followed(&schema);
        let generation = self.ledger.state().tables.get(&table).map_or(1, |t| t.next_generation());
        let older = if copy { self.leave_older_copies(&schema.table) } else { Vec::new() };
        let slot = if copy { Slot::Copy(generation) } else { Slot::Visible };
        let mut sink = self.cx.sink.open_table(&schema, slot).await?;
        // Before the ledger says that the load is ours: a mark that it does not know must stay a refusal.
        let mark = sink.last_commit().await?;
        if let Some(found) = &mark {
            return Err(foreign_mark(found));
        }
        let plan = self.ledger.plan(&schema, generation, copy, &chunks).await?;
        // Only now does nobody go on with them: what a crash leaves of a copy must never be opened.
        for generation in older {
            self.cx.sink.drop_copy(&schema, generation).await?;
        }
        tracing::info!(%table, generation, chunks = chunks.len(), "a load begins");
        let load = Some(Load::new(plan, chunks, None, None));
        let behaviour = self.cx.options.schema_change(&table);
        let opening = Opening { schema, slot, generation, sink, mark, load, behaviour };
        let lane = Lane::new(opening, &self.spill_folder());
        self.lanes.insert((table, generation), lane);
        Ok(())
    }

    /// A table that is followed keeps the schema that the log last gave it: drift is noticed and applied by itself.
    fn as_followed(&self, schema: &Arc<TableSchema>) -> Arc<TableSchema> {
        self.lanes
            .iter()
            .find(|((table, _), lane)| {
                *table == schema.table && lane.schema.identity == schema.identity
            })
            .map_or_else(|| Arc::clone(schema), |(_, lane)| Arc::clone(&lane.schema))
    }

    /// An older copy under way is given up, and so is a visible table that was still being loaded. Returns the copies'
    /// generations; they are still there.
    fn leave_older_copies(&mut self, table: &TableId) -> Vec<u32> {
        let left: Vec<LaneKey> = self
            .lanes
            .iter()
            .filter(|((t, _), lane)| {
                t == table && (lane.slot != Slot::Visible || lane.load.is_some())
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut copies = Vec::new();
        for key in left {
            let lane = self.lanes.remove(&key);
            for read in self.reads.values().filter(|r| r.lane == key) {
                read.task.abort();
            }
            self.reads.retain(|_, read| read.lane != key);
            if let Some(Slot::Copy(generation)) = lane.map(|l| l.slot) {
                copies.push(generation);
            }
        }
        copies
    }

    /// Applies a schema that no row announced, once the log has passed what the catalogue look-up saw.
    async fn drifted(&mut self, key: LaneKey, drift: Drift) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        let known = &drift.change.before;
        if lane.schema.version != known.version || lane.schema.note != known.note {
            return Ok(());
        }
        if !self.covers(&self.through, &drift.seen_by) {
            self.between.push_back(Between::Drifted { key, drift });
            return Ok(());
        }
        tracing::info!(table = %key.0, "the catalogue shows another schema than the log");
        let table = key.0.clone();
        let reload = lane_apply(self, &key, drift.change).await?;
        let why = drift.diverged.map(|why| format!("{why:?}")).or(reload);
        if let Some(why) = why {
            self.reload(table, why);
        }
        Ok(())
    }

    /// Shows progress.
    pub(super) fn show(&mut self) {
        let tables = self.table_status();
        let lag_seconds = match self.oldest_pending {
            Some(at) => SystemTime::now().duration_since(at).unwrap_or_default().as_secs_f64(),
            None => 0.0,
        };
        let committed = self.ledger.state().position.clone();
        let lag_bytes =
            self.head.as_ref().zip(committed).and_then(|(head, at)| match self.covers(&at, head) {
                true => Some(0),
                false => self.cx.source.distance_bytes(&at, head),
            });
        let (held, spilled) = (self.held.memory_bytes(), self.held.disk_bytes());
        self.cx.status.update(|s| {
            s.tables = tables;
            s.lag_seconds = Some(lag_seconds);
            s.lag_bytes = lag_bytes;
            s.held_bytes = held;
            s.spilled_bytes = spilled;
        });
    }

    fn table_status(&self) -> Vec<TableStatus> {
        let planning = self.planning.iter().filter(|t| !self.lanes.keys().any(|(l, _)| l == *t));
        let mut tables: Vec<TableStatus> = planning.map(planning_status).collect();
        tables.extend(self.lanes.values().map(|lane| self.lane_status(lane)));
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        tables
    }

    fn lane_status(&self, lane: &Lane) -> TableStatus {
        let chunks = lane.load.as_ref().map(Load::progress);
        let phase = match (&lane.load, lane.slot) {
            (_, Slot::Copy(_)) => TablePhase::Resyncing,
            (Some(_), _) => TablePhase::Loading,
            (None, _) => TablePhase::Following,
        };
        TableStatus {
            table: lane.table().to_string(),
            phase,
            chunks,
            rows_loaded: lane.rows_loaded,
            rows_written: lane.rows_written,
            load_eta_seconds: chunks.and_then(|c| eta_seconds(c, self.started.elapsed())),
            version: lane.sink.version(),
            note: lane.diverged.clone(),
            index_bytes: lane.sink.index_bytes(),
        }
    }
}

async fn lane_apply(
    session: &mut Session<'_>,
    key: &LaneKey,
    change: lakeward_core::SchemaChange,
) -> Result<Option<String>> {
    match session.lanes.get_mut(key) {
        Some(lane) => lane.apply(Item::Schema(change)).await,
        None => Ok(None),
    }
}

async fn prepare(source: &dyn Source, tables: &[Arc<TableSchema>]) -> Result<()> {
    source.publish(tables).await?;
    source.barrier().await
}

fn planning_status(table: &TableId) -> TableStatus {
    TableStatus {
        table: table.to_string(),
        phase: TablePhase::Planning,
        chunks: None,
        rows_loaded: 0,
        rows_written: 0,
        load_eta_seconds: None,
        version: None,
        note: None,
        index_bytes: 0,
    }
}

fn eta_seconds((done, all): (u32, u32), elapsed: Duration) -> Option<u64> {
    let left = u64::from(all.saturating_sub(done));
    (done > 0).then(|| elapsed.as_secs() * left / u64::from(done))
}

pub(super) fn foreign_mark(found: &lakeward_core::CommitMark) -> Error {
    Error::new(
        lakeward_core::ErrorKind::Config,
        "the lake already holds this table, with a mark that this pipeline's ledger does not know",
    )
    .with("table", &found.table)
    .with("pipeline", &found.pipeline)
    .with("epoch", found.epoch)
    .remedied(
        "restore the ledger from a backup of the lake; without one, `lakeward rebuild-ledger` makes it again from the tables' marks",
    )
}
