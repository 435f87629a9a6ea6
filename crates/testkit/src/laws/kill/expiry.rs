//! Deaths around expiry. Old versions go only when many have gathered, so this part of the law
//! writes hundreds of small epochs into one small table and dies there again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeward_core::kill::KillPoint;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Occurrences, count};
use crate::judge::Judge;
use crate::product::exit;
use crate::world::{CALL_LIMIT, LakeTarget, Session, SourceServer, World};
use crate::{Result, fail};

const POINTS: [KillPoint; 2] = [KillPoint::ExpireCommit, KillPoint::ExpireFileDelete];

/// Enough for some hundred epochs on a loaded machine.
const GATHERING: Duration = Duration::from_secs(120);

/// Dies at every chosen occurrence; returns how often the points were reached in one life.
pub(super) async fn law<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    occurrences: Occurrences,
) -> Result<BTreeMap<String, u64>> {
    let mut world = World::<S, L>::create(source, "kill_expiry").await?;
    world.options.commit_interval = "10ms".to_owned();
    world.options.pipeline = vec![
        "compaction: { interval: 1s }".to_owned(),
        "expiry: { interval: 100ms, retain: 10ms }".to_owned(),
    ];
    let table = "CREATE TABLE ticks (id int PRIMARY KEY, n bigint); INSERT INTO ticks SELECT i, 0 FROM $series(1, 40)";
    world.execute(table).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let ticker = tick(world.session().await?, Arc::clone(&stop));
    let outcome = deaths(&world, occurrences).await;
    stop.store(true, Ordering::Relaxed);
    ticker.await??;
    let counts = outcome?;
    world.recover().await?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await?;
    Ok(counts)
}

fn tick(mut session: Box<dyn Session>, stop: Arc<AtomicBool>) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let mut n = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let place = n % 40 + 1;
            session.run(&format!("UPDATE ticks SET n = {n} WHERE id = {place}")).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    })
}

async fn deaths<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    occurrences: Occurrences,
) -> Result<BTreeMap<String, u64>> {
    let counts = one_life(world).await?;
    for point in POINTS {
        let Some(times) = counts.get(point.name()) else { continue };
        for n in occurrences.of(*times) {
            die(world, point.name(), n).await.map_err(|error| {
                format!(
                    "died at {}:{n}: {error}; evidence: {}",
                    point.name(),
                    world.home().display()
                )
            })?;
        }
    }
    Ok(counts)
}

/// Runs until one expiry has ended and counts.
async fn one_life<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
) -> Result<BTreeMap<String, u64>> {
    let log = world.home().join("points.log");
    let running = world.run()?.log_points(&log).spawn()?;
    let end = Instant::now() + GATHERING;
    while !count(&log).contains_key(KillPoint::ExpireFileDelete.name()) {
        if Instant::now() > end {
            running.kill9().await?;
            fail!("nothing expired within {GATHERING:?}: {:?}", count(&log));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    Ok(count(&log))
}

async fn die<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    point: &str,
    n: u64,
) -> Result<()> {
    let running = world.run()?.arg("--take-over").kill_at(point, n).spawn()?;
    let ended = running.wait(GATHERING).await?;
    if !ended.killed() {
        ended.ensure(exit::DONE)?;
        fail!("`run` ended by itself");
    }
    world.follow()?.drain_after(Duration::from_secs(1)).await.map(|_| ())
}
