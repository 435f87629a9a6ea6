//! The key index of one table: a part in memory, runs on disk, and one merge at a time in the background.
//!
//! Deliberately absent: the table's files. Whoever asks brings them along, as they are now.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, try_join_all};
use lakeward_core::{Error, ErrorKind, KeyHash, Result};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::budget::{self, Share};
use super::directory::{Covered, Directory};
use super::gather::{Gathered, Gathering, Outcome};
use super::home::{IndexHome, Unfinished};
use super::memory::MemoryIndex;
use super::merge::{Merge, Part, Size, plan};
use super::page::Fact;
use super::run::Run;
use super::write::RunWriter;
use super::{FileId, IndexChange, Place, damaged};
use crate::head::LiveFile;

/// When all tables together hold too much in memory, those with at least so many places write them down.
const MEMORY_PLACES_MIN: u64 = 4 << 10;
/// With so many runs, publishing waits for the merge that is under way.
const RUNS_MAX: usize = 24;
/// Changes between a merge that failed and the next.
const REST_AFTER_FAILURE: u32 = 64;
/// A batch of keys is looked up in so many parts at a time: enough to keep a disk busy.
const PARTS: usize = 4;
/// Smaller batches are not worth parting.
const PART_KEYS_MIN: usize = 4 << 10;

/// Merges under way in this process. Each takes a processor and a few hundred KiB.
static MERGES: Semaphore = Semaphore::const_new(1);

/// Live files by number.
pub type Files = BTreeMap<FileId, LiveFile>;

/// Places by key. A key may have several places: equal rows of a table without a key, or duplicates that another
/// writer made.
#[derive(Default)]
pub struct TableIndex {
    home: IndexHome,
    signature: String,
    memory: MemoryIndex,
    /// Files whose facts are in memory.
    loose: BTreeSet<FileId>,
    share: Option<Share>,
    runs: Vec<Mounted>,
    /// Facts that become a run beside whatever comes next.
    coming: Option<Coming>,
    merging: Option<Merging>,
    /// The memory part may grow to this.
    places_max: u64,
    /// Changes to let pass before the next merge.
    rest: u32,
    /// Facts were lost: nothing here can be believed.
    lost: bool,
}

/// A run, and which of its files are the table's.
#[derive(Clone)]
struct Mounted {
    run: Arc<Run>,
    /// `None`: not live, or another run serves it.
    files: Arc<[Option<FileId>]>,
}

struct Coming {
    outcome: Shared<BoxFuture<'static, Arc<Result<Came>>>>,
    /// The files that the facts are about, by their numbers in them.
    ids: Vec<FileId>,
    unwanted: Arc<AtomicBool>,
}

enum Came {
    Run(Arc<Run>),
    /// The disk did not take them.
    Facts(Gathered),
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

struct Merging {
    inputs: Vec<Arc<Run>>,
    /// The outcome's files.
    files: Vec<FileId>,
    /// The one task that merges.
    task: JoinSet<Result<Unfinished>>,
    stop: Arc<AtomicBool>,
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl TableIndex {
    /// An empty index under an identity of rows. What is in the folder is left alone.
    pub fn new(home: IndexHome, signature: String) -> Self {
        Self { places_max: home.limits().memory_places, home, signature, ..Self::default() }
    }

    /// Opens what the folder holds for these files, and removes the rest of it. Returns the files that it lacks facts
    /// about.
    pub async fn open(
        home: IndexHome,
        signature: String,
        files: &Files,
    ) -> (Self, BTreeSet<FileId>) {
        let mut index = Self::new(home, signature);
        let home = index.home.clone();
        let opened = spawn_blocking(move || open_runs(&home)).await.unwrap_or_default();
        let lacking = index.mount(opened, files);
        (index, lacking)
    }

    /// Each file is served by one run that covers it.
    fn mount(&mut self, mut opened: Vec<(Run, Directory)>, files: &Files) -> BTreeSet<FileId> {
        let by_path: HashMap<&str, FileId> =
            files.iter().map(|(id, file)| (&*file.path, *id)).collect();
        let mut lacking: BTreeSet<FileId> = files.keys().copied().collect();
        // The outcome of a merge before its inputs, should both be there.
        opened.sort_by_key(|(run, _)| std::cmp::Reverse(run.facts()));
        for (run, directory) in opened {
            let mut serve = |covered: &Covered| {
                let id = by_path.get(&*covered.path).copied()?;
                (covered.covers(files.get(&id)?) && lacking.remove(&id)).then_some(id)
            };
            let is_ours = directory.signature == self.signature;
            let served: Arc<[_]> = directory
                .files
                .iter()
                .map(|file| if is_ours { serve(file) } else { None })
                .collect();
            if served.iter().all(Option::is_none) {
                run.remove();
            } else {
                self.runs.push(Mounted { run: Arc::new(run), files: served });
            }
        }
        lacking
    }

    /// Where it keeps its runs.
    pub fn home(&self) -> &IndexHome {
        &self.home
    }

    /// The identity of rows under which keys are hashed.
    pub(crate) fn signature(&self) -> &str {
        &self.signature
    }

    /// The live places of keys, which must be sorted; each with the position of its key in `keys`, in no order.
    ///
    /// # Errors
    /// `Conflict` when a run is damaged: the table must be opened again.
    pub async fn find(&self, keys: &[KeyHash], files: &Files) -> Result<Vec<(usize, Place)>> {
        if self.lost {
            return Err(damaged());
        }
        let mut found = Vec::new();
        self.memory.lookup_all(keys, &mut found);
        let mut runs = self.runs.clone();
        if let Some(coming) = self.coming.as_ref().filter(|_| !keys.is_empty()) {
            match coming.outcome.clone().await.as_ref() {
                Ok(Came::Run(run)) => runs.push(coming.mounted(run)),
                Ok(Came::Facts(facts)) => facts.lookup_all(keys, &coming.ids, &mut found),
                Err(_) => return Err(damaged()),
            }
        }
        if !runs.is_empty() && !keys.is_empty() {
            let length = keys.len().div_ceil(PARTS).max(PART_KEYS_MIN);
            let parts = keys.chunks(length).map(|part| {
                let (part, runs) = (part.to_vec(), runs.clone());
                spawn_blocking(move || find_in_runs(&part, &runs))
            });
            let parts = try_join_all(parts).await.map_err(ended)?;
            for (number, part) in parts.into_iter().enumerate() {
                found.extend(part?.into_iter().map(|(at, place)| (number * length + at, place)));
            }
        }
        found.retain(|(_, place)| {
            files.get(&place.file).is_some_and(|file| !file.deleted.contains(place.row))
        });
        Ok(found)
    }

    /// Everything goes: no file is live any more.
    pub fn clear(&mut self) {
        (self.coming, self.merging) = (None, None);
        for mounted in self.runs.drain(..) {
            mounted.run.remove();
        }
        (self.memory, self.share) = (MemoryIndex::default(), None);
        self.loose.clear();
        self.lost = false;
    }

    /// Places that no longer hold their key. Only memory is spared by this: files know their deleted rows.
    pub fn forget(&mut self, removed: Vec<(KeyHash, Place)>) {
        self.memory.apply(&IndexChange { removed, added: Vec::new() });
    }

    /// Files are no longer live.
    pub fn forget_files(&mut self, gone: &BTreeSet<FileId>) {
        if self.loose.iter().any(|file| gone.contains(file)) {
            self.loose.retain(|file| !gone.contains(file));
            self.memory.retain(|place| !gone.contains(&place.file));
        }
    }

    /// Takes facts in that cover `ids`: the files are numbered by their places in it.
    pub fn absorb(&mut self, gathered: &Gathered, ids: &[FileId], files: &Files) {
        match &gathered.0 {
            Outcome::Facts(facts) => self.keep(facts, ids, files),
            Outcome::Run(run) => {
                if let Err(error) = self.take_over(run, ids, files) {
                    self.lose(&error);
                }
            }
        }
    }

    /// As [`absorb`](Self::absorb) with what `gathering` gives when it ends, which is not waited for: look-ups do that, and
    /// [`settle`](Self::settle), which is to be called before. Only within a runtime.
    pub fn absorb_later(&mut self, gathering: Gathering, directory: Directory, ids: Vec<FileId>) {
        let unwanted = Arc::new(AtomicBool::new(false));
        let work = make_run(self.home.clone(), gathering, directory, Arc::clone(&unwanted));
        let task = tokio::spawn(work);
        let outcome = async move { Arc::new(task.await.map_err(ended).flatten()) };
        self.coming = Some(Coming { outcome: outcome.boxed().shared(), ids, unwanted });
    }

    /// Waits for what is on its way into the index.
    pub async fn arrive(&mut self, files: &Files) {
        let Some(coming) = self.coming.take() else { return };
        match coming.outcome.clone().await.as_ref() {
            Ok(Came::Run(run)) => self.runs.push(coming.mounted(run)),
            Ok(Came::Facts(facts)) => self.absorb(facts, &coming.ids, files),
            Err(error) => self.lose(error),
        }
    }

    /// Facts were lost: every look-up fails until the table is opened again.
    pub(crate) fn lose(&mut self, error: &Error) {
        tracing::warn!(%error, "the key index lost facts; it will be made anew");
        self.lost = true;
    }

    fn keep(&mut self, facts: &[Fact], ids: &[FileId], files: &Files) {
        let added = facts.iter().filter_map(|fact| {
            let place = Place { file: *ids.get(fact.file as usize)?, row: fact.row };
            let live = !files.get(&place.file)?.deleted.contains(place.row);
            live.then(|| (fact.key(), place))
        });
        let change = IndexChange { added: added.collect(), removed: Vec::new() };
        self.memory.apply(&change);
        self.loose.extend(ids);
    }

    fn take_over(&mut self, run: &Unfinished, ids: &[FileId], files: &Files) -> Result<()> {
        let (run, _) = Run::open(&self.home, &run.become_run()?)?;
        let live = |id: &FileId| files.contains_key(id).then_some(*id);
        self.runs.push(Mounted { run: Arc::new(run), files: ids.iter().map(live).collect() });
        Ok(())
    }

    /// After a change: keeps memory within its bounds, lets dead runs go, and begins or ends a merge.
    pub async fn settle(&mut self, files: &Files) {
        self.arrive(files).await;
        self.share = Some(budget::loose(self.memory.memory_bytes()));
        let places = self.memory.len();
        let too_large = places > self.places_max;
        if self.home.is_some() && (too_large || places >= MEMORY_PLACES_MIN && budget::is_tight()) {
            self.write_down(files).await;
        }
        self.end_merge(files).await;
        self.drop_dead_runs(files);
        self.load_filters().await;
        self.begin_merge(files);
    }

    /// The memory part becomes a run.
    async fn write_down(&mut self, files: &Files) {
        let ids: Vec<FileId> =
            self.loose.iter().copied().filter(|id| files.contains_key(id)).collect();
        let number: HashMap<FileId, u32> = (0..).zip(&ids).map(|(n, id)| (*id, n)).collect();
        let facts: Vec<Fact> = self
            .memory
            .iter()
            .filter_map(|(key, place)| Some(Fact::new(key, *number.get(&place.file)?, place.row)))
            .collect();
        let directory = self.directory(ids.iter().filter_map(|id| files.get(id)));
        let home = self.home.clone();
        let written = spawn_blocking(move || write_sorted(&home, facts, &directory)).await;
        let outcome = match written.map_err(ended) {
            Ok(Ok(run)) => self.take_over(&run, &ids, files),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                (self.memory, self.share) = (MemoryIndex::default(), None);
                self.loose.clear();
                self.places_max = self.home.limits().memory_places;
            }
            Err(error) => {
                tracing::warn!(%error, "the key index stays in memory: its folder takes no more");
                self.places_max = self.memory.len() * 2;
            }
        }
    }

    fn directory<'a>(&self, files: impl Iterator<Item = &'a LiveFile>) -> Directory {
        Directory { signature: self.signature.clone(), files: files.map(Covered::of).collect() }
    }

    fn drop_dead_runs(&mut self, files: &Files) {
        self.runs.retain(|mounted| {
            let is_live = mounted.files.iter().flatten().any(|id| files.contains_key(id));
            if !is_live {
                mounted.run.remove();
            }
            is_live
        });
    }

    /// Filters that are not in memory are loaded where there is room now.
    async fn load_filters(&self) {
        for mounted in self.runs.iter().filter(|mounted| mounted.run.wants_filter()) {
            let run = Arc::clone(&mounted.run);
            // Damage is noted by the run; the next look-up tells.
            let _ = spawn_blocking(move || run.load_filter()).await;
        }
    }

    fn begin_merge(&mut self, files: &Files) {
        if self.merging.is_some() || self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            return;
        }
        let sizes: Vec<Size> = self.runs.iter().map(|mounted| size(mounted, files)).collect();
        let chosen = plan(&sizes);
        if chosen.is_empty() {
            return;
        }
        let (mut parts, mut ids) = (Vec::new(), Vec::new());
        for mounted in chosen.iter().filter_map(|at| self.runs.get(*at)) {
            let number = |id: &Option<FileId>| {
                let id = (*id)?;
                files.contains_key(&id).then(|| {
                    ids.push(id);
                    ids.len() as u32 - 1
                })
            };
            let numbers = mounted.files.iter().map(number).collect();
            parts.push(Part { run: Arc::clone(&mounted.run), files: numbers });
        }
        let inputs = parts.iter().map(|part| Arc::clone(&part.run)).collect();
        let directory = self.directory(ids.iter().filter_map(|id| files.get(id)));
        let stop = Arc::new(AtomicBool::new(false));
        let merge = Merge { home: self.home.clone(), parts, directory, stop: Arc::clone(&stop) };
        let mut task = JoinSet::new();
        task.spawn(async move {
            // The semaphore is never closed.
            let _turn = MERGES.acquire().await;
            spawn_blocking(move || merge.run()).await.map_err(ended)?
        });
        self.merging = Some(Merging { inputs, files: ids, task, stop });
    }

    /// Takes the outcome of a merge over, if there is one; waits for it when there are too many runs.
    async fn end_merge(&mut self, files: &Files) {
        let Some(mut merging) = self.merging.take() else { return };
        let ended_now = match self.runs.len() < RUNS_MAX {
            true => merging.task.try_join_next(),
            false => merging.task.join_next().await,
        };
        let Some(outcome) = ended_now else {
            self.merging = Some(merging);
            return;
        };
        let taken = match outcome.map_err(ended) {
            Ok(Ok(run)) => self.take_over(&run, &merging.files, files),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "runs of the key index could not be merged; later again");
            self.rest = REST_AFTER_FAILURE;
            return;
        }
        let is_input = |run: &Arc<Run>| merging.inputs.iter().any(|input| Arc::ptr_eq(input, run));
        self.runs.retain(|mounted| !is_input(&mounted.run));
        merging.inputs.iter().for_each(|run| run.remove());
        merging.inputs.clear();
    }

    /// Whether runs are being merged.
    pub fn is_merging(&self) -> bool {
        self.merging.is_some()
    }

    /// Number of places, dead ones of runs included.
    pub fn len(&self) -> u64 {
        self.memory.len() + self.runs.iter().map(|mounted| mounted.run.facts()).sum::<u64>()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places beyond the first of their key, as far as they are in one run or in memory.
    pub fn duplicates(&self) -> u64 {
        let runs = self.runs.iter().map(|mounted| mounted.run.duplicates());
        self.memory.duplicates() + runs.sum::<u64>()
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        let runs = self.runs.iter().map(|mounted| mounted.run.memory_bytes());
        self.memory.memory_bytes() + runs.sum::<u64>()
    }
}

impl Coming {
    /// The run with its files; whether they are live is asked at each look-up.
    fn mounted(&self, run: &Arc<Run>) -> Mounted {
        let files = self.ids.iter().map(|id| Some(*id)).collect();
        Mounted { run: Arc::clone(run), files }
    }
}

/// Ends a gathering. A run gets its name only while it is wanted.
async fn make_run(
    home: IndexHome,
    gathering: Gathering,
    directory: Directory,
    unwanted: Arc<AtomicBool>,
) -> Result<Came> {
    let gathered = gathering.finish(directory).await?;
    let Outcome::Run(run) = gathered.0 else { return Ok(Came::Facts(gathered)) };
    let named = spawn_blocking(move || {
        if unwanted.load(Ordering::Relaxed) {
            return Err(damaged());
        }
        Run::open(&home, &run.become_run()?).map(|(run, _)| Came::Run(Arc::new(run)))
    });
    named.await.map_err(ended)?
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Bug, "work on the key index ended early").caused_by(error)
}

/// Opens all runs of a folder. What is not whole goes.
fn open_runs(home: &IndexHome) -> Vec<(Run, Directory)> {
    let mut opened = Vec::new();
    for name in home.runs() {
        let whole = Run::open(home, &name).and_then(|(run, directory)| {
            run.load_filter()?;
            Ok((run, directory))
        });
        match whole {
            Ok(run) => opened.push(run),
            Err(error) => {
                tracing::warn!(run = %name, %error, "a run of the key index cannot be used");
                home.remove_file(&name);
            }
        }
    }
    opened
}

fn write_sorted(
    home: &IndexHome,
    mut facts: Vec<Fact>,
    directory: &Directory,
) -> Result<Unfinished> {
    facts.sort_unstable();
    let run = home.create()?;
    let mut writer = RunWriter::new(&run.file, facts.len() as u64);
    for fact in facts {
        writer.push(fact)?;
    }
    writer.finish(directory)?;
    Ok(run)
}

fn find_in_runs(keys: &[KeyHash], runs: &[Mounted]) -> Result<Vec<(usize, Place)>> {
    let mut found = Vec::with_capacity(keys.len());
    for Mounted { run, files } in runs {
        run.find(keys, |at, file, row| {
            if let Some(Some(file)) = files.get(file as usize) {
                found.push((at, Place { file: *file, row }));
            }
        })?;
    }
    Ok(found)
}

fn size(mounted: &Mounted, files: &Files) -> Size {
    let live = mounted.files.iter().flatten().filter_map(|id| files.get(id));
    let live = live.map(|file| file.rows.saturating_sub(file.deleted.len())).sum();
    Size { facts: mounted.run.facts(), live }
}
