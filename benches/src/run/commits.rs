//! 3,600 commits back to back, of 2,000 random changes each, with upkeep beside them: what readers then pay, and what was
//! written for it. An hour of one commit a second in a fraction of the time: upkeep looks and expires as much faster.

use std::fs;
use std::path::Path;
use std::process::Command;

use lakeward_testkit::{Result, host, readers};
use serde_json::Value;

use super::{Stage, per};
use crate::marks;
use crate::puts::Watch;
use crate::results::{Samples, median};
use crate::world::server::Shape;
use crate::world::{Bench, Lake, Pipeline, Server};

/// Changes in one commit.
const CHANGES: u64 = 2_000;

/// Each transaction becomes one commit. Versions are kept for 15 s here as for 15 minutes in the hour.
const OPTIONS: [&str; 3] =
    ["commit_rows: 2000", "compaction: { interval: 1s }", "expiry: { interval: 1s, retain: 15s }"];

/// Of each transaction 1,800 updates of random rows, 100 deletes, and what the one before deleted comes again.
const BURSTS: &str = "
CREATE PROCEDURE bursts(total bigint, transactions bigint) LANGUAGE plpgsql AS $$
DECLARE
  gone bigint;
BEGIN
  FOR t IN 1..transactions LOOP
    UPDATE bursts SET a = a + 1, amount = amount + 0.01, at = at + interval '1 second' WHERE id IN
      (SELECT 1 + (hashint8(t * 2000 + n) & 2147483647) % total FROM generate_series(1, 1800) n);
    gone := (t * 7919) % greatest(total / 200, 1) * 200;
    DELETE FROM bursts WHERE id > gone AND id <= gone + 100;
    gone := ((t - 1) * 7919) % greatest(total / 200, 1) * 200;
    INSERT INTO bursts SELECT id, n, t, t / 100.0, '2024-01-01 00:00:00+00', left(md5(t::text), 20)
      FROM generate_series(gone + 1, gone + 100) id, generate_series(1, 1) n WHERE t > 1
      ON CONFLICT (id) DO NOTHING;
    COMMIT;
  END LOOP;
END $$";

/// One round: it is long, and what it counts does not depend on the clock.
pub(crate) async fn commits(stage: &mut Stage) -> Result<Samples> {
    stage.anew();
    let (bench, server, _) = stage.with(Shape::Narrow).await?;
    let rows = bench.scaled(1_000_000, 4_000);
    let transactions = bench.scaled(3_600, 10);
    server.execute("CREATE TABLE bursts (LIKE narrow INCLUDING ALL)").await?;
    server.execute(&format!("INSERT INTO bursts SELECT * FROM narrow WHERE id <= {rows}")).await?;
    server.execute(BURSTS).await?;
    let pipeline = Pipeline::new(bench, server, "bursts", "bursts", bench.lake, &OPTIONS)?;
    pipeline.clear(server).await?;
    pipeline.catch_up()?;
    server.execute(&format!("CALL bursts({rows}, {transactions})")).await?;
    let watch = Watch::begin(&pipeline.warehouse())?;
    let cost = pipeline.catch_up()?;
    let puts = watch.end()?;
    println!(
        "  {transactions} transactions of {CHANGES} changes in {:.1} s: {puts:?}",
        cost.wall.as_secs_f64()
    );
    let mut samples = Samples::default();
    let changed = (puts.rows as f64).max(1.0);
    samples.push("write_amplification", per(puts.by_commits() as f64, changed), cost);
    samples.push("total_amplification", per(puts.all() as f64, changed), cost);
    samples.push("metadata_bytes", metadata_bytes(&pipeline.warehouse()) as f64, cost);
    let used = scan(bench, &pipeline.warehouse())?;
    let fresh = freshly_written(bench, server).await?;
    samples.push("scan_ratio", per(used, fresh), cost);
    pipeline.end(server).await?;
    Ok(samples)
}

/// CPU seconds of a scan of the same rows in a table that has just been loaded.
async fn freshly_written(bench: &Bench, server: &Server) -> Result<f64> {
    let pipeline = Pipeline::new(bench, server, "rewritten", "bursts", bench.lake, &[])?;
    pipeline.clear(server).await?;
    pipeline.catch_up()?;
    let seconds = scan(bench, &pipeline.warehouse())?;
    pipeline.end(server).await?;
    Ok(seconds)
}

/// CPU seconds of DuckDB for every column of every row; the median of five scans.
fn scan(bench: &Bench, warehouse: &Path) -> Result<f64> {
    let kind = if bench.lake == Lake::Delta { "delta" } else { "iceberg" };
    let mut python = Command::new(readers::python()?);
    python.arg(host::workspace().join("benches/scan.py"));
    python.args([kind, &marks::table(warehouse, bench.lake)?, "5"]);
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
        let is_metadata =
            [".json", ".avro", ".checkpoint.parquet"].iter().any(|end| name.ends_with(end))
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
