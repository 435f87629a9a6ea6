//! How many changes of a binary log one second of a processor's time turns into Arrow batches: from packets in memory,
//! checksums included; no socket.
//!
//! `cargo bench -p lakeward-source-mysql --bench decode -- [--scale F] [--repeat N] [--only narrow|single|taxi|wide]`.
//! The last line is one JSON object; `counted` is how many changes one round of the last table has. `single` is the
//! narrow table with one change a statement.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    reason = "a program for the developer"
)]

#[path = "decode/stream.rs"]
mod stream;
#[path = "decode/tables.rs"]
mod tables;

use std::sync::Arc;
use std::time::Instant;

use lakeward_core::{SourceEvent, TableId};
use lakeward_source_mysql::binlog::Flavour;
use lakeward_source_mysql::binlog::event::{HEADER_BYTES, Header};
use lakeward_source_mysql::fold::{Fold, World};
use lakeward_source_mysql::follow::{ColumnNow, Look};
use lakeward_source_mysql::position::GtidSet;
use lakeward_source_mysql::shared::Shared;
use lakeward_source_mysql::tables::Tables;
use lakeward_source_mysql::types::{Charsets, Kind, Unrepresentable};

use stream::{Statements, Stream};
use tables::Table;

const ROUNDS: usize = 7;
/// Fewer would count what happens once.
const CHANGES_MIN: u64 = 10_000;

/// Changes per CPU-second and bytes per CPU-second: the median of the rounds, and the spread.
struct Figure {
    changes: f64,
    bytes: f64,
    spread: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let scale: f64 = option("--scale").map_or(1.0, |scale| scale.parse().unwrap());
    let rounds = option("--repeat").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let only = option("--only");
    let cases = [
        ("narrow", Table::narrow(), 400_000.0, Statements::Many),
        ("single", Table::narrow(), 200_000.0, Statements::Single),
        ("taxi", Table::taxi(), 150_000.0, Statements::Many),
        ("wide", Table::wide(), 25_000.0, Statements::Many),
    ];
    let mut figures = serde_json::Map::new();
    println!("{:8} {:>14} {:>12} {:>8}", "table", "changes/CPU-s", "MB/CPU-s", "spread");
    for (name, table, changes, statements) in cases {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let stream = Stream::of(&table, ((changes * scale) as u64).max(CHANGES_MIN), statements);
        let figure = measured(&table, &stream, rounds);
        println!(
            "{name:8} {:>14.0} {:>12.0} {:>7.1}%",
            figure.changes,
            figure.bytes / 1e6,
            figure.spread * 100.0
        );
        let suffix = if name == "narrow" { String::new() } else { format!("_{name}") };
        let key = |what: &str| format!("{what}{suffix}");
        figures.insert(key("mysql_decode_changes_per_cpu_second"), figure.changes.round().into());
        figures.insert(key("bytes_per_cpu_second"), figure.bytes.round().into());
        figures.insert("counted".into(), stream.changes.into());
    }
    println!("{}", serde_json::Value::Object(figures));
}

/// The coarsest step of the clock, in seconds.
const TICK: f64 = 0.01;

fn measured(table: &Table, stream: &Stream, rounds: usize) -> Figure {
    let mut seconds: Vec<f64> = (0..=rounds)
        .map(|_| {
            let mut fold = fold(table);
            let started = cpu_seconds();
            let rows = decoded(&mut fold, &stream.packets);
            // the clock moves with the kernel's tick: a run too short for it counts as one
            let taken = (cpu_seconds() - started).max(TICK);
            assert_eq!(rows as u64, stream.changes);
            taken
        })
        .skip(1)
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    Figure {
        changes: stream.changes as f64 / median,
        bytes: stream.packets.len() as f64 / median,
        spread: (seconds[seconds.len() - 1] - seconds[0]) / median,
    }
}

fn decoded(fold: &mut Fold, mut packets: &[u8]) -> usize {
    let mut rows = 0;
    while let Some((head, rest)) = packets.split_first_chunk::<5>() {
        let [a, b, c, _, status] = *head;
        assert_eq!(status, 0);
        let (event, rest) = rest.split_at(u32::from_le_bytes([a, b, c, 0]) as usize - 1);
        packets = rest;
        let header = Header::parse(event).unwrap();
        let (body, checksum) = event[HEADER_BYTES..].split_last_chunk::<4>().unwrap();
        assert_eq!(header.checksum(&[body]), u32::from_le_bytes(*checksum));
        fold.apply(&header, body).unwrap();
        rows += taken(fold);
    }
    fold.flush().unwrap();
    rows + taken(fold)
}

fn taken(fold: &mut Fold) -> usize {
    let mut rows = 0;
    while let Some(event) = fold.pop() {
        if let SourceEvent::Rows(batch) = event {
            rows += batch.len();
        }
    }
    rows
}

fn fold(table: &Table) -> Fold {
    let column = |column: &tables::Column| ColumnNow {
        name: column.name.clone(),
        kind: Kind::of_declared(&column.kind.declared()).unwrap(),
        nullable: column.null_every > 0,
    };
    let look = Look {
        columns: table.columns.iter().map(column).collect(),
        key: vec!["id".into()],
        ignored: Vec::new(),
    };
    let tables = Tables::new(Unrepresentable::Fail);
    tables.looked(&TableId::new("bench", table.name), &look, "");
    let world = World {
        tables: Arc::new(tables),
        shared: Arc::new(Shared::default()),
        charsets: Arc::new(Charsets::new([(45, "utf8mb4".to_owned())])),
        flavour: Flavour::MariaDb,
        lower_case: false,
    };
    Fold::new(world, GtidSet::mariadb(), GtidSet::mariadb())
}

/// Time that this thread ran on a processor. Where the system does not tell, time that has passed.
fn cpu_seconds() -> f64 {
    static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .map_or_else(|| STARTED.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}
