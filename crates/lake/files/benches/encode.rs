//! Writing narrow rows to Parquet: what the encoder costs, without the rows' making.
//!
//! One batch is made and written again and again. `--scale F` times 10 million rows, `--repeat N` times. The last line is one
//! JSON object; `counted` is how many rows one of the repeats has.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use lakeward_files::{FIELD_ID, FileWriter, Store, WriterOptions};

const ROWS: f64 = 10e6;
/// Rows of a batch, as chunks bring them.
const BATCH: i64 = 8192;
/// Fewer batches would count the file's opening and its end.
const BATCHES_MIN: i64 = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1)
    };
    let scale: f64 = value("--scale").map_or(1.0, |scale| scale.parse().unwrap());
    let repeat: i64 = value("--repeat").map_or(1, |repeat| repeat.parse().unwrap());
    let batches = ((ROWS * scale) as i64 / BATCH).max(BATCHES_MIN);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let started = Instant::now();
    let bytes = runtime.block_on(write(&batch(), batches * repeat));
    let counted = batches * BATCH;
    let rows = (counted * repeat) as f64;
    let rate = rows / started.elapsed().as_secs_f64();
    println!(
        "{{\"counted\": {counted}, \"encode_rows\": {rows}, \"encode_bytes\": {bytes}, \"encode_rows_per_second\": {rate:.0}}}"
    );
}

async fn write(batch: &RecordBatch, batches: i64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let options = WriterOptions::default();
    let path = "encode.parquet".to_owned();
    let mut writer = FileWriter::create(&store, path, batch.schema(), options).await.unwrap();
    for _ in 0..batches {
        writer.write(batch).await.unwrap();
    }
    writer.finish().await.unwrap().bytes
}

/// A rising key, two integers, an amount, a time, a text of 20.
fn batch() -> RecordBatch {
    let field = |id: i32, name: &str, data_type| {
        let key = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Field::new(name, data_type, id > 1).with_metadata(key)
    };
    let schema = Schema::new(vec![
        field(1, "id", DataType::Int64),
        field(2, "a", DataType::Int32),
        field(3, "b", DataType::Int32),
        field(4, "amount", DataType::Decimal128(12, 2)),
        field(5, "at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field(6, "note", DataType::Utf8),
    ]);
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).rotate_left(29) >> 33;
    let ints =
        |salt: i64| Int32Array::from_iter_values((0..BATCH).map(|n| spread(n + salt) as i32));
    let amounts = (0..BATCH).map(|n| i128::from(spread(n) % 100_000_000));
    let times = (0..BATCH).map(|n| 1_700_000_000_000_000 + spread(n) * 59_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..BATCH)),
        Arc::new(ints(1)),
        Arc::new(ints(2)),
        Arc::new(
            Decimal128Array::from_iter_values(amounts).with_precision_and_scale(12, 2).unwrap(),
        ),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        Arc::new(StringArray::from_iter_values((0..BATCH).map(|n| format!("{:020x}", spread(n))))),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}
