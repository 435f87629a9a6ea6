//! Runs a workload: several connections at once until told to stop, everything counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::ddl::Designer;
use super::shop::{Shopper, Size};
use super::{Counts, Random};
use crate::Result;
use crate::dialect::{Ability, Dialect};
use crate::world::{Session, SourceServer, speak};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Fixes each connection's statements.
    pub seed: u64,
    /// Connections that write rows.
    pub writers: u64,
    /// The tables' size when the run begins.
    pub size: Size,
    /// Rest between two transactions of a connection.
    pub pause: Duration,
    /// Rest between two definition changes; `None`: none are made.
    pub ddl_pause: Option<Duration>,
    /// Rows of one large transaction; 0: none.
    pub large_rows: u64,
}

/// A running workload.
pub struct Drive {
    tasks: JoinSet<Result<Counts>>,
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    ddls: Arc<AtomicU64>,
}

impl Drive {
    /// Starts the plan's connections.
    pub async fn start<S: SourceServer>(source: &S, database: &str, plan: &Plan) -> Result<Drive> {
        let mut drive = Drive {
            tasks: JoinSet::new(),
            stop: Arc::new(AtomicBool::new(false)),
            changes: Arc::new(AtomicU64::new(0)),
            ddls: Arc::new(AtomicU64::new(0)),
        };
        let seeds = Random::new(plan.seed);
        let dialect = source.dialect();
        for me in 0..plan.writers {
            let mut session = speak(source, database).await?;
            if me == 0 {
                session.run("$beside_large").await?;
            }
            let shopper = Shopper::new(dialect.shop(), seeds.fork(me), plan.size, me);
            let writer = Writer { session, dialect, shopper, plan: plan.clone(), large: me == 0 };
            let (stop, total) = (Arc::clone(&drive.stop), Arc::clone(&drive.changes));
            drive.tasks.spawn(write(writer, stop, total));
        }
        if let Some(pause) = plan.ddl_pause {
            let session = speak(source, database).await?;
            let designer = Designer::new(seeds.fork(1_000));
            let (stop, total) = (Arc::clone(&drive.stop), Arc::clone(&drive.ddls));
            drive.tasks.spawn(design(session, dialect, designer, pause, stop, total));
        }
        Ok(drive)
    }

    /// Committed row changes so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Definition changes so far.
    pub fn ddls(&self) -> u64 {
        self.ddls.load(Ordering::Relaxed)
    }

    /// True if a connection met an error; [`Drive::finish`] tells it.
    pub fn broken(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Lets every connection end its transaction, and adds up.
    pub async fn finish(mut self) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = Counts::default();
        while let Some(part) = self.tasks.join_next().await {
            counts.merge(&part??);
        }
        Ok(counts)
    }
}

/// One connection that writes rows.
struct Writer {
    session: Box<dyn Session>,
    dialect: &'static dyn Dialect,
    shopper: Shopper,
    plan: Plan,
    /// Whether it makes the large transactions and the truncates.
    large: bool,
}

async fn write(writer: Writer, stop: Arc<AtomicBool>, total: Arc<AtomicU64>) -> Result<Counts> {
    let Writer { mut session, dialect, mut shopper, plan, large } = writer;
    let mut counts = Counts::default();
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let mut part = Counts::default();
        let outcome = if large && plan.large_rows > 0 && round % 40 == 7 {
            large_transaction(session.as_mut(), &mut shopper, plan.large_rows, &mut part).await
        } else if large && round % 60 == 30 {
            truncate(session.as_mut(), dialect, &mut shopper, &mut part).await
        } else {
            transaction(session.as_mut(), &mut shopper, &mut part).await
        };
        let before = counts.changes();
        let settled = settle(session.as_mut(), dialect, outcome, part, &mut counts).await;
        settled.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        total.fetch_add(counts.changes() - before, Ordering::Relaxed);
        tokio::time::sleep(plan.pause).await;
    }
    Ok(counts)
}

/// Counts a transaction that ended, or rolls back one that lost a lock.
async fn settle(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    outcome: Result<()>,
    part: Counts,
    counts: &mut Counts,
) -> Result<()> {
    match outcome {
        Ok(()) => counts.merge(&part),
        Err(error) if dialect.lost_a_lock(&error.to_string()) => {
            session.run("ROLLBACK").await?;
            counts.conflicts += 1;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn transaction(
    session: &mut dyn Session,
    shopper: &mut Shopper,
    part: &mut Counts,
) -> Result<()> {
    session.run("BEGIN").await?;
    let mut kept = Counts::default();
    for _ in 0..shopper.random().between(1, 6) {
        if shopper.random().chance(8) {
            part.rolled_back_rows += rolled_back_savepoint(session, shopper).await?;
            part.partial_aborts += 1;
        } else {
            let (kind, sql) = shopper.statement(40);
            kept.add(kind, session.run(&sql).await?);
        }
    }
    if shopper.random().chance(7) {
        session.run("ROLLBACK").await?;
        part.aborts += 1;
        part.rolled_back_rows += kept.changes();
        return Ok(());
    }
    session.run("COMMIT").await?;
    part.commits += 1;
    part.merge(&kept);
    Ok(())
}

async fn rolled_back_savepoint(session: &mut dyn Session, shopper: &mut Shopper) -> Result<u64> {
    session.run("SAVEPOINT part").await?;
    let (_, sql) = shopper.statement(400);
    let rows = session.run(&sql).await?;
    session.run("ROLLBACK TO part").await?;
    Ok(rows)
}

/// Streams while it is open: far above the server's `logical_decoding_work_mem`.
async fn large_transaction(
    session: &mut dyn Session,
    shopper: &mut Shopper,
    rows: u64,
    part: &mut Counts,
) -> Result<()> {
    session.run("BEGIN").await?;
    let mut kept = Counts::default();
    let mut left = rows;
    while left > 0 {
        let step = left.min(500);
        left -= step;
        let sql = shopper.insert(step);
        kept.add(super::Kind::Insert, session.run(&sql).await?);
        let (kind, sql) = shopper.statement(step);
        kept.add(kind, session.run(&sql).await?);
        if shopper.random().chance(30) {
            part.rolled_back_rows += rolled_back_savepoint(session, shopper).await?;
            part.partial_aborts += 1;
        }
    }
    if shopper.random().chance(25) {
        session.run("ROLLBACK").await?;
        part.aborts += 1;
        part.rolled_back_rows += kept.changes();
        return Ok(());
    }
    session.run("COMMIT").await?;
    part.commits += 1;
    part.large += 1;
    part.merge(&kept);
    Ok(())
}

/// Where a truncate ends the transaction, it and what follows stay whatever comes.
async fn truncate(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    shopper: &mut Shopper,
    part: &mut Counts,
) -> Result<()> {
    let keep = if shopper.random().chance(30) { "ROLLBACK" } else { "COMMIT" };
    session.run("BEGIN").await?;
    session.run("TRUNCATE visits").await?;
    let refill = "INSERT INTO visits (id, page, seconds) SELECT i, 'again', i FROM $series(1, 200)";
    let rows = session.run(refill).await?;
    session.run(keep).await?;
    if keep == "COMMIT" || !dialect.has(Ability::TransactionalDdl) {
        part.truncates += 1;
        part.commits += 1;
        part.add(super::Kind::Insert, rows);
    } else {
        part.aborts += 1;
        part.rolled_back_rows += rows;
    }
    Ok(())
}

async fn design(
    mut session: Box<dyn Session>,
    dialect: &'static dyn Dialect,
    mut designer: Designer,
    pause: Duration,
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> Result<Counts> {
    let mut counts = Counts::default();
    while !stop.load(Ordering::Relaxed) {
        for step in steps(dialect, designer.change()) {
            let done = insist(session.as_mut(), dialect, &step, &stop, &mut counts).await;
            if !done.inspect_err(|_| stop.store(true, Ordering::Relaxed))? {
                return Ok(counts);
            }
        }
        counts.ddls += 1;
        total.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
    Ok(counts)
}

/// One transaction where definitions change in transactions, else a step after the other.
fn steps(dialect: &dyn Dialect, change: Vec<String>) -> Vec<String> {
    if dialect.has(Ability::TransactionalDdl) {
        return vec![format!("BEGIN; {}; COMMIT", change.join("; "))];
    }
    change
}

/// Runs a step until no other connection's lock is in its way; false if the run ends before.
async fn insist(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    step: &str,
    stop: &AtomicBool,
    counts: &mut Counts,
) -> Result<bool> {
    loop {
        match session.run(step).await {
            Ok(_) => return Ok(true),
            Err(error) if dialect.lost_a_lock(&error.to_string()) => {
                session.run("ROLLBACK").await?;
                counts.conflicts += 1;
                if stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::{self, MariaDb};
    use crate::postgres::Postgres;
    use crate::servers::Version;
    use crate::workload::{Kind, bank};

    async fn does_everything_it_promises<S: SourceServer>(version: S::Version) {
        let server = S::begin(version, &[]).await.unwrap();
        server.create_database("shop").await.unwrap();
        let (size, shop) = (Size { customers: 500 }, server.dialect().shop());
        let mut session = speak(&server, "shop").await.unwrap();
        session.run(shop.schema).await.unwrap();
        for fill in shop.fill(size) {
            session.run(&fill).await.unwrap();
        }
        let plan = Plan {
            seed: 7,
            writers: 3,
            size,
            pause: Duration::ZERO,
            ddl_pause: Some(Duration::from_millis(50)),
            large_rows: 2000,
        };
        let drive = Drive::start(&server, "shop", &plan).await.unwrap();
        while (drive.changes() < 60_000 || drive.ddls() < 14) && !drive.broken() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let counts = drive.finish().await.unwrap();
        println!("{counts}");
        for kind in [
            Kind::Insert,
            Kind::Update,
            Kind::UpdateBesideToast,
            Kind::UpdateToast,
            Kind::KeyChange,
            Kind::Delete,
        ] {
            assert!(counts.of(kind) > 0, "no {kind:?}: {counts}");
        }
        assert!(
            counts.aborts > 0
                && counts.partial_aborts > 0
                && counts.large > 0
                && counts.truncates > 0,
            "{counts}"
        );
    }

    #[tokio::test]
    async fn the_workload_runs_on_postgres_15() {
        does_everything_it_promises::<Postgres>(Version::V15).await;
    }

    #[tokio::test]
    async fn the_workload_runs_on_postgres_18() {
        does_everything_it_promises::<Postgres>(Version::V18).await;
    }

    #[tokio::test]
    async fn the_workload_runs_on_mariadb_10_11() {
        does_everything_it_promises::<MariaDb>(mariadb::Version::V10_11).await;
    }

    #[tokio::test]
    async fn the_workload_runs_on_mariadb_11_8() {
        does_everything_it_promises::<MariaDb>(mariadb::Version::V11_8).await;
    }

    async fn transfers_keep_the_sum<S: SourceServer>(version: S::Version) {
        let server = S::begin(version, &[]).await.unwrap();
        server.create_database("bank").await.unwrap();
        let mut session = speak(&server, "bank").await.unwrap();
        session.run(&bank::create()).await.unwrap();
        let mut random = Random::new(1);
        for _ in 0..300 {
            session.run(&bank::transfer(&mut random, 0, 1)).await.unwrap();
        }
        let sql =
            "SELECT sum(balance) FROM (SELECT * FROM checking UNION ALL SELECT * FROM savings) a";
        let sum = server.query("bank", sql).await.unwrap();
        assert_eq!(sum, [[Some(bank::SUM.to_string())]]);
    }

    #[tokio::test]
    async fn transfers_keep_the_sum_on_postgres() {
        transfers_keep_the_sum::<Postgres>(Version::V15).await;
    }

    #[tokio::test]
    async fn transfers_keep_the_sum_on_mariadb() {
        transfers_keep_the_sum::<MariaDb>(mariadb::Version::V10_11).await;
    }
}
