//! Several sinks of one pipeline: one of them is away for a while, the others go on, and the source
//! is told only what all of them hold.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::dialect::Ability;
use crate::judge::Judge;
use crate::product::exit;
use crate::world::{CALL_LIMIT, Lake, LakeTarget, SourceServer, World};
use crate::{Result, fail};

/// Changes while one sink is away.
const CHANGES: u64 = 10_000;

/// How long the others may take to bring them.
const LIMIT: Duration = Duration::from_secs(60);

/// The law: each sink in its turn is away.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = World::<S, L>::create(source, "sinks").await?;
    world.options.pipeline = vec!["retry_limit: 10m".to_owned()];
    let lakes = world.lake.lakes();
    if lakes.len() < 2 {
        fail!("{} is one lake only", L::title());
    }
    world
        .execute(
            "CREATE TABLE t (id int PRIMARY KEY, v varchar(50)); \
         INSERT INTO t SELECT i, 'old' FROM $series(1, 3000)",
        )
        .await?;
    world.catch_up().await?;
    let mut judge = Judge::start().await?;
    for (round, lake) in lakes.iter().enumerate() {
        away(&world, &mut judge, lake, round as u64)
            .await
            .map_err(|error| format!("{} was away: {error}", lake.name))?;
    }
    world.done().await
}

async fn away<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    judge: &mut Judge,
    lake: &Lake,
    round: u64,
) -> Result<()> {
    let running = world.follow()?;
    world.execute("UPDATE t SET v = 'before' WHERE id % 9 = 0").await?;
    agrees(world, judge, &world.lake.lakes()).await?;
    let gone = Away::take(lake.at.folder.clone())?;
    let begin = begin(world).await?;
    write(world, round).await?;
    let others: Vec<Lake> =
        world.lake.lakes().into_iter().filter(|other| other.name != lake.name).collect();
    agrees(world, judge, &others).await?;
    ensure_unconfirmed(world, &begin).await?;
    drop(gone);
    let ended = running.drain(CALL_LIMIT).await?;
    if ended.killed() {
        fail!("the product was ended by a signal");
    }
    world.recover().await?;
    let verdict = world.judge(judge).await?;
    println!(
        "{} was away for {CHANGES} changes, {} -> {}: {} rows agree in every lake",
        lake.name,
        world.source.title(),
        L::title(),
        verdict.rows
    );
    Ok(())
}

/// The end of the log, once a sink is away; empty where the server keeps no log for us.
async fn begin<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<String> {
    if world.source.dialect().has(Ability::KeepsLog) {
        return world.value("$log_end").await;
    }
    Ok(String::new())
}

async fn ensure_unconfirmed<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    begin: &str,
) -> Result<()> {
    if begin.is_empty() {
        println!("confirmed position, {}: does not apply", world.source.title());
        return Ok(());
    }
    let confirmed = world.value(&format!("$confirmed_past({begin})")).await?;
    if ["t", "1"].contains(&confirmed.as_str()) {
        fail!("the source was told more than the sink that is away holds");
    }
    Ok(())
}

/// Ten thousand changes in a hundred transactions.
async fn write<S: SourceServer, L: LakeTarget>(world: &World<S, L>, round: u64) -> Result<()> {
    let mut session = world.session().await?;
    for part in 0..CHANGES / 100 {
        let from = 100_000 * (round + 1) + 50 * part;
        let sql = format!(
            "BEGIN; INSERT INTO t SELECT {from} + i, 'new' FROM $series(1, 50); \
             UPDATE t SET v = 'changed' WHERE id BETWEEN {from} + 1 AND {from} + 40; \
             DELETE FROM t WHERE id BETWEEN {from} + 41 AND {from} + 50; COMMIT"
        );
        session.run(&sql).await?;
    }
    Ok(())
}

/// Waits until these lakes show what the source shows.
async fn agrees<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    judge: &mut Judge,
    lakes: &[Lake],
) -> Result<()> {
    let at: Vec<_> = lakes.iter().map(|lake| lake.at.clone()).collect();
    let (source, end) = (world.source.judged_at(&world.database), Instant::now() + LIMIT);
    loop {
        let verdict = judge.compare_all(&source, &at, &world.options.tables).await;
        match verdict.and_then(|verdict| verdict.ensure()) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

/// A warehouse that is away: moved aside, a file in its place.
struct Away {
    folder: PathBuf,
    aside: PathBuf,
}

impl Away {
    fn take(folder: PathBuf) -> Result<Away> {
        let aside = folder.with_extension("aside");
        fs::rename(&folder, &aside)?;
        fs::write(&folder, "not a folder")?;
        Ok(Away { folder, aside })
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.folder);
        let _ = fs::rename(&self.aside, &self.folder);
    }
}

/// One sink stays away past the limit of its retries: the others go on, and the run does not end as
/// if all were well.
pub async fn one_stays_away<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = World::<S, L>::create(source, "sink_gone").await?;
    world.options.pipeline = vec!["retry_limit: 2s".to_owned()];
    let table =
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(50)); INSERT INTO t VALUES (1, 'old')";
    world.execute(table).await?;
    world.catch_up().await?;
    let lakes = world.lake.lakes();
    let Some((first, others)) = lakes.split_first() else {
        fail!("{} has no lakes", L::title());
    };
    let mut judge = Judge::start().await?;
    let running = world.follow()?;
    world.execute("INSERT INTO t VALUES (2, 'new')").await?;
    agrees(&world, &mut judge, &lakes).await?;
    let gone = Away::take(first.at.folder.clone())?;
    for id in 3..6 {
        world.execute(&format!("INSERT INTO t VALUES ({id}, 'later')")).await?;
        agrees(&world, &mut judge, others).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let ended = running.drain(CALL_LIMIT).await?;
    if ended.code() == Some(exit::DONE) {
        fail!("a run whose sink was away ended as if all were well:\n{}", ended.tail());
    }
    drop(gone);
    world.recover().await?;
    world.judge(&mut judge).await?;
    world.done().await
}
