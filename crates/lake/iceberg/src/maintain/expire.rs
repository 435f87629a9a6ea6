//! Snapshot expiry: old snapshots leave the metadata in one commit, then the files that only they named are deleted.
//!
//! The list of those files is written beside the metadata before the commit, so that a crash in between loses nothing:
//! the next handle finishes it. A file that a kept snapshot or a branch reaches is never on a list.
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use iceberg::spec::{SnapshotRef, TableMetadata};
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{
    Error, ErrorKind, Result, Slot, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy,
};
use lakeward_files::Store;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ATTEMPTS;
use crate::commit::{Outcome, delete_quietly, metadata_version};
use crate::metadata::{Line, MARK_PROPERTY, ManifestCache, TableHead};
use crate::table::IcebergTable;

/// Unforced, expiry waits until this many snapshots may go: each run rewrites the metadata and walks all manifests.
const SNAPSHOTS_WORTH_EXPIRING: usize = 32;

/// End of the names of lists of files to delete.
const LIST_SUFFIX: &str = ".expired.json";

/// A planned expiry.
pub(super) struct Work {
    head: TableHead,
    store: Store,
    table: String,
    snapshots: Vec<i64>,
}

/// A finished expiry that waits for its commit.
pub(super) struct Done {
    list: List,
}

/// What goes, as it stands on disk between the commit and the last delete.
#[derive(Serialize, Deserialize)]
struct List {
    snapshots: Vec<i64>,
    /// Version of the metadata on which it was planned.
    planned_on: u64,
    /// Paths in the store.
    files: Vec<String>,
}

/// Which snapshots may go now, if it is worth it.
pub(super) fn plan(table: &IcebergTable, policy: &UpkeepPolicy) -> Result<Option<Work>> {
    let Some(head) = &table.head else { return Ok(None) };
    if table.line != Line(Slot::Visible) || (policy.force_compact && !policy.force_expire) {
        return Ok(None);
    }
    let kept = kept(&head.metadata, policy, now());
    let ids = head.metadata.snapshots().map(|s| s.snapshot_id());
    let mut snapshots: Vec<i64> = ids.filter(|id| !kept.contains(id)).collect();
    let enough = if policy.force_expire { 1 } else { SNAPSHOTS_WORTH_EXPIRING };
    if snapshots.len() < enough {
        return Ok(None);
    }
    // Asked last: it is the costly question.
    let referenced = referenced(&head.metadata);
    snapshots.retain(|id| !referenced.contains(id));
    if snapshots.is_empty() {
        return Ok(None);
    }
    Ok(Some(Work {
        head: head.clone(),
        store: table.committer.store.clone(),
        table: table.committer.table.to_string(),
        snapshots,
    }))
}

/// Snapshots that must stay whether referenced or not: named by the policy or by a mark, current, or young.
fn kept(metadata: &TableMetadata, policy: &UpkeepPolicy, now: Duration) -> HashSet<i64> {
    let oldest_ms =
        i64::try_from(now.saturating_sub(policy.retain).as_millis()).unwrap_or(i64::MAX);
    let young =
        metadata.snapshots().filter(|s| s.timestamp_ms() > oldest_ms).map(|s| s.snapshot_id());
    let named = policy.keep.iter().filter_map(|version| version.0.parse().ok());
    let marks = metadata.properties().iter().filter(|(key, _)| is_mark_snapshot(key));
    let marked = marks.filter_map(|(_, id)| id.parse().ok());
    young.chain(named).chain(marked).chain(metadata.current_snapshot_id()).collect()
}

fn is_mark_snapshot(property: &str) -> bool {
    property.starts_with(MARK_PROPERTY) && property.ends_with(".snapshot")
}

/// Snapshots that branches and tags name. The library lists references in its JSON form only.
fn referenced(metadata: &TableMetadata) -> Vec<i64> {
    let json = serde_json::to_value(metadata).unwrap_or_default();
    let references = json.get("refs").and_then(|refs| refs.as_object());
    let ids = references.into_iter().flatten().filter_map(|(_, r)| r.get("snapshot-id")?.as_i64());
    ids.chain(metadata.current_snapshot_id()).collect()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[async_trait]
impl Upkeep for Work {
    fn describe(&self) -> String {
        format!("expire {} snapshots of {}", self.snapshots.len(), self.table)
    }

    async fn run(self: Box<Self>) -> Result<UpkeepDone> {
        let going: HashSet<i64> = self.snapshots.iter().copied().collect();
        let (going, mut staying): (Vec<&SnapshotRef>, Vec<&SnapshotRef>) =
            self.head.metadata.snapshots().partition(|s| going.contains(&s.snapshot_id()));
        only_telling(&mut staying, &going);
        let mut cache = ManifestCache::default();
        let kept = cache.reached(&self.store, &self.head, staying.into_iter()).await?;
        let lost = cache.reached(&self.store, &self.head, going.into_iter()).await?;
        let files =
            lost.difference(&kept).filter_map(|location| self.store.path_of(location)).collect();
        let planned_on = metadata_version(&self.head.location).unwrap_or(0);
        let list = List { snapshots: self.snapshots, planned_on, files };
        Ok(super::finished(super::Done::Expiry(Done { list })))
    }
}

/// Leaves out kept snapshots that reach nothing of the going ones that another kept one does not reach: a snapshot of ours
/// has its parent's files, less some, and files that came with it. Other writers may bring old files back: theirs all stay.
fn only_telling(staying: &mut Vec<&SnapshotRef>, going: &[&SnapshotRef]) {
    let newest = going.iter().map(|s| s.sequence_number()).max().unwrap_or(0);
    let kept: HashSet<i64> = staying.iter().map(|s| s.snapshot_id()).collect();
    staying.retain(|s| {
        let ours = s.summary().additional_properties.contains_key(MARK_PROPERTY);
        let on_kept = s.parent_snapshot_id().is_some_and(|parent| kept.contains(&parent));
        s.sequence_number() < newest || !on_kept || !ours
    });
}

/// Writes the list, commits, deletes.
pub(super) async fn commit(table: &mut IcebergTable, done: Done) -> Result<UpkeepOutcome> {
    let store = table.committer.store.clone();
    let list_path = format!(
        "{}/metadata/{}-{}{LIST_SUFFIX}",
        table.folder,
        table.committer.writer,
        Uuid::new_v4()
    );
    let json = serde_json::to_vec(&done.list).map_err(|error| {
        Error::new(ErrorKind::Bug, "could not write a list of files").caused_by(error)
    })?;
    store.create(&list_path, json.into()).await?;
    for _ in 0..ATTEMPTS {
        table.refresh().await?;
        let Some(head) = table.head.clone() else { break };
        let named = referenced(&head.metadata);
        if done.list.snapshots.iter().any(|id| named.contains(id)) {
            break;
        }
        let attempt = table
            .committer
            .edit(&head, &|builder| Ok(builder.remove_snapshots(&done.list.snapshots)))
            .await;
        match attempt.outcome {
            Outcome::Committed(head) => {
                kill::reached(KillPoint::ExpireCommit);
                table.settle(&head).await;
                table.head = Some(head);
                let deleted = delete(&store, &done.list, &list_path).await?;
                sweep_metadata(table).await?;
                let told = format!(
                    "expired {} snapshots, deleted {deleted} files",
                    done.list.snapshots.len()
                );
                return Ok(UpkeepOutcome::Done(told));
            }
            Outcome::Lost => {}
            Outcome::Failed(error) => {
                store.delete(&list_path).await?;
                return Err(error);
            }
            Outcome::Unknown(error) => return Err(error),
        }
    }
    store.delete(&list_path).await?;
    Ok(UpkeepOutcome::Dropped("the table changed meanwhile".into()))
}

async fn delete(store: &Store, list: &List, list_path: &str) -> Result<usize> {
    for file in &list.files {
        store.delete(file).await?;
        kill::reached(KillPoint::ExpireFileDelete);
    }
    store.delete(list_path).await?;
    Ok(list.files.len())
}

/// Finishes what a crash interrupted, once per handle: a list whose snapshots are all gone was committed, one whose
/// snapshots are still there was not.
pub(super) async fn finish_interrupted(table: &mut IcebergTable) -> Result<()> {
    if std::mem::replace(&mut table.swept, true) {
        return Ok(());
    }
    let Some(head) = table.head.clone() else { return Ok(()) };
    let store = table.committer.store.clone();
    let paths = store.list(&format!("{}/metadata", table.folder)).await?;
    for path in paths.iter().filter(|path| path.ends_with(LIST_SUFFIX)) {
        let Some(bytes) = store.get(path).await? else { continue };
        let list: List = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "a list of expired files cannot be read")
                .with("file", path)
                .remedied("delete that file; the files that it names stay on disk")
                .caused_by(error)
        })?;
        let there =
            list.snapshots.iter().filter(|id| head.metadata.snapshot_by_id(**id).is_some()).count();
        if there == 0 {
            delete(&store, &list, path).await?;
        } else if metadata_version(&head.location).is_some_and(|version| version > list.planned_on)
        {
            store.delete(path).await?;
        }
    }
    sweep_metadata(table).await
}

/// Deletes metadata files that lost their swap or left the log: of a version that the head has reached, and not named.
async fn sweep_metadata(table: &IcebergTable) -> Result<()> {
    let Some(head) = &table.head else { return Ok(()) };
    let Some(current) = metadata_version(&head.location) else { return Ok(()) };
    let store = &table.committer.store;
    let log = head.metadata.metadata_log().iter().map(|log| log.metadata_file.as_str());
    let named: HashSet<String> = log
        .chain([head.location.as_str()])
        .filter_map(|location| store.path_of(location))
        .collect();
    let paths = store.list(&format!("{}/metadata", table.folder)).await?;
    let past = |path: &String| metadata_version(path).is_some_and(|version| version <= current);
    let lost: Vec<String> = paths.into_iter().filter(|p| past(p) && !named.contains(p)).collect();
    delete_quietly(store, &lost).await;
    Ok(())
}
