//! Encoding rows that are ready in Arrow batches must not allocate per row.
//!
//! What is left is the Parquet library's own: about four allocations a batch and column, six a page and column. So
//! large batches stay below one in a thousand rows, and batches of 8,192 rows below three.
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

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use lakeward_files::{FIELD_ID, FileWriter, Store, WriterOptions};

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
        field(2, "amount", DataType::Int64),
        field(3, "name", DataType::Utf8),
        field(4, "at", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ]))
}

fn batches(schema: &Arc<Schema>, rows_per_batch: usize) -> Vec<RecordBatch> {
    let batch = |from: usize| {
        let rows = from..ROWS.min(from + rows_per_batch);
        let numbers = || rows.clone().map(|n| n as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(numbers())),
            Arc::new(Int64Array::from_iter_values(numbers().map(|n| n * 7919 % 10_007))),
            Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("name-{n}")))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(numbers().map(|n| n * 1013))),
        ];
        RecordBatch::try_new(schema.clone(), columns).unwrap()
    };
    (0..ROWS).step_by(rows_per_batch).map(batch).collect()
}

async fn allocations(rows_per_batch: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let schema = schema();
    let batches = batches(&schema, rows_per_batch);
    let path = "t/data.parquet".to_owned();
    let count = || ALLOCATIONS.load(Ordering::Relaxed);
    let opened = count();
    let mut writer =
        FileWriter::create(&store, path, schema, WriterOptions::default()).await.unwrap();
    // The first rows choose the encodings: a cost of the file, not of its rows.
    writer.write(&batches[0]).await.unwrap();
    let began = count();
    for batch in &batches {
        writer.write(batch).await.unwrap();
    }
    let encoded = count() - began;
    let file = writer.finish().await.unwrap();
    let whole = count() - opened;
    println!(
        "batches of {rows_per_batch} rows: {encoded} allocations for {ROWS} rows; {whole} for the file"
    );
    assert_eq!(file.rows as usize, ROWS + batches[0].num_rows());
    encoded
}

#[tokio::test]
async fn encoding_does_not_allocate_per_row() {
    assert!(allocations(64 * 1024).await <= ROWS as u64 / 1000);
    assert!(allocations(8 * 1024).await <= 3 * ROWS as u64 / 1000);
}
