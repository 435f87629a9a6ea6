//! What a handle knows of its table: head, shape, live files, key index; and how it keeps up with the catalogue.
//!
//! Deliberately absent: the epoch. See [`crate::write`].
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::FormatVersion;
use lakeward_core::{CommitMark, Error, ErrorKind, Result, Slot, TableSchema};
use lakeward_files::{EpochOptions, EpochWriter, Head, Identity, Spent, Stem, TableLayout};

use crate::commit::{Committer, OWNER_PROPERTY, delete_quietly};
use crate::maintain::Waiting;
use crate::metadata::{Line, LiveFile, ManifestCache, TableHead, path_of};
use crate::schema::Shape;
use crate::{deletes, folder};

/// Rows are held back up to this many bytes before they are written: enough for the changes of a hot row to meet,
/// little against the smallest memory cap.
const BUFFER_BYTES: u64 = 4 << 20;

/// A table's handle. See [`lakeward_core::SinkTable`].
pub(crate) struct IcebergTable {
    pub(crate) committer: Committer,
    pub(crate) line: Line,
    /// Folder of the table in the store.
    pub(crate) folder: String,
    pub(crate) head: Option<TableHead>,
    /// The shape in which rows are written now; lands with the next commit where the table has another.
    pub(crate) shape: Shape,
    /// The shapes in which rows were written before, since the last commit.
    pub(crate) way: Vec<Shape>,
    /// The source's schema as the engine told it last.
    pub(crate) source: Arc<TableSchema>,
    /// The source's schema behind a shape that has not landed yet.
    pub(crate) pending: Option<Arc<TableSchema>>,
    pub(crate) cache: ManifestCache,
    /// Live data files by path in the store.
    pub(crate) files: HashMap<String, LiveFile>,
    /// Live rows and key index of the line's newest snapshot.
    pub(crate) content: Head,
    pub(crate) writer: EpochWriter,
    target_file_bytes: u64,
    /// All older rows go with this epoch.
    pub(crate) truncated: bool,
    /// The index was made anew for a key that no commit has brought yet.
    pub(crate) rekeyed: bool,
    /// Rows came since the epoch began or was truncated.
    pub(crate) wrote: bool,
    pub(crate) suspects: Vec<Suspect>,
    /// Grows when the files of `content` are numbered anew: work planned before does not fit any more.
    pub(crate) numbering: u64,
    /// What commits have spent on the deletes of files.
    pub(crate) spent: Spent,
    /// Lists of expired files whose readers may still be at it.
    pub(crate) waiting: Vec<Waiting>,
    /// Interrupted expiries were looked for.
    pub(crate) swept: bool,
    /// Files that ended writers left were looked for.
    pub(crate) looked_for_orphans: bool,
    /// The line's mark when the handle was opened.
    pub(crate) opened: Option<CommitMark>,
}

/// Files of a commit whose answer was lost. They go when the head has moved past its parent and reaches none of them.
pub(crate) struct Suspect {
    /// Location of the head that the commit was built on.
    pub(crate) parent: Option<String>,
    /// Paths of all files that it would have brought: all of them are reached, or none.
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
            Some(head) => Some(owned_shape(&committer, head, line)?),
            None => None,
        };
        let shape = match (landed, slot) {
            (None, _) => Shape::first(schema)?,
            (Some(landed), Slot::Visible) => landed,
            (Some(landed), Slot::Copy(_)) => landed.becoming(schema, |_| None)?.shape,
        };
        let folder = match &head {
            Some(head) => path_of(&committer.store, head.metadata.location())?,
            None => folder::choose(&committer).await?,
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
            way: Vec::new(),
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
            spent: Spent::default(),
            waiting: Vec::new(),
            swept: false,
            looked_for_orphans: false,
            opened: None,
        };
        if let Some(head) = head {
            table.read_files(&head).await?;
            table.head = Some(head);
        }
        table.reindex().await?;
        table.opened = table.mark()?;
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
        if self.rekeyed && !self.writer.is_empty() {
            return Err(self.disturbed("files moved in an epoch in which the table's key changed"));
        }
        let landed = owned_shape(&self.committer, &head, self.line)?;
        let before = self.head.as_ref().map(|head| owned_shape(&self.committer, head, self.line));
        let shape = match &self.pending {
            // What rows are written in has ids that only the way to it tells.
            Some(_) if before.transpose()?.as_ref() == Some(&landed) => self.shape.clone(),
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
            return Err(
                self.disturbed("another writer changed the table's columns within an epoch")
            );
        }
        let layout = layout(&self.committer, &shape)?;
        self.writer = EpochWriter::new(self.committer.store.clone(), layout, self.options());
        self.shape = shape;
        self.way.clear();
        Ok(())
    }

    pub(crate) fn options(&self) -> EpochOptions {
        options(&self.committer, &self.folder, self.target_file_bytes)
    }

    /// The epoch cannot go on: the handle must be opened again, and the log read again.
    fn disturbed(&self, why: &str) -> Error {
        Error::new(ErrorKind::Conflict, why).with("table", &self.committer.table)
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

    /// Brings the key index in step with the live files; reads the key columns of those that it lacks.
    pub(crate) async fn reindex(&mut self) -> Result<()> {
        let files = deletes::live_rows(&self.committer.store, &self.files).await?;
        self.numbering += 1;
        self.spent = Spent::default();
        let home = self.committer.index.home(self.line.0);
        self.content =
            Head::rebuild(&self.committer.store, self.writer.layout(), files, &home).await?;
        Ok(())
    }

    /// Names the files that are begun from now on.
    pub(crate) fn name_files(&mut self) -> Result<()> {
        self.writer.name_files(self.stem()?.staged());
        Ok(())
    }

    /// The stem of new files: the line's mark is the last.
    pub(crate) fn stem(&self) -> Result<Stem> {
        Ok(self.stem_after(self.mark()?.as_ref()))
    }

    pub(crate) fn stem_after(&self, mark: Option<&CommitMark>) -> Stem {
        let generation = match self.line.0 {
            Slot::Visible => 1,
            Slot::Copy(generation) => generation,
        };
        Stem::after(mark, &self.committer.writer, generation)
    }

    pub(crate) fn mark(&self) -> Result<Option<CommitMark>> {
        self.head.as_ref().map_or(Ok(None), |head| head.mark(self.line))
    }

    /// The format version that the next commit has.
    pub(crate) fn format(&self) -> FormatVersion {
        self.committer.format_of(self.head.as_ref())
    }

    pub(crate) fn base(&self) -> Option<i64> {
        self.head.as_ref().and_then(|h| h.snapshot(self.line)).map(|s| s.snapshot_id())
    }

    pub(crate) fn layout(&self) -> &TableLayout {
        self.writer.layout()
    }

    /// Whether a reader would find a row after the epoch so far, as far as that is known without reading.
    pub(crate) fn has_rows(&self) -> bool {
        self.wrote || (!self.truncated && self.content.live_rows() > 0)
    }

    /// Deletes what lost commits left, where the head has moved on without them.
    pub(crate) async fn settle(&mut self, head: &TableHead) {
        let past = |s: &Suspect| s.parent.as_deref() != Some(head.location.as_str());
        let (past, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.suspects).into_iter().partition(past);
        self.suspects = still;
        if past.is_empty() {
            return;
        }
        // A commit that stands may have left the log of metadata files already: what it reaches decides.
        let store = &self.committer.store;
        let mut reached = match self.cache.reached(store, head, head.metadata.snapshots()).await {
            Ok(reached) => reached,
            Err(error) => {
                let table = &self.committer.table;
                tracing::warn!(%table, %error, "files of a lost commit stay: the table cannot be walked");
                return;
            }
        };
        reached.insert(head.location.clone());
        reached.extend(head.metadata.metadata_log().iter().map(|log| log.metadata_file.clone()));
        let reached: HashSet<String> = reached.iter().filter_map(|l| store.path_of(l)).collect();
        for suspect in past.iter().filter(|s| !s.paths.iter().any(|p| reached.contains(p))) {
            delete_quietly(store, &suspect.paths).await;
        }
    }

    /// Takes the new head in after a commit of ours.
    pub(crate) async fn advance(&mut self, head: TableHead) -> Result<()> {
        self.settle(&head).await;
        self.read_files(&head).await?;
        self.head = Some(head);
        self.name_files()
    }

    /// Makes the next refresh read everything again.
    pub(crate) fn forget(&mut self) {
        if let Some(head) = &mut self.head {
            head.location.clear();
        }
    }
}

/// The table's shape, if this pipeline made the table.
pub(crate) fn owned_shape(committer: &Committer, head: &TableHead, line: Line) -> Result<Shape> {
    let owner = head.metadata.properties().get(OWNER_PROPERTY);
    let landed = Shape::of(&head.metadata).map_err(|e| e.with("table", &committer.table))?;
    match (landed, owner) {
        (Some(landed), Some(owner)) if *owner == committer.owner => {
            // A copy brings all columns again.
            if landed.complete || line != Line(Slot::Visible) {
                Ok(landed.shape)
            } else {
                Err(lacking(committer))
            }
        }
        (_, owner) => Err(Error::new(
            ErrorKind::Config,
            "a table of this name is there that this pipeline did not make",
        )
        .with("table", &committer.table)
        .with("made_by", owner.map_or("another program", String::as_str))
        .remedied("drop that table, or write to another warehouse or catalogue name")),
    }
}

fn lacking(committer: &Committer) -> Error {
    Error::new(ErrorKind::Corrupt, "another writer dropped a column of the table")
        .with("table", &committer.table)
        .remedied("`lakeward resync` the table")
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
