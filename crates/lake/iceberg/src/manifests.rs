//! Which manifests a new snapshot names: kept ones, rewritten ones, a new one for what came.
//!
//! Deliberately absent: storing them. Encoding goes into memory, because the library writes through its own I/O only.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, ManifestContentType, ManifestEntryRef, ManifestFile,
    ManifestListWriter, ManifestWriterBuilder, PartitionSpec, PartitionSpecRef, SchemaRef,
};
use lakeward_core::{Error, ErrorKind, Result};

use crate::metadata::Contents;

/// This many manifests that a commit left small are joined by the next one: few for readers to open, rarely rewritten.
const SMALL_MANIFESTS: usize = 24;
/// A manifest of at least this many entries is not small.
const ENTRIES_OF_A_FULL_MANIFEST: usize = 4096;

/// What a commit does to the table's files.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileChange {
    /// New data and delete files.
    pub(crate) added: Vec<DataFile>,
    /// Locations of data and delete files that go. Each must be live.
    pub(crate) removed: HashSet<String>,
}

/// Entries that one new manifest holds.
pub(crate) struct Group {
    content: ManifestContentType,
    pub(crate) spec: i32,
    existing: Vec<ManifestEntryRef>,
    removed: Vec<ManifestEntryRef>,
    added: Vec<DataFile>,
}

/// The manifests of a new snapshot.
pub(crate) struct ManifestPlan {
    pub(crate) kept: Vec<ManifestFile>,
    pub(crate) groups: Vec<Group>,
    pub(crate) removed: Vec<ManifestEntryRef>,
}

/// Which manifests stay, and what the new ones hold: those that lose a file are rewritten, small ones are joined when
/// they have become many, those without a live file go.
pub(crate) fn plan(contents: &Contents, change: &FileChange, spec: i32) -> Result<ManifestPlan> {
    let mut groups: HashMap<(ManifestContentType, i32), Group> = HashMap::new();
    let join = |content| {
        let small = contents.manifests.iter().filter(|m| m.file.content == content);
        small.filter(|m| m.entries.len() < ENTRIES_OF_A_FULL_MANIFEST).count() >= SMALL_MANIFESTS
    };
    let joined = [join(ManifestContentType::Data), join(ManifestContentType::Deletes)];
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for manifest in &contents.manifests {
        let (file, entries) = (&manifest.file, &manifest.entries);
        if !entries.iter().any(|e| e.is_alive()) {
            continue;
        }
        let gone = |e: &ManifestEntryRef| e.is_alive() && change.removed.contains(e.file_path());
        let small = entries.len() < ENTRIES_OF_A_FULL_MANIFEST && joined[file.content as usize];
        if !small && !entries.iter().any(gone) {
            kept.push(file.clone());
            continue;
        }
        let target = groups
            .entry((file.content, file.partition_spec_id))
            .or_insert_with(|| Group::empty(file.content, file.partition_spec_id));
        for entry in entries.iter().filter(|e| e.is_alive()) {
            if gone(entry) {
                target.removed.push(Arc::clone(entry));
                removed.push(Arc::clone(entry));
            } else {
                target.existing.push(Arc::clone(entry));
            }
        }
    }
    if removed.len() != change.removed.len() {
        return Err(Error::new(
            ErrorKind::Conflict,
            "a file that the commit removes is no longer in the table",
        ));
    }
    for file in &change.added {
        let content = manifest_content(file);
        let target = groups.entry((content, spec)).or_insert_with(|| Group::empty(content, spec));
        target.added.push(file.clone());
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|g| (g.content as i32, g.spec));
    Ok(ManifestPlan { kept, groups, removed })
}

impl Group {
    fn empty(content: ManifestContentType, spec: i32) -> Self {
        Self { content, spec, existing: vec![], removed: vec![], added: vec![] }
    }
}

fn manifest_content(file: &DataFile) -> ManifestContentType {
    match file.content_type() {
        DataContentType::Data => ManifestContentType::Data,
        _ => ManifestContentType::Deletes,
    }
}

/// Writes a group's manifest into memory, under the location that it will have.
pub(crate) async fn encode_group(
    io: &FileIO,
    schema: &SchemaRef,
    spec: &PartitionSpecRef,
    snapshot: i64,
    group: &Group,
    location: &str,
) -> iceberg::Result<ManifestFile> {
    let output = io.new_output(location)?;
    let builder = ManifestWriterBuilder::new(
        output,
        Some(snapshot),
        Arc::clone(schema),
        PartitionSpec::clone(spec),
    );
    let mut writer = match group.content {
        ManifestContentType::Data => builder.build_v2_data(),
        ManifestContentType::Deletes => builder.build_v2_deletes(),
    };
    for file in &group.added {
        writer.add_file(file.clone(), -1)?;
    }
    for entry in &group.existing {
        writer.add_existing_file(
            entry.data_file().clone(),
            entry.snapshot_id().unwrap_or_default(),
            entry.sequence_number().unwrap_or_default(),
            entry.file_sequence_number,
        )?;
    }
    for entry in &group.removed {
        writer.add_delete_file(
            entry.data_file().clone(),
            entry.sequence_number().unwrap_or_default(),
            entry.file_sequence_number,
        )?;
    }
    writer.write_manifest_file().await
}

/// Writes a manifest list into memory, under the location that it will have.
pub(crate) async fn encode_list(
    io: &FileIO,
    snapshot: i64,
    parent: Option<i64>,
    sequence: i64,
    manifests: Vec<ManifestFile>,
    location: &str,
) -> iceberg::Result<()> {
    let output = io.new_output(location)?.writer().await?;
    let mut list = ManifestListWriter::v2(output, snapshot, parent, sequence);
    list.add_manifests(manifests.into_iter())?;
    list.close().await
}
