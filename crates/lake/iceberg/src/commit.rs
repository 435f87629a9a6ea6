//! The commit: manifests, manifest list, snapshot and metadata file written durably, then one swap in the catalogue.
//!
//! Written on the library's types, because it cannot commit deletes or replacements itself and rebases silently.
//! Deliberately absent: the decision whether to commit, and any retry.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use iceberg::io::FileIO;
use iceberg::spec::{
    FormatVersion, ManifestFile, PartitionSpec, PartitionSpecRef, Schema, Snapshot,
    SnapshotReference, SnapshotRetention, SortOrder, TableMetadata, TableMetadataBuilder,
};
use lakeward_core::{CommitMark, Error, ErrorKind, Result, Slot, TableId};
use lakeward_files::{IndexFolders, Stem, Store};
use serde::Serialize;
use uuid::Uuid;

use crate::avro;
use crate::catalog::{Catalog, Swap};
use crate::manifests::{self, FileChange, Group, ListHeader, encode_group, encode_list};
use crate::metadata::{Contents, LOADING_PROPERTY, Line, ManifestCache, TableHead, path_of};
use crate::schema::{COLUMNS_PROPERTY, Shape};
use crate::summary::summary;

/// One snapshot to commit.
pub(crate) struct Request<'a> {
    /// What it is built on; `None`: the table is made by this commit.
    pub(crate) head: Option<&'a TableHead>,
    pub(crate) line: Line,
    pub(crate) change: &'a FileChange,
    /// `true` when no row changes: compaction.
    pub(crate) replace: bool,
    pub(crate) mark: &'a CommitMark,
    /// The shape that the table takes on, where it changes.
    pub(crate) shape: Option<&'a Shape>,
    /// Shapes that it went through on the way to that one.
    pub(crate) way: &'a [Shape],
    /// The line becomes the visible one.
    pub(crate) promote: bool,
    /// URL of the table's folder, for a table that is made.
    pub(crate) location: &'a str,
}

/// A metadata-only commit.
pub(crate) type Edit<'a> =
    &'a (dyn Fn(TableMetadataBuilder) -> iceberg::Result<TableMetadataBuilder> + Sync);

/// What became of a commit, and the metadata files that it wrote.
pub(crate) struct Attempt {
    pub(crate) outcome: Outcome,
    /// Paths in the store, the table's metadata file first.
    pub(crate) written: Vec<String>,
}

/// What became of it.
pub(crate) enum Outcome {
    /// It stands; the table's new head.
    Committed(TableHead),
    /// The table's head had moved. Nothing was changed, and what was written is gone.
    Lost,
    /// It may stand. What was written stays until the head has moved on.
    Unknown(Error),
    /// It does not stand. What was written is gone.
    Failed(Error),
}

/// Commits to one table.
#[derive(Clone)]
pub(crate) struct Committer {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) table: TableId,
    /// `pipeline/sink`, put into new tables.
    pub(crate) owner: String,
    pub(crate) writer: String,
    pub(crate) metadata_versions: u32,
    /// Where the table's key index may keep files.
    pub(crate) index: IndexFolders,
    /// The format version of new tables, and the least that an older table gets with its next commit.
    pub(crate) format: FormatVersion,
}

/// Table property that names the pipeline and sink that made the table.
pub(crate) const OWNER_PROPERTY: &str = "lakeward.pipeline";

impl Committer {
    /// The format version that the next snapshot on `head` has.
    pub(crate) fn format_of(&self, head: Option<&TableHead>) -> FormatVersion {
        head.map_or(self.format, |head| head.metadata.format_version().max(self.format))
    }

    /// Commits one snapshot.
    pub(crate) async fn snapshot(
        &self,
        request: Request<'_>,
        cache: &mut ManifestCache,
    ) -> Attempt {
        let built = self.build(&request, cache).await;
        self.finish(request.head, built).await
    }

    /// Commits a change of metadata alone.
    pub(crate) async fn edit(&self, head: &TableHead, edit: Edit<'_>) -> Attempt {
        let base = TableMetadataBuilder::new_from_metadata(
            TableMetadata::clone(&head.metadata),
            Some(head.location.clone()),
        );
        let built = edit(base).and_then(TableMetadataBuilder::build).map_err(metadata_bug);
        let built = built.map(|built| Built {
            metadata: built.metadata,
            expired: built.expired_metadata_logs.into_iter().map(|log| log.metadata_file).collect(),
            objects: Vec::new(),
        });
        self.finish(Some(head), built).await
    }

    async fn finish(&self, head: Option<&TableHead>, built: Result<Built>) -> Attempt {
        let mut written = Vec::new();
        let outcome = match built {
            Ok(built) => self.send(head, built, &mut written).await,
            Err(error) => Outcome::Failed(error),
        };
        if matches!(outcome, Outcome::Lost | Outcome::Failed(_)) {
            delete_quietly(&self.store, &written).await;
        }
        Attempt { outcome, written }
    }

    async fn send(
        &self,
        head: Option<&TableHead>,
        built: Built,
        written: &mut Vec<String>,
    ) -> Outcome {
        let version = head.and_then(|h| metadata_version(&h.location)).map_or(0, |v| v + 1);
        let name = format!("metadata/{version:05}-{}.gz.metadata.json", Uuid::new_v4());
        let location = format!("{}/{name}", built.metadata.location());
        let written_all = async {
            let path = path_of(&self.store, &location)?;
            let mut objects = vec![(path, compressed(&ordered(&built.metadata)?)?)];
            objects.extend(built.objects);
            written.extend(objects.iter().map(|(path, _)| path.clone()));
            self.store.create_all(objects).await
        };
        if let Err(error) = written_all.await {
            return Outcome::Failed(error.with("table", &self.table));
        }
        let swap = match head {
            None => self.catalog.create(&self.table, &location).await,
            Some(head) => self.catalog.swap(&self.table, &head.location, &location).await,
        };
        match swap {
            Swap::Done => {
                self.delete_expired(&built.expired).await;
                Outcome::Committed(TableHead { location, metadata: Arc::new(built.metadata) })
            }
            Swap::Lost => Outcome::Lost,
            Swap::Refused(error) => Outcome::Failed(error.with("table", &self.table)),
            Swap::Unknown(error) => Outcome::Unknown(error.with("table", &self.table)),
        }
    }

    /// Metadata files that the table's log has dropped: the head moved past them long ago.
    async fn delete_expired(&self, locations: &[String]) {
        let paths: Vec<String> = locations.iter().filter_map(|l| self.store.path_of(l)).collect();
        delete_quietly(&self.store, &paths).await;
    }

    async fn build(&self, request: &Request<'_>, cache: &mut ManifestCache) -> Result<Built> {
        let (base, expired) = self.base(request)?;
        let parent = request.head.and_then(|head| head.snapshot(request.line));
        let contents = match request.head {
            Some(head) => cache.contents(&self.store, head, parent.as_ref()).await?,
            None => Contents::default(),
        };
        let plan = manifests::plan(&contents, request.change, unpartitioned(&base)?.spec_id())?;
        let id = new_snapshot_id(&base);
        let stem = format!("{}/metadata/{}-{id}", base.location(), self.stem(request));
        let mut objects = Vec::with_capacity(plan.groups.len() + 1);
        let mut manifests = Vec::with_capacity(plan.groups.len() + plan.kept.len());
        for (number, group) in plan.groups.iter().enumerate() {
            let location = format!("{stem}-m{number}.avro");
            manifests.push(self.encode_group(&base, id, group, location, &mut objects).await?);
        }
        manifests.extend(plan.kept);
        let list = format!("{stem}-list.avro");
        let header = ListHeader {
            snapshot: id,
            parent: parent.as_ref().map(|p| p.snapshot_id()),
            sequence: base.next_sequence_number(),
            first_row: (base.format_version() >= FormatVersion::V3).then(|| base.next_row_id()),
        };
        let next_row = self.encode_list(header, manifests, &list, &mut objects).await?;
        let summary = summary(request, &plan.removed, parent.as_ref().map(|p| p.summary()))?;
        let snapshot = Snapshot::builder()
            .with_snapshot_id(id)
            .with_parent_snapshot_id(header.parent)
            .with_sequence_number(header.sequence)
            .with_timestamp_ms(now_ms().max(base.last_updated_ms()))
            .with_manifest_list(list)
            .with_summary(summary)
            .with_schema_id(base.current_schema_id());
        let snapshot = match (header.first_row, next_row) {
            (Some(first), Some(next)) => snapshot.with_row_range(first, next - first).build(),
            _ => snapshot.build(),
        };
        let built = self.with_snapshot(request, base, snapshot).map_err(metadata_bug)?;
        Ok(Built { metadata: built, expired, objects })
    }

    /// How the names of manifests begin.
    fn stem(&self, request: &Request<'_>) -> String {
        let CommitMark { generation, epoch, .. } = *request.mark;
        if request.replace {
            Stem::after(Some(request.mark), &self.writer, generation).compacted()
        } else {
            Stem { writer: self.writer.clone(), generation, epoch }.staged()
        }
    }

    /// The metadata before the snapshot comes: made new, or with its new shape.
    fn base(&self, request: &Request<'_>) -> Result<(TableMetadata, Vec<String>)> {
        let builder = match request.head {
            None => self.fresh(request.location),
            Some(head) => Ok(TableMetadataBuilder::new_from_metadata(
                TableMetadata::clone(&head.metadata),
                Some(head.location.clone()),
            )),
        };
        let mut builder = builder
            .and_then(|b| b.upgrade_format_version(self.format_of(request.head)))
            .map_err(metadata_bug)?;
        if let Some(shape) = request.shape {
            let columns = HashMap::from([(COLUMNS_PROPERTY.to_owned(), shape.property()?)]);
            // Files of the epoch may have fields that came and went within it: nobody may give out their ids again, and the highest
            // one given out is known by the schemas.
            for passed in request.way {
                builder = builder.add_schema(passed.schema()?).map_err(metadata_bug)?;
            }
            builder = builder
                .add_current_schema(shape.schema()?)
                .and_then(|b| b.set_properties(columns))
                .and_then(|b| if request.head.is_none() { b.remove_schemas(&[0]) } else { Ok(b) })
                .map_err(metadata_bug)?;
        }
        let built = builder.build().map_err(metadata_bug)?;
        let expired =
            built.expired_metadata_logs.into_iter().map(|log| log.metadata_file).collect();
        Ok((built.metadata, expired))
    }

    /// A table without columns: the builder would give the first schema other field ids than the files have.
    fn fresh(&self, location: &str) -> iceberg::Result<TableMetadataBuilder> {
        let properties = [
            ("write.metadata.previous-versions-max", self.metadata_versions.to_string()),
            ("write.metadata.delete-after-commit.enabled", "true".into()),
            ("write.parquet.compression-codec", "zstd".into()),
            ("write.delete.mode", "merge-on-read".into()),
            ("write.update.mode", "merge-on-read".into()),
            ("write.merge.mode", "merge-on-read".into()),
            (LOADING_PROPERTY, "true".into()),
            (OWNER_PROPERTY, self.owner.clone()),
        ];
        TableMetadataBuilder::new(
            Schema::builder().build()?,
            PartitionSpec::unpartition_spec(),
            SortOrder::unsorted_order(),
            location.to_owned(),
            self.format,
            properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        )
    }

    fn with_snapshot(
        &self,
        request: &Request<'_>,
        base: TableMetadata,
        snapshot: Snapshot,
    ) -> iceberg::Result<TableMetadata> {
        let line = if request.promote { Line(Slot::Visible) } else { request.line };
        let (id, sequence) = (snapshot.snapshot_id(), snapshot.sequence_number());
        let mark = serde_json::to_string(request.mark)?;
        let mut properties = HashMap::from([
            (line.mark_property(), mark),
            (line.snapshot_property(), id.to_string()),
            (line.sequence_property(), sequence.to_string()),
        ]);
        if line == Line(Slot::Visible) {
            properties.insert(LOADING_PROPERTY.into(), request.mark.load.is_some().to_string());
        }
        let mut builder = TableMetadataBuilder::new_from_metadata(base, None)
            .add_snapshot(snapshot)?
            .set_ref(
                &line.reference(),
                SnapshotReference::new(id, SnapshotRetention::branch(None, None, None)),
            )?
            .set_properties(properties)?;
        if request.promote {
            builder = builder
                .remove_ref(&request.line.reference())
                .remove_properties(&request.line.properties())?;
        }
        Ok(builder.build()?.metadata)
    }

    async fn encode_group(
        &self,
        base: &TableMetadata,
        snapshot: i64,
        group: &Group,
        location: String,
        objects: &mut Vec<Object>,
    ) -> Result<ManifestFile> {
        let spec = base.partition_spec_by_id(group.spec).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "a manifest names a partition spec that the table lacks")
                .with("table", &self.table)
        })?;
        let io = FileIO::new_with_memory();
        let (version, schema) = (base.format_version(), base.current_schema());
        let file = encode_group(&io, version, schema, &spec, snapshot, group, &location).await;
        let mut file = file.map_err(metadata_bug)?;
        let object = self.encoded(&io, &location).await?;
        file.manifest_length = object.1.len() as i64;
        objects.push(object);
        Ok(file)
    }

    async fn encode_list(
        &self,
        header: ListHeader,
        manifests: Vec<ManifestFile>,
        location: &str,
        objects: &mut Vec<Object>,
    ) -> Result<Option<u64>> {
        let io = FileIO::new_with_memory();
        let next_row = encode_list(&io, header, manifests, location).await.map_err(metadata_bug)?;
        objects.push(self.encoded(&io, location).await?);
        Ok(next_row)
    }

    /// What the library wrote into memory, as an object for the store.
    async fn encoded(&self, io: &FileIO, location: &str) -> Result<Object> {
        let read = async { io.new_input(location)?.read().await };
        let content = read.await.map_err(metadata_bug)?;
        Ok((path_of(&self.store, location)?, avro::deflated(content)))
    }
}

/// A path in the store, and what comes there.
type Object = (String, Bytes);

struct Built {
    metadata: TableMetadata,
    /// Locations of metadata files that have left the log.
    expired: Vec<String>,
    /// Manifests and their list.
    objects: Vec<Object>,
}

/// The spec under which new files are written.
pub(crate) fn unpartitioned(metadata: &TableMetadata) -> Result<PartitionSpecRef> {
    metadata.partition_specs_iter().find(|s| s.is_unpartitioned()).cloned().ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the table has lost its unpartitioned spec")
            .remedied("`lakeward resync` the table under another name")
    })
}

/// The id of the spec under which new files are written.
pub(crate) fn unpartitioned_id(metadata: &TableMetadata) -> Result<i32> {
    unpartitioned(metadata).map(|spec| spec.spec_id())
}

/// The number at the head of a metadata file's name; it grows by one with each commit.
pub(crate) fn metadata_version(location: &str) -> Option<u64> {
    let name = location.rsplit('/').next()?.strip_suffix(".metadata.json")?;
    name.split('-').next()?.parse().ok()
}

fn new_snapshot_id(metadata: &TableMetadata) -> i64 {
    loop {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let id = ((high ^ low) & (i64::MAX as u64)) as i64;
        if id != 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The metadata with its keys, and its snapshots, in an order: the library gives both in none, and what is alike compresses
/// well only where it stands alike.
fn ordered(metadata: &TableMetadata) -> Result<serde_json::Value> {
    let mut json = serde_json::to_value(metadata).map_err(|error| {
        Error::new(ErrorKind::Bug, "could not write the table's metadata").caused_by(error)
    })?;
    if let Some(snapshots) = json.get_mut("snapshots").and_then(|list| list.as_array_mut()) {
        let sequence = |snapshot: &serde_json::Value| snapshot["sequence-number"].as_i64();
        snapshots.sort_by_key(sequence);
    }
    Ok(json)
}

/// JSON in the fewest bytes: in a metadata file stands every version kept and every point that is named, in a list of files
/// one long path after the other.
pub(crate) fn compressed(content: &impl Serialize) -> Result<Bytes> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Bug, "could not write the table's metadata").caused_by(error)
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut encoder, content).map_err(|e| failed(e.into()))?;
    encoder.finish().map(Bytes::from).map_err(|e| failed(e.into()))
}

/// Deletes what nothing names. What cannot be deleted costs space, never truth.
pub(crate) async fn delete_quietly(store: &Store, paths: &[String]) {
    if paths.is_empty() {
        return;
    }
    if let Err(error) = store.delete_each(paths.to_vec(), || ()).await {
        tracing::warn!(%error, "could not delete a file that nothing names");
    }
}

fn metadata_bug(error: iceberg::Error) -> Error {
    Error::new(ErrorKind::Bug, "the table's metadata could not be built").caused_by(error)
}
