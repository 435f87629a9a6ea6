//! The bank law: at every consistent point the sum over two tables is what it always was, however
//! often the product died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::some_millis;
use crate::dialect::Dialect;
use crate::judge::{Judge, PointSum};
use crate::product::exit;
use crate::workload::random::seed;
use crate::workload::{Random, bank};
use crate::world::{CALL_LIMIT, LakeTarget, Session, SourceServer, World};
use crate::{Result, fail};

/// Fewer points than this prove little.
const POINTS_MIN: usize = 10;

/// Who move money at the same time.
const CLERKS: u64 = 2;

/// The law.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let seed = seed();
    println!("bank law, {} -> {}: LAKEWARD_SEED={seed}", source.title(), L::title());
    let mut world = World::<S, L>::create(source, "bank").await?;
    world.options.commit_interval = "100ms".to_owned();
    world.options.rows_per_chunk = 50;
    world.execute(&bank::create()).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let clerks: Vec<_> = (0..CLERKS).map(|n| (n, Arc::clone(&stop))).collect();
    let mut tasks = Vec::new();
    for (n, stop) in clerks {
        tasks.push(tokio::spawn(transfer_until(
            world.session().await?,
            world.source.dialect(),
            Random::new(seed).fork(1 + n),
            n,
            stop,
        )));
    }
    let outcome = disturb(&world, Random::new(seed)).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    outcome?;
    world.recover().await?;
    check(&world, seed).await?;
    world.done().await
}

async fn transfer_until(
    mut session: Box<dyn Session>,
    dialect: &'static dyn Dialect,
    mut random: Random,
    clerk: u64,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match session.run(&bank::transfer(&mut random, clerk, CLERKS)).await {
            Err(error) if dialect.lost_a_lock(&error.to_string()) => {
                session.run("ROLLBACK").await?;
            }
            other => {
                other?;
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Ok(())
}

async fn disturb<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    mut random: Random,
) -> Result<()> {
    for _ in 0..4 {
        let running = world.follow()?;
        tokio::time::sleep(some_millis(&mut random, 1_500, 3_000)).await;
        if random.chance(70) {
            running.kill9().await?;
        } else {
            running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
        }
    }
    Ok(())
}

/// Every point has the sum, and all rows.
pub(super) async fn check<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    seed: u64,
) -> Result<()> {
    let mut judge = Judge::start().await?;
    world.judge(&mut judge).await?;
    for lake in world.lake.lakes() {
        let sums = world.sums(&mut judge, &lake, bank::COLUMN, &bank::TABLES).await?;
        let right = |point: &&PointSum| point.sum == bank::SUM && point.rows == 2 * bank::ACCOUNTS;
        let wrong: Vec<_> = sums.iter().filter(|point| !right(point)).collect();
        let title = format!("{} -> {}", world.source.title(), lake.name);
        println!("bank law, {title}: {} points, {} wrong", sums.len(), wrong.len());
        if !wrong.is_empty() {
            fail!(
                "seed {seed}: points of {} without the sum {}: {wrong:?}; evidence: {}",
                lake.name,
                bank::SUM,
                world.home().display()
            );
        }
        if sums.len() < POINTS_MIN {
            fail!("only {} consistent points of {} were named", sums.len(), lake.name);
        }
    }
    Ok(())
}
