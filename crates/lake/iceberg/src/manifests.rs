//! Which manifests a new snapshot names: kept ones, rewritten ones, a new one for what came.
//!
//! Deliberately absent: storing them. Encoding goes into memory, because the library writes through its own I/O only.
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, FormatVersion, ManifestContentType, ManifestEntry, ManifestEntryRef,
    ManifestFile, ManifestListWriter, ManifestWriterBuilder, PartitionSpec, PartitionSpecRef,
    SchemaRef,
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
    /// Data files and deletes that go. Each must be live.
    pub(crate) removed: Removed,
}

/// A set of live entries. Deletion vectors share their file, so an entry's place in its file counts too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removed(HashMap<String, BTreeSet<Option<i64>>>);

impl Removed {
    pub(crate) fn insert(&mut self, entry: &ManifestEntry) {
        let offset = entry.data_file().content_offset();
        match self.0.get_mut(entry.file_path()) {
            Some(offsets) => offsets.insert(offset),
            None => self.0.entry(entry.file_path().to_owned()).or_default().insert(offset),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, entry: &ManifestEntry) -> bool {
        let offset = entry.data_file().content_offset();
        self.0.get(entry.file_path()).is_some_and(|offsets| offsets.contains(&offset))
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
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
        let gone = |e: &ManifestEntryRef| e.is_alive() && change.removed.contains(e);
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
    version: FormatVersion,
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
    let mut writer = match (group.content, version) {
        (ManifestContentType::Data, FormatVersion::V3) => builder.build_v3_data(),
        (ManifestContentType::Deletes, FormatVersion::V3) => builder.build_v3_deletes(),
        (ManifestContentType::Data, _) => builder.build_v2_data(),
        (ManifestContentType::Deletes, _) => builder.build_v2_deletes(),
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

/// What a manifest list says of its snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListHeader {
    pub(crate) snapshot: i64,
    pub(crate) parent: Option<i64>,
    pub(crate) sequence: i64,
    /// The first row id to give out; `None` before version 3.
    pub(crate) first_row: Option<u64>,
}

/// Writes a manifest list into memory, under the location that it will have. Answers the first row id that it did not
/// give out.
pub(crate) async fn encode_list(
    io: &FileIO,
    header: ListHeader,
    manifests: Vec<ManifestFile>,
    location: &str,
) -> iceberg::Result<Option<u64>> {
    let output = io.new_output(location)?.writer().await?;
    let ListHeader { snapshot, parent, sequence, first_row } = header;
    let mut list = match first_row {
        None => ManifestListWriter::v2(output, snapshot, parent, sequence),
        Some(_) => ManifestListWriter::v3(output, snapshot, parent, sequence, first_row),
    };
    list.add_manifests(manifests.into_iter())?;
    let next_row = list.next_row_id();
    list.close().await?;
    Ok(next_row)
}
