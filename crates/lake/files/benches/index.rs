//! The key index at full size: building it, looking batches up, and what it holds in memory.
//!
//! Facts are made up: no files of rows are read. `--scale F` times 100 million keys; `--folder DIR` for the runs (a
//! temporary folder otherwise). The last line is one JSON object.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lakeward_core::KeyHash;
use lakeward_files::LiveFile;
use lakeward_files::index::{Covered, Directory, FileId, Files, Gathering, IndexHome, TableIndex};

const SIGNATURE: &str = "benchmark";
/// Rows of a file.
const ROWS: u64 = 10_000_000;
const KEYS: f64 = 100e6;
/// Keys of an epoch, and epochs.
const BATCH: u64 = 50_000;
const BATCHES: u64 = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    let scale: f64 = value("--scale").map_or(1.0, |scale| scale.parse().unwrap());
    let keys = (KEYS * scale).max(1000.0) as u64;
    let temporary = tempfile::tempdir().unwrap();
    let folder = value("--folder").map_or_else(|| temporary.path().into(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let figures = runtime.block_on(run(keys, folder.join("index")));
    let columns: Vec<String> =
        figures.iter().map(|(name, value)| format!("\"{name}\": {value:.0}")).collect();
    println!("{{{}}}", columns.join(", "));
}

async fn run(keys: u64, folder: PathBuf) -> Vec<(&'static str, f64)> {
    let mut figures = vec![("index_keys", keys as f64)];
    let mut show = |name: &'static str, value: f64| {
        println!("{name:40} {value:>16.0}");
        figures.push((name, value));
    };
    let before = cpu_seconds();
    let started = Instant::now();
    let mut bench = Bench::build(&folder, keys).await;
    show("index_build_keys_per_cpu_second", keys as f64 / (cpu_seconds() - before).max(TICK));
    show("index_build_seconds_x1000", started.elapsed().as_secs_f64() * 1000.0);
    show("index_disk_bytes", size(&folder) as f64);
    for (name, from, found) in [
        ("index_lookups_per_cpu_second_cold", 0, BATCH),
        ("index_lookups_per_cpu_second", 0, BATCH),
        ("index_absent_lookups_per_cpu_second", keys, 0),
    ] {
        show(name, lookups(&bench, keys, from, found).await);
    }
    let before = cpu_seconds();
    let epochs = (keys / 10 / BATCH).max(4);
    for epoch in 0..epochs {
        let batch = (0..BATCH).map(|n| key((epoch * BATCH + n) * 7 % keys));
        bench.replace(batch.collect()).await;
    }
    bench.settled().await;
    show(
        "index_replaced_keys_per_cpu_second",
        (epochs * BATCH) as f64 / (cpu_seconds() - before).max(TICK),
    );
    show("index_lookups_per_cpu_second_later", lookups(&bench, keys, 0, BATCH).await);
    show("index_memory_bytes", bench.index.memory_bytes() as f64);
    show("index_rss_bytes", status("VmHWM:"));
    show("index_rss_now_bytes", status("VmRSS:"));
    let started = Instant::now();
    bench.reopen().await;
    show("index_open_seconds_x1000", started.elapsed().as_secs_f64() * 1000.0);
    figures
}

/// Looks random keys up, `from` on; each batch must find so many. Returns look-ups per second of processor time.
async fn lookups(bench: &Bench, keys: u64, from: u64, found: u64) -> f64 {
    let mut random = 88_172_645_463_325_252u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        from + random % keys
    };
    let mut seconds = 0.0;
    // Few batches are in memory at a time, enough for the clock's ticks.
    for _ in 0..BATCHES / 8 {
        let batches: Vec<Vec<KeyHash>> = (0..8)
            .map(|_| {
                let mut batch: Vec<KeyHash> = (0..BATCH).map(|_| key(draw())).collect();
                batch.sort_unstable();
                batch
            })
            .collect();
        let before = cpu_seconds();
        for batch in &batches {
            assert_eq!(bench.find(batch).await, found);
        }
        seconds += cpu_seconds() - before;
    }
    (BATCH * BATCHES) as f64 / seconds.max(TICK)
}

/// An index and the table that it is about: files without content.
struct Bench {
    home: IndexHome,
    files: Files,
    index: TableIndex,
}

impl Bench {
    /// Builds the index as it is built when it was lost.
    async fn build(folder: &Path, keys: u64) -> Self {
        let home = IndexHome::at(folder.to_owned());
        let index = TableIndex::new(home.clone(), SIGNATURE.into());
        let mut bench = Self { home, files: Files::new(), index };
        let count = keys.div_ceil(ROWS);
        let rows = |file: u64| ROWS.min(keys - file * ROWS);
        let ids: Vec<FileId> = (0..count).map(|file| bench.add_file(rows(file))).collect();
        let mut facts = Gathering::new(bench.home.clone());
        for file in 0..count {
            let of_row = |row: u64| (key(file * ROWS + row), file as u32, row as u32);
            facts.extend((0..rows(file)).map(of_row)).await.unwrap();
        }
        bench.take_in(facts, &ids).await;
        bench
    }

    fn add_file(&mut self, rows: u64) -> FileId {
        let id = FileId(self.files.len() as u32);
        let path = format!("t/data/{}.parquet", id.0).into();
        self.files.insert(id, LiveFile { path, rows, bytes: rows, deleted: Default::default() });
        id
    }

    async fn take_in(&mut self, facts: Gathering, ids: &[FileId]) {
        let files = ids.iter().map(|id| Covered::of(&self.files[id])).collect();
        let directory = Directory { signature: SIGNATURE.into(), files };
        let facts = facts.finish(directory).await.unwrap();
        self.index.absorb(&facts, ids, &self.files);
        self.index.settle(&self.files).await;
    }

    async fn find(&self, keys: &[KeyHash]) -> u64 {
        self.index.find(keys, &self.files).await.unwrap().len() as u64
    }

    /// An epoch that updates these rows.
    async fn replace(&mut self, mut keys: Vec<KeyHash>) {
        keys.sort_unstable();
        let found = self.index.find(&keys, &self.files).await.unwrap();
        for (_, place) in &found {
            if let Some(file) = self.files.get_mut(&place.file) {
                file.deleted.insert(place.row);
            }
        }
        self.index.forget(found.into_iter().map(|(at, place)| (keys[at], place)).collect());
        let id = self.add_file(keys.len() as u64);
        let mut facts = Gathering::new(self.home.clone());
        facts.extend((0..).zip(keys).map(|(row, key)| (key, 0, row))).await.unwrap();
        self.take_in(facts, &[id]).await;
    }

    /// Waits for merges.
    async fn settled(&mut self) {
        while self.index.is_merging() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            self.index.settle(&self.files).await;
        }
    }

    async fn reopen(&mut self) {
        self.index = TableIndex::default();
        let (index, lacking) =
            TableIndex::open(self.home.clone(), SIGNATURE.into(), &self.files).await;
        println!("{:40} {:>16}", "files to read again", lacking.len());
        self.index = index;
    }
}

/// The key of a row: distinct, and spread evenly.
fn key(n: u64) -> KeyHash {
    let mix = |n: u64| {
        let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        n ^ n >> 31
    };
    KeyHash(u128::from(mix(n)) << 64 | u128::from(mix(!n)))
}

/// The step of the clock, in seconds.
const TICK: f64 = 0.01;

/// Seconds of processor time of this process.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn status(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn size(folder: &PathBuf) -> u64 {
    fs::read_dir(folder)
        .map_or(0, |entries| entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum())
}
