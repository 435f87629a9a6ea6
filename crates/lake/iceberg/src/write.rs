//! The sink's side of an epoch: rows in, staged work out, one commit.
//!
//! Rows, positions and the key index are `lakeward-files`'; manifests and the swap are [`crate::commit`]'s. This file
//! brings the two together. Deliberately absent: retries, and the order of an epoch's steps.
use std::sync::Arc;

use async_trait::async_trait;
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{
    ChangeBatch, CommitMark, CommitOutcome, CommitPermit, Error, ErrorKind, Evolution, OriginId,
    Result, SchemaChange, SinkTable, Slot, Staged, TableVersion, Upkeep, UpkeepDone, UpkeepOutcome,
    UpkeepPolicy,
};

use crate::commit::{Outcome, Request};
use crate::maintain;
use crate::metadata::{Line, TableHead};
use crate::schema::fill_of;
use crate::stage::Payload;
use crate::table::{IcebergTable, Suspect, layout, owned_shape};

#[async_trait]
impl SinkTable for IcebergTable {
    async fn last_commit(&mut self) -> Result<Option<CommitMark>> {
        self.refresh().await?;
        self.mark()
    }

    fn version(&self) -> Option<TableVersion> {
        let snapshot = self.head.as_ref()?.snapshot(Line(Slot::Visible))?;
        Some(TableVersion(snapshot.snapshot_id().to_string()))
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
        let next = self.shape.becoming(&change.after, |index| fill_of(change, index))?;
        if next.shape == self.shape {
            return Ok(Evolution::Unchanged);
        }
        let layout = layout(&self.committer, &next.shape)?;
        self.rekeyed |= !layout.same_identity(self.writer.layout());
        self.writer.evolve(layout, &mut self.content).await?;
        self.way.push(std::mem::replace(&mut self.shape, next.shape));
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
        if std::mem::take(&mut self.rekeyed) {
            self.reindex().await?;
        }
        if !payload.sent {
            return payload.delete(&self.committer.store).await;
        }
        self.suspects.push(payload.suspect());
        Ok(())
    }

    async fn commit(&mut self, mut staged: Staged, permit: CommitPermit) -> CommitOutcome {
        let mut payload = match take(&mut staged) {
            Ok(payload) => payload,
            Err(error) => return CommitOutcome::Failed { staged, error },
        };
        let outcome = self.attempt(&mut payload, &permit).await;
        let outcome = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Outcome::Lost,
            // An earlier attempt may stand: only a look at the table can tell.
            Err(error) if payload.sent => Outcome::Unknown(error),
            Err(error) => Outcome::Failed(error),
        };
        match outcome {
            Outcome::Committed(head) => {
                let stem = self.stem_after(Some(permit.mark()));
                self.writer.name_files(stem.staged());
                // The commit stands whatever comes now. What cannot be read here is read again by the next refresh.
                if let Err(error) = self.publish(head, &payload, &permit).await {
                    tracing::warn!(table = %self.committer.table, %error, "could not read back a commit that stands");
                    self.forget();
                }
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

impl IcebergTable {
    async fn attempt(
        &mut self,
        payload: &mut Payload,
        permit: &CommitPermit,
    ) -> Result<Option<Outcome>> {
        self.refresh().await?;
        let same = payload.base == self.base() && payload.format == self.format();
        if !same || payload.shape != self.shape {
            return Ok(None);
        }
        let landed = match &self.head {
            Some(head) => Some(owned_shape(&self.committer, head, self.line)?),
            None => None,
        };
        let location = self.committer.store.url(&self.folder);
        let request = Request {
            head: self.head.as_ref(),
            line: self.line,
            change: &payload.change,
            replace: false,
            mark: permit.mark(),
            shape: (landed.as_ref() != Some(&self.shape)).then_some(&self.shape),
            way: &self.way,
            promote: permit.promote() && self.line != Line(Slot::Visible),
            location: &location,
        };
        let attempt = self.committer.snapshot(request, &mut self.cache).await;
        if let Outcome::Unknown(_) = attempt.outcome {
            payload.sent = true;
            payload.parent = self.head.as_ref().map(|h| h.location.clone());
            self.suspects.push(Suspect { parent: payload.parent.clone(), paths: attempt.written });
        }
        Ok(Some(attempt.outcome))
    }

    /// The commit stands: files, index and shape follow it.
    async fn publish(
        &mut self,
        head: TableHead,
        payload: &Payload,
        permit: &CommitPermit,
    ) -> Result<()> {
        if permit.promote() {
            self.line = Line(Slot::Visible);
            self.content.take_place(&self.committer.index.home(self.line.0)).await;
        }
        self.pending = None;
        self.way.clear();
        self.rekeyed = false;
        self.content.publish(&payload.epoch).await;
        self.spent.count(&self.content, &payload.epoch);
        kill::reached(KillPoint::IndexPublish);
        self.advance(head).await
    }
}

fn take(staged: &mut Staged) -> Result<Payload> {
    let payload = std::mem::replace(&mut staged.payload, Box::new(()));
    payload
        .downcast()
        .map(|payload| *payload)
        .map_err(|_| Error::new(ErrorKind::Bug, "staged work of another sink came to be committed"))
}
