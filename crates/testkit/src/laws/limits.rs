//! The limits: a transaction far larger than the memory allowed, and a log that may be released
//! while only tables of others are written.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::judge::Judge;
use crate::product::exit;
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
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
    world.execute("CREATE TABLE wide (id bigint PRIMARY KEY, a text, b text, c numeric(20,4), d timestamptz)").await?;
    world.execute("INSERT INTO wide VALUES (0, 'before', '', 0, now())").await?;
    world.catch_up().await?;
    let rows = "SELECT i, md5(i::text) || md5((-i)::text), repeat('x', 40 + (i % 90)::int), i / 7.0, \
                now() + i * interval '1 ms' FROM generate_series(1, 500000) i";
    let mut session = world.session().await?;
    session.run(&format!("BEGIN; INSERT INTO wide {rows}")).await?;
    let running = world.run()?.arg("--until-caught-up").spawn()?;
    session.run("UPDATE wide SET a = 'changed in the same transaction' WHERE id % 10 = 0").await?;
    session.run("COMMIT").await?;
    let ended = running.wait(2 * CALL_LIMIT).await?.ensure(exit::DONE)?;
    let caught_up =
        world.run()?.arg("--until-caught-up").finish(2 * CALL_LIMIT).await?.ensure(exit::DONE)?;
    let peak = ended.peak_rss.max(caught_up.peak_rss);
    println!(
        "large transaction, {}: 550,000 changes under 64MiB, peak RSS {} MiB",
        world.source.title(),
        peak >> 20
    );
    world.judge(&mut Judge::start().await?).await?;
    if peak > MEMORY + BESIDE {
        fail!("peak RSS {} MiB is above {} MiB", peak >> 20, (MEMORY + BESIDE) >> 20);
    }
    world.done().await
}

/// The longest time in which the slot may not move.
const STILL_MAX: Duration = Duration::from_secs(15);

/// `restart_lsn` moves at least every 15 s while only tables of others are written. The query
/// gives the position that the server must keep; `bytes` are written meanwhile.
pub async fn log_is_released<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    bytes: u64,
) -> Result<()> {
    let mut world = World::<S, L>::create(source, "released").await?;
    world.options.tables = vec!["public.followed".to_owned()];
    world
        .execute("CREATE TABLE followed (id int PRIMARY KEY); INSERT INTO followed VALUES (1)")
        .await?;
    world.execute("CREATE TABLE other (id bigserial, body text); ALTER TABLE other ALTER body SET STORAGE EXTERNAL").await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    let kept = format!(
        "SELECT restart_lsn FROM pg_replication_slots WHERE database = '{}'",
        world.database
    );
    let mut session = world.session().await?;
    let (mut last, mut moved, mut longest) =
        (world.value(&kept).await?, Instant::now(), Duration::ZERO);
    let (mut written, end) = (0_u64, Instant::now() + Duration::from_secs(18));
    while written < bytes || Instant::now() < end {
        if written < bytes {
            session.run("INSERT INTO other (body) SELECT repeat(md5(i::text), 500) FROM generate_series(1, 500) i").await?;
            written += 500 * 16_000;
        }
        session.run("SELECT pg_sleep(0.05)").await?;
        let now = world.value(&kept).await?;
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        longest = longest.max(moved.elapsed());
        if longest > STILL_MAX {
            fail!(
                "the log was pinned for {longest:?} after {} MiB of others' writes at {last}",
                written >> 20
            );
        }
        if written >= bytes {
            session.run("CHECKPOINT; SELECT txid_current(); SELECT pg_sleep(0.5)").await?;
        }
    }
    println!(
        "log released, {}: {} MiB of others' writes, longest standstill {longest:.1?}",
        world.source.title(),
        written >> 20
    );
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}
