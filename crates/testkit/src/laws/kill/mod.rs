//! The kill law: whichever step the product dies at, the next run makes source and lake equal.
//!
//! A dry run counts how often each kill point is reached. Then, for each point and its first, a
//! middle and its last occurrence, a fresh world runs the same script, the product dies there, a
//! successor follows, and the judge compares. A point that is never reached breaks the law.

mod expiry;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeward_core::kill::KillPoint;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Extent;
use crate::judge::Judge;
use crate::product::{Running, exit};
use crate::workload::shop::Size;
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
use crate::{Result, fail};

/// Small, yet more chunks than readers for every table.
const SIZE: Size = Size { customers: 400 };

/// The least memory in MiB that a sink takes: large transactions go to disk.
const MEMORY: usize = 32;

/// Trials at the same time: most of a trial is waiting.
const AT_ONCE: usize = 3;

/// Reached once the product has its place in the log and reads tables.
const UNDER_WAY: KillPoint = KillPoint::ChunkRead;

/// How long, in polls of 20 ms, a death may come after the script's end.
const GRACE_POLLS: u32 = 500;

/// Which occurrences of a point are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrences {
    /// A middle one.
    Middle,
    /// The first, a middle and the last one.
    Three,
}

impl Occurrences {
    fn of(self, count: u64) -> Vec<u64> {
        let middle = count.div_ceil(2);
        let mut chosen = match self {
            Occurrences::Middle => vec![middle],
            Occurrences::Three => vec![1, middle, count],
        };
        chosen.dedup();
        chosen
    }

    /// What this extent asks of the pair whose turn it is.
    pub fn for_extent(extent: Extent) -> Occurrences {
        extent.choose(Occurrences::Middle, Occurrences::Three)
    }
}

/// The law.
pub async fn law<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    occurrences: Occurrences,
) -> Result<()> {
    let template = template::<S, L>(&source).await?;
    let counts = dry_run::<S, L>(&source, &template).await?;
    let expiries = expiry::law::<S, L>(Arc::clone(&source), occurrences).await?;
    let reached = |name: &str| counts.contains_key(name) || expiries.contains_key(name);
    println!(
        "kill law, {} -> {}: reached {counts:?}, with expiry {expiries:?}",
        source.title(),
        L::title()
    );
    let never: Vec<&str> =
        KillPoint::ALL.iter().map(|point| point.name()).filter(|name| !reached(name)).collect();
    if !never.is_empty() {
        fail!("kill points never reached: {never:?}; reached: {counts:?}");
    }
    let trials: Vec<(String, u64)> = counts
        .iter()
        .flat_map(|(point, count)| occurrences.of(*count).into_iter().map(|n| (point.clone(), n)))
        .collect();
    try_all::<S, L>(source, template, trials).await
}

async fn try_all<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    template: String,
    trials: Vec<(String, u64)>,
) -> Result<()> {
    let (title, total) = (source.title(), trials.len());
    let queue = Arc::new(Mutex::new(trials));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (source, template, queue) = (Arc::clone(&source), template.clone(), Arc::clone(&queue));
        workers.spawn(async move {
            let mut judge = Judge::start().await?;
            let mut broken = Vec::new();
            while let Some((point, n)) = { queue.lock().await.pop() } {
                if let Err(error) = trial::<S, L>(&source, &template, &point, n, &mut judge).await {
                    println!("kill law, {} -> {}: {point}:{n} BROKEN", source.title(), L::title());
                    broken.push(format!("died at {point}:{n}: {error}"));
                }
            }
            Ok::<_, crate::Error>(broken)
        });
    }
    let mut broken = Vec::new();
    while let Some(part) = workers.join_next().await {
        broken.extend(part??);
    }
    println!("kill law, {title} -> {}: {total} deaths, {} broken", L::title(), broken.len());
    if broken.is_empty() {
        return Ok(());
    }
    fail!("{} of {total} deaths were not survived:\n{}", broken.len(), broken.join("\n\n"))
}

async fn template<S: SourceServer, L: LakeTarget>(source: &Arc<S>) -> Result<String> {
    let world = World::<S, L>::create(Arc::clone(source), "kill_template").await?;
    super::open_shop(&world, SIZE).await?;
    Ok(world.database)
}

async fn world<S: SourceServer, L: LakeTarget>(
    source: &Arc<S>,
    template: &str,
    name: &str,
) -> Result<World<S, L>> {
    source.copy_database(template, &World::<S, L>::name(name)).await?;
    let mut world = World::<S, L>::over(Arc::clone(source), name)?;
    world.options.memory = format!("{}MiB", MEMORY * world.lake.lakes().len());
    world.options.commit_interval = "150ms".to_owned();
    world.options.rows_per_chunk = 200;
    world.options.pipeline = vec![
        "compaction: { interval: 300ms }".to_owned(),
        "expiry: { interval: 300ms, retain: 1s }".to_owned(),
    ];
    Ok(world)
}

/// Runs the script undisturbed and counts the points that one process reaches.
async fn dry_run<S: SourceServer, L: LakeTarget>(
    source: &Arc<S>,
    template: &str,
) -> Result<BTreeMap<String, u64>> {
    let world = world::<S, L>(source, template, "kill_dry").await?;
    let log = world.home().join("points.log");
    let running = world.run()?.log_points(&log).spawn()?;
    script(&world, || count(&log).contains_key(UNDER_WAY.name())).await?;
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.catch_up().await?;
    world.judge(&mut Judge::start().await?).await?;
    let counts = count(&log);
    world.done().await?;
    Ok(counts)
}

fn count(log: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// One death. Timing decides how often a point is reached, so the last occurrence may not come
/// again: then an earlier one is taken.
async fn trial<S: SourceServer, L: LakeTarget>(
    source: &Arc<S>,
    template: &str,
    point: &str,
    n: u64,
    judge: &mut Judge,
) -> Result<()> {
    let (asked, mut n) = (n, n);
    for _ in 0..4 {
        let name = format!("kill_{}_{asked}_{n}", point.replace('-', "_"));
        let world = world::<S, L>(source, template, &name).await?;
        let died = die_and_recover(&world, point, n).await?;
        world.judge(judge).await?;
        world.done().await?;
        if died {
            return Ok(());
        }
        n = (n * 2 / 3).max(1);
    }
    fail!("the product did not reach it again, down to occurrence {n}")
}

/// True if the product died at the point; false if it was not reached so often this time.
async fn die_and_recover<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    point: &str,
    n: u64,
) -> Result<bool> {
    let log = world.home().join("points.log");
    let mut running = world.run()?.kill_at(point, n).log_points(&log).spawn()?;
    let under_way = || {
        let counts = count(&log);
        counts.contains_key(UNDER_WAY.name()) || counts.get(point).is_some_and(|count| *count >= n)
    };
    let (written, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let writing = async {
        let outcome = script(world, under_way).await;
        written.store(true, Ordering::Relaxed);
        outcome?;
        go_on(world, &over).await
    };
    let dying = async {
        let died = dies(&mut running, &written).await;
        over.store(true, Ordering::Relaxed);
        died
    };
    let (writing, died) = tokio::join!(writing, dying);
    writing?;
    if !died {
        running.terminate();
    } else {
        world.follow()?.drain_after(Duration::from_millis(500)).await?;
    }
    let ended = running.wait(CALL_LIMIT).await?;
    let killed = ended.killed();
    if !killed {
        ended.ensure(exit::DONE)?;
    }
    world.recover().await?;
    Ok(killed)
}

/// Waits for the death; false if it has not come some seconds after all is written.
async fn dies(running: &mut Running, written: &AtomicBool) -> bool {
    let mut grace = GRACE_POLLS;
    while !running.ended() {
        if written.load(Ordering::Relaxed) {
            grace -= 1;
        }
        if grace == 0 {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// What the source does while the product runs: every kind of change, paced, always the same. The
/// large transaction waits until the product is under way: a place in the log is given only when the
/// server's open transactions have ended, and what came before it is loaded and never held.
async fn script<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    under_way: impl Fn() -> bool,
) -> Result<()> {
    let mut session = world.session().await?;
    for (step, sql) in STEPS.iter().enumerate() {
        if sql.contains("$begin_open") {
            wait_until(&under_way).await?;
        }
        session.run(sql).await.map_err(|error| format!("step {step}: {error}"))?;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    Ok(())
}

/// Keeps files wearing behind the script: on a busy machine few epochs hold all of it, and upkeep finds little to do.
async fn go_on<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    over: &AtomicBool,
) -> Result<()> {
    let mut session = world.session().await?;
    while !over.load(Ordering::Relaxed) {
        session.run("UPDATE customers SET email = 'later ' || id WHERE id % 7 = 0").await?;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    Ok(())
}

async fn wait_until(under_way: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + CALL_LIMIT;
    while !under_way() {
        if Instant::now() > end {
            fail!("the product did not begin to load within {CALL_LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

const STEPS: &[&str] = &[
    "UPDATE customers SET email = 'first ' || id WHERE id % 7 = 0",
    "DELETE FROM visits WHERE id % 5 = 0",
    "UPDATE events SET kind = 'beside toast' WHERE id % 16 = 0",
    "BEGIN; UPDATE products SET sku = 'moved ' || sku WHERE price < 1; DELETE FROM orders WHERE customer % 50 = 3; COMMIT",
    "UPDATE events SET id = id + 1000000 WHERE id % 40 = 0",
    // in the log while it is open, larger than the share of memory for open transactions
    "$begin_open; INSERT INTO events (id, kind, body) SELECT i, 'large', $large(i, 150) FROM $series(2000001, 2006000); \
     SAVEPOINT part; DELETE FROM customers WHERE id < 300; INSERT INTO visits SELECT i, 'never', 0 \
       FROM $series(500001, 503000); ROLLBACK TO part; \
     UPDATE customers SET last_name = 'in large' WHERE id % 9 = 0; $commit_open",
    "ALTER TABLE customers ADD COLUMN stars int DEFAULT 7; UPDATE customers SET stars = id WHERE id % 2 = 0",
    "BEGIN; INSERT INTO visits SELECT i, 'rolled back', 0 FROM $series(600001, 601000); ROLLBACK",
    "TRUNCATE visits; INSERT INTO visits SELECT i, 'fresh', i FROM $series(1, 300)",
    "ALTER TABLE customers RENAME COLUMN stars TO grade; UPDATE customers SET grade = -1 WHERE id % 3 = 0",
    "DELETE FROM events WHERE id BETWEEN 2000001 AND 2004000",
    "UPDATE events SET body = 'short now' WHERE id % 16 = 0",
    "$retype(products, name, varchar(120)); UPDATE products SET name = name || '!'",
    "DELETE FROM order_items WHERE order_no % 3 = 0",
    "INSERT INTO order_items SELECT i, 7, 'again', 1, 2.5 FROM $series(1, 400)",
    "UPDATE customers SET email = 'second ' || id WHERE id % 7 = 0",
    "UPDATE orders SET state = 'done', note = NULL WHERE customer % 2 = 0",
    "DELETE FROM customers WHERE id % 11 = 0",
    "UPDATE visits SET seconds = seconds + 1",
    "INSERT INTO customers (id, email, created) SELECT 11 * i, 'back', now() FROM $series(1, 36)",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::{self, MariaDb};
    use crate::postgres::Postgres;
    use crate::servers::Version;
    use crate::world::speak;

    async fn is_valid<S: SourceServer>(version: S::Version) {
        let server = S::begin(version, &[]).await.unwrap();
        server.create_database("template").await.unwrap();
        let mut session = speak(&server, "template").await.unwrap();
        let shop = server.dialect().shop();
        session.run(shop.schema).await.unwrap();
        for fill in shop.fill(SIZE) {
            session.run(&fill).await.unwrap();
        }
        drop(session);
        server.copy_database("template", "copy").await.unwrap();
        let mut session = speak(&server, "copy").await.unwrap();
        for step in STEPS {
            session.run(step).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_script_is_valid_on_every_postgres() {
        for version in Version::ALL {
            is_valid::<Postgres>(version).await;
        }
    }

    #[tokio::test]
    async fn the_script_is_valid_on_every_mariadb() {
        for version in mariadb::Version::ALL {
            is_valid::<MariaDb>(version).await;
        }
    }

    #[test]
    fn first_middle_and_last_are_tried_once_each() {
        assert_eq!(Occurrences::Three.of(1), [1]);
        assert_eq!(Occurrences::Three.of(2), [1, 2]);
        assert_eq!(Occurrences::Three.of(9), [1, 5, 9]);
        assert_eq!(Occurrences::Middle.of(9), [5]);
    }
}
