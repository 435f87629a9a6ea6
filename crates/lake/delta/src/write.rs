//! The sink's side of an epoch: rows in, staged work out, one commit.
//!
//! Rows, positions and the key index are `lakeward-files`'; actions and the log are [`crate::commit`]'s. This file brings the
//! two together. Deliberately absent: retries, and the order of an epoch's steps.
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{
    ChangeBatch, CommitMark, CommitOutcome, CommitPermit, Error, ErrorKind, Evolution, OriginId,
    Result, SchemaChange, SinkTable, Slot, Staged, TableVersion, Upkeep, UpkeepDone, UpkeepOutcome,
    UpkeepPolicy,
};

use crate::action::{Action, Add};
use crate::commit::{FileChange, Kind, Outcome, Request, now_ms};
use crate::maintain;
use crate::open::layout;
use crate::schema::fill_of;
use crate::stage::Payload;
use crate::state::State;
use crate::table::{DeltaTable, Suspect, fate};
use crate::{commit::Fate, text};

#[async_trait]
impl SinkTable for DeltaTable {
    async fn last_commit(&mut self) -> Result<Option<CommitMark>> {
        self.refresh().await?;
        self.mark()
    }

    fn version(&self) -> Option<TableVersion> {
        let visible = match self.slot {
            Slot::Visible => self.state.as_ref(),
            Slot::Copy(_) => self.visible.as_ref(),
        };
        visible.map(|state| TableVersion(state.version.to_string()))
    }

    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.schema.identity != self.shape.identity {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the lake table follows another table of this name",
            )
            .with("table", &self.committer.table)
            .remedied("`lakeward resync` the table"));
        }
        let of = |column| batch.schema.column(column).map(|(index, _)| index);
        let columns: Vec<Option<usize>> = self.shape.fields.iter().map(|f| of(f.column)).collect();
        let batch = text::batch(batch)?;
        self.wrote = true;
        self.writer.write(&batch, &columns, &self.content).await
    }

    async fn truncate(&mut self, origin: Option<OriginId>) -> Result<()> {
        if origin.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "truncating one origin of a merged table is not supported",
            )
            .with("table", &self.committer.table));
        }
        self.writer.truncate().await?;
        (self.truncated, self.wrote) = (true, false);
        Ok(())
    }

    async fn evolve(&mut self, change: &SchemaChange) -> Result<Evolution> {
        let growth = self.committer.growth;
        let next = self.shape.becoming(&change.after, growth, |index| fill_of(change, index))?;
        if next.shape == self.shape {
            return Ok(Evolution::Unchanged);
        }
        let layout = layout(&self.committer, &next.shape)?;
        self.rekeyed |= !layout.same_identity(self.writer.layout());
        self.writer.evolve(layout, &mut self.content).await?;
        self.shape = next.shape;
        self.pending = Some(Arc::clone(&change.after));
        self.source = Arc::clone(&change.after);
        kill::reached(KillPoint::SchemaChange);
        Ok(match next.reload {
            Some(why) if self.has_rows() => Evolution::NeedsReload(why),
            _ => Evolution::Staged,
        })
    }

    fn buffered_bytes(&self) -> u64 {
        self.writer.buffered_bytes()
    }

    fn index_bytes(&self) -> u64 {
        self.content.index().memory_bytes()
    }

    async fn stage(&mut self) -> Result<Staged> {
        let epoch = self.writer.finish(&self.content).await?;
        (self.truncated, self.wrote) = (false, false);
        let payload = Payload::resolve(self, epoch).await?;
        Ok(payload.staged())
    }

    async fn rebase(&mut self, mut staged: Staged) -> Result<Staged> {
        self.refresh().await?;
        let payload = take(&mut staged)?;
        Ok(payload.rebase(self).await?.staged())
    }

    async fn abandon(&mut self, mut staged: Staged) -> Result<()> {
        let payload = take(&mut staged)?;
        if std::mem::take(&mut self.rekeyed)
            && let Some(state) = self.state.clone()
        {
            self.reindex(&state).await?;
        }
        match fate(&payload.sent).await {
            Ok(Fate::Past) => return payload.delete(&self.committer.store).await,
            Ok(Fate::Stands) => {}
            Ok(Fate::Open) | Err(_) => {
                let suspect: Suspect = payload.suspect();
                self.suspects.push(suspect);
            }
        }
        Ok(())
    }

    async fn commit(&mut self, mut staged: Staged, permit: CommitPermit) -> CommitOutcome {
        let mut payload = match take(&mut staged) {
            Ok(payload) => payload,
            Err(error) => return CommitOutcome::Failed { staged, error },
        };
        let outcome = match self.attempt(&mut payload, &permit).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Outcome::Lost,
            // An earlier attempt may stand: only a look at the table can tell.
            Err(error) if !payload.sent.is_empty() => Outcome::Unknown(error),
            Err(error) => Outcome::Failed(error),
        };
        match outcome {
            Outcome::Committed(actions, print) => {
                self.publish(actions, print, &payload, &permit).await;
                CommitOutcome::Committed(permit.mark().clone())
            }
            Outcome::Lost => {
                let table_version = self.version().map(|v| v.0).unwrap_or_default();
                CommitOutcome::Conflict { staged: payload.staged(), table_version }
            }
            Outcome::Unknown(error) => CommitOutcome::Unknown { staged: payload.staged(), error },
            Outcome::Failed(error) => CommitOutcome::Failed { staged: payload.staged(), error },
        }
    }

    async fn upkeep(&mut self, policy: &UpkeepPolicy) -> Result<Option<Box<dyn Upkeep>>> {
        maintain::plan(self, policy).await
    }

    async fn commit_upkeep(&mut self, done: UpkeepDone) -> Result<UpkeepOutcome> {
        maintain::commit(self, done).await
    }
}

impl DeltaTable {
    /// `None`: the table is not what the work was resolved on.
    async fn attempt(
        &mut self,
        payload: &mut Payload,
        permit: &CommitPermit,
    ) -> Result<Option<Outcome>> {
        self.refresh().await?;
        if payload.base != self.base() || payload.shape != self.shape {
            return Ok(None);
        }
        let promotes = self.promotes(permit);
        let visible_log = self.visible_log();
        let request = Request {
            log: if promotes { &visible_log } else { &self.log },
            base: if promotes { self.visible.as_ref() } else { self.state.as_ref() },
            change: if promotes { self.promotion(payload) } else { payload.change.clone() },
            kind: Kind::Epoch { mark: permit.mark(), shape: &self.shape },
        };
        let sent = self.committer.send(request).await;
        if let Outcome::Unknown(_) = sent.outcome {
            payload.sent.push(sent.trace);
        }
        Ok(Some(sent.outcome))
    }

    fn promotes(&self, permit: &CommitPermit) -> bool {
        permit.promote() && self.slot != Slot::Visible
    }

    /// All that the visible table has goes, all that the copy has with this epoch comes.
    fn promotion(&self, payload: &Payload) -> FileChange {
        let now = now_ms();
        let mut coming: BTreeMap<&str, Add> = BTreeMap::new();
        for (path, add) in self.state.iter().flat_map(|copy| &copy.files) {
            coming.insert(path, Add { data_change: true, ..add.as_ref().clone() });
        }
        for remove in &payload.change.removed {
            coming.remove(remove.path.as_str());
        }
        for add in &payload.change.added {
            coming.insert(&add.path, add.clone());
        }
        let going = self.visible.iter().flat_map(|visible| visible.files.values());
        FileChange {
            added: coming.into_values().collect(),
            removed: going.map(|add| add.removed(now, true)).collect(),
        }
    }

    /// The commit stands: state, files, index and shape follow it.
    async fn publish(
        &mut self,
        actions: Vec<Action>,
        print: u64,
        payload: &Payload,
        permit: &CommitPermit,
    ) {
        let promoted = if self.promotes(permit) { Some(self.slot) } else { None };
        if promoted.is_some() {
            self.state = self.visible.take();
            self.take_place().await;
        }
        self.take_in(actions, print);
        self.pending = None;
        self.rekeyed = false;
        self.content.publish(&payload.epoch).await;
        self.spent.count(&self.content, &payload.epoch);
        kill::reached(KillPoint::IndexPublish);
        self.name_files();
        self.checkpoint();
        if !self.suspects.is_empty()
            && let Some(state) = self.state.clone()
        {
            self.settle(&state).await;
        }
        if let Some(Slot::Copy(generation)) = promoted {
            self.sweep_copy(generation).await;
        }
    }

    /// Takes a commit of ours in that stands.
    pub(crate) fn take_in(&mut self, actions: Vec<Action>, print: u64) {
        match &mut self.state {
            Some(state) => {
                state.apply(state.version + 1, actions);
            }
            None => self.state = State::first(0, actions),
        }
        if let Some(state) = &mut self.state {
            state.print = Some(print);
        }
    }
}

fn take(staged: &mut Staged) -> Result<Payload> {
    let payload = std::mem::replace(&mut staged.payload, Box::new(()));
    payload
        .downcast()
        .map(|payload| *payload)
        .map_err(|_| Error::new(ErrorKind::Bug, "staged work of another sink came to be committed"))
}
