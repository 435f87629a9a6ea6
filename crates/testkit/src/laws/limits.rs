//! The limits: a transaction far larger than the memory allowed, and a log that may be released
//! while only tables of others are written.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::dialect::Ability;
use crate::judge::Judge;
use crate::product::exit;
use crate::world::{CALL_LIMIT, Lake, LakeTarget, SourceServer, World};
use crate::{Result, fail};

/// The memory that the law of the large transaction allows.
const MEMORY: u64 = 64 << 20;

/// What the process may need beside the rows: program, connections, runtime, allocator.
const BESIDE: u64 = 192 << 20;

/// A transaction of 500,000 rows passes under a cap of 64 MiB; the peak is printed.
pub async fn large_transaction<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = World::<S, L>::create(source, "large").await?;
    world.options.memory = "64MiB".to_owned();
    world.options.rows_per_chunk = 50_000;
    world
        .execute("CREATE TABLE wide (id bigint PRIMARY KEY, a text, b text, c numeric(20,4), d $instant NULL)")
        .await?;
    world.execute("INSERT INTO wide VALUES (0, 'before', '', 0, now())").await?;
    world.catch_up().await?;
    let rows = "SELECT i, md5('' || i) || md5('' || (-i)), repeat('x', 40 + i % 90), i / 7.0, $instant_at(i) \
                FROM $series(1, 500000)";
    let mut session = world.session().await?;
    session.run(&format!("$begin_open; INSERT INTO wide {rows}")).await?;
    let running = world.run()?.arg("--until-caught-up").spawn()?;
    session.run("UPDATE wide SET a = 'changed in the same transaction' WHERE id % 10 = 0").await?;
    session.run("$commit_open").await?;
    let ended = running.wait(2 * CALL_LIMIT).await?.ensure(exit::DONE)?;
    let caught_up =
        world.run()?.arg("--until-caught-up").finish(2 * CALL_LIMIT).await?.ensure(exit::DONE)?;
    let peak = ended.peak_rss.max(caught_up.peak_rss);
    println!(
        "large transaction, {} -> {}: 550,000 changes under 64MiB, peak RSS {} MiB",
        world.source.title(),
        L::title(),
        peak >> 20
    );
    world.judge(&mut Judge::start().await?).await?;
    if peak > MEMORY + BESIDE {
        fail!("peak RSS {} MiB is above {} MiB", peak >> 20, (MEMORY + BESIDE) >> 20);
    }
    world.done().await
}

/// The product's part: it may not leave the log unconfirmed for longer, and this long after the
/// writes' end the server must keep less than when they began.
const RELEASE_MAX: Duration = Duration::from_secs(15);

/// The log is confirmed, and released, while only tables of others are written: `bytes` of them.
pub async fn log_is_released<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    bytes: u64,
) -> Result<()> {
    if !World::<S, L>::needs(&source, Ability::KeepsLog, "log_is_released") {
        return Ok(());
    }
    let mut world = World::<S, L>::create(source, "released").await?;
    world.options.tables = vec![world.table("followed")];
    world
        .execute(
            "CREATE TABLE followed (id int PRIMARY KEY); INSERT INTO followed VALUES (1); \
         CREATE TABLE other (id int, body text); $out_of_line(other, body)",
        )
        .await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    let mut kept = Still::watch(&world, "$kept_from").await?;
    let mut confirmed = Still::watch(&world, "$confirmed_at").await?;
    let mut session = world.session().await?;
    let begin = world.value("$log_end").await?;
    let insert = "INSERT INTO other SELECT i, repeat(md5('' || i), 500) FROM $series(1, 500)";
    let mut written = 0;
    while written < bytes {
        session.run(insert).await?;
        written += 500 * 16_000;
        kept.look(&world).await?;
        confirmed.look(&world).await?;
    }
    super::until(&world, &format!("$kept_past({begin})"), RELEASE_MAX).await?;
    kept.look(&world).await?;
    println!(
        "log released, {} -> {}: {} MiB of others' writes, longest standstill {:.1?}, unconfirmed {:.1?}",
        world.source.title(),
        L::title(),
        written >> 20,
        kept.longest,
        confirmed.longest
    );
    if confirmed.longest > RELEASE_MAX || kept.longest > RELEASE_MAX {
        fail!("the log was pinned: unconfirmed {:?}, kept {:?}", confirmed.longest, kept.longest);
    }
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

/// The position of the newest consistent point moves although only tables of others are written.
pub async fn idle_position_moves<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = World::<S, L>::create(source, "idle").await?;
    world.options.tables = vec![world.table("followed")];
    world
        .execute(
            "CREATE TABLE followed (id int PRIMARY KEY); INSERT INTO followed VALUES (1); \
         CREATE TABLE other (id int PRIMARY KEY)",
        )
        .await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    for lake in world.lake.lakes() {
        let (begin, before) = (Instant::now(), newest(&world, &lake).await?);
        let mut id = 0;
        while newest(&world, &lake).await? == before {
            if begin.elapsed() > 2 * RELEASE_MAX {
                fail!("{}: the position stood still at {before}", lake.name);
            }
            id += 1;
            world.execute(&format!("DELETE FROM other; INSERT INTO other VALUES ({id})")).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let (title, time) = (world.source.title(), begin.elapsed());
        println!("idle position, {title} -> {}: moved after {time:.1?}", lake.name);
    }
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

async fn newest<S: SourceServer, L: LakeTarget>(world: &World<S, L>, lake: &Lake) -> Result<Value> {
    let points = world.points(lake).await?;
    Ok(points.last().map(|point| point["position"].clone()).unwrap_or_default())
}

/// How long a position stood still.
struct Still {
    sql: String,
    at: String,
    since: Instant,
    longest: Duration,
}

impl Still {
    async fn watch<S: SourceServer, L: LakeTarget>(
        world: &World<S, L>,
        sql: &str,
    ) -> Result<Still> {
        let at = world.value(sql).await?;
        Ok(Still { sql: sql.to_owned(), at, since: Instant::now(), longest: Duration::ZERO })
    }

    async fn look<S: SourceServer, L: LakeTarget>(&mut self, world: &World<S, L>) -> Result<()> {
        let now = world.value(&self.sql).await?;
        self.longest = self.longest.max(self.since.elapsed());
        if now != self.at {
            (self.at, self.since) = (now, Instant::now());
        }
        Ok(())
    }
}
