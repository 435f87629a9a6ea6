//! The summary of a snapshot.
//!
//! Counted here and not by the library, which takes each deletion vector for its whole file. Deliberately absent: counting
//! rows. Files know their rows.
use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, ManifestEntryRef, Operation, Summary,
};
use lakeward_core::{Error, ErrorKind, Result};

use crate::commit::Request;
use crate::manifests::FileChange;
use crate::metadata::MARK_PROPERTY;

/// Totals that a snapshot's summary carries on from its parent's: total, added, removed.
const TOTALS: [(&str, &str, &str); 6] = [
    ("total-data-files", "added-data-files", "deleted-data-files"),
    ("total-delete-files", "added-delete-files", "removed-delete-files"),
    ("total-records", "added-records", "deleted-records"),
    ("total-files-size", "added-files-size", "removed-files-size"),
    ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
    ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
];

/// What a snapshot says of itself: its own counts, the totals carried on from its parent, the mark.
pub(crate) fn summary(
    request: &Request<'_>,
    removed: &[ManifestEntryRef],
    parent: Option<&Summary>,
) -> Result<Summary> {
    let added = Counts::of(request.change.added.iter());
    let gone = Counts::of(removed.iter().map(|entry| entry.data_file()));
    let counts = added.named("added", "added").into_iter().chain(gone.named("removed", "deleted"));
    let mut properties: HashMap<String, String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(key, count)| (key, count.to_string()))
        .collect();
    let parent = parent.map(|s| &s.additional_properties);
    for (total, added, gone) in TOTALS {
        let value = carried_on(parent, &properties, total, added, gone);
        properties.insert(total.into(), value.to_string());
    }
    let mark = serde_json::to_string(request.mark)
        .map_err(|error| Error::new(ErrorKind::Bug, "could not write the mark").caused_by(error))?;
    properties.insert(MARK_PROPERTY.into(), mark);
    let operation = operation(request.change, request.replace);
    Ok(Summary { operation, additional_properties: properties })
}

/// Files that come or go, counted as the format's summaries count them.
#[derive(Debug, Default)]
struct Counts {
    bytes: u64,
    data_files: u64,
    records: u64,
    delete_files: u64,
    position_delete_files: u64,
    vectors: u64,
    position_deletes: u64,
    equality_delete_files: u64,
    equality_deletes: u64,
}

impl Counts {
    fn of<'a>(files: impl Iterator<Item = &'a DataFile>) -> Self {
        let mut counts = Self::default();
        files.for_each(|file| counts.add(file));
        counts
    }

    fn add(&mut self, file: &DataFile) {
        let rows = file.record_count();
        let is_vector = file.file_format() == DataFileFormat::Puffin;
        let own = file.content_size_in_bytes().and_then(|bytes| u64::try_from(bytes).ok());
        self.bytes += own.filter(|_| is_vector).unwrap_or(file.file_size_in_bytes());
        match file.content_type() {
            DataContentType::Data => {
                self.data_files += 1;
                self.records += rows;
            }
            DataContentType::PositionDeletes => {
                self.delete_files += 1;
                self.vectors += u64::from(is_vector);
                self.position_delete_files += u64::from(!is_vector);
                self.position_deletes += rows;
            }
            DataContentType::EqualityDeletes => {
                self.delete_files += 1;
                self.equality_delete_files += 1;
                self.equality_deletes += rows;
            }
        }
    }

    /// The format says `removed` of most things that go, but `deleted` of data files and records.
    fn named(&self, verb: &str, verb_of_data: &str) -> [(String, u64); 9] {
        [
            (format!("{verb}-files-size"), self.bytes),
            (format!("{verb_of_data}-data-files"), self.data_files),
            (format!("{verb_of_data}-records"), self.records),
            (format!("{verb}-delete-files"), self.delete_files),
            (format!("{verb}-position-delete-files"), self.position_delete_files),
            (format!("{verb}-dvs"), self.vectors),
            (format!("{verb}-position-deletes"), self.position_deletes),
            (format!("{verb}-equality-delete-files"), self.equality_delete_files),
            (format!("{verb}-equality-deletes"), self.equality_deletes),
        ]
    }
}

fn carried_on(
    parent: Option<&HashMap<String, String>>,
    now: &HashMap<String, String>,
    total: &str,
    added: &str,
    gone: &str,
) -> u64 {
    let number = |map: &HashMap<String, String>, key| {
        map.get(key).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = parent.map_or(0, |map| number(map, total));
    (before + number(now, added)).saturating_sub(number(now, gone))
}

/// What the snapshot did, in the format's words.
fn operation(change: &FileChange, replace: bool) -> Operation {
    let adds_rows = change.added.iter().any(|f| f.content_type() == DataContentType::Data);
    let adds_deletes = change.added.iter().any(|f| f.content_type() != DataContentType::Data);
    match (replace, adds_rows, adds_deletes || !change.removed.is_empty()) {
        (true, _, _) => Operation::Replace,
        (false, _, false) => Operation::Append,
        (false, true, true) => Operation::Overwrite,
        (false, false, true) => Operation::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datafile;
    use crate::puffin::Slice;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_vector_counts_by_its_own_size_and_a_file_by_its_whole() {
        let vector = datafile::vector("f.puffin", 900, Slice { offset: 4, bytes: 60 }, "a", 7, 0);
        let mut plain = iceberg::spec::DataFileBuilder::default();
        plain
            .content(DataContentType::Data)
            .file_path("a".into())
            .file_format(DataFileFormat::Parquet)
            .record_count(11)
            .file_size_in_bytes(100);
        let files = [vector.unwrap(), plain.build().unwrap()];
        let counts: HashMap<String, u64> =
            Counts::of(files.iter()).named("removed", "deleted").into_iter().collect();
        for (key, expected) in [
            ("removed-files-size", 160),
            ("deleted-data-files", 1),
            ("deleted-records", 11),
            ("removed-delete-files", 1),
            ("removed-dvs", 1),
            ("removed-position-delete-files", 0),
            ("removed-position-deletes", 7),
        ] {
            assert_eq!(counts[key], expected, "{key}");
        }
    }

    #[test]
    fn totals_are_carried_on() {
        let parent = map(&[("total-records", "10")]);
        let now = map(&[("added-records", "5"), ("deleted-records", "3")]);
        let total =
            |parent| carried_on(parent, &now, "total-records", "added-records", "deleted-records");
        assert_eq!((total(Some(&parent)), total(None)), (12, 2));
    }
}
