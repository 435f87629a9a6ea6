//! The index on disk against a plain model, through changes, restarts, set-backs and every kind of damage.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lakeward_core::KeyHash;
use roaring::RoaringBitmap;

use super::directory::{Covered, Directory};
use super::gather::Gathering;
use super::table::{Files, TableIndex};
use super::{FileId, IndexHome, IndexLimits, Place};
use crate::head::LiveFile;
use crate::upsert::random::Random;

const SIGNATURE: &str = "1 key 1:integer";

/// A table as the lake knows it, and its index. Nothing but the lake is believed.
struct World {
    folder: tempfile::TempDir,
    /// The key of each row of each file that ever was.
    keys: BTreeMap<Place, KeyHash>,
    files: Files,
    next: u32,
    index: TableIndex,
    /// What comes is indexed beside whatever comes next.
    beside: bool,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = TableIndex::new(home(folder.path()), SIGNATURE.into());
        Self { folder, keys: BTreeMap::new(), files: Files::new(), next: 0, index, beside: false }
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    fn live(&self) -> BTreeMap<Place, KeyHash> {
        let live = |place: &Place| {
            self.files.get(&place.file).is_some_and(|file| !file.deleted.contains(place.row))
        };
        self.keys.iter().filter(|(place, _)| live(place)).map(|(p, k)| (*p, *k)).collect()
    }

    fn add_file(&mut self, keys: &[KeyHash]) -> FileId {
        let id = FileId(self.next);
        self.next += 1;
        let place = |row: usize| Place { file: id, row: row as u32 };
        self.keys.extend(keys.iter().enumerate().map(|(row, key)| (place(row), *key)));
        let file = LiveFile {
            path: format!("t/data/{}.parquet", id.0).into(),
            rows: keys.len() as u64,
            bytes: 1000,
            deleted: RoaringBitmap::new(),
        };
        self.files.insert(id, file);
        id
    }

    /// What a commit or a compaction does to the index: files come with all keys of their live rows.
    async fn index_files(&mut self, ids: &[FileId]) {
        let live = self.live();
        let number: BTreeMap<FileId, u32> = (0..).zip(ids).map(|(n, id)| (*id, n)).collect();
        let facts = live
            .iter()
            .filter_map(|(place, key)| Some((*key, *number.get(&place.file)?, place.row)));
        let mut gathering = Gathering::new(self.index.home().clone());
        gathering.extend(facts).await.unwrap();
        let files = ids.iter().map(|id| Covered::of(&self.files[id])).collect();
        let directory = Directory { signature: SIGNATURE.into(), files };
        if self.beside {
            self.index.settle(&self.files).await;
            self.index.absorb_later(gathering, directory, ids.to_vec());
            return;
        }
        let facts = gathering.finish(directory).await.unwrap();
        self.index.absorb(&facts, ids, &self.files);
        self.index.settle(&self.files).await;
    }

    fn delete(&mut self, place: Place) {
        if let Some(file) = self.files.get_mut(&place.file) {
            file.deleted.insert(place.row);
        }
    }

    /// Starts again with what the lake lists and what the folder holds; returns how many files were read again.
    async fn restart(&mut self, files: Files) -> usize {
        // Files are numbered anew, as a new process would.
        let mut keys = BTreeMap::new();
        let mut renumbered = Files::new();
        for (id, file) in files {
            let new = FileId(self.next);
            self.next += 1;
            let rows =
                self.keys.range(Place { file: id, row: 0 }..=Place { file: id, row: u32::MAX });
            keys.extend(rows.map(|(place, key)| (Place { file: new, row: place.row }, *key)));
            renumbered.insert(new, file);
        }
        self.keys.extend(keys);
        self.files = renumbered;
        self.index = TableIndex::default();
        let (index, lacking) =
            TableIndex::open(home(self.folder.path()), SIGNATURE.into(), &self.files).await;
        self.index = index;
        let lacking: Vec<FileId> = lacking.into_iter().collect();
        if !lacking.is_empty() {
            self.index_files(&lacking).await;
        }
        lacking.len()
    }

    async fn check(&self, seed: u64) {
        let mut expected: BTreeMap<KeyHash, BTreeSet<Place>> = BTreeMap::new();
        for (place, key) in self.live() {
            expected.entry(key).or_default().insert(place);
        }
        let keys: Vec<KeyHash> =
            self.keys.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let found = self.index.find(&keys, &self.files).await.unwrap();
        let count = found.len();
        let mut places: BTreeMap<KeyHash, BTreeSet<Place>> = BTreeMap::new();
        for (at, place) in found {
            places.entry(keys[at]).or_default().insert(place);
        }
        assert_eq!(places, expected, "seed {seed}");
        assert_eq!(
            count,
            expected.values().map(BTreeSet::len).sum::<usize>(),
            "seed {seed}: twice"
        );
    }
}

fn home(folder: &Path) -> IndexHome {
    let limits = IndexLimits { memory_places: 60, buffer_facts: 50, few_facts: 20 };
    IndexHome::with_limits(folder.join("index"), limits)
}

/// Few keys, some of them neighbours in the index's order, some far apart.
fn key(random: &mut Random) -> KeyHash {
    let spread = u128::from(random.below(300));
    match random.below(3) {
        0 => KeyHash(spread),
        1 => KeyHash(u128::MAX - spread),
        _ => KeyHash(spread.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)),
    }
}

fn runs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut runs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    runs.sort();
    runs
}

async fn random_life(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::new();
    let mut before: Vec<Files> = Vec::new();
    for _ in 0..40 {
        world.beside = random.below(3) == 0;
        match random.below(12) {
            0 => {
                // A compaction: the rows of some files move to a new one.
                let sources: Vec<FileId> =
                    world.files.keys().copied().filter(|_| random.below(2) == 0).collect();
                let moved = world.live().into_iter().filter(|(p, _)| sources.contains(&p.file));
                let moved: Vec<KeyHash> = moved.map(|(_, key)| key).collect();
                world.files.retain(|id, _| !sources.contains(id));
                world.index.forget_files(&sources.into_iter().collect());
                let id = world.add_file(&moved);
                world.index_files(&[id]).await;
            }
            1 => {
                world.files.clear();
                world.index.clear();
            }
            2 => {
                let files = world.files.clone();
                world.restart(files).await;
            }
            // Somebody sets the table back.
            3 if !before.is_empty() => {
                let files = before.swap_remove(random.below(before.len() as u64) as usize);
                before.clear();
                world.restart(files).await;
            }
            4 => damage(&mut random, &world.folder()),
            _ => {
                let count = if random.below(4) == 0 { 200 } else { random.below(30) };
                let keys: Vec<KeyHash> = (0..count).map(|_| key(&mut random)).collect();
                let doomed: Vec<_> =
                    world.live().into_iter().filter(|(_, key)| keys.contains(key)).collect();
                for (place, _) in &doomed {
                    world.delete(*place);
                }
                world.index.forget(doomed.into_iter().map(|(place, key)| (key, place)).collect());
                let id = world.add_file(&keys);
                world.index_files(&[id]).await;
            }
        }
        before.push(world.files.clone());
        let lost = world.index.find(&[KeyHash(1)], &world.files).await.is_err();
        let all: Vec<KeyHash> =
            world.keys.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
        if lost || world.index.find(&all, &world.files).await.is_err() {
            let files = world.files.clone();
            world.restart(files).await;
            before = vec![world.files.clone()];
        }
        world.check(seed).await;
    }
}

/// Cuts a file of the folder short, turns a bit of it over, or takes it away.
fn damage(random: &mut Random, folder: &Path) {
    let runs = runs(folder);
    if runs.is_empty() {
        return;
    }
    let path = &runs[random.below(runs.len() as u64) as usize];
    let mut bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return;
    }
    match random.below(3) {
        0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
        1 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        _ => return fs::remove_file(path).unwrap(),
    }
    // In place: whoever has the file open sees the damage.
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_life_with_restarts_and_damage_equals_the_model() {
    let first = std::env::var("LAKEWARD_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in first.map_or(0..40, |seed| seed..seed + 1) {
        random_life(seed).await;
    }
}

fn spread(n: u64) -> KeyHash {
    KeyHash(u128::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
}

/// Adds files of 100 rows, each with a run of its own.
async fn add_files(world: &mut World, numbers: std::ops::Range<u64>) {
    for file in numbers {
        let keys: Vec<KeyHash> = (0..100).map(|row| spread(file * 100 + row)).collect();
        let id = world.add_file(&keys);
        world.index_files(&[id]).await;
    }
}

/// A table of so many files.
async fn settled(files: u64) -> World {
    let mut world = World::new();
    add_files(&mut world, 0..files).await;
    world
}

async fn merged(world: &mut World) {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while world.index.is_merging() {
        assert!(std::time::Instant::now() < give_up, "no merge ends");
        tokio::task::yield_now().await;
        world.index.settle(&world.files).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_only_files_that_no_run_covers() {
    let mut world = settled(4).await;
    assert_eq!(world.restart(world.files.clone()).await, 0);
    world.add_file(&[spread(1000)]);
    assert_eq!(world.restart(world.files.clone()).await, 1, "a file by another hand");
    world.check(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_set_back_behind_a_merge_reads_the_files_whose_dead_rows_came_back() {
    let mut world = settled(3).await;
    let before = world.files.clone();
    let first = *before.keys().next().unwrap();
    for row in 0..10 {
        world.delete(Place { file: first, row });
    }
    // The fourth run begins a merge, which leaves the dead facts out.
    add_files(&mut world, 3..4).await;
    merged(&mut world).await;
    assert_eq!(world.index.len(), 390);
    assert_eq!(world.restart(before).await, 1);
    world.check(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_again_or_keyed_anew_leaves_nothing_behind() {
    let mut world = settled(3).await;
    assert!(!runs(&world.folder()).is_empty());
    world.restart(Files::new()).await;
    assert!(runs(&world.folder()).is_empty(), "the table was dropped");
    let world = settled(3).await;
    let (_, lacking) =
        TableIndex::open(home(world.folder.path()), "1 key 2:integer".into(), &world.files).await;
    assert_eq!(lacking.len(), 3);
    assert!(runs(&world.folder()).is_empty(), "another key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_writer_that_was_killed_are_swept_and_the_outcome_of_a_merge_beats_its_inputs() {
    let mut world = settled(4).await;
    let folder = world.folder();
    let kept: Vec<(PathBuf, Vec<u8>)> =
        runs(&folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    merged(&mut world).await;
    assert_eq!(runs(&folder).len(), 1);
    // Killed between giving the merged run its name and removing its inputs, and while writing another.
    for (path, bytes) in &kept {
        fs::write(path, bytes).unwrap();
    }
    fs::write(folder.join("new-1"), b"half a run").unwrap();
    assert_eq!(world.restart(world.files.clone()).await, 0);
    world.check(0).await;
    assert_eq!(runs(&folder).len(), 1, "one run serves all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_on_their_way_are_found_and_become_a_run_when_the_index_settles() {
    let mut world = World::new();
    world.beside = true;
    add_files(&mut world, 0..2).await;
    world.check(0).await;
    world.delete(Place { file: FileId(1), row: 7 });
    world.files.remove(&FileId(0));
    world.check(0).await;
    world.index.settle(&world.files).await;
    assert_eq!(runs(&world.folder()).len(), 1, "the dead one has gone");
    assert_eq!(world.restart(world.files.clone()).await, 0);
    world.check(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_on_their_way_that_nobody_wants_leave_nothing_that_is_believed() {
    let mut world = World::new();
    world.beside = true;
    add_files(&mut world, 0..1).await;
    world.index.clear();
    world.files.clear();
    world.check(0).await;
    add_files(&mut world, 1..2).await;
    // What was not waited for may be lost: then its file is read again.
    world.restart(world.files.clone()).await;
    world.check(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_takes_nothing_costs_memory_only() {
    for beside in [false, true] {
        a_folder_takes_nothing(beside).await;
    }
}

async fn a_folder_takes_nothing(beside: bool) {
    let mut world = World::new();
    world.beside = beside;
    // A file where the folder should be.
    fs::write(world.folder(), b"").unwrap();
    for file in 0..6 {
        let keys: Vec<KeyHash> = (0..100).map(|row| spread(file * 100 + row)).collect();
        let id = world.add_file(&keys);
        world.index_files(&[id]).await;
    }
    world.check(0).await;
    world.index.settle(&world.files).await;
    world.check(0).await;
    assert_eq!(world.index.len(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_is_found_or_harmless() {
    let world = settled(3).await;
    let keys: Vec<KeyHash> = (0..400).map(spread).collect::<BTreeSet<_>>().into_iter().collect();
    let (index, lacking) =
        TableIndex::open(home(world.folder.path()), SIGNATURE.into(), &world.files).await;
    assert!(lacking.is_empty());
    let expected: BTreeSet<_> =
        index.find(&keys, &world.files).await.unwrap().into_iter().collect();
    let path = runs(&world.folder()).remove(0);
    let bytes = fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(41) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        fs::write(&path, &flipped).unwrap();
        let (index, lacking) =
            TableIndex::open(home(world.folder.path()), SIGNATURE.into(), &world.files).await;
        // Found when it is opened, or when the page is read.
        let found = index.find(&keys, &world.files).await;
        let harmless =
            || found.as_ref().is_ok_and(|f| f.iter().copied().collect::<BTreeSet<_>>() == expected);
        assert!(!lacking.is_empty() || found.is_err() || harmless(), "byte {at}");
        fs::write(&path, &bytes).unwrap();
    }
}
