//! A finished epoch: durable files, and positions resolved through the key index.
//!
//! Deliberately absent: how deletes are written down, and the commit.
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use lakeward_core::{Error, ErrorKind, KeyHash, Result};
use roaring::RoaringBitmap;

use super::files::{OwnPlace, delete_files};
use super::first::FirstRows;
use super::flushed::Flushed;
use super::state::{Keys, Own, Spot};
use crate::head::Head;
use crate::index::{FileId, Place};
use crate::parquet::DataFile;
use crate::store::Store;

/// Keys sorted and looked up at once: the more, the more of them are in one page of the index. 4 MiB.
const KEYS_AT_ONCE: usize = 256 << 10;

/// A data file that an epoch wrote.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// The file.
    pub file: DataFile,
    /// Rows of it that a later change of the same epoch replaced: to be deleted in the same commit.
    pub dead: RoaringBitmap,
    /// Its number among the files that the epoch wrote.
    pub(crate) number: u32,
}

/// Rows to delete in a data file that is in the table already.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDeletes {
    /// The file.
    pub file: FileId,
    /// Its path in the store.
    pub path: Arc<str>,
    /// The rows this epoch deletes. Those deleted before are in the head's [`LiveFile`](crate::head::LiveFile).
    pub rows: RoaringBitmap,
}

/// A finished epoch: durable files and resolved positions, invisible until a format commits them.
#[derive(Debug)]
pub struct EpochFiles {
    /// New data files, each with at least one live row.
    pub files: Vec<NewFile>,
    /// All files that were in the table before go.
    pub truncated: bool,
    /// Deletes in older files, ascending by file; empty when truncated.
    pub deletes: Vec<FileDeletes>,
    /// Rows that came incomplete and have no base row anywhere, in the layout's columns: the key is known, missing
    /// cells are NULL. They were not written.
    pub unresolved: Option<RecordBatch>,
    /// Touched keys and where their rows are in the new files.
    pub(crate) keys: Keys,
    /// Rows of keys that were never written before.
    pub(crate) first: FirstRows,
    /// Where rows of the buffer went.
    pub(crate) flushed: Flushed,
    /// What the index loses by `deletes`.
    pub(crate) removed: Vec<(KeyHash, Place)>,
    /// Places resolved when the identity of rows changed within the epoch.
    pub(crate) fixed: Vec<Place>,
}

impl EpochFiles {
    /// Live rows in the new files.
    pub fn rows_added(&self) -> u64 {
        self.files.iter().map(|f| f.file.rows - f.dead.len()).sum()
    }

    /// Rows deleted in older files; those that a truncate removed are not counted.
    pub fn rows_deleted(&self) -> u64 {
        self.deletes.iter().map(|d| d.rows.len()).sum()
    }

    /// Bytes of the new files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.file.bytes).sum()
    }

    /// Whether there is nothing to commit but a mark.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.truncated && self.deletes.is_empty()
    }

    /// Resolves the positions again on a head that has moved.
    ///
    /// # Errors
    /// `Conflict` when that is not possible (the identity of rows changed within the epoch, the index is damaged):
    /// abandon, and read the log again.
    pub async fn rebase(&mut self, head: &Head) -> Result<()> {
        if !self.fixed.is_empty() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "files moved in an epoch in which the table's key changed",
            ));
        }
        self.resolve(head).await?;
        if !self.truncated && !self.first.is_empty() {
            // Whoever moved the head may have written their keys.
            let keys = self.first.keys().map(|key| (key, u64::MAX));
            all_places(head, keys, &mut self.removed).await?;
            self.removed.sort_unstable();
            self.removed.dedup();
            self.deletes = self.deletes_of_removed(head);
        }
        Ok(())
    }

    /// Looks all touched keys up and turns what the lake holds of them into deletes.
    pub(crate) async fn resolve(&mut self, head: &Head) -> Result<()> {
        if self.truncated {
            self.removed.clear();
            self.deletes.clear();
            return Ok(());
        }
        self.removed = touched_places(&self.keys, head).await?;
        self.deletes = self.deletes_of_removed(head);
        Ok(())
    }

    fn deletes_of_removed(&self, head: &Head) -> Vec<FileDeletes> {
        let places = self.removed.iter().map(|(_, place)| *place);
        by_file(head, places.chain(self.fixed.iter().copied()))
    }

    /// The keys' rows in the new files.
    pub(crate) fn places(&self) -> Box<dyn Iterator<Item = (KeyHash, OwnPlace)> + Send + '_> {
        let in_file = move |own: &Own| match own {
            Own::File(place) => Some(*place),
            Own::Buffer(place) => self.flushed.file_place(*place),
        };
        match &self.keys {
            Keys::Append => Box::new(std::iter::empty()),
            Keys::Keyed(spots) => {
                let touched = spots.iter().filter_map(move |(key, spot)| match spot {
                    Spot::Here(own) => in_file(own).map(|place| (*key, place)),
                    Spot::Gone | Spot::Owed => None,
                });
                Box::new(self.first.untouched(spots).chain(touched))
            }
            Keys::Counted(rows) => Box::new(rows.iter().flat_map(move |(key, equals)| {
                equals.own.iter().filter_map(move |own| in_file(own).map(|place| (*key, place)))
            })),
        }
    }

    /// Deletes the new files. Only when no sent commit named them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn abandon(self, store: &Store) -> Result<()> {
        delete_files(store, self.files.iter().map(|f| f.file.path.as_str())).await
    }
}

/// Appends, for each key, at most so many of its places in the lake.
async fn all_places(
    head: &Head,
    mut wanted: impl Iterator<Item = (KeyHash, u64)>,
    out: &mut Vec<(KeyHash, Place)>,
) -> Result<()> {
    loop {
        let mut batch: Vec<(KeyHash, u64)> = wanted.by_ref().take(KEYS_AT_ONCE).collect();
        if batch.is_empty() {
            return Ok(());
        }
        batch.sort_unstable();
        let (keys, mut counts): (Vec<KeyHash>, Vec<u64>) = batch.into_iter().unzip();
        for (at, place) in head.places(&keys).await? {
            if counts[at] > 0 {
                counts[at] -= 1;
                out.push((keys[at], place));
            }
        }
    }
}

/// Places as deletes, ascending by file. A place whose file is gone is no row.
fn by_file(head: &Head, places: impl Iterator<Item = Place>) -> Vec<FileDeletes> {
    let mut rows: BTreeMap<FileId, Vec<u32>> = BTreeMap::new();
    for place in places {
        rows.entry(place.file).or_default().push(place.row);
    }
    rows.into_iter()
        .filter_map(|(file, mut rows)| {
            let path = head.files().get(&file)?.path.clone();
            rows.sort_unstable();
            Some(FileDeletes { file, path, rows: rows.into_iter().collect() })
        })
        .collect()
}

/// What the lake holds of the keys that an epoch touched and that goes with its commit.
///
/// # Errors
/// Those of the key index.
pub(crate) async fn touched_places(keys: &Keys, head: &Head) -> Result<Vec<(KeyHash, Place)>> {
    let mut places = Vec::new();
    match keys {
        Keys::Append => {}
        Keys::Keyed(spots) => {
            all_places(head, spots.keys().map(|key| (*key, u64::MAX)), &mut places).await?;
        }
        Keys::Counted(rows) => {
            let wanted = rows.iter().map(|(key, equals)| (*key, equals.from_lake));
            all_places(head, wanted.filter(|(_, count)| *count > 0), &mut places).await?;
        }
    }
    Ok(places)
}
