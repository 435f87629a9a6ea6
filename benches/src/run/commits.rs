//! 3,600 commits back to back, of 2,000 random changes each, with upkeep beside them: what readers then pay, and what was
//! written for it. Each transaction begins when the lake shows the one before, so that none shares a commit. An hour of one
//! commit a second in a fraction of the time: upkeep looks and expires as much faster.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lakeward_testkit::{Result, host, readers};
use serde_json::Value;

use super::{Stage, per};
use crate::marks::{self, Marks};
use crate::measure::tail;
use crate::puts::Watch;
use crate::raw::walsender::parse_lsn;
use crate::results::{Samples, median};
use crate::world::server::{DATABASE, Shape};
use crate::world::{Bench, Lake, Pipeline, Server};

/// Changes in one transaction, about: a row may be chosen twice.
const CHANGES: u64 = 2_000;

/// A transaction is an epoch as soon as it is whole. Commits come about 15 times as fast as in the hour, and so do upkeep's
/// looks (after a commit: its interval of 1 s; else 60 s) and the end of old versions (15 minutes).
const OPTIONS: [&str; 4] = [
    "commit_rows: 1500",
    "commit_interval: 60ms",
    "compaction: { interval: 4s }",
    "expiry: { interval: 4s, retain: 60s }",
];

/// 1,800 updates of random rows, 100 deletes, and what the one before deleted comes again.
const BURST: &str = "
CREATE PROCEDURE burst(total bigint, t bigint) LANGUAGE plpgsql AS $$
DECLARE
  gone bigint;
BEGIN
  UPDATE bursts SET a = a + 1, amount = amount + 0.01, at = at + interval '1 second' WHERE id IN
    (SELECT 1 + (hashint8(t * 2000 + n) & 2147483647) % total FROM generate_series(1, 1800) n);
  gone := (t * 7919) % greatest(total / 200, 1) * 200;
  DELETE FROM bursts WHERE id > gone AND id <= gone + 100;
  gone := ((t - 1) * 7919) % greatest(total / 200, 1) * 200;
  INSERT INTO bursts SELECT id, 1, t, t / 100.0, '2024-01-01 00:00:00+00', left(md5(t::text), 20)
    FROM generate_series(gone + 1, gone + 100) id WHERE t > 1
    ON CONFLICT (id) DO NOTHING;
END $$";

/// How long a commit may take.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks for a commit.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One round: it is long, and what it counts does not depend on the clock.
pub(crate) async fn commits(stage: &mut Stage) -> Result<Samples> {
    stage.anew();
    let (bench, server, _) = stage.with(Shape::Narrow).await?;
    let rows = bench.scaled(1_000_000, 4_000);
    let transactions = bench.scaled(3_600, 10);
    server.execute("CREATE TABLE bursts (LIKE narrow INCLUDING ALL)").await?;
    server.execute(&format!("INSERT INTO bursts SELECT * FROM narrow WHERE id <= {rows}")).await?;
    server.execute(BURST).await?;
    let pipeline = Pipeline::new(bench, server, "bursts", "bursts", bench.lake, &OPTIONS)?;
    pipeline.clear(server).await?;
    pipeline.catch_up()?;
    let watch = Watch::begin(&pipeline.warehouse())?;
    let running = pipeline.follow()?;
    let marks = Marks::of(&pipeline.warehouse(), bench.lake)?;
    if let Err(error) = one_by_one(server, marks, rows, transactions).await {
        return Err(format!("{error}:\n{}", tail(&pipeline.log())).into());
    }
    let cost = running.stop(&pipeline.log())?;
    let puts = watch.end()?;
    println!(
        "  {transactions} commits of {CHANGES} changes in {:.1} s: {puts:?}",
        cost.wall.as_secs_f64()
    );
    let mut samples = Samples::default();
    let changed = (puts.rows as f64).max(1.0);
    samples.push("write_amplification", per(puts.by_commits() as f64, changed), cost);
    samples.push("total_amplification", per(puts.all() as f64, changed), cost);
    samples.push("metadata_bytes", metadata_bytes(&pipeline.warehouse()) as f64, cost);
    let used = scan(bench, &pipeline.warehouse())?;
    let (fresh, touched) = rewritten(bench, server, rows, transactions + 1).await?;
    samples.push_beside("scan_ratio", per(used, fresh), cost, per(touched, fresh));
    pipeline.end(server).await?;
    Ok(samples)
}

/// Makes each transaction when the table shows the one before.
async fn one_by_one(server: &Server, mut marks: Marks, rows: u64, transactions: u64) -> Result<()> {
    let Server::Postgres(postgres) = server else {
        return Err("only PostgreSQL is measured".into());
    };
    let client = postgres.connect_to(DATABASE).await?;
    for t in 1..=transactions {
        client.batch_execute(&format!("BEGIN; CALL burst({rows}, {t})")).await?;
        let sql = "SELECT pg_current_wal_insert_lsn()";
        let found = lakeward_testkit::postgres::texts(&client, sql).await?;
        let text = found.into_iter().flatten().flatten().next().unwrap_or_default();
        let place = parse_lsn(&text).ok_or("not a place of the log")?;
        client.batch_execute("COMMIT").await?;
        let end = Instant::now() + COMMIT_LIMIT;
        while marks.newest()?.is_none_or(|mark| mark <= place) {
            if Instant::now() > end {
                return Err(format!("transaction {t} was not shown within {COMMIT_LIMIT:?}").into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// CPU seconds of a scan of the same rows in a table that has just been loaded, and after one commit more: what merging on
/// read costs the reader at the least.
async fn rewritten(bench: &Bench, server: &Server, rows: u64, t: u64) -> Result<(f64, f64)> {
    let pipeline = Pipeline::new(bench, server, "rewritten", "bursts", bench.lake, &[])?;
    pipeline.clear(server).await?;
    pipeline.catch_up()?;
    let fresh = scan(bench, &pipeline.warehouse())?;
    server.execute(&format!("CALL burst({rows}, {t})")).await?;
    pipeline.catch_up()?;
    let touched = scan(bench, &pipeline.warehouse())?;
    pipeline.end(server).await?;
    Ok((fresh, touched))
}

/// CPU seconds of DuckDB for every column of every row; the median of nine scans.
fn scan(bench: &Bench, warehouse: &Path) -> Result<f64> {
    let kind = if bench.lake == Lake::Delta { "delta" } else { "iceberg" };
    let mut python = Command::new(readers::python()?);
    python.arg(host::workspace().join("benches/scan.py"));
    python.args([kind, &marks::table(warehouse, bench.lake)?, "9"]);
    let said: Value = serde_json::from_str(host::run(&mut python)?.trim())?;
    let seconds = said["cpu_seconds"].as_array().cloned().unwrap_or_default();
    let seconds: Vec<f64> = seconds.iter().filter_map(Value::as_f64).collect();
    median(&seconds).ok_or_else(|| "the scan told no time".into())
}

/// Bytes of all metadata that the table has now: everything but data, deletes, the catalogue and the ledger.
fn metadata_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_metadata = [".json", ".json.gz", ".avro", ".checkpoint.parquet"]
            .iter()
            .any(|end| name.ends_with(end))
            || name.starts_with("_last");
        if is_metadata { fs::metadata(path).map_or(0, |meta| meta.len()) } else { 0 }
    };
    let of = |path: &Path| {
        if path.ends_with("_lakeward") {
            0
        } else if path.is_dir() {
            metadata_bytes(path)
        } else {
            size(path)
        }
    };
    entries.map(|entry| of(&entry.path())).sum()
}
