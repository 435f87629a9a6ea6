//! From wire bytes to Arrow columns: at most one allocation per 1,000 rows, and how fast it is.
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

use arrow_schema::{DataType, TimeUnit};
use lakeward_core::{Column, ColumnId, SourceEvent, TableId, TableIdentity, TableSchema};
use lakeward_source_postgres::batch::Layout;
use lakeward_source_postgres::decode;
use lakeward_source_postgres::fold::{Fold, OpenLayout};
use lakeward_source_postgres::types::Unrepresentable;

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

fn schema() -> TableSchema {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let types = [
        DataType::Int64,
        DataType::Int32,
        DataType::Int32,
        DataType::Decimal128(12, 2),
        utc,
        DataType::Utf8,
    ];
    let column = |(index, data_type): (usize, DataType)| Column {
        id: ColumnId(index as i32 + 1),
        name: format!("c{index}"),
        declared: data_type.to_string(),
        data_type,
        nullable: true,
    };
    let columns = types.into_iter().enumerate().map(column).collect();
    let identity = TableIdentity("9".into());
    TableSchema::new(TableId::new("public", "narrow"), identity, columns, vec![0], String::new())
}

fn message(kind: u8, id: usize) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 9, b'N', 0, 6];
    let cells = [
        (1_000_000_000 + id).to_string(),
        (id % 10_000).to_string(),
        (id * 7 % 1000).to_string(),
        format!("{}.{:02}", id % 100_000, id % 100),
        format!("2024-05-{:02} 12:34:56.{:06}+00", id % 28 + 1, id),
        format!("some text of {:07}", id),
    ];
    for cell in cells {
        bytes.push(b't');
        bytes.extend_from_slice(&(cell.len() as u32).to_be_bytes());
        bytes.extend_from_slice(cell.as_bytes());
    }
    bytes
}

fn transaction(number: u64, rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut begin = vec![b'B'];
    begin.extend_from_slice(&(number * 1000).to_be_bytes());
    begin.extend_from_slice(&0i64.to_be_bytes());
    begin.extend_from_slice(&(number as u32).to_be_bytes());
    let mut commit = vec![b'C', 0];
    commit.extend_from_slice(&(number * 1000).to_be_bytes());
    commit.extend_from_slice(&(number * 1000 + 48).to_be_bytes());
    commit.extend_from_slice(&0i64.to_be_bytes());
    [vec![begin], rows.to_vec(), vec![commit]].concat()
}

fn decode_all(messages: &[Vec<Vec<u8>>], fold: &mut Fold) -> usize {
    let mut rows = 0;
    for message in messages.iter().flatten() {
        fold.apply(decode::parse(message, fold.streaming()).unwrap()).unwrap();
        while let Some(event) = fold.pop() {
            if let SourceEvent::Rows(batch) = event {
                rows += batch.len();
            }
        }
    }
    rows
}

#[test]
fn a_million_rows_take_fewer_than_a_thousand_allocations() {
    let layout =
        Layout::new(9, Arc::new(schema()), (0..6).map(Some).collect(), Unrepresentable::Fail);
    let mut fold = Fold::new(1, 0);
    fold.install(None, OpenLayout { part: 0, layout: Arc::new(layout), changed: None }, None)
        .unwrap();
    let kind = |id: usize| if id.is_multiple_of(3) { b'I' } else { b'U' };
    let rows: Vec<_> = (0..TRANSACTION_ROWS).map(|id| message(kind(id), id)).collect();
    let messages: Vec<_> =
        (1..=(ROWS / TRANSACTION_ROWS) as u64).map(|n| transaction(n, &rows)).collect();
    let (allocations, started) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    let mut decoded = decode_all(&messages, &mut fold);
    fold.flush().unwrap();
    while let Some(event) = fold.pop() {
        if let SourceEvent::Rows(batch) = event {
            decoded += batch.len();
        }
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!("{decoded} rows, {allocations} allocations, {:?}", started.elapsed());
    assert_eq!(decoded, ROWS);
    assert!(allocations <= (ROWS / 1000) as u64, "{allocations} allocations");
}
