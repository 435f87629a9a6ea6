//! The summary of a snapshot.
//!
//! Deliberately absent: counting rows. Files know their rows.
use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    DataContentType, ManifestEntryRef, Operation, SnapshotSummaryCollector, Summary, TableMetadata,
};
use lakeward_core::{Error, ErrorKind, Result};

use crate::commit::{Request, unpartitioned};
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
    base: &TableMetadata,
    removed: &[ManifestEntryRef],
    parent: Option<&Summary>,
) -> Result<Summary> {
    let mut collector = SnapshotSummaryCollector::default();
    let (schema, spec) = (base.current_schema(), unpartitioned(base)?);
    for file in &request.change.added {
        collector.add_file(file, Arc::clone(schema), Arc::clone(&spec));
    }
    for entry in removed {
        collector.remove_file(entry.data_file(), Arc::clone(schema), Arc::clone(&spec));
    }
    let mut properties = collector.build();
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

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
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
