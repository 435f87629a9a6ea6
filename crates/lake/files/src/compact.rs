//! Compaction: which files are worth rewriting (pure), the rewriting, and where each row went.
//!
//! Deliberately absent: the commit, and when to ask.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt;
use lakeward_core::Result;
use roaring::RoaringBitmap;

use crate::head::{Head, LiveFile};
use crate::index::{Covered, Directory, FileId, Gathered, Gathering, IndexHome, Place};
use crate::layout::{Identity, TableLayout};
use crate::lineage::{self, Lineage};
use crate::parquet::DataFile;
use crate::read::{DataFileReader, RowChoice};
use crate::store::Store;
use crate::upsert::files::{Files, delete_files};
use crate::upsert::{EpochFiles, EpochOptions};

/// A live file, as planning sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// The file.
    pub id: FileId,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Deleted rows.
    pub deleted: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Bytes that commits have spent on the deletes of live files, as far as this handle knows. A file's deletes stand together,
/// so that each commit that deletes in it writes all of them again.
#[derive(Debug, Clone, Default)]
pub struct Spent(HashMap<FileId, u64>);

impl Spent {
    /// Counts a commit that stands, after the head took it in.
    pub fn count(&mut self, head: &Head, epoch: &EpochFiles) {
        if epoch.truncated {
            self.0.clear();
        }
        for deletes in &epoch.deletes {
            let file = head.files().get(&deletes.file);
            *self.0.entry(deletes.file).or_default() +=
                file.map_or(0, |f| deletes_bytes(f.deleted.len(), f.rows));
        }
        self.0.retain(|id, _| head.files().contains_key(id));
    }

    /// Bytes spent on a file.
    pub fn on(&self, file: FileId) -> u64 {
        self.0.get(&file).copied().unwrap_or(0)
    }
}

/// What so many deletes of a file take, about: two bytes each, or a bit for each row.
fn deletes_bytes(deleted: u64, rows: u64) -> u64 {
    (2 * deleted).min(rows.div_ceil(8))
}

impl FileState {
    /// Bytes that its live rows will take, about.
    fn live_bytes(&self) -> u64 {
        let live = u128::from(self.rows.saturating_sub(self.deleted));
        (u128::from(self.bytes) * live / u128::from(self.rows.max(1))) as u64
    }
}

/// When rewriting is worth it.
#[derive(Debug, Clone)]
pub struct CompactionPolicy {
    /// New files aim at this size.
    pub target_file_bytes: u64,
    /// A file with at least this share of deleted rows (in percent) is rewritten.
    pub deleted_percent: u64,
    /// This many files below half the target are joined.
    pub small_files: usize,
    /// A file is rewritten when commits have spent this share of its size (in percent) on writing down its deletes, which
    /// each of them does anew. Smaller: cheaper commits and reads, more bytes rewritten; the sum of both is least at 100.
    pub spent_percent: u64,
    /// At most this many bytes are rewritten at once: it bounds the time a run takes and what a conflict wastes.
    pub input_bytes_max: u64,
    /// Rewrite every file that has a deleted row, and join any two small files.
    pub force: bool,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self {
            target_file_bytes: 128 << 20,
            deleted_percent: 20,
            small_files: 8,
            spent_percent: 8,
            input_bytes_max: 1 << 30,
            force: false,
        }
    }
}

/// Which files to rewrite together, in their order; empty: nothing is worth it.
pub fn plan(files: &[FileState], spent: &Spent, policy: &CompactionPolicy) -> Vec<FileId> {
    let costly = |f: &FileState| spent.on(f.id) * 100 >= f.bytes * policy.spent_percent;
    let worn = |f: &&FileState| {
        let much = || f.deleted * 100 >= f.rows * policy.deleted_percent || costly(f);
        f.deleted > 0 && (policy.force || much())
    };
    let mut chosen: Vec<&FileState> = files.iter().filter(worn).collect();
    let small: Vec<_> = files
        .iter()
        .filter(|f| f.live_bytes() < policy.target_file_bytes / 2 && !worn(f))
        .collect();
    chosen.extend(worth_joining(small, policy));
    chosen.sort_by_key(|f| f.id);
    within(chosen, policy.input_bytes_max)
}

/// The small files, without those that are larger than all smaller ones together: joining such a file again and again
/// with a few new rows would rewrite it each time.
fn worth_joining<'a>(
    mut small: Vec<&'a FileState>,
    policy: &CompactionPolicy,
) -> Vec<&'a FileState> {
    small.sort_by_key(|f| f.live_bytes());
    let least = if policy.force { 2 } else { policy.small_files.max(2) };
    while !policy.force
        && let Some((largest, rest)) = small.split_last()
        && largest.live_bytes() > rest.iter().map(|f| f.live_bytes()).sum()
    {
        small.pop();
    }
    if small.len() < least { Vec::new() } else { small }
}

fn within(chosen: Vec<&FileState>, bytes_max: u64) -> Vec<FileId> {
    let mut bytes = 0u64;
    let mut out = Vec::new();
    for file in chosen {
        bytes = bytes.saturating_add(file.bytes);
        if bytes > bytes_max && !out.is_empty() {
            break;
        }
        out.push(file.id);
    }
    out
}

/// A planned rewrite, detached from its table.
pub struct Compaction {
    sources: Vec<(FileId, LiveFile)>,
    layout: TableLayout,
    options: EpochOptions,
    index: IndexHome,
    signature: String,
    /// `None`: the format keeps no lineage of rows.
    lineage: Option<HashMap<FileId, Lineage>>,
}

impl Compaction {
    /// Takes the chosen files' deletes as they are in `head` now; `layout` identifies rows as `head` does. `None` when
    /// one of them is not in `head`.
    pub fn new(
        head: &Head,
        files: &[FileId],
        layout: TableLayout,
        options: EpochOptions,
    ) -> Option<Self> {
        let source = |id: &FileId| Some((*id, head.files().get(id)?.clone()));
        let sources = files.iter().map(source).collect::<Option<Vec<_>>>()?;
        let index = head.index().home().clone();
        let signature = head.index().signature().to_owned();
        Some(Self { sources, layout, options, index, signature, lineage: None })
    }

    /// Lets moved rows keep their lineage. `files` says what rows have that do not carry it themselves.
    pub fn keep_lineage(&mut self, files: HashMap<FileId, Lineage>) {
        self.lineage = Some(files);
    }

    /// Number of files, and their bytes.
    pub fn input(&self) -> (usize, u64) {
        (self.sources.len(), self.sources.iter().map(|(_, f)| f.bytes).sum())
    }

    /// Reads the live rows of the chosen files in order and writes them to new files.
    ///
    /// # Errors
    /// Those of reading and writing; new files are deleted again.
    pub async fn run(self, store: &Store) -> Result<Compacted> {
        let mut files = Files::new(store.clone(), self.options.clone());
        match self.copy(store, &mut files).await {
            Ok(compacted) => Ok(compacted),
            Err(e) => {
                // The first error tells more than one of cleaning up.
                let _ = files.abandon().await;
                Err(e)
            }
        }
    }

    async fn copy(&self, store: &Store, files: &mut Files) -> Result<Compacted> {
        let layout = match &self.lineage {
            Some(_) => lineage::carrying(&self.layout)?,
            None => self.layout.clone(),
        };
        let mut moves = Moves { sources: BTreeMap::new(), starts: Vec::new() };
        let mut facts = Gathering::new(self.index.clone());
        let mut ordinal = 0u64;
        for (id, source) in &self.sources {
            let deleted = source.deleted.clone();
            moves.sources.insert(*id, Source { start: ordinal, rows: source.rows, deleted });
            let lineage = self.lineage.as_ref().map(|files| files.get(id).copied());
            let mut numbers = (0..source.rows as u32).filter(|n| !source.deleted.contains(*n));
            let reader = DataFileReader::open(store, &source.path).await?;
            let live = RowChoice::Except(source.deleted.clone());
            let mut batches = reader.stream(layout.nullable_schema(), &live)?;
            while let Some(mut rows) = batches.try_next().await? {
                if let Some(lineage) = lineage {
                    let unknown = Lineage { first_row: None, sequence: None };
                    rows = lineage::filled(rows, &mut numbers, lineage.unwrap_or(unknown))?;
                }
                let place = files.write(&layout, &rows).await?;
                if place.file as usize == moves.starts.len() {
                    moves.starts.push(ordinal);
                }
                ordinal += rows.num_rows() as u64;
                if *self.layout.identity() != Identity::Append {
                    let keys = self.layout.hash(&rows)?.into_iter().zip(place.row..);
                    facts.extend(keys.map(|(key, row)| (key, place.file, row))).await?;
                }
            }
        }
        files.close().await?;
        self.compacted(files, moves, facts).await
    }

    async fn compacted(
        &self,
        files: &mut Files,
        moves: Moves,
        facts: Gathering,
    ) -> Result<Compacted> {
        let new: Vec<DataFile> = files.take().into_iter().map(|new| new.file).collect();
        let covered = |file: &DataFile| Covered {
            path: file.path.as_str().into(),
            rows: file.rows,
            bytes: file.bytes,
            absent: RoaringBitmap::new(),
        };
        let signature = self.signature.clone();
        let directory =
            Directory { signature: signature.clone(), files: new.iter().map(covered).collect() };
        Ok(Compacted {
            sources: self.sources.iter().map(|(id, file)| (*id, file.path.clone())).collect(),
            files: new,
            moves,
            signature,
            facts: facts.finish(directory).await?,
        })
    }
}

/// A finished rewrite that waits for its commit.
#[derive(Debug)]
pub struct Compacted {
    /// The files that go, with their paths.
    pub sources: Vec<(FileId, Arc<str>)>,
    /// The files that come. Empty when no source had a live row.
    pub files: Vec<DataFile>,
    moves: Moves,
    /// The identity of rows under which `facts` were hashed.
    signature: String,
    /// The keys of the new files' rows.
    facts: Gathered,
}

impl Compacted {
    /// The keys of the new files' rows; files are numbered by their place in `files`.
    pub(crate) fn facts(&self) -> &Gathered {
        &self.facts
    }

    /// Rows of the new files, one bitmap each, that were deleted in the source files since the plan. They must be
    /// deleted in the commit. `None`: a source file is no longer in the table, or rows have another identity now; drop
    /// the work.
    pub fn late_deletes(&self, head: &Head) -> Option<Vec<RoaringBitmap>> {
        if self.signature != head.index().signature() {
            return None;
        }
        let mut late = vec![RoaringBitmap::new(); self.files.len()];
        for (id, source) in &self.moves.sources {
            let now = &head.files().get(id)?.deleted;
            for row in now - &source.deleted {
                let (number, row) = self.moves.target(Place { file: *id, row })?;
                late.get_mut(number)?.insert(row);
            }
        }
        Some(late)
    }

    /// Deletes the new files. Only when no sent commit named them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn abandon(self, store: &Store) -> Result<()> {
        delete_files(store, self.files.iter().map(|f| f.path.as_str())).await
    }
}

/// Where the rows of a rewrite's source files went. Rows kept their order, so it is enough to count.
#[derive(Debug, Clone)]
pub struct Moves {
    sources: BTreeMap<FileId, Source>,
    /// The number of live rows before each new file.
    starts: Vec<u64>,
}

#[derive(Debug, Clone)]
struct Source {
    /// The number of live rows in the sources before.
    start: u64,
    rows: u64,
    deleted: RoaringBitmap,
}

impl Moves {
    /// The new place of a row: the number of the new file, and the row in it. `None` when it was deleted before the
    /// plan, or is in no source.
    pub fn target(&self, from: Place) -> Option<(usize, u32)> {
        let source = self.sources.get(&from.file)?;
        if u64::from(from.row) >= source.rows || source.deleted.contains(from.row) {
            return None;
        }
        let ordinal = source.start + u64::from(from.row) - source.deleted.rank(from.row);
        let number = self.starts.partition_point(|start| *start <= ordinal).checked_sub(1)?;
        Some((number, (ordinal - self.starts[number]) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: u32, rows: u64, deleted: u64, bytes: u64) -> FileState {
        FileState { id: FileId(id), rows, deleted, bytes }
    }

    fn policy() -> CompactionPolicy {
        CompactionPolicy {
            target_file_bytes: 1000,
            deleted_percent: 20,
            small_files: 3,
            spent_percent: 50,
            input_bytes_max: 5000,
            force: false,
        }
    }

    fn ids(files: &[FileState], policy: &CompactionPolicy) -> Vec<u32> {
        plan(files, &Spent::default(), policy).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn worn_files_are_rewritten_and_healthy_ones_are_not() {
        let files = [file(1, 100, 19, 1000), file(2, 100, 20, 1000), file(3, 100, 0, 1000)];
        assert_eq!(ids(&files, &policy()), [2]);
        assert_eq!(ids(&files, &CompactionPolicy { force: true, ..policy() }), [1, 2]);
    }

    #[test]
    fn a_file_whose_deletes_cost_as_much_as_rewriting_it_is_rewritten() {
        let files = [file(1, 100, 1, 1000), file(2, 100, 1, 1000), file(3, 100, 0, 1000)];
        let spent = Spent([(FileId(1), 499), (FileId(2), 500), (FileId(3), 900)].into());
        assert_eq!(plan(&files, &spent, &policy()), [FileId(2)]);
    }

    #[test]
    fn small_files_are_joined_when_there_are_enough() {
        let two = [file(1, 1, 0, 10), file(2, 1, 0, 10), file(3, 1, 0, 900)];
        assert_eq!(ids(&two, &policy()), [0u32; 0]);
        assert_eq!(ids(&two, &CompactionPolicy { force: true, ..policy() }), [1, 2]);
        let three = [file(4, 1, 0, 12), file(1, 1, 0, 10), file(2, 1, 0, 10)];
        assert_eq!(ids(&three, &policy()), [1, 2, 4]);
    }

    #[test]
    fn a_file_larger_than_all_smaller_ones_together_is_left_alone() {
        let files = [file(1, 1, 0, 400), file(2, 1, 0, 10), file(3, 1, 0, 10), file(4, 1, 0, 10)];
        assert_eq!(ids(&files, &policy()), [2, 3, 4]);
    }

    #[test]
    fn one_run_is_bounded_but_never_empty() {
        let files = [file(1, 10, 9, 9000), file(2, 10, 9, 100)];
        assert_eq!(ids(&files, &policy()), [1]);
    }

    #[test]
    fn a_row_is_found_by_counting() {
        let source = |start, rows, deleted: &[u32]| Source {
            start,
            rows,
            deleted: deleted.iter().copied().collect(),
        };
        let sources = [(FileId(7), source(0, 5, &[1, 3])), (FileId(9), source(3, 2, &[]))];
        let moves = Moves { sources: sources.into(), starts: vec![0, 4] };
        let target = |file, row| moves.target(Place { file: FileId(file), row });
        let all: Vec<_> = (0..6).map(|row| target(7, row)).collect();
        assert_eq!(all, [Some((0, 0)), None, Some((0, 1)), None, Some((0, 2)), None]);
        assert_eq!([target(9, 0), target(9, 1), target(9, 2)], [Some((0, 3)), Some((1, 0)), None]);
        assert_eq!(target(8, 0), None);
    }
}
