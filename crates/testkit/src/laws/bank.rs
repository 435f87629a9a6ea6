//! The bank law: at every consistent point the sum over two tables is what it always was, however
//! often the product died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::some_millis;
use crate::judge::Judge;
use crate::product::exit;
use crate::workload::random::seed;
use crate::workload::{Random, bank};
use crate::world::{CALL_LIMIT, LakeTarget, Session, SourceServer, World};
use crate::{Result, fail};

/// Fewer points than this prove little.
const POINTS_MIN: usize = 10;

/// The law.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let seed = seed();
    println!("bank law, {}: LAKEWARD_SEED={seed}", source.title());
    let mut world = World::<S, L>::create(source, "bank").await?;
    world.options.commit_interval = "100ms".to_owned();
    world.options.rows_per_chunk = 50;
    world.execute(&bank::create()).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let clerks: Vec<_> = [1, 2].map(|n| (n, Arc::clone(&stop))).into();
    let mut tasks = Vec::new();
    for (n, stop) in clerks {
        tasks.push(tokio::spawn(transfer_until(
            world.session().await?,
            Random::new(seed).fork(n),
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
    mut random: Random,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    session.run("SET deadlock_timeout = '100ms'").await?;
    while !stop.load(Ordering::Relaxed) {
        match session.run(&bank::transfer(&mut random)).await {
            Err(error) if error.to_string().starts_with("40P01") => {
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
    let sums = world.sums(&mut judge, bank::COLUMN, &bank::TABLES).await?;
    let wrong: Vec<_> = sums
        .iter()
        .filter(|point| point.sum != bank::SUM || point.rows != 2 * bank::ACCOUNTS)
        .collect();
    println!("bank law, {}: {} points, {} wrong", world.source.title(), sums.len(), wrong.len());
    if !wrong.is_empty() {
        fail!(
            "seed {seed}: points without the sum {}: {wrong:?}; evidence: {}",
            bank::SUM,
            world.home().display()
        );
    }
    if sums.len() < POINTS_MIN {
        fail!("only {} consistent points were named", sums.len());
    }
    Ok(())
}
