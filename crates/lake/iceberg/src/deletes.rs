//! Which rows of which data files are deleted, written as the table's format version wants it: a position delete file for
//! each data file, or from version 3 on one file of deletion vectors for all of them.
//!
//! Deliberately absent: which rows, and whether older deletes are among them.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{DataFile as Entry, DataFileFormat, FormatVersion, ManifestEntryRef};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::{PositionDeletes, Store};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::datafile;
use crate::metadata::{LiveFile, path_of};
use crate::puffin::{self, Slice};
use crate::table::IcebergTable;

/// Delete files are read and written this many at a time: each waits for the disk, not for the processor.
const FILES_AT_ONCE: usize = 8;

/// Deletes that were written for one commit.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) entries: Vec<Entry>,
    /// Paths in the store.
    pub(crate) paths: Vec<String>,
}

/// Writes the deleted rows of each data file, which is named by its location.
///
/// # Errors
/// Those of the store.
pub(crate) async fn write(
    table: &IcebergTable,
    stem: &str,
    spec: i32,
    deleted: Vec<(String, RoaringBitmap)>,
) -> Result<Written> {
    let store = &table.committer.store;
    let path = |kind: &str| {
        format!("{}/data/{stem}-deletes-{}.{kind}", table.folder, Uuid::new_v4().simple())
    };
    if deleted.is_empty() {
        Ok(Written::default())
    } else if table.format() >= FormatVersion::V3 {
        write_vectors(store, path("puffin"), spec, &deleted).await
    } else {
        let files = deleted.into_iter().map(|(location, rows)| (path("parquet"), location, rows));
        write_files(store, spec, files.collect()).await
    }
}

async fn write_vectors(
    store: &Store,
    path: String,
    spec: i32,
    deleted: &[(String, RoaringBitmap)],
) -> Result<Written> {
    let (content, slices) = puffin::encode(deleted);
    let bytes = content.len() as u64;
    if !store.create(&path, content).await? {
        return Err(Error::new(ErrorKind::Bug, "a delete file's name was taken").with("file", path));
    }
    let location = store.url(&path);
    let entry = |((data_file, rows), slice): (&(String, RoaringBitmap), &Slice)| {
        datafile::vector(&location, bytes, *slice, data_file, rows.len(), spec)
    };
    let entries = deleted.iter().zip(&slices).map(entry).collect::<Result<_>>()?;
    Ok(Written { entries, paths: vec![path] })
}

async fn write_files(
    store: &Store,
    spec: i32,
    files: Vec<(String, String, RoaringBitmap)>,
) -> Result<Written> {
    let writes = files.into_iter().map(|(path, location, rows)| async move {
        let file = PositionDeletes::write(store, path.clone(), &location, &rows).await?;
        Ok::<_, Error>((path, datafile::deletes(store, &file, &location, spec)?))
    });
    let written: Vec<(String, Entry)> =
        stream::iter(writes).buffered(FILES_AT_ONCE).try_collect().await?;
    let (paths, entries) = written.into_iter().unzip();
    Ok(Written { entries, paths })
}

/// Live files with their deleted rows, as the key index is built from them. Ordered by path: the same lake gives the
/// same order.
///
/// # Errors
/// `Corrupt` when a delete file cannot be read; those of the store.
pub(crate) async fn live_rows(
    store: &Store,
    files: &HashMap<String, LiveFile>,
) -> Result<Vec<lakeward_files::LiveFile>> {
    let entries = || files.values().flat_map(|f| &f.deletes);
    let by_file = read_files(store, entries().filter(|e| !is_vector(e))).await?;
    let vectors = read_vectors(store, entries().filter(|e| is_vector(e))).await?;
    let of = |delete: &ManifestEntryRef, data_file: &str| match is_vector(delete) {
        true => vectors.get(&(delete.file_path().to_owned(), slice(delete)?.offset)),
        false => by_file.get(delete.file_path())?.get(data_file),
    };
    let mut live: Vec<_> = files
        .iter()
        .map(|(path, file)| {
            let rows = file.deletes.iter().filter_map(|d| of(d, file.entry.file_path()));
            lakeward_files::LiveFile {
                path: Arc::from(path.as_str()),
                rows: file.entry.record_count(),
                bytes: file.entry.file_size_in_bytes(),
                deleted: rows.fold(RoaringBitmap::new(), |all, rows| all | rows),
            }
        })
        .collect();
    live.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(live)
}

fn is_vector(delete: &ManifestEntryRef) -> bool {
    delete.file_format() == DataFileFormat::Puffin
}

/// Where a vector stands; `None` when its entry does not say.
fn slice(delete: &ManifestEntryRef) -> Option<Slice> {
    let number = |number: Option<i64>| u64::try_from(number?).ok();
    let file = delete.data_file();
    let (offset, bytes) = (number(file.content_offset())?, number(file.content_size_in_bytes())?);
    Some(Slice { offset, bytes })
}

/// Position delete files: deleted rows by the delete file's and the data file's location.
async fn read_files(
    store: &Store,
    entries: impl Iterator<Item = &ManifestEntryRef>,
) -> Result<HashMap<String, BTreeMap<String, RoaringBitmap>>> {
    let locations: HashSet<String> = entries.map(|e| e.file_path().to_owned()).collect();
    let reads = locations.into_iter().map(|location| async move {
        let deleted = PositionDeletes::read(store, &path_of(store, &location)?).await?;
        Ok::<_, Error>((location, deleted))
    });
    stream::iter(reads).buffer_unordered(FILES_AT_ONCE).try_collect().await
}

/// Deletion vectors: deleted rows by the file's location and the vector's place in it.
async fn read_vectors(
    store: &Store,
    entries: impl Iterator<Item = &ManifestEntryRef>,
) -> Result<HashMap<(String, u64), RoaringBitmap>> {
    let mut places: BTreeMap<String, Vec<Slice>> = BTreeMap::new();
    for entry in entries {
        let slice = slice(entry).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "an entry does not say where its deletion vector stands")
                .with("file", entry.file_path())
        })?;
        places.entry(entry.file_path().to_owned()).or_default().push(slice);
    }
    let reads = places.into_iter().map(|(location, slices)| async move {
        let found = puffin::read(store, &path_of(store, &location)?, &slices).await?;
        let offsets = slices.into_iter().map(move |slice| (location.clone(), slice.offset));
        Ok::<_, Error>(offsets.zip(found).collect::<Vec<_>>())
    });
    let found: Vec<Vec<_>> =
        stream::iter(reads).buffer_unordered(FILES_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
