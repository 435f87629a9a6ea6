//! Snapshot expiry: old snapshots leave the metadata in one commit, then the files that only they named are deleted.
//!
//! The list of those files is written beside the metadata before the commit, so that a crash in between loses nothing:
//! the next handle finishes it. A file that a kept snapshot or a branch reaches is never on a list.
//!
//! Of young snapshots the newest stay, and one for each older part of the retention. Rows and deletes that only the others name
//! stay on disk until the retention is over, for readers who are still at it; a reader has read its manifests by then.
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use flate2::bufread::MultiGzDecoder;
use iceberg::spec::{SnapshotRef, TableMetadata};
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{
    Error, ErrorKind, Result, Slot, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy,
};
use lakeward_files::Store;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ATTEMPTS;
use crate::commit::{Outcome, compressed, delete_quietly, metadata_version};
use crate::metadata::{Line, MARK_PROPERTY, ManifestCache, TableHead};
use crate::table::IcebergTable;

/// Unforced, expiry waits until this many snapshots may go: each run rewrites the metadata and walks all manifests.
const SNAPSHOTS_WORTH_EXPIRING: usize = 16;

/// One snapshot stays for each of so many parts of the retention; of the last half part all stay, time enough for a reader to
/// find its manifests. More make each commit's metadata larger.
const PARTS_OF_RETENTION: u32 = 20;

/// At most so many of the last half part stay.
const NEWEST_KEPT: usize = 100;

/// End of the names of lists of files to delete.
const LIST_SUFFIX: &str = ".expired.json.gz";

/// A planned expiry.
pub(super) struct Work {
    head: TableHead,
    store: Store,
    table: String,
    snapshots: Vec<i64>,
    retain: Duration,
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
    /// Paths of files that go later, when the readers of young snapshots are done.
    #[serde(default)]
    later: Vec<String>,
    /// When, in milliseconds since 1970-01-01.
    #[serde(default)]
    later_from_ms: u64,
}

/// A list whose later files wait.
pub(crate) struct Waiting {
    path: String,
    from_ms: u64,
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
        retain: policy.retain,
    }))
}

/// Snapshots that must stay whether referenced or not: named by the policy or by a mark, current, or young.
fn kept(metadata: &TableMetadata, policy: &UpkeepPolicy, now: Duration) -> HashSet<i64> {
    let oldest_ms = began_ms(now, policy.retain);
    let young = metadata.snapshots().filter(|s| s.timestamp_ms() > oldest_ms);
    let mut young: Vec<&SnapshotRef> = young.collect();
    young.sort_unstable_by_key(|s| std::cmp::Reverse(s.sequence_number()));
    let young: Vec<(i64, i64)> =
        young.iter().map(|s| (s.snapshot_id(), s.timestamp_ms())).collect();
    let young = thinned(&young, policy.retain);
    let named = policy.keep.iter().filter_map(|version| version.0.parse().ok());
    let marks = metadata.properties().iter().filter(|(key, _)| is_mark_snapshot(key));
    let marked = marks.filter_map(|(_, id)| id.parse().ok());
    young.into_iter().chain(named).chain(marked).chain(metadata.current_snapshot_id()).collect()
}

/// When a retention that ends now began.
fn began_ms(now: Duration, retain: Duration) -> i64 {
    i64::try_from(now.saturating_sub(retain).as_millis()).unwrap_or(i64::MAX)
}

/// Which of the young snapshots stay: ids and times, the newest first.
fn thinned(young: &[(i64, i64)], retain: Duration) -> Vec<i64> {
    let part = i64::try_from((retain / PARTS_OF_RETENTION).as_millis()).unwrap_or(i64::MAX).max(1);
    let last = young.first().map_or(0, |(_, at)| at - part / 2);
    let newest = young.partition_point(|(_, at)| *at > last).min(NEWEST_KEPT);
    let (newest, older) = young.split_at(newest);
    let mut parts = HashSet::new();
    let of_parts = older.iter().filter(|(_, at)| parts.insert(at.div_euclid(part)));
    newest.iter().chain(of_parts).map(|(id, _)| *id).collect()
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
        let lost = cache.reached(&self.store, &self.head, going.iter().copied()).await?;
        let began = began_ms(now(), self.retain);
        let young = going.iter().copied().filter(|s| s.timestamp_ms() > began);
        let read = cache.reached(&self.store, &self.head, young).await?;
        let metadata = format!("{}/metadata/", self.head.metadata.location());
        let waits =
            |location: &&String| read.contains(*location) && !location.starts_with(&metadata);
        let (later, files): (Vec<&String>, Vec<&String>) = lost.difference(&kept).partition(waits);
        let paths = |locations: Vec<&String>| {
            locations.into_iter().filter_map(|location| self.store.path_of(location)).collect()
        };
        let list = List {
            files: paths(files),
            later: paths(later),
            later_from_ms: u64::try_from((now() + self.retain).as_millis()).unwrap_or(u64::MAX),
            planned_on: metadata_version(&self.head.location).unwrap_or(0),
            snapshots: self.snapshots,
        };
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
    store.create(&list_path, compressed(&done.list)?).await?;
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
                let snapshots = done.list.snapshots.len();
                let deleted = delete(table, done.list, list_path).await?;
                sweep_metadata(table).await?;
                let told = format!("expired {snapshots} snapshots, deleted {deleted} files");
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

/// Deletes what a committed list names and what nobody reads any more; the rest waits.
async fn delete(table: &mut IcebergTable, list: List, path: String) -> Result<usize> {
    let store = table.committer.store.clone();
    let each = || kill::reached(KillPoint::ExpireFileDelete);
    let mut deleted = list.files.len();
    store.delete_each(list.files, each).await?;
    if Duration::from_millis(list.later_from_ms) > now() && !list.later.is_empty() {
        table.waiting.push(Waiting { path, from_ms: list.later_from_ms });
        return Ok(deleted);
    }
    let later: Vec<String> =
        list.later.into_iter().filter(|file| !table.files.contains_key(file)).collect();
    deleted += later.len();
    store.delete_each(later, each).await?;
    store.delete(&path).await?;
    Ok(deleted)
}

/// Deletes the later files of lists whose time has come.
pub(super) async fn delete_waiting(table: &mut IcebergTable) -> Result<()> {
    let is_due = |waiting: &Waiting| Duration::from_millis(waiting.from_ms) <= now();
    let (due, still) = std::mem::take(&mut table.waiting).into_iter().partition(is_due);
    table.waiting = still;
    let due: Vec<Waiting> = due;
    for waiting in due {
        let store = table.committer.store.clone();
        if let Some(list) = read_list(&store, &waiting.path).await? {
            delete(table, list, waiting.path).await?;
        }
    }
    Ok(())
}

async fn read_list(store: &Store, path: &str) -> Result<Option<List>> {
    let Some(bytes) = store.get(path).await? else { return Ok(None) };
    serde_json::from_reader(MultiGzDecoder::new(&bytes[..])).map(Some).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "a list of expired files cannot be read")
            .with("file", path)
            .remedied("delete that file; the files that it names stay on disk")
            .caused_by(error)
    })
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
        let Some(list) = read_list(&store, path).await? else { continue };
        let there =
            list.snapshots.iter().filter(|id| head.metadata.snapshot_by_id(**id).is_some()).count();
        if there == 0 {
            delete(table, list, path.clone()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_young_snapshots_the_newest_stay_and_one_for_each_part() {
        let retain = Duration::from_secs(15 * 60);
        let every = |ms: i64| (0..800).map(|n| (n, 1_000_000_000 - n * ms)).collect::<Vec<_>>();
        let stay = thinned(&every(1000), retain);
        assert_eq!(stay[..22], (0..22).collect::<Vec<_>>());
        let parts = &stay[23..];
        assert!((16..=18).contains(&parts.len()), "{parts:?}");
        assert!(parts.windows(2).skip(1).all(|two| two[1] - two[0] == 45), "{parts:?}");
        let stay = thinned(&every(10), retain);
        assert_eq!(stay[..100], (0..100).collect::<Vec<_>>());
        assert!(stay.len() <= 102, "{stay:?}");
        assert_eq!(thinned(&[], Duration::ZERO).len(), 0);
    }
}
