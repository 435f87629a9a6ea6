//! The laws: whatever the history, the faults and the restarts, the lake follows the database exactly.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakeward_core::{Bytes, Env, LedgerStore, Period};
use lakeward_engine::commit::ledger::{Entrance, read_points};
use lakeward_engine::commit::rebuild::{Trust, rebuild};
use lakeward_engine::commit::state::ConsistentPoint;
use lakeward_engine::spec::PipelineOptions;
use lakeward_engine::supervise::{Command, Landing, Pipeline, RunEnd, RunMode};
use tokio::sync::{mpsc, oneshot};

use crate::database::{Change, Database, FakeSource, Row, Rows, Transaction, number, table_id};
use crate::lake::Lake;
use crate::random::Random;

const TABLES: usize = 3;
const KEYS: u64 = 60;

static WRITERS: AtomicU64 = AtomicU64::new(0);

fn options() -> PipelineOptions {
    let mut options = PipelineOptions::named("sim");
    options.commit_interval = Period(Duration::from_millis(4));
    options.rows_per_chunk = 7;
    options.memory = Bytes(64 << 20);
    options
}

fn pipeline(database: &Arc<Database>, lakes: &[Lake], state: &Path) -> Pipeline {
    let writer = format!("w{}", WRITERS.fetch_add(1, Ordering::SeqCst));
    let landing = |(n, lake): (usize, &Lake)| {
        let env = Env {
            pipeline: "sim".into(),
            name: format!("lake{n}"),
            writer: writer.clone(),
            state_dir: state.join(n.to_string()),
            memory_bytes: 64 << 20,
        };
        Landing { sink: Arc::new(lake.clone()), env }
    };
    let landings = lakes.iter().enumerate().map(landing).collect();
    Pipeline::new(Arc::new(FakeSource(Arc::clone(database))), landings, options())
}

fn large(random: &mut Random) -> String {
    format!("large {}", random.below(1_000_000))
}

/// One random transaction against the rows that are there.
fn transaction(random: &mut Random, database: &Database, id: u64) -> Transaction {
    let table = random.below(TABLES as u64) as usize;
    let mut rows = database.rows(table);
    let streamed = random.chance(25);
    let mut changes = Vec::new();
    for step in 0..1 + random.below(6) {
        // An aborted part sees the rows as they are, and leaves no trace in them.
        let part = (streamed && random.chance(30)).then_some(id * 100 + step);
        let mut scratch = rows.clone();
        let target = if part.is_some() { &mut scratch } else { &mut rows };
        changes.push(change(random, target, part));
        if let Some(part) = part {
            changes.push(Change::AbortPart(part));
        }
    }
    Transaction { id, table, changes, streamed }
}

fn change(random: &mut Random, rows: &mut BTreeMap<i64, Row>, part: Option<u64>) -> Change {
    let id = random.below(KEYS) as i64;
    let value = random.below(1_000) as i64;
    let old = rows.get(&id).cloned();
    match (random.below(100), old.clone()) {
        (0..1, _) => {
            rows.clear();
            Change::Truncate { part }
        }
        (1..20, Some(old)) => {
            rows.remove(&id);
            Change::Delete { id, old, part }
        }
        (20..40, Some(old)) => {
            let kept = old.1.clone();
            let mut to = random.below(KEYS) as i64;
            while rows.contains_key(&to) && rows.len() < KEYS as usize {
                to = (to + 1) % KEYS as i64;
            }
            if rows.contains_key(&to) {
                rows.remove(&id);
                return Change::Delete { id, old, part };
            }
            rows.remove(&id);
            rows.insert(to, (value, kept.clone()));
            Change::Move { from: id, old, to, row: (value, kept), large_sent: false, part }
        }
        (40..75, Some((_, kept))) => {
            rows.insert(id, (value, kept.clone()));
            Change::Put { id, old, row: (value, kept), large_sent: false, part }
        }
        _ => {
            let row = (value, large(random));
            rows.insert(id, row.clone());
            Change::Put { id, old, row, large_sent: true, part }
        }
    }
}

struct World {
    seed: u64,
    random: Random,
    database: Arc<Database>,
    lakes: Vec<Lake>,
    folder: tempfile::TempDir,
    /// By lake and epoch.
    points: BTreeMap<(usize, u64), ConsistentPoint>,
    next_id: u64,
    /// Whether tables are rewritten now and then, of which the log tells but little.
    rewrites: bool,
}

impl World {
    fn new(seed: u64, fault_percent: u64, lakes: u64) -> Self {
        let mut world = Self {
            seed,
            random: Random::new(seed),
            database: Database::new(TABLES),
            lakes: (0..lakes).map(|n| Lake::new(seed ^ 0xfa17 ^ n, fault_percent)).collect(),
            folder: tempfile::tempdir().unwrap(),
            points: BTreeMap::new(),
            next_id: 1,
            rewrites: false,
        };
        for _ in 0..80 {
            world.commit_one(false);
        }
        world
    }

    fn commit_one(&mut self, may_hide: bool) {
        let mut transaction = transaction(&mut self.random, &self.database, self.next_id);
        if self.rewrites && self.random.chance(8) {
            (transaction.changes, transaction.streamed) = (vec![Change::Rewrite], false);
        }
        self.next_id += 1;
        let hidden = may_hide && self.random.chance(10);
        self.database.commit(transaction, hidden);
        if self.random.chance(20) {
            self.database.reveal();
        }
    }

    /// Commits one change, visible at once.
    fn commit_at(&mut self, table: usize, change: Change) {
        let (id, changes) = (self.next_id, vec![change]);
        self.next_id += 1;
        self.database.commit(Transaction { id, table, changes, streamed: false }, false);
    }

    /// Runs the pipeline for a moment beside a random workload, then drops it wherever it is.
    async fn run_and_crash(&mut self, resync: bool) {
        let pipeline = pipeline(&self.database, &self.lakes, self.folder.path());
        let (control, orders) = mpsc::channel(4);
        let running = tokio::spawn(pipeline.run(RunMode::Follow, true, orders));
        if resync {
            tokio::time::sleep(Duration::from_millis(self.random.below(60))).await;
            let (reply, _answer) = oneshot::channel();
            let table = table_id(self.random.below(TABLES as u64) as usize);
            let _ = control.send(Command::Resync { table, reply }).await;
        }
        for _ in 0..self.random.below(60) {
            self.commit_one(true);
            self.come_and_go();
            tokio::time::sleep(Duration::from_micros(self.random.below(3_000))).await;
        }
        self.database.reveal();
        running.abort();
        if let Ok(Err(error)) = running.await {
            panic!("seed {}: the pipeline stopped: {error:?}", self.seed);
        }
        self.collect_points().await;
    }

    /// One of several lakes may be away for a while.
    fn come_and_go(&mut self) {
        if self.lakes.len() > 1 && self.random.chance(20) {
            let lake = self.random.below(self.lakes.len() as u64) as usize;
            self.lakes[lake].set_down(self.random.chance(50));
        }
    }

    async fn collect_points(&mut self) {
        for (n, lake) in self.lakes.iter().enumerate() {
            for point in read_points(lake).await.unwrap() {
                self.points.insert((n, point.epoch), point);
            }
        }
    }

    async fn catch_up(&mut self) {
        let (_control, orders) = mpsc::channel(4);
        self.catch_up_with(orders).await;
    }

    async fn catch_up_with(&mut self, orders: mpsc::Receiver<Command>) {
        self.database.reveal();
        self.lakes.iter().for_each(|lake| lake.set_down(false));
        let pipeline = pipeline(&self.database, &self.lakes, self.folder.path());
        let run = pipeline.run(RunMode::UntilCaughtUp, true, orders);
        let end = tokio::time::timeout(Duration::from_secs(20), run)
            .await
            .unwrap_or_else(|_| panic!("seed {}: it never caught up", self.seed));
        assert_eq!(end.unwrap(), RunEnd::CaughtUp);
        self.collect_points().await;
    }

    /// What happened to the first key that differs, in the database and in the lake.
    fn trail(
        &self,
        lake: &Lake,
        table: usize,
        differences: &[(i64, Option<Row>, Option<Row>)],
    ) -> String {
        let Some((key, _, _)) = differences.first() else { return String::new() };
        let mut lines = lake.trail(&table_id(table), *key);
        for (i, transaction) in self.database.lock().log.iter().enumerate() {
            let touched = format!("{:?}", transaction.changes);
            let touches = [format!("id: {key},"), format!("from: {key},"), format!("to: {key},")];
            let relevant = touches.iter().any(|t| touched.contains(t)) || touched.contains("Trunc");
            if transaction.table == table && relevant {
                lines += &format!("log {:x}: {transaction:?}\n", i + 1);
            }
        }
        lines
    }

    fn judge(&self) {
        for (n, lake) in self.lakes.iter().enumerate() {
            for table in 0..TABLES {
                let rows = lake.rows(&table_id(table)).unwrap_or_default();
                let differences = differences(&rows, &self.database.rows(table));
                let trail = self.trail(lake, table, &differences);
                assert!(
                    differences.is_empty(),
                    "seed {} lake {n} table {table}: {differences:?}\n{trail}",
                    self.seed
                );
            }
        }
        for ((n, _), point) in &self.points {
            for table in 0..TABLES {
                let id = table_id(table);
                let Some(version) = point.tables.get(&id.to_string()) else { continue };
                let lake = &self.lakes[*n];
                let rows = lake.rows_of_version(&id, version).unwrap();
                let model = self.database.rows_at(table, number(&point.position));
                let differences = differences(&rows, &model);
                assert!(
                    differences.is_empty(),
                    "seed {}: lake {n} table {table} at epoch {} (position {}, {version:?}): {differences:?}\n{}",
                    self.seed,
                    point.epoch,
                    point.position,
                    self.trail(lake, table, &differences)
                );
            }
        }
    }
}

/// Key, what the lake holds, what the database holds.
fn differences(lake: &Rows, model: &Rows) -> Vec<(i64, Option<Row>, Option<Row>)> {
    let keys: std::collections::BTreeSet<_> = lake.keys().chain(model.keys()).copied().collect();
    keys.into_iter()
        .map(|key| (key, lake.get(&key).cloned(), model.get(&key).cloned()))
        .filter(|(_, lake, model)| lake != model)
        .collect()
}

fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("LAKEWARD_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("LAKEWARD_SEEDS").unwrap_or(count)).collect(),
    }
}

async fn restarts(seed: u64, fault_percent: u64, resync: bool, lakes: u64) -> usize {
    let mut world = World::new(seed, fault_percent, lakes);
    for _ in 0..6 {
        let asked = resync && world.random.chance(60);
        world.run_and_crash(asked).await;
    }
    world.catch_up().await;
    world.judge();
    world.points.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_at_any_await_lose_and_double_nothing() {
    let mut points = 0;
    for seed in seeds(12) {
        println!("seed {seed}");
        points += restarts(seed, 0, false, 1).await;
    }
    println!("{points} consistent points compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_and_foreign_commits_lose_and_double_nothing() {
    for seed in seeds(12) {
        println!("seed {seed}");
        restarts(1_000 + seed, 6, false, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_is_swapped_in_without_loss() {
    for seed in seeds(12) {
        println!("seed {seed}");
        restarts(2_000 + seed, 3, true, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_lakes_that_come_and_go_each_follow_one_log_exactly() {
    for seed in seeds(12) {
        println!("seed {seed}");
        restarts(3_000 + seed, 3, seed % 2 == 0, 2 + seed % 2).await;
    }
}

/// Loses the ledger and makes it again.
async fn lose_ledger(world: &World, trust: Trust) {
    let lake = &world.lakes[0];
    for name in lake.list().await.unwrap() {
        lake.delete(&name).await.unwrap();
    }
    let env = Env {
        pipeline: "sim".into(),
        name: "lake0".into(),
        writer: format!("w{}", WRITERS.fetch_add(1, Ordering::SeqCst)),
        state_dir: world.folder.path().into(),
        memory_bytes: 64 << 20,
    };
    let entrance = Entrance {
        writer: env.writer.clone(),
        lock: env.writer.clone(),
        predecessor_lock: None,
        take_over: true,
        commit_interval: Duration::ZERO,
    };
    let source = FakeSource(Arc::clone(&world.database));
    let routing = &options().routing_hash;
    rebuild(&source, lake, &env, &entrance, routing, trust).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_ledger_is_made_again_from_the_marks() {
    for seed in seeds(12) {
        println!("seed {seed}");
        let mut world = World::new(5_000 + seed, 3, 1);
        world.catch_up().await;
        for _ in 0..3 {
            let asked = world.random.chance(30);
            world.run_and_crash(asked).await;
            let trust = if world.random.chance(60) { Trust::Marks } else { Trust::Nothing };
            lose_ledger(&world, trust).await;
            // Epochs begin anew after the marks'; points of the lost ledger are not told apart from new ones.
            world.points.clear();
        }
        world.catch_up().await;
        world.judge();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_whose_log_is_gone_begins_anew_beside_one_that_follows() {
    for seed in seeds(4) {
        println!("seed {seed}");
        let mut world = World::new(4_000 + seed, 0, 2);
        world.catch_up().await;
        let left_out = world.lakes.pop().unwrap();
        world.database.lock().may_lose_log = true;
        world.run_and_crash(false).await;
        (0..20).for_each(|_| world.commit_one(false));
        world.catch_up().await;
        world.lakes.push(left_out);
        let (control, orders) = mpsc::channel(TABLES);
        for table in (0..TABLES).map(table_id) {
            let (reply, _answer) = oneshot::channel();
            control.try_send(Command::Resync { table, reply }).unwrap();
        }
        world.catch_up_with(orders).await;
        assert_eq!(world.database.lock().log_gone, 1, "seed {seed}");
        world.judge();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_diverged_is_loaded_again_whenever_the_process_dies() {
    for seed in seeds(16) {
        println!("seed {seed}");
        let mut world = World::new(6_000 + seed, 2, 1 + seed % 2);
        world.rewrites = true;
        world.database.lock().slow = Duration::from_millis(10);
        for _ in 0..8 {
            let asked = world.random.chance(20);
            world.run_and_crash(asked).await;
        }
        world.catch_up().await;
        world.judge();
    }
}

/// Waits until `reached`, while small transactions on another table keep epochs coming.
async fn drive_until(world: &mut World, what: &str, reached: impl Fn(&World) -> bool) {
    for _ in 0..5_000 {
        if reached(world) {
            return;
        }
        let row = (world.next_id as i64, "light".to_owned());
        let old = world.database.rows(1).get(&0).cloned();
        let put = Change::Put { id: 0, old, row, large_sent: true, part: None };
        world.commit_at(1, put);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never happened: {what}");
}

/// A copy that diverges while it loads holds rows that nothing corrects. Here the process dies after that was committed
/// and before the copy's successor is planned: whoever goes on must not finish the copy and show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_diverged_is_never_shown_after_a_death() {
    let mut world = World::new(7_000, 0, 1);
    for id in 0..KEYS as i64 {
        let row = (id, "first".to_owned());
        let old = world.database.rows(0).get(&id).cloned();
        world.commit_at(0, Change::Put { id, old, row, large_sent: true, part: None });
    }
    world.catch_up().await;
    {
        let mut state = world.database.lock();
        (state.plans_left, state.reads_left) = (Some(1), Some(2));
    }
    let pipeline = pipeline(&world.database, &world.lakes, world.folder.path());
    let (_control, orders) = mpsc::channel(4);
    let running = tokio::spawn(pipeline.run(RunMode::Follow, true, orders));
    world.commit_at(0, Change::Rewrite);
    let two_chunks_read = |world: &World| world.database.lock().reads_left == Some(0);
    drive_until(&mut world, "two chunks of the copy are read", two_chunks_read).await;
    let settled = world.database.lock().log.len() as u64 + 5;
    let confirmed = |through: u64| move |world: &World| world.database.lock().confirmed >= through;
    drive_until(&mut world, "the chunks are committed", confirmed(settled)).await;
    world.commit_at(0, Change::Rewrite);
    let diverged = world.database.lock().log.len() as u64;
    drive_until(&mut world, "the divergence is committed", confirmed(diverged)).await;
    running.abort();
    assert!(running.await.is_err_and(|end| end.is_cancelled()), "the pipeline stopped by itself");
    {
        let mut state = world.database.lock();
        (state.plans_left, state.reads_left) = (None, None);
    }
    world.catch_up().await;
    world.judge();
}
