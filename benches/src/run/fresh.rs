//! How old a change is when a reader can first see it: one writer commits 20 changes every 10 ms, a poller looks every 10 ms
//! at what the lake says of itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lakeward_testkit::Result;

use super::Stage;
use super::log::loaded;
use crate::marks::Marks;
use crate::measure::Cost;
use crate::raw::walsender::parse_lsn;
use crate::results::{Samples, quantile};
use crate::world::server::Shape;
use crate::world::{Lake, Server};

const LOOK_EVERY: Duration = Duration::from_millis(10);
const COMMIT_EVERY: Duration = Duration::from_millis(10);
/// Steps of ten changes in one transaction: with the pause above 2,000 changes a second.
const STEPS: u64 = 2;

/// A moment, and the place of the log that belongs to it.
type Moment = (Instant, u64);

/// Median and 99th percentile under these names; an empty name is left out.
pub(crate) async fn fresh(
    stage: &mut Stage,
    interval: &str,
    names: [&'static str; 2],
) -> Result<Samples> {
    let window = Duration::from_secs_f64((15.0 * stage.bench.scale).clamp(3.0, 15.0));
    let rounds = stage.bench.rounds;
    let transactions = window.as_millis() as u64 / COMMIT_EVERY.as_millis() as u64;
    let first = stage.take_steps(STEPS * transactions * u64::from(rounds));
    let (bench, server, rows) = stage.with(Shape::Narrow).await?;
    let pipeline = loaded(bench, server, "fresh", bench.lake).await?;
    let option = format!("commit_interval: {interval}");
    let source = server.source_lines(pipeline.name(), Shape::Narrow.table());
    pipeline.write(&source, bench.lake, &[&option])?;
    let mut running = pipeline.follow()?;
    tokio::time::sleep(Duration::from_secs(if bench.form_only() { 2 } else { 5 })).await;
    let mut samples = Samples::default();
    for round in 0..u64::from(rounds) {
        let before = running.cpu();
        let step = first + round * STEPS * transactions;
        let looked = looking(pipeline.warehouse(), bench.lake);
        let written = writing(server, rows, step, transactions).await?;
        tokio::time::sleep(window / 4 + Duration::from_secs(2)).await;
        let ages = ages(&written, &looked.end().await?);
        let cost = Cost { wall: window, cpu: running.cpu() - before, peak_rss: running.rss() };
        for (name, share) in names.into_iter().zip([0.5, 0.99]) {
            if let Some(value) = quantile(&ages, share).filter(|_| !name.is_empty()) {
                samples.push(name, value, cost);
            }
        }
        if running.ended() {
            return Err(format!("it ended:\n{}", crate::measure::tail(&pipeline.log())).into());
        }
    }
    running.stop(&pipeline.log())?;
    pipeline.end(server).await?;
    Ok(samples)
}

/// Commits transactions at a steady rate; returns when each was committed, and a place just before its commit record.
async fn writing(server: &Server, rows: u64, first: u64, transactions: u64) -> Result<Vec<Moment>> {
    let Server::Postgres(postgres) = server else {
        return Err("only PostgreSQL is measured".into());
    };
    let client = postgres.connect_to(crate::world::server::DATABASE).await?;
    let start = Instant::now();
    let mut written = Vec::new();
    for n in 0..transactions {
        let due = COMMIT_EVERY * u32::try_from(n)?;
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let step = first + n * STEPS;
        let changes: String = (step..step + STEPS)
            .map(|step| format!("CALL ten_changes({step}, 0, 4, {rows}); "))
            .collect();
        client.batch_execute(&format!("BEGIN; {changes}")).await?;
        let sql = "SELECT pg_current_wal_insert_lsn()";
        let rows = lakeward_testkit::postgres::texts(&client, sql).await?;
        let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        let place = parse_lsn(&text).ok_or("not a place of the log")?;
        let at = Instant::now();
        client.batch_execute("COMMIT").await?;
        written.push((at, place));
    }
    Ok(written)
}

/// A poller at work.
struct Looking {
    stop: Arc<AtomicBool>,
    thread: tokio::task::JoinHandle<Result<Vec<Moment>>>,
}

impl Looking {
    async fn end(self) -> Result<Vec<Moment>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.await?
    }
}

fn looking(warehouse: PathBuf, lake: Lake) -> Looking {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let look = move || {
        let mut marks = Marks::of(&warehouse, lake)?;
        let mut seen: Vec<Moment> = Vec::new();
        while !told.load(Ordering::Relaxed) {
            let at = Instant::now();
            if let Some(place) = marks.newest()? {
                seen.push((at, place));
            }
            std::thread::sleep(LOOK_EVERY.saturating_sub(at.elapsed()));
        }
        Ok(seen)
    };
    Looking { stop, thread: tokio::task::spawn_blocking(look) }
}

/// How long each transaction took to be covered, in seconds. One that never was counts as the longest of all.
fn ages(written: &[Moment], seen: &[Moment]) -> Vec<f64> {
    let age = |(at, place): &Moment| {
        let covered = seen.iter().find(|(_, mark)| mark > place);
        covered.map_or(f64::INFINITY, |(when, _)| when.duration_since(*at).as_secs_f64())
    };
    written.iter().map(age).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_as_old_as_the_first_mark_that_covers_it() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let written = [(at(0), 10), (at(100), 20), (at(200), 30)];
        let seen = [(at(250), 11), (at(500), 25)];
        assert_eq!(ages(&written, &seen), [0.25, 0.4, f64::INFINITY]);
    }
}
