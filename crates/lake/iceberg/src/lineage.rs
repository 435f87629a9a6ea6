//! Row lineage of format version 3: which row ids the rows of a file have.
//!
//! A file's rows are numbered from its first row id, which an entry inherits from its manifest until the entry is
//! written again: then it must stand in it. An update is a delete and an insert here: the new row has a new id.
//! Deliberately absent: the columns in which moved rows keep their lineage (`lakeward-files`).
use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    DataFile, DataFileBuilder, ManifestContentType, ManifestEntry, ManifestEntryRef, ManifestFile,
};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::{FileId, Lineage};

use crate::table::IcebergTable;

/// The entries with the first row ids that they inherit from their manifest. Before version 3 there are none.
pub(crate) fn inherited(
    manifest: &ManifestFile,
    entries: Vec<ManifestEntryRef>,
) -> Result<Vec<ManifestEntryRef>> {
    let first = manifest.first_row_id.filter(|_| manifest.content == ManifestContentType::Data);
    let Some(mut next) = first else { return Ok(entries) };
    let lacks = |e: &ManifestEntryRef| e.is_alive() && e.data_file().first_row_id().is_none();
    let numbered = |entry: ManifestEntryRef| {
        if !lacks(&entry) {
            return Ok(entry);
        }
        let first = i64::try_from(next).map_err(|_| out_of_range(manifest))?;
        next = next.checked_add(entry.record_count()).ok_or_else(|| out_of_range(manifest))?;
        let data_file = with_first_row(entry.data_file(), manifest.partition_spec_id, first)?;
        Ok(Arc::new(ManifestEntry { data_file, ..ManifestEntry::clone(&entry) }))
    };
    entries.into_iter().map(numbered).collect()
}

/// The lineage of all live files, as compaction carries it on.
pub(crate) fn of_files(table: &IcebergTable) -> HashMap<FileId, Lineage> {
    let lineage = |(id, file): (&FileId, &lakeward_files::LiveFile)| {
        let entry = &table.files.get(file.path.as_ref())?.entry;
        let first_row = entry.data_file().first_row_id();
        Some((*id, Lineage { first_row, sequence: entry.sequence_number() }))
    };
    table.content.files().iter().filter_map(lineage).collect()
}

/// The library's entries cannot be changed: a copy with the id.
fn with_first_row(file: &DataFile, spec: i32, first: i64) -> Result<DataFile> {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(Some(first))
        .partition_spec_id(spec)
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(order) = file.sort_order_id() {
        builder.sort_order_id(order);
    }
    builder.build().map_err(|error| {
        Error::new(ErrorKind::Bug, "a data file's entry is incomplete").caused_by(error)
    })
}

fn out_of_range(manifest: &ManifestFile) -> Error {
    Error::new(ErrorKind::Corrupt, "a manifest's row ids are out of range")
        .with("file", &manifest.manifest_path)
}
