//! A table as its metadata files tell it: head, lines, marks, manifests and live files. Reads; never writes.
//!
//! A *line* is a reference of the table that one handle writes: `main`, or the branch of an invisible copy.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, FormatVersion, ManifestContentType, ManifestEntryRef, ManifestFile,
    ManifestList, SnapshotRef, TableMetadata,
};
use lakeward_core::{CommitMark, Error, ErrorKind, Result, Slot, TableId};
use lakeward_files::Store;

use crate::catalog::Catalog;
use crate::lineage;

/// Table property that is `true` while the table's initial load runs.
pub(crate) const LOADING_PROPERTY: &str = "lakeward.loading";
/// Key of the mark in a snapshot's summary, and of the visible line's mark among the table's properties.
pub(crate) const MARK_PROPERTY: &str = "lakeward.mark";
/// Field id of the path column of position deletes, fixed by the format.
pub(crate) const DELETE_PATH_FIELD: i32 = 2_147_483_546;
/// Manifests are read this many at a time: enough to hide a disk's latency, few enough to hold in memory.
const MANIFESTS_AT_ONCE: usize = 8;

/// The table as one metadata file describes it.
#[derive(Debug, Clone)]
pub(crate) struct TableHead {
    pub(crate) location: String,
    pub(crate) metadata: Arc<TableMetadata>,
}

/// Which reference a handle writes, and where its mark stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line(pub(crate) Slot);

/// The live part of one snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    pub(crate) manifests: Vec<Loaded>,
}

/// A manifest and its entries, with inherited values filled in.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) file: ManifestFile,
    pub(crate) entries: Arc<Vec<ManifestEntryRef>>,
}

/// Entries of manifests read before, by location and by the first row id that a list gave the manifest: a manifest never
/// changes, but what its entries inherit does when a table becomes one of version 3.
#[derive(Debug, Default)]
pub(crate) struct ManifestCache(HashMap<(String, Option<u64>), Arc<Vec<ManifestEntryRef>>>);

/// A live data file and the delete files that may touch it.
#[derive(Debug, Clone)]
pub(crate) struct LiveFile {
    pub(crate) entry: ManifestEntryRef,
    pub(crate) deletes: Vec<ManifestEntryRef>,
}

impl TableHead {
    /// The table's current head; `None` when it does not exist.
    pub(crate) async fn load(
        store: &Store,
        catalog: &Catalog,
        table: &TableId,
    ) -> Result<Option<Self>> {
        match catalog.pointer(table).await? {
            Some(location) => Self::at(store, location).await.map(Some),
            None => Ok(None),
        }
    }

    /// The head that a metadata file describes.
    pub(crate) async fn at(store: &Store, location: String) -> Result<Self> {
        let bytes = fetch(store, &location).await?;
        let io = in_memory(&location, bytes).await?;
        let metadata = TableMetadata::read_from(&io, &location).await.map_err(|error| {
            corrupt("the table's metadata file cannot be read", &location, error)
        })?;
        if metadata.format_version() < FormatVersion::V2 {
            return Err(Error::new(ErrorKind::Unsupported, "the table is of format version 1")
                .with("metadata", location)
                .remedied("`lakeward resync` it under another name, or drop the table"));
        }
        Ok(Self { location, metadata: Arc::new(metadata) })
    }

    /// The line's newest snapshot; `None` before its first commit.
    pub(crate) fn snapshot(&self, line: Line) -> Option<SnapshotRef> {
        self.metadata.snapshot_for_ref(&line.reference()).cloned()
    }

    /// The line's mark.
    ///
    /// # Errors
    /// `Corrupt` when the mark's snapshot is not in the history of the line's newest one: someone rolled the table back.
    pub(crate) fn mark(&self, line: Line) -> Result<Option<CommitMark>> {
        let properties = self.metadata.properties();
        let Some(text) = properties.get(&line.mark_property()) else { return Ok(None) };
        let mark: CommitMark = serde_json::from_str(text)
            .map_err(|error| corrupt("the table's mark cannot be read", &self.location, error))?;
        let number =
            |property: String| properties.get(&property).and_then(|text| text.parse().ok());
        let (snapshot, sequence) =
            (number(line.snapshot_property()), number(line.sequence_property()));
        match (snapshot, sequence) {
            (Some(snapshot), Some(sequence)) if self.follows(line, snapshot, sequence) => {
                Ok(Some(mark))
            }
            _ => Err(Error::new(
                ErrorKind::Corrupt,
                "someone rolled the table back behind its mark",
            )
            .with("table", &mark.table)
            .with("epoch", mark.epoch)
            .remedied(format!(
                "set the table's current snapshot back to {}, or `lakeward resync` the table",
                snapshot.unwrap_or_default()
            ))),
        }
    }

    /// The marks of all invisible copies.
    ///
    /// # Errors
    /// As [`mark`](Self::mark).
    pub(crate) fn copy_marks(&self) -> Result<Vec<CommitMark>> {
        let prefix = format!("{MARK_PROPERTY}.copy-");
        let names = self.metadata.properties().keys();
        let generations = names.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok());
        let marks = generations.map(|generation| self.mark(Line(Slot::Copy(generation))));
        marks.filter_map(Result::transpose).collect()
    }

    /// Whether `snapshot` is the line's newest or an ancestor of it. Ancestors may have been expired: then the sequence
    /// number, which only grows along a line, decides.
    fn follows(&self, line: Line, snapshot: i64, sequence: i64) -> bool {
        let mut at = self.snapshot(line);
        while let Some(current) = at {
            if current.snapshot_id() == snapshot {
                return true;
            }
            if current.sequence_number() <= sequence {
                return false;
            }
            match current.parent_snapshot_id() {
                None => return false,
                Some(parent) => match self.metadata.snapshot_by_id(parent) {
                    Some(parent) => at = Some(Arc::clone(parent)),
                    None => return self.metadata.snapshot_by_id(snapshot).is_none(),
                },
            }
        }
        false
    }

    /// Whether a swap to this head left everything that the line's next commit builds on as it was.
    pub(crate) fn same_line(&self, other: &Self, line: Line) -> bool {
        let of = |head: &Self| head.snapshot(line).map(|s| s.snapshot_id());
        let mark = |head: &Self| head.metadata.properties().get(&line.mark_property()).cloned();
        let columns =
            |head: &Self| head.metadata.properties().get(crate::schema::COLUMNS_PROPERTY).cloned();
        self.metadata.uuid() == other.metadata.uuid()
            && of(self) == of(other)
            && mark(self) == mark(other)
            && columns(self) == columns(other)
            && self.metadata.current_schema_id() == other.metadata.current_schema_id()
    }
}

impl Line {
    /// The reference's name.
    pub(crate) fn reference(self) -> String {
        match self.0 {
            Slot::Visible => "main".into(),
            Slot::Copy(generation) => format!("lakeward-copy-{generation}"),
        }
    }

    /// The property that holds the line's mark.
    pub(crate) fn mark_property(self) -> String {
        match self.0 {
            Slot::Visible => MARK_PROPERTY.into(),
            Slot::Copy(generation) => format!("{MARK_PROPERTY}.copy-{generation}"),
        }
    }

    /// The property that names the mark's snapshot.
    pub(crate) fn snapshot_property(self) -> String {
        format!("{}.snapshot", self.mark_property())
    }

    /// The property that holds the sequence number of the mark's snapshot.
    pub(crate) fn sequence_property(self) -> String {
        format!("{}.sequence", self.mark_property())
    }

    /// All properties of the line.
    pub(crate) fn properties(self) -> [String; 3] {
        [self.mark_property(), self.snapshot_property(), self.sequence_property()]
    }
}

impl ManifestCache {
    /// The contents of a snapshot; an empty one for a line without commits.
    pub(crate) async fn contents(
        &mut self,
        store: &Store,
        head: &TableHead,
        snapshot: Option<&SnapshotRef>,
    ) -> Result<Contents> {
        let Some(snapshot) = snapshot else { return Ok(Contents::default()) };
        let files = manifest_list(store, head, snapshot).await?;
        let cached = &self.0;
        let loads = files.into_iter().map(|file| {
            let (known, store) = (cached.get(&cache_key(&file)).cloned(), store.clone());
            async move {
                let entries = match known {
                    Some(entries) => entries,
                    None => load_manifest(&store, &file).await?,
                };
                Ok::<_, Error>(Loaded { file, entries })
            }
        });
        let manifests: Vec<Loaded> =
            stream::iter(loads).buffered(MANIFESTS_AT_ONCE).try_collect().await?;
        for loaded in &manifests {
            self.0.insert(cache_key(&loaded.file), Arc::clone(&loaded.entries));
        }
        Ok(Contents { manifests })
    }

    /// Locations of all files that these snapshots reach: lists, manifests, data and deletes.
    pub(crate) async fn reached(
        &mut self,
        store: &Store,
        head: &TableHead,
        snapshots: impl Iterator<Item = &SnapshotRef> + Send,
    ) -> Result<HashSet<String>> {
        let mut reached = HashSet::new();
        for snapshot in snapshots {
            let contents = self.contents(store, head, Some(snapshot)).await?;
            reached.insert(snapshot.manifest_list().to_owned());
            reached.extend(contents.manifests.iter().map(|m| m.file.manifest_path.clone()));
            reached.extend(contents.live_locations().map(str::to_owned));
        }
        Ok(reached)
    }

    /// Forgets manifests that `contents` does not hold.
    pub(crate) fn retain(&mut self, contents: &Contents) {
        let held: HashSet<&str> =
            contents.manifests.iter().map(|m| m.file.manifest_path.as_str()).collect();
        self.0.retain(|(path, _), _| held.contains(path.as_str()));
    }
}

fn cache_key(file: &ManifestFile) -> (String, Option<u64>) {
    (file.manifest_path.clone(), file.first_row_id)
}

impl Contents {
    /// Entries that are live, of one kind of manifest.
    pub(crate) fn live(
        &self,
        content: ManifestContentType,
    ) -> impl Iterator<Item = &ManifestEntryRef> {
        let of_kind = self.manifests.iter().filter(move |m| m.file.content == content);
        of_kind.flat_map(|m| m.entries.iter()).filter(|e| e.is_alive())
    }

    /// Locations of all files that are live, data and deletes.
    pub(crate) fn live_locations(&self) -> impl Iterator<Item = &str> {
        let entries = self.manifests.iter().flat_map(|m| m.entries.iter());
        entries.filter(|e| e.is_alive()).map(|e| e.file_path())
    }

    /// Live data files by location, each with its delete files.
    ///
    /// # Errors
    /// `Unsupported` when another writer added equality deletes.
    pub(crate) fn data_files(&self) -> Result<HashMap<String, LiveFile>> {
        let data = self.live(ManifestContentType::Data);
        let mut files: HashMap<String, LiveFile> = data
            .map(|e| (e.file_path().to_owned(), LiveFile { entry: Arc::clone(e), deletes: vec![] }))
            .collect();
        for delete in self.live(ManifestContentType::Deletes) {
            if delete.content_type() != DataContentType::PositionDeletes {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "another writer added equality deletes",
                )
                .with("file", delete.file_path())
                .remedied("compact the table with that writer's engine, then run again"));
            }
            match referenced(delete) {
                Some(location) => files.get_mut(&location).into_iter().for_each(|f| f.add(delete)),
                None => files.values_mut().for_each(|f| f.add(delete)),
            }
        }
        Ok(files)
    }
}

impl LiveFile {
    fn add(&mut self, delete: &ManifestEntryRef) {
        if delete.sequence_number() >= self.entry.sequence_number() {
            self.deletes.push(Arc::clone(delete));
        }
    }
}

/// The one data file that a delete file is about; `None` when it may be about several.
pub(crate) fn referenced(delete: &ManifestEntryRef) -> Option<String> {
    let file = delete.data_file();
    if let Some(location) = file.referenced_data_file() {
        return Some(location);
    }
    let bound = |bounds: &HashMap<i32, iceberg::spec::Datum>| match bounds
        .get(&DELETE_PATH_FIELD)?
        .literal()
    {
        iceberg::spec::PrimitiveLiteral::String(text) => Some(text.clone()),
        _ => None,
    };
    let (lower, upper) = (bound(file.lower_bounds())?, bound(file.upper_bounds())?);
    (lower == upper).then_some(lower)
}

/// The manifests that a snapshot names.
pub(crate) async fn manifest_list(
    store: &Store,
    head: &TableHead,
    snapshot: &SnapshotRef,
) -> Result<Vec<ManifestFile>> {
    let location = snapshot.manifest_list();
    let bytes = fetch(store, location).await?;
    let list = ManifestList::parse_with_version(&bytes, head.metadata.format_version())
        .map_err(|error| corrupt("a manifest list cannot be read", location, error))?;
    Ok(list.consume_entries().into_iter().collect())
}

async fn load_manifest(store: &Store, file: &ManifestFile) -> Result<Arc<Vec<ManifestEntryRef>>> {
    let location = &file.manifest_path;
    let bytes = fetch(store, location).await?;
    let io = in_memory(location, bytes).await?;
    let manifest = file
        .load_manifest(&io)
        .await
        .map_err(|error| corrupt("a manifest cannot be read", location, error))?;
    lineage::inherited(file, manifest.into_parts().0).map(Arc::new)
}

/// The store's path of a location that the table names.
///
/// # Errors
/// `Unsupported` when it lies outside the warehouse.
pub(crate) fn path_of(store: &Store, location: &str) -> Result<String> {
    store.path_of(location).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "a file of the table lies outside the warehouse")
            .with("file", location)
            .remedied("open the warehouse by the path under which its tables were written")
    })
}

async fn fetch(store: &Store, location: &str) -> Result<Bytes> {
    store.get(&path_of(store, location)?).await?.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a file that the table names is not there")
            .with("file", location)
    })
}

/// The library reads through its own I/O; ours has read the bytes already.
async fn in_memory(location: &str, bytes: Bytes) -> Result<FileIO> {
    let io = FileIO::new_with_memory();
    let written = match io.new_output(location) {
        Ok(output) => output.write(bytes).await,
        Err(error) => Err(error),
    };
    written.map_err(|error| corrupt("a metadata file cannot be handed on", location, error))?;
    Ok(io)
}

fn corrupt(
    what: &str,
    location: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(ErrorKind::Corrupt, what).with("file", location).caused_by(error)
}
