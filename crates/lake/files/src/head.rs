//! What is known of a table's current version: its live files, the rows deleted in them, and the key index.
//!
//! Changes only by publishing a commit that stands. Deliberately absent: how a format lists its files.
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use lakeward_core::{Error, ErrorKind, KeyHash, Result};
use roaring::RoaringBitmap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::compact::{Compacted, FileState};
use crate::index::{FileId, IndexChange, KeyIndex, MemoryIndex, Place};
use crate::layout::{Identity, TableLayout};
use crate::read::{DataFileReader, RowChoice};
use crate::store::Store;
use crate::upsert::{EpochFiles, KEYS_AT_ONCE};

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
    index: Box<dyn KeyIndex>,
}

impl Default for Head {
    fn default() -> Self {
        Self::empty()
    }
}

impl Head {
    /// A table without rows.
    pub fn empty() -> Self {
        Self { files: BTreeMap::new(), next: 0, index: Box::new(MemoryIndex::default()) }
    }

    /// Reads the identity columns of all `files` (deleted rows skipped), several files at a time, and indexes them.
    /// In append mode no file is read.
    ///
    /// # Errors
    /// Those of reading; `Unsupported` when a column's type cannot identify a row.
    pub async fn rebuild(
        store: &Store,
        layout: &TableLayout,
        files: Vec<LiveFile>,
    ) -> Result<Self> {
        let mut head = Self::empty();
        for file in files {
            head.add_file(file);
        }
        head.reindex(store, layout, &[]).await?;
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
        let rows = if *layout.identity() == Identity::Append { 0 } else { self.live_rows() };
        let mut index = MemoryIndex::with_capacity(rows as usize);
        if rows > 0 {
            read_all_keys(store, layout, &self.files, &mut index).await?;
        }
        if index.duplicates() > 0 {
            let (table, duplicates) = (layout.table(), index.duplicates());
            tracing::debug!(table, duplicates, "several rows have the same identity");
        }
        self.index = Box::new(index);
        Ok(())
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
    pub fn index(&self) -> &dyn KeyIndex {
        self.index.as_ref()
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
    pub fn publish(&mut self, epoch: &EpochFiles) {
        if epoch.truncated {
            self.files.clear();
        }
        for deletes in &epoch.deletes {
            if let Some(file) = self.files.get_mut(&deletes.file) {
                file.deleted |= &deletes.rows;
            }
        }
        let mut ids = BTreeMap::new();
        for new in &epoch.files {
            let file = LiveFile {
                path: new.file.path.as_str().into(),
                rows: new.file.rows,
                bytes: new.file.bytes,
                deleted: new.dead.clone(),
            };
            ids.insert(new.number, self.add_file(file));
        }
        let removed = epoch.removed.clone();
        self.index.apply(&IndexChange { cleared: epoch.truncated, removed, added: Vec::new() });
        let mut places = epoch.places().filter_map(|(key, place)| {
            Some((key, Place { file: *ids.get(&place.file)?, row: place.row }))
        });
        loop {
            let added: Vec<_> = places.by_ref().take(KEYS_AT_ONCE).collect();
            if added.is_empty() {
                return;
            }
            self.index.apply(&IndexChange { added, ..IndexChange::default() });
        }
    }

    /// Takes in a compaction whose commit stands; `late` is what [`Compacted::late_deletes`] gave for that commit.
    pub fn publish_compaction(&mut self, done: &Compacted, late: &[RoaringBitmap]) {
        for (id, _) in &done.sources {
            self.files.remove(id);
        }
        let mut ids = Vec::new();
        for (number, new) in done.files.iter().enumerate() {
            ids.push(self.add_file(LiveFile {
                path: new.path.as_str().into(),
                rows: new.rows,
                bytes: new.bytes,
                deleted: late.get(number).cloned().unwrap_or_default(),
            }));
        }
        self.index.remap(done.moves(), &ids);
    }
}

/// Batches of keys that wait for the index: it is faster than the readers, so few are enough.
const BATCHES_WAITING: usize = 4;

/// Reads the keys of several files at a time and indexes them as they come.
async fn read_all_keys(
    store: &Store,
    layout: &TableLayout,
    files: &BTreeMap<FileId, LiveFile>,
    index: &mut MemoryIndex,
) -> Result<()> {
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let (sender, mut keys) = mpsc::channel(BATCHES_WAITING);
    let mut waiting = files.iter();
    // Dropped early, the set ends its tasks.
    let mut reads = JoinSet::new();
    let mut begin = |reads: &mut JoinSet<Result<()>>| {
        if let Some((id, file)) = waiting.next() {
            let (store, layout) = (store.clone(), layout.clone());
            reads.spawn(read_keys(store, layout, *id, file.clone(), sender.clone()));
        }
    };
    (0..at_once).for_each(|_| begin(&mut reads));
    loop {
        tokio::select! {
            // Keys first: readers wait for room.
            biased;
            Some(added) = keys.recv() => {
                index.apply(&IndexChange { added, ..IndexChange::default() });
            }
            ended = reads.join_next() => match ended {
                None => break,
                Some(outcome) => {
                    outcome.map_err(ended_early)??;
                    begin(&mut reads);
                }
            },
        }
    }
    while let Ok(added) = keys.try_recv() {
        index.apply(&IndexChange { added, ..IndexChange::default() });
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
    id: FileId,
    file: LiveFile,
    keys: mpsc::Sender<Vec<(KeyHash, Place)>>,
) -> Result<()> {
    let reader = DataFileReader::open(&store, &file.path).await?;
    let mut numbers = (0..reader.rows() as u32).filter(|row| !file.deleted.contains(*row));
    let keys_only = layout.identity_layout()?;
    let mut batches =
        reader.stream(keys_only.schema(), &RowChoice::Except(file.deleted.clone()))?;
    while let Some(rows) = batches.try_next().await? {
        let hashes = keys_only.hash(&rows)?;
        let places = numbers.by_ref().map(|row| Place { file: id, row });
        if keys.send(hashes.into_iter().zip(places).collect()).await.is_err() {
            break;
        }
    }
    Ok(())
}
