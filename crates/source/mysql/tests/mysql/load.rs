//! Chunks as a test wants them: read to the end, as rows of text.
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use lakeward_core::{Chunk, ChunkReader, Delivered, Source, TableSchema};
use lakeward_source_mysql::types::render;

pub async fn open(source: &dyn Source, table: &TableSchema, chunk: &Chunk) -> Box<dyn ChunkReader> {
    source.read_chunk(table, chunk, Arc::new(Delivered::default())).await.unwrap()
}

pub async fn read(reader: &mut dyn ChunkReader) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        batches.push(batch);
    }
    batches
}

/// Everything that a chunk holds, as text, in no order.
pub async fn rows(source: &dyn Source, table: &TableSchema, chunk: &Chunk) -> Vec<Vec<String>> {
    let mut reader = open(source, table, chunk).await;
    read(reader.as_mut()).await.iter().flat_map(texts).collect()
}

pub fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let cell = |column: usize, row: usize| {
        let mut out = String::new();
        match batch.column(column).is_null(row) {
            true => out.push_str("NULL"),
            false => render(batch.column(column), row, &mut out).unwrap(),
        }
        out
    };
    (0..batch.num_rows())
        .map(|row| (0..batch.num_columns()).map(|column| cell(column, row)).collect())
        .collect()
}

pub const ALL: Chunk = Chunk::Range { from: None, to: None };
