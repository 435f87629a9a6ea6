//! Accidents of the log: its server restarts, its readers are ended, it gets new files, it holds a
//! transaction for long, it says what was done instead of which rows.

use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::dialect::Ability;
use crate::judge::Judge;
use crate::product::exit;
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v varchar(50)); INSERT INTO t SELECT i, 'old' FROM $series(1, 2000)";

async fn followed<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    law: &str,
) -> Result<World<S, L>> {
    let world = World::<S, L>::create(source, law).await?;
    world.execute(TABLE).await?;
    world.catch_up().await?;
    Ok(world)
}

async fn agree<S: SourceServer, L: LakeTarget>(world: World<S, L>) -> Result<()> {
    world.recover().await?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

async fn change<S: SourceServer, L: LakeTarget>(world: &World<S, L>, round: u64) -> Result<()> {
    let (from, to, gone, new) = (300 + 50 * round, 349 + 50 * round, 1000 + round, 10_000 + round);
    let sql = format!(
        "UPDATE t SET v = 'round {round}' WHERE id BETWEEN {from} AND {to}; DELETE FROM t WHERE id = {gone}; \
         INSERT INTO t VALUES ({new}, 'new')"
    );
    world.execute(&sql).await.map(|_| ())
}

/// The server restarts while it is followed. Needs a server of its own.
pub async fn server_restarts<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = followed::<S, L>(source, "server_restarts").await?;
    let running = world.run()?.spawn()?;
    for round in 0..3 {
        change(&world, round).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.source.start_anew().await?;
        change(&world, 5 + round).await?;
    }
    running.drain_after(Duration::from_secs(2)).await?;
    agree(world).await
}

/// Somebody ends the log's readers again and again. Needs a server of its own.
pub async fn log_readers_are_ended<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = followed::<S, L>(source, "readers_ended").await?;
    let running = world.run()?.spawn()?;
    for round in 0..5 {
        change(&world, round).await?;
        tokio::time::sleep(Duration::from_millis(600)).await;
        world.execute("$end_log_readers").await?;
        change(&world, 5 + round).await?;
    }
    running.drain_after(Duration::from_secs(2)).await?;
    agree(world).await
}

/// The log goes on in a new file, while it is followed and while nobody follows it.
pub async fn log_gets_new_files<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = followed::<S, L>(source, "new_files").await?;
    let running = world.run()?.spawn()?;
    for round in 0..6 {
        if round == 3 {
            running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
            break;
        }
        change(&world, round).await?;
        world.execute("$rotate_log").await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for round in 3..6 {
        world.execute("$rotate_log").await?;
        change(&world, round).await?;
    }
    agree(world).await
}

/// A transaction is prepared, and ends only after the product has died and come again; one is
/// committed, another one rolled back. Needs a server of its own: while one is prepared, others may
/// not be followed from new.
pub async fn prepared_transactions<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    if !World::<S, L>::needs(&source, Ability::PreparesTransactions, "prepared_transactions") {
        return Ok(());
    }
    let world = followed::<S, L>(source, "prepared").await?;
    let mut judge = Judge::start().await?;
    for (round, end) in
        ["$commit_prepared", "$rollback_prepared", "$commit_prepared"].iter().enumerate()
    {
        let running = world.follow()?;
        let from = 20_000 + 1000 * round;
        let mut session = world.session().await?;
        let gone = 109 + round;
        let rows = format!(
            "$begin_prepared; INSERT INTO t SELECT i + {from}, 'prepared' FROM $series(1, 500); \
             UPDATE t SET v = 'by prepared {round}' WHERE id = 19; DELETE FROM t WHERE id = {gone}; $prepare"
        );
        session.run(&rows).await?;
        drop(session);
        change(&world, round as u64).await?;
        tokio::time::sleep(Duration::from_millis(800)).await;
        running.kill9().await?;
        world.recover().await?;
        world.judge(&mut judge).await.map_err(|error| format!("while it is prepared: {error}"))?;
        let running = world.follow()?;
        change(&world, 5 + round as u64).await?;
        insist(&world, end).await?;
        running.drain_after(Duration::from_secs(1)).await?;
        world.recover().await?;
        world.judge(&mut judge).await.map_err(|error| format!("after {end}: {error}"))?;
    }
    world.done().await
}

/// A prepared transaction may be ended once its connection is gone, which takes a moment.
async fn insist<S: SourceServer, L: LakeTarget>(world: &World<S, L>, sql: &str) -> Result<()> {
    for _ in 0..50 {
        if world.execute(sql).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.execute(sql).await.map(|_| ())
}

/// Some connection's changes are logged as statements: the table is told, and comes right again.
pub async fn changes_logged_as_statements<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    if !World::<S, L>::needs(&source, Ability::LogsStatements, "logged_as_statements") {
        return Ok(());
    }
    let world = followed::<S, L>(source, "statements").await?;
    let running = world.run()?.spawn()?;
    change(&world, 1).await?;
    let mut session = world.session().await?;
    session.run("$as_statement").await?;
    session.run("UPDATE t SET v = 'by statement' WHERE id % 3 = 0").await?;
    session.run("DELETE FROM t WHERE id % 11 = 0").await?;
    change(&world, 2).await?;
    running.drain_after(Duration::from_secs(3)).await?.says(&[&world.table("t")])?;
    agree(world).await
}
