//! One table, or one invisible copy, being written: the sink's side of an epoch.
//!
//! Rows, positions and the key index are `lakeward-files`'; manifests and the swap are [`crate::commit`]'s. This file
//! brings the two together. Deliberately absent: retries, and the order of an epoch's steps.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{
    ChangeBatch, CommitMark, CommitOutcome, CommitPermit, Error, ErrorKind, Evolution, OriginId,
    Result, SchemaChange, SinkTable, Slot, Staged, TableSchema, TableVersion, Upkeep, UpkeepDone,
    UpkeepOutcome, UpkeepPolicy,
};
use lakeward_files::{EpochOptions, EpochWriter, Head, Identity, TableLayout};

use crate::commit::{Committer, OWNER_PROPERTY, Outcome, Request, delete_quietly};
use crate::maintain;
use crate::metadata::{Line, LiveFile, ManifestCache, TableHead, path_of};
use crate::schema::{Shape, fill_of};
use crate::stage::{self, Payload};

/// Rows are held back up to this many bytes before they are written: enough for the changes of a hot row to meet,
/// little against the smallest memory cap.
const BUFFER_BYTES: u64 = 4 << 20;

/// A table's handle. See [`SinkTable`].
pub(crate) struct IcebergTable {
    pub(crate) committer: Committer,
    pub(crate) line: Line,
    /// Folder of the table in the store.
    pub(crate) folder: String,
    pub(crate) head: Option<TableHead>,
    /// The shape in which rows are written now; lands with the next commit where the table has another.
    pub(crate) shape: Shape,
    /// The source's schema as the engine told it last.
    pub(crate) source: Arc<TableSchema>,
    /// The source's schema behind a shape that has not landed yet.
    pending: Option<Arc<TableSchema>>,
    pub(crate) cache: ManifestCache,
    /// Live data files by path in the store.
    pub(crate) files: HashMap<String, LiveFile>,
    /// Live rows and key index of the line's newest snapshot.
    pub(crate) content: Head,
    writer: EpochWriter,
    target_file_bytes: u64,
    /// All older rows go with this epoch.
    truncated: bool,
    /// The index was made anew for a key that no commit has brought yet.
    rekeyed: bool,
    /// Rows came since the epoch began or was truncated.
    wrote: bool,
    pub(crate) suspects: Vec<Suspect>,
    /// Grows when the files of `content` are numbered anew: work planned before does not fit any more.
    pub(crate) numbering: u64,
    /// Interrupted expiries were looked for.
    pub(crate) swept: bool,
}

/// Files of a commit whose answer was lost. They go when the head has moved past its parent without it.
pub(crate) struct Suspect {
    /// Paths of metadata files, any of which would have made the commit stand.
    pub(crate) metadata: Vec<String>,
    /// Location of the head that the last of them was built on.
    pub(crate) parent: Option<String>,
    pub(crate) paths: Vec<String>,
}

impl IcebergTable {
    /// Opens a table or a copy; reads its keys. Creates nothing.
    pub(crate) async fn open(
        committer: Committer,
        schema: &Arc<TableSchema>,
        slot: Slot,
        target_file_bytes: u64,
    ) -> Result<Self> {
        let line = Line(slot);
        let head = TableHead::load(&committer.store, &committer.catalog, &committer.table).await?;
        let landed = match &head {
            Some(head) => Some(owned_shape(&committer, head)?),
            None => None,
        };
        let shape = match (landed, slot) {
            (None, _) => Shape::first(schema)?,
            (Some(landed), Slot::Visible) => landed,
            (Some(landed), Slot::Copy(_)) => landed.becoming(schema, |_| None)?.shape,
        };
        let folder = match &head {
            Some(head) => path_of(&committer.store, head.metadata.location())?,
            None => crate::folder::choose(&committer).await?,
        };
        let layout = layout(&committer, &shape)?;
        let options = options(&committer, &folder, target_file_bytes);
        let writer = EpochWriter::new(committer.store.clone(), layout, options);
        let mut table = Self {
            committer,
            line,
            folder,
            head: None,
            shape,
            source: Arc::clone(schema),
            pending: (head.is_none() || line != Line(Slot::Visible)).then(|| Arc::clone(schema)),
            cache: ManifestCache::default(),
            files: HashMap::new(),
            content: Head::empty(),
            writer,
            target_file_bytes,
            truncated: false,
            rekeyed: false,
            wrote: false,
            suspects: Vec::new(),
            numbering: 0,
            swept: false,
        };
        if let Some(head) = head {
            table.read_files(&head).await?;
            table.reindex().await?;
            table.head = Some(head);
        }
        table.name_files()?;
        Ok(table)
    }

    /// Brings the handle up to the catalogue's pointer. Returns whether the line itself moved.
    pub(crate) async fn refresh(&mut self) -> Result<bool> {
        let pointer = self.committer.catalog.pointer(&self.committer.table).await?;
        if pointer.as_ref() == self.head.as_ref().map(|h| &h.location) {
            return Ok(false);
        }
        let Some(location) = pointer else { return Err(self.gone()) };
        let head = TableHead::at(&self.committer.store, location).await?;
        if self.head.as_ref().is_some_and(|old| old.metadata.uuid() != head.metadata.uuid()) {
            return Err(self.gone());
        }
        self.settle(&head).await;
        if self.head.as_ref().is_some_and(|old| old.same_line(&head, self.line)) {
            self.head = Some(head);
            return Ok(false);
        }
        self.adopt(head).await?;
        Ok(true)
    }

    async fn adopt(&mut self, head: TableHead) -> Result<()> {
        let landed = owned_shape(&self.committer, &head)?;
        let shape = match &self.pending {
            Some(schema) => landed.becoming(schema, |_| None)?.shape,
            None => landed,
        };
        if shape != self.shape {
            self.reshape(shape)?;
        }
        self.read_files(&head).await?;
        self.reindex().await?;
        self.head = Some(head);
        self.name_files()
    }

    fn reshape(&mut self, shape: Shape) -> Result<()> {
        if !self.writer.is_empty() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "another writer changed the table's columns within an epoch",
            )
            .with("table", &self.committer.table));
        }
        let layout = layout(&self.committer, &shape)?;
        self.writer = EpochWriter::new(self.committer.store.clone(), layout, self.options());
        self.shape = shape;
        Ok(())
    }

    pub(crate) fn options(&self) -> EpochOptions {
        options(&self.committer, &self.folder, self.target_file_bytes)
    }

    fn gone(&self) -> Error {
        Error::new(
            ErrorKind::Corrupt,
            "the table was dropped or replaced behind the pipeline's back",
        )
        .with("table", &self.committer.table)
        .remedied("`lakeward resync` the table")
    }

    /// Lists the live files of the line's newest snapshot.
    pub(crate) async fn read_files(&mut self, head: &TableHead) -> Result<()> {
        let snapshot = head.snapshot(self.line);
        let contents = self.cache.contents(&self.committer.store, head, snapshot.as_ref()).await?;
        self.cache.retain(&contents);
        let store = &self.committer.store;
        let by_path = contents.data_files()?.into_iter();
        self.files =
            by_path.map(|(at, file)| Ok((path_of(store, &at)?, file))).collect::<Result<_>>()?;
        Ok(())
    }

    /// Makes the key index anew from the lake's key columns.
    pub(crate) async fn reindex(&mut self) -> Result<()> {
        let files = stage::live_rows(&self.committer.store, &self.files).await?;
        self.numbering += 1;
        self.content = Head::rebuild(&self.committer.store, self.writer.layout(), files).await?;
        Ok(())
    }

    /// New files carry the writer and the earliest epoch that they can belong to.
    fn name_files(&mut self) -> Result<()> {
        let epoch = self.mark()?.map_or(1, |mark| mark.epoch + 1);
        self.writer.name_files(format!("{}-{epoch}", self.committer.writer));
        Ok(())
    }

    pub(crate) fn mark(&self) -> Result<Option<CommitMark>> {
        self.head.as_ref().map_or(Ok(None), |head| head.mark(self.line))
    }

    pub(crate) fn base(&self) -> Option<i64> {
        self.head.as_ref().and_then(|h| h.snapshot(self.line)).map(|s| s.snapshot_id())
    }

    pub(crate) fn layout(&self) -> &TableLayout {
        self.writer.layout()
    }

    fn has_rows(&self) -> bool {
        self.wrote || (!self.truncated && self.content.live_rows() > 0)
    }

    /// Deletes what lost commits left, where the head has moved on without them.
    pub(crate) async fn settle(&mut self, head: &TableHead) {
        let store = &self.committer.store;
        let log = head.metadata.metadata_log().iter().map(|log| log.metadata_file.as_str());
        let named: HashSet<String> = log
            .chain([head.location.as_str()])
            .filter_map(|location| store.path_of(location))
            .collect();
        let (past, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.suspects)
            .into_iter()
            .partition(|s| s.parent.as_deref() != Some(head.location.as_str()));
        for suspect in past.into_iter().filter(|s| !s.metadata.iter().any(|m| named.contains(m))) {
            delete_quietly(store, &suspect.paths).await;
        }
        self.suspects = still;
    }

    /// Takes the new head in after a commit of ours.
    pub(crate) async fn advance(&mut self, head: TableHead) -> Result<()> {
        self.settle(&head).await;
        self.read_files(&head).await?;
        self.head = Some(head);
        self.name_files()
    }

    async fn attempt(
        &mut self,
        payload: &mut Payload,
        permit: &CommitPermit,
    ) -> Result<Option<Outcome>> {
        self.refresh().await?;
        if payload.base != self.base() || payload.shape != self.shape {
            return Ok(None);
        }
        let landed = match &self.head {
            Some(head) => Some(owned_shape(&self.committer, head)?),
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
            promote: permit.promote() && self.line != Line(Slot::Visible),
            location: &location,
        };
        let attempt = self.committer.snapshot(request, &mut self.cache).await;
        if let Outcome::Unknown(_) = attempt.outcome {
            let metadata: Vec<String> = attempt.written.first().cloned().into_iter().collect();
            payload.sent.extend_from_slice(&metadata);
            payload.parent = self.head.as_ref().map(|h| h.location.clone());
            self.suspects.push(Suspect {
                metadata,
                parent: payload.parent.clone(),
                paths: attempt.written,
            });
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
        }
        self.pending = None;
        self.rekeyed = false;
        self.content.publish(&payload.epoch);
        kill::reached(KillPoint::IndexPublish);
        self.advance(head).await
    }
}

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
        if std::mem::take(&mut self.rekeyed) {
            self.reindex().await?;
        }
        if payload.sent.is_empty() {
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
            Err(error) if !payload.sent.is_empty() => Outcome::Unknown(error),
            Err(error) => Outcome::Failed(error),
        };
        match outcome {
            Outcome::Committed(head) => {
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
    /// Makes the next refresh read everything again.
    fn forget(&mut self) {
        if let Some(head) = &mut self.head {
            head.location.clear();
        }
    }
}

/// The table's shape, if this pipeline made the table.
pub(crate) fn owned_shape(committer: &Committer, head: &TableHead) -> Result<Shape> {
    let owner = head.metadata.properties().get(OWNER_PROPERTY);
    match (Shape::of(&head.metadata).map_err(|e| e.with("table", &committer.table))?, owner) {
        (Some(shape), Some(owner)) if *owner == committer.owner => Ok(shape),
        (_, owner) => Err(Error::new(
            ErrorKind::Config,
            "a table of this name is there that this pipeline did not make",
        )
        .with("table", &committer.table)
        .with("made_by", owner.map_or("another program", String::as_str))
        .remedied("drop that table, or write to another warehouse or catalogue name")),
    }
}

/// Where the rows of a shape lie, and what identifies them.
pub(crate) fn layout(committer: &Committer, shape: &Shape) -> Result<TableLayout> {
    let identity = match shape.key_indices() {
        key if key.is_empty() => Identity::WholeRow,
        key => Identity::Key(key),
    };
    TableLayout::new(committer.table.to_string(), shape.arrow(), identity)
}

fn options(committer: &Committer, folder: &str, target_file_bytes: u64) -> EpochOptions {
    EpochOptions {
        folder: format!("{folder}/data"),
        stem: committer.writer.clone(),
        target_file_bytes,
        buffer_bytes: BUFFER_BYTES,
    }
}

fn take(staged: &mut Staged) -> Result<Payload> {
    let payload = std::mem::replace(&mut staged.payload, Box::new(()));
    payload
        .downcast()
        .map(|payload| *payload)
        .map_err(|_| Error::new(ErrorKind::Bug, "staged work of another sink came to be committed"))
}
