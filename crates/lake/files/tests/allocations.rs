//! What writing a file of a million narrow rows costs: allocations (asserted) and CPU time (printed).
//!
//! The whole life of the file counts: opening, choosing encodings, rows, row groups, footer, close.
#![allow(unsafe_code, reason = "a global allocator cannot be written without it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use lakeward_files::{DataFile, FIELD_ID, FileWriter, Store, WriterOptions};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ROWS: usize = 1_000_000;

fn schema() -> Arc<Schema> {
    let field = |id: i32, name: &str, data_type| {
        let nullable = id > 1;
        let id = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Field::new(name, data_type, nullable).with_metadata(id)
    };
    Arc::new(Schema::new(vec![
        field(1, "id", DataType::Int64),
        field(2, "shop", DataType::Int32),
        field(3, "name", DataType::Utf8),
        field(4, "amount", DataType::Decimal128(12, 2)),
        field(5, "at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field(6, "paid", DataType::Boolean),
    ]))
}

/// A million rows as an application would have them: a rising key, times that jitter, an amount, a name.
fn batches(schema: &Arc<Schema>, rows_per_batch: usize) -> Vec<RecordBatch> {
    let batch = |from: usize| {
        let numbers = || (from..ROWS.min(from + rows_per_batch)).map(|n| n as i64);
        let amounts = numbers().map(|n| i128::from(scramble(n) % 1_000_000));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(numbers())),
            Arc::new(Int32Array::from_iter_values(
                numbers().map(|n| (scramble(n) % 50_000) as i32),
            )),
            Arc::new(StringArray::from_iter_values(
                numbers().map(|n| format!("name-{:011}", scramble(n) % 100_000_000_000)),
            )),
            Arc::new(
                Decimal128Array::from_iter_values(amounts).with_precision_and_scale(12, 2).unwrap(),
            ),
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                numbers().map(|n| 1_700_000_000_000_000 + n * 1_013 + scramble(n) % 1_000),
            )),
            Arc::new(BooleanArray::from_iter(numbers().map(|n| Some(scramble(n) % 3 == 0)))),
        ];
        RecordBatch::try_new(schema.clone(), columns).unwrap()
    };
    (0..ROWS).step_by(rows_per_batch).map(batch).collect()
}

/// The same number for the same row, with no pattern that an encoding could use.
fn scramble(n: i64) -> i64 {
    let mut x = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ x >> 31) >> 1) as i64
}

async fn write(
    store: &Store,
    path: String,
    schema: &Arc<Schema>,
    rows: &[RecordBatch],
) -> DataFile {
    let options = WriterOptions::default();
    let mut writer = FileWriter::create(store, path, schema.clone(), options).await.unwrap();
    for batch in rows {
        writer.write(batch).await.unwrap();
    }
    writer.finish().await.unwrap()
}

/// Allocations of the whole process while one file is written.
async fn allocations(rows_per_batch: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let schema = schema();
    let batches = batches(&schema, rows_per_batch);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let file = write(&store, "t/data.parquet".to_owned(), &schema, &batches).await;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!("batches of {rows_per_batch} rows: {allocations} allocations for {ROWS} rows");
    assert_eq!(file.rows as usize, ROWS);
    allocations
}

/// CPU seconds of this process, of all its threads.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

/// One test: counters are the process's.
#[tokio::test]
async fn a_file_of_a_million_rows_costs_a_thousand_allocations() {
    for rows_per_batch in [64 * 1024, 8 * 1024] {
        assert!(allocations(rows_per_batch).await <= ROWS as u64 / 1000);
    }
}

/// `cargo test -p lakeward-files --test allocations -- --ignored --nocapture`, in an optimised profile.
#[tokio::test]
#[ignore = "prints a figure"]
async fn rows_per_cpu_second() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let schema = schema();
    for rows_per_batch in [64 * 1024, 8 * 1024] {
        let batches = batches(&schema, rows_per_batch);
        let Some(before) = cpu_seconds() else { return };
        let mut bytes = 0;
        for round in 0..5 {
            let path = format!("t/{rows_per_batch}-{round}.parquet");
            bytes = write(&store, path, &schema, &batches).await.bytes;
        }
        let seconds = cpu_seconds().unwrap() - before;
        let rate = 5.0 * ROWS as f64 / seconds;
        println!(
            "batches of {rows_per_batch} rows: {rate:.0} rows per CPU second, {bytes} bytes a file"
        );
    }
}
