//! Live files of the log as the key index needs them, and new files as the log spells them.
//!
//! Deliberately absent: what is deleted, and why.
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::{DataFile, DataFileReader, LiveFile, Store};
use roaring::RoaringBitmap;

use crate::action::{Add, Vector};
use crate::commit::now_ms;
use crate::schema::Shape;
use crate::state::State;
use crate::{stats, vectors};

/// Deletion vectors and footers are read this many at a time: each waits for the disk, not for the processor.
const FILES_AT_ONCE: usize = 8;

/// All live files with their deleted rows. Ordered by path: the same lake gives the same order.
///
/// # Errors
/// `Corrupt` naming a file that cannot be read; `Unsupported` for files outside the table.
pub(crate) async fn live(store: &Store, folder: &str, state: &State) -> Result<Vec<LiveFile>> {
    let files: Vec<Arc<Add>> = state.files.values().cloned().collect();
    let reads = files.into_iter().map(|add| {
        let (store, folder) = (store.clone(), folder.to_owned());
        async move { live_file(&store, &folder, &add).await }
    });
    stream::iter(reads).buffered(FILES_AT_ONCE).try_collect().await
}

async fn live_file(store: &Store, folder: &str, add: &Add) -> Result<LiveFile> {
    let path = store_path(folder, &add.path)?;
    let deleted = match &add.deletion_vector {
        Some(vector) => vectors::read(store, folder, vector).await?,
        None => RoaringBitmap::new(),
    };
    let rows = match stats::rows(add.stats.as_deref()) {
        Some(rows) => rows,
        None => DataFileReader::open(store, &path).await?.rows(),
    };
    let bytes = u64::try_from(add.size).unwrap_or(0);
    Ok(LiveFile { path: path.into(), rows, bytes, deleted })
}

/// A file's path in the store. The log spells paths as URLs do.
///
/// # Errors
/// `Unsupported` when it lies outside the table's folder, or has a character that no file of ours has.
pub(crate) fn store_path(folder: &str, path: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=' | b'/');
    let outside = path.starts_with('/') || path.split('/').any(|part| part == "..");
    if outside || !path.bytes().all(plain) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "another writer added a file that lies outside the table or has an odd name",
        )
        .with("file", path)
        .remedied(
            "rewrite the table with the engine that wrote the file, or `lakeward resync` it",
        ));
    }
    Ok(format!("{folder}/{path}"))
}

/// The path of a file of the table as the log spells it.
pub(crate) fn log_path<'a>(folder: &str, path: &'a str) -> &'a str {
    path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
}

/// A new data file in the log.
pub(crate) fn add(
    folder: &str,
    file: &DataFile,
    shape: &Shape,
    vector: Option<Vector>,
    data_change: bool,
) -> Add {
    let stats = stats::of(file, shape);
    let stats = if vector.is_some() { stats::widened(Some(&stats), file.rows) } else { stats };
    Add {
        path: log_path(folder, &file.path).to_owned(),
        partition_values: Default::default(),
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: now_ms(),
        data_change,
        stats: Some(stats),
        tags: None,
        deletion_vector: vector,
    }
}

/// A live file with more rows deleted.
pub(crate) fn with_vector(old: &Add, rows: u64, vector: Vector, data_change: bool) -> Add {
    Add {
        stats: Some(stats::widened(old.stats.as_deref(), rows)),
        deletion_vector: Some(vector),
        data_change,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_table() {
        assert_eq!(store_path("s/t", "data/a.parquet").unwrap(), "s/t/data/a.parquet");
        assert_eq!(log_path("s/t", "s/t/data/a.parquet"), "data/a.parquet");
        for path in ["../x", "/x", "a%20b", "s3://b/x", "a/../../x"] {
            assert_eq!(store_path("t", path).unwrap_err().kind(), ErrorKind::Unsupported, "{path}");
        }
    }
}
