//! The restart law: a random workload, the product killed again and again, and at the end source
//! and lake are equal. Tables are added and synced anew in mid-run.

use std::sync::Arc;
use std::time::Duration;

use lakeward_core::kill::KillPoint;

use super::{Extent, some_millis};
use crate::judge::Judge;
use crate::product::exit;
use crate::workload::random::seed;
use crate::workload::shop::Size;
use crate::workload::{Counts, Drive, Kind, Plan, Random};
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
use crate::{Result, fail};

/// What a run must have seen before it counts.
#[derive(Clone, Copy, Debug)]
struct Goal {
    restarts: u64,
    changes: u64,
    ddls: u64,
    compactions: u64,
    size: Size,
    writers: u64,
    time: Duration,
}

/// How much of the law a pair runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// A fourth: another pair of the same source runs the whole.
    Fourth,
}

impl Goal {
    fn shared(self, share: Share) -> Goal {
        if share == Share::Whole {
            return self;
        }
        let (restarts, changes) = (self.restarts / 4, self.changes / 4);
        Goal { restarts, changes, ddls: self.ddls / 4, compactions: 1, ..self }
    }

    fn of(extent: Extent) -> Goal {
        Goal {
            restarts: extent.choose(50, 150),
            changes: extent.choose(200_000, 1_000_000),
            ddls: extent.choose(20, 80),
            compactions: extent.choose(3, 10),
            size: Size { customers: extent.choose(4_000, 12_000) },
            writers: 2,
            time: Duration::from_secs(extent.choose(400, 3_600)),
        }
    }
}

/// The law. Whether the load runs beside it (`loading`) or the tables were loaded before.
pub async fn law<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    extent: Extent,
    share: Share,
    loading: bool,
) -> Result<()> {
    let (goal, seed) = (Goal::of(extent).shared(share), seed());
    let name = if loading { "restart_loading" } else { "restart_stream" };
    println!("{name}, {} -> {}: LAKEWARD_SEED={seed}", source.title(), L::title());
    let world = prepare::<S, L>(source, name, goal, loading).await?;
    let plan = Plan {
        seed,
        writers: goal.writers,
        size: goal.size,
        pause: Duration::from_millis(30),
        ddl_pause: Some(Duration::from_secs(3)),
        large_rows: 3_000,
    };
    let drive = Drive::start(world.source.as_ref(), &world.database, &plan).await?;
    let restarts = restart_until(&world, &drive, goal, Random::new(seed).fork(77)).await;
    let counts = drive.finish().await.map_err(|error| format!("seed {seed}: {error}"))?;
    let restarts = restarts.map_err(|error| format!("seed {seed}: {counts}: {error}"))?;
    expire(&world).await.map_err(|error| format!("seed {seed}: {counts}: {error}"))?;
    let verdict = settle(&world, seed)
        .await
        .map_err(|error| format!("seed {seed}: {restarts} restarts, {counts}: {error}"))?;
    let compactions = reached(&world, KillPoint::CompactCommit);
    let expiries = reached(&world, KillPoint::ExpireCommit);
    let chunks = reached(&world, KillPoint::ChunkRead);
    println!(
        "{name}, {} -> {}: seed {seed}, {restarts} restarts, {counts}, {chunks} chunks, {compactions} compactions, {expiries} expiries, \
         {} tables, {} rows agree",
        world.source.title(),
        L::title(),
        verdict.0,
        verdict.1
    );
    ensure(goal, restarts, &counts)?;
    if loading && chunks < CHUNKS_MIN {
        fail!("the load was too short: {chunks} chunks");
    }
    if compactions < goal.compactions || expiries == 0 {
        fail!("the run was too quiet for {goal:?}: {compactions} compactions, {expiries} expiries");
    }
    world.done().await
}

async fn prepare<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    name: &str,
    goal: Goal,
    loading: bool,
) -> Result<World<S, L>> {
    let mut world = World::<S, L>::create(source, name).await?;
    super::open_shop(&world, goal.size).await?;
    // a load of many chunks, so that several restarts fall into it
    world.options.rows_per_chunk = if loading { 150 } else { 10_000 };
    world.options.pipeline = vec![
        "compaction: { interval: 1s }".to_owned(),
        "expiry: { interval: 300ms, retain: 2s }".to_owned(),
    ];
    if !loading {
        world.catch_up().await?;
    }
    Ok(world)
}

/// Kills, or now and then drains, the product until the goal is met or its time is over.
async fn restart_until<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    drive: &Drive,
    goal: Goal,
    mut random: Random,
) -> Result<u64> {
    let end = tokio::time::Instant::now() + goal.time;
    let mut restarts = 0;
    while restarts < goal.restarts || drive.changes() < goal.changes || drive.ddls() < goal.ddls {
        if drive.broken() || tokio::time::Instant::now() > end {
            break;
        }
        let mut running =
            world.run()?.arg("--take-over").log_points(&world.home().join(POINTS)).spawn()?;
        if restarts == goal.restarts / 3 {
            add_a_table(world).await?;
        }
        tokio::time::sleep(some_millis(&mut random, 300, 4_000)).await;
        if restarts == goal.restarts / 2 {
            world
                .call(&["resync"])?
                .arg(&world.table("orders"))
                .finish(CALL_LIMIT)
                .await?
                .ensure(exit::DONE)?;
        }
        if running.ended() {
            running.wait(CALL_LIMIT).await?.ensure(exit::DONE)?;
            fail!("`run` ended by itself while it should follow");
        }
        if random.chance(20) {
            running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
        } else {
            running.kill9().await?;
        }
        restarts += 1;
    }
    Ok(restarts)
}

/// Versions expire only when many have gathered past the consistent points that are kept: once the
/// backlog of the restarts is done, one undisturbed life with a small change for every epoch, until
/// that has been seen.
async fn expire<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<()> {
    world.recover().await?;
    let end = tokio::time::Instant::now() + EXPIRY_LIMIT;
    let log = world.home().join(POINTS);
    let running = world.run()?.arg("--take-over").log_points(&log).spawn()?;
    let mut session = world.session().await?;
    for n in 0.. {
        if reached(world, KillPoint::ExpireCommit) > 0 || tokio::time::Instant::now() > end {
            break;
        }
        session.run(&format!("UPDATE added SET note = 'look {n}' WHERE id = 1")).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.kill9().await.map(|_| ())
}

/// How long that life may take.
const EXPIRY_LIMIT: Duration = Duration::from_secs(240);

async fn add_a_table<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<()> {
    let sql = "CREATE TABLE IF NOT EXISTS added (id int PRIMARY KEY, note text); \
               INSERT INTO added SELECT i, 'row ' || i FROM $series(1, 2000); \
               UPDATE added SET note = NULL WHERE id % 10 = 0; DELETE FROM added WHERE id % 9 = 0";
    world.execute(sql).await?;
    Ok(())
}

/// Two runs to the end and one full compaction: nothing may change what the readers see.
async fn settle<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    seed: u64,
) -> Result<(u64, u64)> {
    let mut judge = Judge::start().await?;
    world.recover().await?;
    world.judge(&mut judge).await.map_err(|error| format!("LAKEWARD_SEED={seed}: {error}"))?;
    world.call(&["compact"])?.finish(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.catch_up().await?;
    let verdict =
        world.judge(&mut judge).await.map_err(|error| format!("after compaction: {error}"))?;
    Ok((verdict.tables, verdict.rows))
}

/// How often all calls together reached a point.
fn reached<S: SourceServer, L: LakeTarget>(world: &World<S, L>, point: KillPoint) -> u64 {
    let text = std::fs::read_to_string(world.home().join(POINTS)).unwrap_or_default();
    text.lines().filter(|line| *line == point.name()).count() as u64
}

/// A shorter load proves little about restarts inside it.
const CHUNKS_MIN: u64 = 40;

/// The file that counts kill points over all calls.
const POINTS: &str = "points.log";

fn ensure(goal: Goal, restarts: u64, counts: &Counts) -> Result<()> {
    if restarts < goal.restarts || counts.changes() < goal.changes || counts.ddls < goal.ddls {
        fail!("the run was too short for {goal:?}: {restarts} restarts, {counts}");
    }
    if counts.of(Kind::UpdateBesideToast) == 0 || counts.of(Kind::KeyChange) == 0 {
        fail!("the run lacked kinds of changes: {counts}");
    }
    Ok(())
}
