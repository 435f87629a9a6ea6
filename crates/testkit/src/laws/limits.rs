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

/// The product's part: it may not leave the log unconfirmed for longer, and this long after the
/// writes' end the server must keep less than when they began.
const RELEASE_MAX: Duration = Duration::from_secs(15);

/// The server's part: by itself it notes every 15 s from where a log can be reopened, and under steady
/// writes it releases up to the note before the last one.
const SERVER_MAX: Duration = Duration::from_secs(2 * 15);

/// From this version on the product asks the server for such notes.
const NOTES_ON_DEMAND: u32 = 160_000;

/// The log is confirmed, and released, while only tables of others are written: `bytes` of them.
pub async fn log_is_released<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    bytes: u64,
) -> Result<()> {
    let mut world = World::<S, L>::create(source, "released").await?;
    world.options.tables = vec!["public.followed".to_owned()];
    world.execute("CREATE TABLE followed (id int PRIMARY KEY); INSERT INTO followed VALUES (1); \
         CREATE TABLE other (id bigserial, body text); ALTER TABLE other ALTER body SET STORAGE EXTERNAL").await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    let mut kept = Still::watch(&world, "restart_lsn").await?;
    let mut confirmed = Still::watch(&world, "confirmed_flush_lsn").await?;
    let mut session = world.session().await?;
    let begin = world.value("SELECT pg_current_wal_insert_lsn()").await?;
    let insert =
        "INSERT INTO other (body) SELECT repeat(md5(i::text), 500) FROM generate_series(1, 500) i";
    let mut written = 0;
    while written < bytes {
        session.run(insert).await?;
        written += 500 * 16_000;
        kept.look(&world).await?;
        confirmed.look(&world).await?;
    }
    let passed = format!(
        "SELECT restart_lsn > '{begin}' FROM pg_replication_slots WHERE database = '{}'",
        world.database
    );
    super::until(&world, &passed, RELEASE_MAX).await?;
    kept.look(&world).await?;
    println!(
        "log released, {}: {} MiB of others' writes, longest standstill {:.1?}, unconfirmed {:.1?}",
        world.source.title(),
        written >> 20,
        kept.longest,
        confirmed.longest
    );
    let version: u32 = world.value("SHOW server_version_num").await?.parse()?;
    let by_itself = if version < NOTES_ON_DEMAND { SERVER_MAX } else { Duration::ZERO };
    if confirmed.longest > RELEASE_MAX || kept.longest > RELEASE_MAX + by_itself {
        fail!("the log was pinned: unconfirmed {:?}, kept {:?}", confirmed.longest, kept.longest);
    }
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

/// How long a position of the slot stood still.
struct Still {
    sql: String,
    at: String,
    since: Instant,
    longest: Duration,
}

impl Still {
    async fn watch<S: SourceServer, L: LakeTarget>(
        world: &World<S, L>,
        column: &str,
    ) -> Result<Still> {
        let of = &world.database;
        let sql = format!("SELECT {column} FROM pg_replication_slots WHERE database = '{of}'");
        let at = world.value(&sql).await?;
        Ok(Still { sql, at, since: Instant::now(), longest: Duration::ZERO })
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
