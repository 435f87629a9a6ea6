//! What is known of a table's current version: its live files, the rows deleted in them, and the key index.
//!
//! Changes only by publishing a commit that stands. Deliberately absent: how a format lists its files.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt;
use lakeward_core::{Error, ErrorKind, KeyHash, Result};
use roaring::RoaringBitmap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::compact::{Compacted, FileState};
use crate::index::{Covered, Directory, FileId, Gathering, IndexHome, Place, TableIndex};
use crate::layout::{Identity, TableLayout};
use crate::read::{DataFileReader, RowChoice};
use crate::store::Store;
use crate::upsert::EpochFiles;

/// A data file of the current version.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// Path in the store.
    pub path: Arc<str>,
    /// Rows in the file, deleted ones included.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows deleted by position.
    pub deleted: RoaringBitmap,
}

/// A table's current version, as far as changing it needs.
pub struct Head {
    files: BTreeMap<FileId, LiveFile>,
    next: u32,
    index: TableIndex,
}

impl Default for Head {
    fn default() -> Self {
        Self::empty()
    }
}

impl Head {
    /// A table without rows, whose index stays in memory.
    pub fn empty() -> Self {
        Self { files: BTreeMap::new(), next: 0, index: TableIndex::default() }
    }

    /// Opens the key index of all `files`: what `home` holds of it is used, the identity columns of all other files are
    /// read (deleted rows skipped), several files at a time. In append mode no file is read.
    ///
    /// # Errors
    /// Those of reading; `Unsupported` when a column's type cannot identify a row.
    pub async fn rebuild(
        store: &Store,
        layout: &TableLayout,
        files: Vec<LiveFile>,
        home: &IndexHome,
    ) -> Result<Self> {
        let mut head = Self::empty();
        for file in files {
            head.add_file(file);
        }
        if *layout.identity() == Identity::Append {
            return Ok(head);
        }
        let signature = layout.signature();
        let (index, lacking) = TableIndex::open(home.clone(), signature, &head.files).await;
        head.index = index;
        head.read_keys(store, layout, lacking).await?;
        Ok(head)
    }

    /// Marks rows as deleted and indexes all others again under `layout`.
    pub(crate) async fn reindex(
        &mut self,
        store: &Store,
        layout: &TableLayout,
        doomed: &[Place],
    ) -> Result<()> {
        for place in doomed {
            if let Some(file) = self.files.get_mut(&place.file) {
                file.deleted.insert(place.row);
            }
        }
        self.index.clear();
        self.index = TableIndex::new(self.index.home().clone(), layout.signature());
        if *layout.identity() == Identity::Append {
            return Ok(());
        }
        self.read_keys(store, layout, self.files.keys().copied().collect()).await
    }

    /// Reads the keys of these files into the index.
    async fn read_keys(
        &mut self,
        store: &Store,
        layout: &TableLayout,
        ids: BTreeSet<FileId>,
    ) -> Result<()> {
        let lacking: Vec<FileId> = ids.into_iter().collect();
        let files = || lacking.iter().filter_map(|id| self.files.get(id));
        if !lacking.is_empty() {
            let mut facts = Gathering::new(self.index.home().clone());
            read_all_keys(store, layout, files().cloned().collect(), &mut facts).await?;
            let gathered = facts.finish(self.directory(files())).await?;
            self.index.absorb(&gathered, &lacking, &self.files);
        }
        self.index.settle(&self.files).await;
        if self.index.duplicates() > 0 {
            let (table, duplicates) = (layout.table(), self.index.duplicates());
            tracing::debug!(table, duplicates, "several rows have the same identity");
        }
        Ok(())
    }

    fn directory<'a>(&self, files: impl Iterator<Item = &'a LiveFile>) -> Directory {
        let signature = self.index.signature().to_owned();
        Directory { signature, files: files.map(Covered::of).collect() }
    }

    fn add_file(&mut self, file: LiveFile) -> FileId {
        let id = FileId(self.next);
        self.next += 1;
        self.files.insert(id, file);
        id
    }

    /// The live files by id.
    pub fn files(&self) -> &BTreeMap<FileId, LiveFile> {
        &self.files
    }

    /// The id of the file at a path.
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.files.iter().find(|(_, file)| &*file.path == path).map(|(id, _)| *id)
    }

    /// The key index.
    pub fn index(&self) -> &TableIndex {
        &self.index
    }

    /// The index of an invisible copy becomes the table's own: its files take the place of those in `home`.
    pub async fn take_place(&mut self, home: &IndexHome) {
        self.arrive().await;
        self.index.home().take_place(home);
    }

    /// Waits for what is on its way into the index.
    pub(crate) async fn arrive(&mut self) {
        self.index.arrive(&self.files).await;
    }

    /// The live places of keys, which must be sorted; each with the position of its key in `keys`, in no order.
    ///
    /// # Errors
    /// `Conflict` when the index is damaged: the table must be opened again.
    pub(crate) async fn places(&self, keys: &[KeyHash]) -> Result<Vec<(usize, Place)>> {
        self.index.find(keys, &self.files).await
    }

    /// Live rows: all rows of all files but the deleted ones.
    pub fn live_rows(&self) -> u64 {
        self.files.values().map(|file| file.rows.saturating_sub(file.deleted.len())).sum()
    }

    /// The files as compaction planning sees them.
    pub fn file_states(&self) -> Vec<FileState> {
        let state = |(id, file): (&FileId, &LiveFile)| FileState {
            id: *id,
            rows: file.rows,
            deleted: file.deleted.len(),
            bytes: file.bytes,
        };
        self.files.iter().map(state).collect()
    }

    /// Takes in an epoch whose commit stands. Call it exactly once per committed [`EpochFiles`].
    ///
    /// What the index cannot take to disk stays in memory; what it loses is read again when the table is opened next. The
    /// facts of a load go to disk beside what comes next.
    pub async fn publish(&mut self, epoch: &EpochFiles) {
        if epoch.truncated {
            self.files.clear();
            self.index.clear();
        }
        for deletes in &epoch.deletes {
            if let Some(file) = self.files.get_mut(&deletes.file) {
                file.deleted |= &deletes.rows;
            }
        }
        let mut ids = Vec::with_capacity(epoch.files.len());
        for new in &epoch.files {
            ids.push(self.add_file(LiveFile {
                path: new.file.path.as_str().into(),
                rows: new.file.rows,
                bytes: new.file.bytes,
                deleted: new.dead.clone(),
            }));
        }
        self.index.forget(epoch.removed.clone());
        if let Err(error) = self.index_epoch(epoch, ids).await {
            self.index.lose(&error);
        }
    }

    async fn index_epoch(&mut self, epoch: &EpochFiles, ids: Vec<FileId>) -> Result<()> {
        let gathering = self.gather(epoch).await?;
        let directory = self.directory(ids.iter().filter_map(|id| self.files.get(id)));
        if epoch.first.is_empty() {
            let facts = gathering.finish(directory).await?;
            self.index.absorb(&facts, &ids, &self.files);
            self.index.settle(&self.files).await;
        } else {
            self.index.settle(&self.files).await;
            self.index.absorb_later(gathering, directory, ids);
        }
        Ok(())
    }

    /// The epoch's facts; its files are numbered in their order.
    async fn gather(&self, epoch: &EpochFiles) -> Result<Gathering> {
        let numbers: BTreeMap<u32, u32> =
            (0..).zip(&epoch.files).map(|(at, new)| (new.number, at)).collect();
        let facts = epoch
            .places()
            .filter_map(|(key, place)| Some((key, *numbers.get(&place.file)?, place.row)));
        let mut gathering = Gathering::new(self.index.home().clone());
        gathering.extend(facts).await?;
        Ok(gathering)
    }

    /// Takes in a compaction whose commit stands; `late` is what [`Compacted::late_deletes`] gave for that commit.
    pub async fn publish_compaction(&mut self, done: &Compacted, late: &[RoaringBitmap]) {
        let gone: BTreeSet<FileId> = done.sources.iter().map(|(id, _)| *id).collect();
        self.files.retain(|id, _| !gone.contains(id));
        self.index.forget_files(&gone);
        let mut ids = Vec::new();
        for (number, new) in done.files.iter().enumerate() {
            ids.push(self.add_file(LiveFile {
                path: new.path.as_str().into(),
                rows: new.rows,
                bytes: new.bytes,
                deleted: late.get(number).cloned().unwrap_or_default(),
            }));
        }
        self.index.absorb(done.facts(), &ids, &self.files);
        self.index.settle(&self.files).await;
    }
}

/// Batches of keys that wait for the index: it is faster than the readers, so few are enough.
const BATCHES_WAITING: usize = 4;

/// The keys of some rows of a file, which is named by its number among those that are read.
type Keys = Vec<(KeyHash, u32, u32)>;

/// Reads the keys of several files at a time and gathers them as they come.
async fn read_all_keys(
    store: &Store,
    layout: &TableLayout,
    files: Vec<LiveFile>,
    facts: &mut Gathering,
) -> Result<()> {
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let (sender, mut keys) = mpsc::channel::<Keys>(BATCHES_WAITING);
    let mut waiting = (0..).zip(files);
    // Dropped early, the set ends its tasks.
    let mut reads = JoinSet::new();
    let mut begin = |reads: &mut JoinSet<Result<()>>| {
        if let Some((number, file)) = waiting.next() {
            let (store, layout) = (store.clone(), layout.clone());
            reads.spawn(read_keys(store, layout, number, file, sender.clone()));
        }
    };
    (0..at_once).for_each(|_| begin(&mut reads));
    loop {
        tokio::select! {
            // Keys first: readers wait for room.
            biased;
            Some(found) = keys.recv() => facts.extend(found.into_iter()).await?,
            ended = reads.join_next() => match ended {
                None => break,
                Some(outcome) => {
                    outcome.map_err(ended_early)??;
                    begin(&mut reads);
                }
            },
        }
    }
    while let Ok(found) = keys.try_recv() {
        facts.extend(found.into_iter()).await?;
    }
    Ok(())
}

fn ended_early(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Bug, "reading keys ended early").caused_by(error)
}

/// Sends the keys of a file's live rows, batch by batch.
async fn read_keys(
    store: Store,
    layout: TableLayout,
    number: u32,
    file: LiveFile,
    keys: mpsc::Sender<Keys>,
) -> Result<()> {
    let reader = DataFileReader::open(&store, &file.path).await?;
    let mut rows = (0..reader.rows() as u32).filter(|row| !file.deleted.contains(*row));
    let keys_only = layout.identity_layout()?;
    let mut batches =
        reader.stream(keys_only.schema(), &RowChoice::Except(file.deleted.clone()))?;
    while let Some(batch) = batches.try_next().await? {
        let hashes = keys_only.hash(&batch)?;
        let found = hashes.into_iter().zip(rows.by_ref()).map(|(key, row)| (key, number, row));
        if keys.send(found.collect()).await.is_err() {
            break;
        }
    }
    Ok(())
}
