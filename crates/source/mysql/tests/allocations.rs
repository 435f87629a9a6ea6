//! From the log's bytes to Arrow columns: at most one allocation per 1,000 rows, and how fast it is.
//!
//! A binary of its own, because it replaces the allocator by one that counts.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an allocator that counts cannot be written without; tests may panic and print"
)]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use lakeward_core::{SourceEvent, TableId};
use lakeward_source_mysql::binlog::Flavour;
use lakeward_source_mysql::binlog::event::Header;
use lakeward_source_mysql::fold::{Fold, World};
use lakeward_source_mysql::follow::{ColumnNow, Look};
use lakeward_source_mysql::position::GtidSet;
use lakeward_source_mysql::shared::Shared;
use lakeward_source_mysql::tables::Tables;
use lakeward_source_mysql::types::{Charsets, Kind, Unrepresentable};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, at: *mut u8, memory: Memory) {
        unsafe { System.dealloc(at, memory) }
    }

    unsafe fn realloc(&self, at: *mut u8, memory: Memory, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, memory, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: usize = 1_000_000;
const TRANSACTION_ROWS: usize = 10_000;
const EVENT_ROWS: usize = 100;
const NAMES: [&str; 6] = ["id", "a", "b", "amount", "at", "text"];

const GTID: u8 = 162;
const TABLE_MAP: u8 = 19;
const WRITE: u8 = 23;
const UPDATE: u8 = 24;
const XID: u8 = 16;

fn counted(content: &[u8]) -> Vec<u8> {
    [vec![content.len() as u8], content.to_vec()].concat()
}

fn field(kind: u8, content: &[u8]) -> Vec<u8> {
    [vec![kind], counted(content)].concat()
}

/// `s.narrow(id bigint, a int, b int, amount decimal(12,2), at timestamp(6), text varchar(20))`.
fn table_map() -> Vec<u8> {
    let names: Vec<u8> = NAMES.iter().flat_map(|name| counted(name.as_bytes())).collect();
    [
        vec![9, 0, 0, 0, 0, 0, 1, 0],
        counted(b"s"),
        vec![0],
        counted(b"narrow"),
        vec![0, 6, 8, 3, 3, 246, 17, 15],
        counted(&[12, 2, 6, 80, 0]),
        vec![0b11_1110],
        field(1, &[0]),
        field(2, &[45]),
        field(4, &names),
        field(8, &[0]),
    ]
    .concat()
}

fn image(id: u64) -> Vec<u8> {
    let text = format!("some text of {id:07}");
    [
        vec![0],
        (1_000_000_000 + id).to_le_bytes().to_vec(),
        (id as u32 % 10_000).to_le_bytes().to_vec(),
        (id as u32 % 1_000).to_le_bytes().to_vec(),
        vec![0x80, 0, (id % 100) as u8, 0, 7, (id % 100) as u8],
        vec![0x66, 0x38, 0x9D, (id % 250) as u8, 0x01, 0xE2, 0x40],
        counted(text.as_bytes()),
    ]
    .concat()
}

fn rows(kind: u8, from: u64) -> (u8, Vec<u8>) {
    let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, 6, 0x3F];
    if kind == UPDATE {
        body.push(0x3F);
    }
    for id in from..from + EVENT_ROWS as u64 {
        body.extend(image(id));
        if kind == UPDATE {
            body.extend(image(id));
        }
    }
    (kind, body)
}

fn transaction(number: u64, rows: &[(u8, Vec<u8>)]) -> Vec<(u8, Vec<u8>)> {
    let gtid = [number.to_le_bytes().to_vec(), vec![0; 11]].concat();
    let head = [(GTID, gtid), (TABLE_MAP, table_map())];
    let end = [(XID, 7u64.to_le_bytes().to_vec())];
    [head.to_vec(), rows.to_vec(), end.to_vec()].concat()
}

fn fold() -> Fold {
    let charsets = Charsets::new([(45, "utf8mb4".to_owned())]);
    let declared = ["bigint", "int", "int", "decimal(12,2)", "timestamp(6)", "varchar(20)"];
    let column = |(name, declared): (&&str, &str)| ColumnNow {
        name: (*name).to_owned(),
        kind: Kind::of_declared(declared).unwrap(),
        nullable: *name != "id",
    };
    let look = Look {
        columns: NAMES.iter().zip(declared).map(column).collect(),
        key: vec!["id".into()],
        ignored: Vec::new(),
    };
    let tables = Tables::new(Unrepresentable::Fail);
    tables.looked(&TableId::new("s", "narrow"), &look, "");
    let world = World {
        tables: Arc::new(tables),
        shared: Arc::new(Shared::default()),
        charsets: Arc::new(charsets),
        flavour: Flavour::MariaDb,
        lower_case: false,
    };
    Fold::new(world, GtidSet::mariadb(), GtidSet::mariadb())
}

fn decoded(fold: &mut Fold) -> usize {
    let mut rows = 0;
    while let Some(event) = fold.pop() {
        match event {
            SourceEvent::Rows(batch) => rows += batch.len(),
            SourceEvent::Schema(change) => {
                assert_eq!(change.before.version, change.after.version);
            }
            SourceEvent::Commit { .. } => {}
            other => unreachable!("{other:?}"),
        }
    }
    rows
}

#[test]
fn a_million_rows_take_at_most_a_thousand_allocations() {
    let kind = |event: usize| if event.is_multiple_of(3) { WRITE } else { UPDATE };
    let events: Vec<_> = (0..TRANSACTION_ROWS / EVENT_ROWS)
        .map(|event| rows(kind(event), (event * EVENT_ROWS) as u64))
        .collect();
    let log: Vec<_> =
        (1..=(ROWS / TRANSACTION_ROWS) as u64).flat_map(|n| transaction(n, &events)).collect();
    let mut fold = fold();
    let (allocations, started) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    let mut total = 0;
    for (kind, body) in &log {
        let header =
            Header { timestamp: 1_700_000_000, kind: *kind, server: 1, size: 0, next: 0, flags: 0 };
        fold.apply(&header, body).unwrap();
        total += decoded(&mut fold);
    }
    fold.flush().unwrap();
    total += decoded(&mut fold);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!("{total} rows, {allocations} allocations, {:?}", started.elapsed());
    assert_eq!(total, ROWS);
    assert!(allocations <= (ROWS / 1000) as u64, "{allocations} allocations");
}
