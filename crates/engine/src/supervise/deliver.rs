//! What log and chunks bring, given to the lanes; and the cut of an epoch.
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use futures::future::try_join_all;
use lakeward_core::kill::{KillPoint, reached};
use lakeward_core::{
    ChangeBatch, Coverage, Error, ErrorKind, Intent, Position, Result, Slot, SourceEvent, TableId,
    TransactionEnd, TransactionInfo,
};

use crate::capture::reader::ChunkEvent;
use crate::commit::epoch::{self, Frame, Part};
use crate::commit::state::{State, TableState};
use crate::stream::held::keep_runs;
use crate::stream::queue::Item;
use crate::write::lane::Lane;

use super::session::{Between, LaneKey, Session};
use super::status::Phase;

impl Session<'_> {
    /// Takes one event of the log in.
    pub(super) async fn event(&mut self, event: SourceEvent) -> Result<()> {
        match event {
            SourceEvent::Rows(batch) => match open_transaction(&batch) {
                Some(id) => self.held.push(id, Item::Rows(batch)),
                None => self.deliver(Item::Rows(batch)).await,
            },
            SourceEvent::Truncate { table, origin, transaction } => {
                let id = transaction.transaction.id;
                let open = transaction.end.is_none();
                let item = Item::Truncate { table, origin, transaction };
                if open { self.held.push(id, item) } else { self.deliver(item).await }
            }
            SourceEvent::Schema(change) => match change.transaction {
                Some(open) => self.held.push(open.id, Item::Schema(change)),
                None => self.deliver(Item::Schema(change)).await,
            },
            SourceEvent::Diverged { table, why } => {
                self.reload(table, format!("{why:?}"));
                Ok(())
            }
            SourceEvent::Commit { transaction, end } => {
                if let Some(items) = self.held.commit(transaction, end.clone())? {
                    for item in items {
                        self.deliver(item?).await?;
                    }
                }
                if let Some(delivered) = &mut self.delivered {
                    delivered.insert(transaction);
                }
                self.ended_at(end).await
            }
            SourceEvent::Abort(aborted) => {
                self.held.abort(aborted);
                Ok(())
            }
            SourceEvent::Idle { position } if self.tail => {
                Err(Error::new(ErrorKind::Bug, "an idle position within a transaction")
                    .with("position", position))
            }
            SourceEvent::Idle { position } => self.passed(position).await,
        }
    }

    async fn ended_at(&mut self, end: TransactionEnd) -> Result<()> {
        if self.lanes.values().any(|lane| lane.dirty) {
            self.oldest_pending.get_or_insert(end.committed_at);
        }
        self.passed(end.position).await
    }

    /// Everything up to `position` has been delivered.
    async fn passed(&mut self, position: Position) -> Result<()> {
        self.tail = false;
        if self.finishing.is_some() {
            return self.finish_torn_if_reached(Some(position)).await;
        }
        self.through = position;
        self.caught_up().await
    }

    /// Lets tables go on that waited for the log to come as far as their exact snapshot.
    async fn caught_up(&mut self) -> Result<()> {
        let source = std::sync::Arc::clone(&self.cx.source);
        let covers = move |p: &Position, at: &Position| source.covers(p, at);
        let mut reload = Vec::new();
        for ((table, _), lane) in &mut self.lanes {
            if let Some(why) = lane.caught_up(&self.through, &covers).await? {
                reload.push((table.clone(), why));
            }
        }
        for (table, why) in reload {
            self.reload(table, why);
        }
        Ok(())
    }

    /// Gives committed changes to the lanes; behind the cut of a torn epoch they wait.
    pub(super) async fn deliver(&mut self, item: Item) -> Result<()> {
        self.tail = true;
        self.track(&item);
        let Some(intent) = &self.finishing else { return self.apply(item).await };
        let through = intent.through.clone();
        let (now, later) = self.split_at(&through, item)?;
        if let (Some(later), Some(beyond)) = (later, &mut self.beyond) {
            beyond.push(later);
            if beyond.memory_bytes() > self.cx.options.memory.0 / 4 {
                beyond.spill()?;
            }
        }
        match now {
            Some(now) => self.apply(now).await,
            None => Ok(()),
        }
    }

    /// A read that begins from now on must see this transaction, although its end has perhaps not come yet.
    fn track(&mut self, item: &Item) {
        let Some(delivered) = &mut self.delivered else { return };
        match item {
            Item::Rows(batch) => {
                delivered.extend(batch.runs.iter().map(|run| run.transaction.transaction.id));
            }
            Item::Truncate { transaction, .. } => {
                delivered.insert(transaction.transaction.id);
            }
            Item::Schema(_) => {}
        }
    }

    /// What of an item belongs to all that ends at `through`, and what comes behind.
    fn split_at(&self, through: &Position, item: Item) -> Result<(Option<Item>, Option<Item>)> {
        let covered = |info: &TransactionInfo| -> Result<bool> {
            let Some(end) = &info.end else { return Ok(false) };
            match self.cx.source.covers(through, &end.position) {
                Coverage::Covered => Ok(true),
                Coverage::After => Ok(false),
                Coverage::OtherIncarnation => Err(other_history(&end.position)),
            }
        };
        let waits = self.beyond.as_ref().is_some_and(|b| !b.is_empty());
        Ok(match item {
            Item::Rows(batch) => {
                for run in &batch.runs {
                    covered(&run.transaction)?;
                }
                let is = |info: &TransactionInfo| covered(info).unwrap_or(false);
                let now = keep_runs(&batch, |run| is(&run.transaction)).map(Item::Rows);
                let later = keep_runs(&batch, |run| !is(&run.transaction)).map(Item::Rows);
                (now, later)
            }
            Item::Truncate { ref transaction, .. } => match covered(transaction)? {
                true => (Some(item), None),
                false => (None, Some(item)),
            },
            // A schema has no place of its own: it goes with the rows that came before it.
            Item::Schema(_) if waits => (None, Some(item)),
            Item::Schema(_) => (Some(item), None),
        })
    }

    async fn apply(&mut self, item: Item) -> Result<()> {
        let (table, identity) = match &item {
            Item::Rows(batch) => (batch.schema.table.clone(), Some(&batch.schema.identity)),
            Item::Truncate { table, .. } => (table.clone(), None),
            Item::Schema(change) => (change.before.table.clone(), Some(&change.before.identity)),
        };
        let identity = identity.cloned();
        self.epoch_is_load = false;
        if let Item::Rows(batch) = &item {
            self.epoch_rows += batch.len() as u64;
            self.epoch_bytes += batch.memory_bytes();
            let rows = batch.len() as u64;
            self.cx.status.update(|s| s.changes += rows);
        }
        if let Item::Schema(change) = &item
            && change.before.table != change.after.table
        {
            self.renamed(&change.before.table, &change.before.identity);
            return Ok(());
        }
        let schema_only = matches!(item, Item::Schema(_));
        let mut reload = None;
        for (key, lane) in self.lanes.iter_mut().filter(|((t, _), _)| *t == table) {
            // Another table may have had this name before.
            if identity.as_ref().is_some_and(|identity| lane.schema.identity != *identity) {
                continue;
            }
            let takes = self.finishing.as_ref().is_none_or(|intent| takes_part(intent, key, lane));
            if takes || schema_only {
                reload = lane.apply(item.clone()).await?.or(reload);
            }
        }
        self.spill_deferred()?;
        if let Some(why) = reload {
            self.reload(table, why);
        }
        Ok(())
    }

    /// A table has another name now. Its old name keeps its rows in the lake and follows nothing; under the new name it
    /// is another table, which the next look at the catalogue finds.
    fn renamed(&mut self, table: &TableId, identity: &lakeward_core::TableIdentity) {
        tracing::warn!(%table, "the table was renamed at the source; its lake table is left as it is");
        for ((name, _), lane) in &mut self.lanes {
            if name == table && lane.schema.identity == *identity {
                lane.diverged = Some("its table has another name at the source".into());
            }
        }
        self.watched_at = None;
    }

    fn spill_deferred(&mut self) -> Result<()> {
        let max = self.cx.options.memory.0 / 8;
        for lane in self.lanes.values_mut().filter(|l| l.deferred_bytes() > max) {
            lane.spill()?;
        }
        Ok(())
    }

    /// Asks for a table to be loaded again between epochs.
    pub(super) fn reload(&mut self, table: TableId, why: String) {
        tracing::warn!(%table, why, "the table must be loaded again");
        for (_, lane) in self.lanes.iter_mut().filter(|((t, _), _)| *t == table) {
            lane.diverged = Some(why.clone());
        }
        self.between.push_back(Between::Reload { table, why });
    }

    /// Takes one event of a chunk reader in.
    pub(super) async fn chunk(&mut self, event: ChunkEvent) -> Result<()> {
        let (ChunkEvent::Opened { ticket, .. }
        | ChunkEvent::Rows { ticket, .. }
        | ChunkEvent::Finished { ticket, .. }
        | ChunkEvent::Failed { ticket, .. }) = &event;
        let ticket = *ticket;
        let Some(read) = self.reads.get(&ticket) else { return Ok(()) };
        let key = read.lane.clone();
        let Some(lane) = self.lanes.get_mut(&key) else {
            self.stop_read(ticket);
            return Ok(());
        };
        match event {
            ChunkEvent::Opened { schema, exact, .. } => {
                // What this snapshot saw, every later one sees too.
                if let Some(delivered) = &mut self.delivered {
                    read.delivered.ids.iter().for_each(|id| {
                        delivered.remove(id);
                    });
                }
                if !lane.opened(ticket, &schema, exact).await? {
                    self.stop_read(ticket);
                    self.pause(key);
                }
            }
            ChunkEvent::Rows { rows, room: _room, .. } => {
                self.epoch_rows += rows.num_rows() as u64;
                self.epoch_bytes += rows.get_array_memory_size() as u64;
                lane.chunk_rows(ticket, rows).await?;
            }
            ChunkEvent::Finished { saw, .. } => {
                lane.chunk_finished(ticket, saw);
                self.reads.remove(&ticket);
                if !self.tail && self.finishing.is_none() {
                    self.caught_up().await?;
                }
            }
            ChunkEvent::Failed { error, .. } => {
                if error.kind().retry() != lakeward_core::Retry::Backoff {
                    return Err(error.with("table", &key.0));
                }
                tracing::warn!(table = %key.0, %error, "a chunk will be read again");
                lane.chunk_failed(ticket);
                self.reads.remove(&ticket);
                self.pause(key);
            }
        }
        Ok(())
    }

    fn stop_read(&mut self, ticket: crate::capture::load::Ticket) {
        if let Some(read) = self.reads.remove(&ticket) {
            read.task.abort();
        }
    }

    /// Lets a lane's reads rest for a moment, and looks at the catalogue soon.
    fn pause(&mut self, key: LaneKey) {
        let until = Instant::now() + std::time::Duration::from_millis(500);
        self.paused.insert(key, until);
        self.watched_at = None;
    }

    /// Completes a torn epoch as soon as everything up to its cut has been delivered.
    pub(super) async fn finish_torn_if_reached(
        &mut self,
        position: Option<Position>,
    ) -> Result<()> {
        let Some(intent) = self.finishing.clone() else { return Ok(()) };
        let position = position.unwrap_or_else(|| self.through.clone());
        if !self.covers(&position, &intent.through) {
            return Ok(());
        }
        tracing::info!(epoch = intent.epoch, "finishing the epoch that was left torn");
        for table in &intent.tables {
            let key = (table.table.clone(), table.generation);
            if let (Some(why), Some(lane)) = (&table.diverged, self.lanes.get_mut(&key)) {
                lane.diverged = Some(why.clone());
                self.between.push_back(Between::Reload { table: key.0, why: why.clone() });
            }
        }
        self.commit_epoch(Some(intent)).await?;
        self.finishing = None;
        self.cx.status.update(|s| s.phase = Phase::Running);
        if let Some(beyond) = self.beyond.take() {
            for item in beyond.drain()? {
                self.apply(item?).await?;
            }
        }
        self.through = position;
        self.tail = false;
        self.caught_up().await
    }

    /// Commits the running epoch, or finishes a torn one.
    pub(super) async fn commit_epoch(&mut self, torn: Option<Intent>) -> Result<()> {
        self.cut_at = Instant::now();
        let through = torn.as_ref().map_or(&self.through, |i| &i.through).clone();
        let state = self.ledger.state();
        let frame = Frame {
            pipeline: self.cx.env.pipeline.clone(),
            sink: self.cx.env.name.clone(),
            writer: self.cx.env.writer.clone(),
            epoch: state.epoch + 1,
            after: state.position.clone(),
            through: through.clone(),
        };
        let chosen = match &torn {
            Some(intent) => self.chosen_by(intent),
            None => self.chosen_now(&through),
        };
        let source = std::sync::Arc::clone(&self.cx.source);
        let passed = |saw: &Position| source.covers(&through, saw) == Coverage::Covered;
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut promoted: BTreeSet<TableId> = BTreeSet::new();
        // Copies first: a copy that becomes visible makes the visible table's own part needless.
        let (copies, visible): (Vec<_>, Vec<_>) = self
            .lanes
            .iter_mut()
            .filter(|(key, _)| chosen.contains(*key))
            .partition(|(_, lane)| matches!(lane.slot, Slot::Copy(_)));
        for (key, lane) in copies {
            let mut part = epoch::stage(lane, source.as_ref()).await?;
            match &torn {
                Some(intent) => {
                    part.promote = intent.tables.iter().any(|t| is(t, key) && t.promote);
                    part.load_ends = part.promote;
                }
                None => {
                    part.load_ends = part.lane.load_may_end(passed);
                    part.promote = part.load_ends;
                }
            }
            if part.promote {
                promoted.insert(key.0.clone());
            }
            parts.push(part);
        }
        let (replaced, visible): (Vec<_>, Vec<_>) =
            visible.into_iter().partition(|(key, _)| promoted.contains(&key.0));
        for (_, lane) in replaced {
            let staged = lane.sink.stage().await?;
            lane.sink.abandon(staged).await?;
            lane.dirty = false;
        }
        let staging = visible.into_iter().map(|(_, lane)| epoch::stage(lane, source.as_ref()));
        for mut part in try_join_all(staging).await? {
            let ends = torn.is_none() && part.lane.load_may_end(passed);
            part.load_ends = ends;
            parts.push(part);
        }
        let bytes: u64 = parts.iter().map(|p| p.staged.bytes).sum();
        if torn.is_none() && !parts.is_empty() {
            let intent = Intent {
                epoch: frame.epoch,
                after: frame.after.clone(),
                through: through.clone(),
                tables: parts.iter().map(Part::intent).collect(),
                routing: self.cx.options.routing_hash.clone(),
            };
            self.ledger.intend(intent).await?;
            reached(KillPoint::Intent);
        }
        try_join_all(parts.into_iter().map(|part| epoch::commit(part, &frame))).await?;
        self.reload_newly_diverged(&chosen);
        self.complete(through, &promoted, bytes).await
    }

    /// Tables of which the staging found that the lake lacks a row.
    fn reload_newly_diverged(&mut self, chosen: &BTreeSet<LaneKey>) {
        let known = &self.ledger.state().tables;
        let found: Vec<_> = self
            .lanes
            .iter()
            .filter(|(key, lane)| chosen.contains(*key) && lane.slot == Slot::Visible)
            .filter(|((table, _), _)| known.get(table).is_none_or(|t| t.diverged.is_none()))
            .filter_map(|((table, _), lane)| Some((table.clone(), lane.diverged.clone()?)))
            .collect();
        let asked = |table: &TableId, between: &Between| matches!(between, Between::Reload { table: t, .. } if t == table);
        for (table, why) in found {
            if !self.between.iter().any(|b| asked(&table, b)) {
                self.reload(table, why);
            }
        }
    }

    fn chosen_by(&self, intent: &Intent) -> BTreeSet<LaneKey> {
        let part = |key: &LaneKey, lane: &Lane| takes_part(intent, key, lane);
        self.lanes.iter().filter(|(key, lane)| part(key, lane)).map(|(k, _)| k.clone()).collect()
    }

    fn chosen_now(&mut self, through: &Position) -> BTreeSet<LaneKey> {
        let source = &self.cx.source;
        let passed = |saw: &Position| source.covers(through, saw) == Coverage::Covered;
        self.lanes
            .iter_mut()
            .filter_map(|(key, lane)| {
                let ends = lane.load_may_end(passed);
                (lane.dirty || ends).then(|| key.clone())
            })
            .collect()
    }

    async fn complete(
        &mut self,
        through: Position,
        promoted: &BTreeSet<TableId>,
        bytes: u64,
    ) -> Result<()> {
        let before = self.ledger.state().clone();
        for table in promoted {
            self.promote(table);
        }
        let next = self.next_state(&before);
        self.ledger.complete(&next, through.clone()).await?;
        reached(KillPoint::Done);
        self.cx.source.confirm(&through).await?;
        reached(KillPoint::Confirm);
        self.forget_plans(&before).await?;
        let interval = self.cx.options.commit_interval.0;
        self.cut_at = gathers_since(self.cut_at, Instant::now(), interval);
        (self.epoch_rows, self.epoch_bytes, self.oldest_pending) = (0, 0, None);
        self.epoch_is_load = true;
        if self.lanes.values().all(|l| l.load.is_none()) && self.planning.is_empty() {
            self.delivered = None;
        }
        tracing::debug!(epoch = next.epoch, position = %through, bytes, "epoch complete");
        self.cx.status.update(|s| {
            s.epoch = next.epoch;
            s.position = Some(through.to_string());
            s.bytes += bytes;
            s.committed_at = Some(SystemTime::now());
            s.last_error = None;
        });
        self.plan_upkeep().await
    }

    /// The copy is the visible table now; the lane of the old one ends.
    fn promote(&mut self, table: &TableId) {
        self.lanes.retain(|(t, _), lane| t != table || lane.slot != Slot::Visible);
        for (_, lane) in self.lanes.iter_mut().filter(|((t, _), _)| t == table) {
            lane.slot = Slot::Visible;
        }
        tracing::info!(%table, "the new copy is the visible table now");
    }

    fn next_state(&self, before: &State) -> State {
        let mut next = before.clone();
        next.epoch += 1;
        for lane in self.lanes.values() {
            let table = lane.table().clone();
            let state = next.tables.entry(table.clone()).or_insert_with(|| TableState {
                table: table.clone(),
                schema: lane.schema.version,
                visible: 0,
                loading: None,
                copy: None,
                diverged: None,
                version: None,
            });
            state.schema = lane.schema.version;
            next.schemas.insert(table, lane.schema.as_ref().clone());
            if lane.slot != Slot::Visible {
                if let Some(copy) = state.copy.as_mut().filter(|c| c.generation == lane.generation)
                {
                    copy.diverged = lane.diverged.clone();
                }
                continue;
            }
            if state.copy.as_ref().is_some_and(|c| c.generation <= lane.generation) {
                state.copy = None;
            }
            state.visible = lane.generation;
            state.loading = lane.load.as_ref().map(|l| l.plan.clone());
            state.diverged = lane.diverged.clone();
            state.version = lane.sink.version();
        }
        next
    }

    /// Deletes the plans that no load needs any more.
    async fn forget_plans(&mut self, before: &State) -> Result<()> {
        let used = |state: &State, plan: &str| {
            state.tables.values().any(|t| {
                t.loading.as_deref() == Some(plan)
                    || t.copy.as_ref().is_some_and(|c| c.chunks == plan)
            })
        };
        for table in before.tables.values() {
            let plans = table.loading.iter().chain(table.copy.as_ref().map(|c| &c.chunks));
            for plan in plans.filter(|plan| !used(self.ledger.state(), plan)) {
                self.ledger.forget_chunks(plan).await?;
            }
        }
        Ok(())
    }
}

/// From when on the next epoch is taken to gather: since the cut of the one before, so that a commit's own time is not
/// added to every interval. But behind a commit it gathers for half an interval at least, and for as long as the commit
/// took: with a slow lake at least half of the time goes into reading. A stalled commit counts as some intervals only.
fn gathers_since(cut: Instant, committed: Instant, interval: Duration) -> Instant {
    let took = committed.saturating_duration_since(cut).min(interval * STALL_INTERVALS);
    let earliest = (committed + took.max(interval / 2)).checked_sub(interval);
    earliest.map_or(cut, |earliest| earliest.max(cut))
}

/// For how many intervals an epoch gathers at most after a slow commit.
const STALL_INTERVALS: u32 = 4;

fn is(table: &lakeward_core::IntentTable, key: &LaneKey) -> bool {
    table.table == key.0 && table.generation == key.1
}

/// Whether a lane still owes its part of a torn epoch.
fn takes_part(intent: &Intent, key: &LaneKey, lane: &Lane) -> bool {
    intent.tables.iter().any(|t| is(t, key))
        && lane.mark.as_ref().is_none_or(|m| m.epoch < intent.epoch)
}

/// The open transaction that a batch belongs to; `None` when its transactions have ended.
fn open_transaction(batch: &ChangeBatch) -> Option<lakeward_core::TransactionId> {
    let first = &batch.runs.first()?.transaction;
    first.end.is_none().then_some(first.transaction.id)
}

fn other_history(position: &Position) -> Error {
    Error::new(ErrorKind::LogGone, "the log belongs to another history of the server")
        .with("position", position)
        .remedied("`lakeward resync --all` loads the tables again from this server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_gathers_for_half_an_interval_and_for_as_long_as_the_commit_before_took() {
        let cut = Instant::now();
        let interval = Duration::from_millis(200);
        for (took, expected) in
            [(0, 200), (50, 150), (100, 100), (150, 150), (600, 600), (5_000, 800)]
        {
            let committed = cut + Duration::from_millis(took);
            let next = gathers_since(cut, committed, interval) + interval;
            assert_eq!(next - committed, Duration::from_millis(expected), "{took} ms");
        }
    }
}
