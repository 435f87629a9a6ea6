//! How many changes of a log, and rows of a chunk, one second of a processor's time turns into Arrow batches: from the
//! server's bytes in memory; no socket.
//!
//! `cargo bench -p lakeward-source-postgres --bench decode_postgres -- [--scale F] [--repeat N] [--only log|copy]`. The
//! last line is one JSON object; `counted` is how many changes or rows one round has.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for the developer"
)]

#[path = "decode/copy.rs"]
mod copy;
#[path = "decode/log.rs"]
mod log;
#[path = "decode/narrow.rs"]
mod narrow;

use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 7;
/// Changes and rows of a round at scale 1.
const CHANGES: f64 = 400_000.0;
/// Fewer would count what happens once.
const CHANGES_MIN: u64 = 20_000;
/// The coarsest step of the clock, in seconds.
const TICK: f64 = 0.01;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    let scale: f64 = option("--scale").map_or(1.0, |scale| scale.parse().unwrap());
    let rounds = option("--repeat").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let wanted = |name: &str| option("--only").is_none_or(|only| only == name);
    let count = ((CHANGES * scale) as u64).max(CHANGES_MIN);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let mut figures = serde_json::Map::new();
    if wanted("log") {
        let (bytes, changes) = log::stream(count);
        let rate = measured(&runtime, rounds, changes, || log::decoded(&bytes));
        figures.insert("postgres_log_changes_per_cpu_second".into(), rate.round().into());
        figures.insert("counted".into(), changes.into());
    }
    if wanted("copy") {
        let bytes = copy::stream(count);
        let rate = measured(&runtime, rounds, count, || copy::decoded(&bytes));
        figures.insert("postgres_copy_rows_per_cpu_second".into(), rate.round().into());
        figures.insert("counted".into(), count.into());
    }
    println!("{}", serde_json::Value::Object(figures));
}

/// Rows per CPU-second: the median of the rounds.
fn measured<F: Future<Output = u64>>(
    runtime: &Runtime,
    rounds: usize,
    rows: u64,
    mut decoded: impl FnMut() -> F,
) -> f64 {
    let mut seconds: Vec<f64> = (0..rounds)
        .map(|_| {
            let started = cpu_seconds();
            assert_eq!(runtime.block_on(decoded()), rows);
            (cpu_seconds() - started).max(TICK)
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    rows as f64 / seconds[seconds.len() / 2]
}

/// Time that this thread ran on a processor. Where the system does not tell, time that has passed.
fn cpu_seconds() -> f64 {
    static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .map_or_else(|| STARTED.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}
