//! Expiry: old commits and checkpoints leave the log, and files that no kept version names leave the disk.
//!
//! Kept are the versions that the policy names, and all from the one on that was current when the retention began. Nothing is
//! noted for a crash: what is left is found again by looking. A file that no version ever named goes only when its name says that
//! nobody can be about to commit it. Files of other writers that no version named stay.
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{CommitMark, Result, Slot, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy};
use lakeward_files::{Origin, Store};

use crate::action::{Action, Add, Remove};
use crate::checkpoint;
use crate::commit::now_ms;
use crate::content::log_path;
use crate::log::{Listing, Log, copy_of};
use crate::state::{State, in_order};
use crate::table::DeltaTable;
use crate::vectors;

/// Unforced, expiry waits until this many versions may go: each run reads the log and lists the table's folder.
const VERSIONS_WORTH_EXPIRING: usize = 32;

/// A planned expiry.
pub(super) struct Work {
    store: Store,
    log: Log,
    folder: String,
    table: String,
    listing: Listing,
    kept: BTreeSet<u64>,
    /// Versions that may go.
    versions: usize,
    /// The newest of them.
    newest: u64,
    head: u64,
    mark: Option<CommitMark>,
}

/// A finished expiry that waits for its end.
pub(super) struct Done {
    versions: usize,
    newest: u64,
    /// Paths in the store: commits and checkpoints, ascending.
    log_files: Vec<String>,
    /// Paths in the store.
    files: Vec<String>,
}

/// Which versions may go now, if it is worth it.
pub(super) async fn plan(table: &DeltaTable, policy: &UpkeepPolicy) -> Result<Option<Work>> {
    let Some(state) = &table.state else { return Ok(None) };
    if table.slot != Slot::Visible {
        return Ok(None);
    }
    let listing = table.log.list().await?;
    let there: Vec<u64> = listing.commits.keys().copied().collect();
    let young = first_young(&table.log, &there, policy.retain).await?;
    let Some(oldest) = listing.oldest_readable() else { return Ok(None) };
    let mut kept = kept(&there, young, state.version, policy);
    // What a version needs that cannot be read any more, nobody can tell.
    kept.retain(|version| *version >= oldest);
    let versions: Vec<u64> = there.iter().copied().filter(|v| !kept.contains(v)).collect();
    let (enough, since) = match policy.force_expire {
        true => (1, 0),
        false => (VERSIONS_WORTH_EXPIRING, table.expired_to),
    };
    let new = versions.iter().filter(|v| **v >= since).count();
    let Some(newest) = versions.last().filter(|_| new >= enough) else { return Ok(None) };
    Ok(Some(Work {
        store: table.committer.store.clone(),
        log: table.log.clone(),
        folder: table.committer.folder.clone(),
        table: table.committer.table.to_string(),
        newest: *newest,
        versions: versions.len(),
        listing,
        kept,
        head: state.version,
        mark: state.mark()?,
    }))
}

/// How many of these versions were committed before the retention began. Times grow with versions: half of them is asked at a
/// time.
async fn first_young(log: &Log, there: &[u64], retain: Duration) -> Result<usize> {
    let retain = i64::try_from(retain.as_millis()).unwrap_or(i64::MAX);
    let oldest = now_ms().saturating_sub(retain);
    let (mut low, mut high) = (0, there.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match committed_at(log, there[middle]).await? {
            // A commit that tells no time is taken for a young one.
            Some(at) if at <= oldest => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

async fn committed_at(log: &Log, version: u64) -> Result<Option<i64>> {
    let Some(commit) = log.read(version).await? else { return Ok(None) };
    let time = |action: &Action| action.commit_info.as_ref()?["timestamp"].as_i64();
    Ok(commit.actions.iter().find_map(time))
}

/// Versions that stay: young ones and the one before them, which was current when the retention began; those that the policy
/// names; the newest.
fn kept(there: &[u64], young: usize, head: u64, policy: &UpkeepPolicy) -> BTreeSet<u64> {
    let named = policy.keep.iter().filter_map(|version| version.0.parse().ok());
    let recent = there[young.saturating_sub(1).min(there.len())..].iter().copied();
    recent.chain(named).chain([head]).filter(|v| *v <= head).collect()
}

#[async_trait]
impl Upkeep for Work {
    fn describe(&self) -> String {
        format!("expire {} versions of {}", self.versions, self.table)
    }

    async fn run(self: Box<Self>) -> Result<UpkeepDone> {
        let first = self.kept.first().copied().unwrap_or(self.head);
        let start = self.listing.whole_checkpoints().rfind(|(version, _)| *version <= first);
        let mut walk = Walk::new(&self.kept);
        let mut version = 0;
        if let Some((at, parts)) = start {
            let state = checkpoint::read(&self.store, &parts.paths).await?.end(at);
            state.iter().flat_map(|s| s.files.values()).try_for_each(|add| walk.add(add, at))?;
            state.iter().flat_map(|s| s.gone.values()).try_for_each(|gone| walk.gone(gone))?;
            version = at + 1;
        }
        while version <= self.head {
            let commit = self.log.read(version).await?;
            let commit = commit.ok_or_else(|| self.log.missing(version))?;
            walk.commit(version, commit.actions)?;
            version += 1;
        }
        let mut named = walk.end();
        let listed = self.store.list(&self.folder).await?;
        let copies = self.copies(&listed, &mut named).await?;
        let log_files = start.map(|(at, _)| self.listing.below(at)).unwrap_or_default();
        let useless =
            |path: &String| self.is_useless(log_path(&self.folder, path), &named, &copies);
        let files = listed.into_iter().filter(useless).collect();
        let done = Done { versions: self.versions, newest: self.newest, log_files, files };
        Ok(super::finished(super::Done::Expiry(done)))
    }
}

impl Work {
    /// What running copies have is needed. Their marks.
    async fn copies(&self, listed: &[String], named: &mut Named) -> Result<Vec<CommitMark>> {
        let generations: BTreeSet<u32> =
            listed.iter().filter_map(|path| copy_of(log_path(&self.folder, path))).collect();
        let mut marks = Vec::new();
        for generation in generations.into_iter().filter(|g| !self.is_promoted(*g)) {
            let log = Log::new(self.store.clone(), &self.folder, Slot::Copy(generation));
            let Some(copy) = log.load().await? else { continue };
            marks.extend(copy.mark()?);
            for add in copy.files.values() {
                named.needed.extend(objects(add)?);
            }
        }
        Ok(marks)
    }

    /// Whether the copy of this generation is the visible table, or one that came after it.
    fn is_promoted(&self, generation: u32) -> bool {
        self.mark.as_ref().is_some_and(|mark| generation <= mark.generation)
    }

    /// Whether no kept version needs a file, and nobody is about to commit it.
    fn is_useless(&self, name: &str, named: &Named, copies: &[CommitMark]) -> bool {
        if name.starts_with("_delta_log/") || named.needed.contains(name) {
            return false;
        }
        if let Some(generation) = copy_of(name) {
            return self.is_promoted(generation);
        }
        let origin = || Origin::of(name).or_else(|| vectors::origin(name));
        let is_past = |mark| origin().is_some_and(|origin| origin.is_past(mark, copies));
        named.past.contains(name) || self.mark.as_ref().is_some_and(is_past)
    }
}

impl Listing {
    /// The oldest version from which on the log can be followed.
    fn oldest_readable(&self) -> Option<u64> {
        if self.commits.contains_key(&0) {
            return Some(0);
        }
        self.whole_checkpoints().next().map(|(version, _)| version)
    }

    /// Paths of commits and checkpoints below a version, ascending.
    fn below(&self, version: u64) -> Vec<String> {
        let commits = self.commits.range(..version).map(|(v, path)| (*v, path.clone()));
        let checkpoints = self.checkpoints.range(..version);
        let checkpoints =
            checkpoints.flat_map(|(v, c)| c.paths.iter().map(|path| (*v, path.clone())));
        let mut all: Vec<_> = commits.chain(checkpoints).collect();
        all.sort();
        all.into_iter().map(|(_, path)| path).collect()
    }
}

/// Names of the files that a live data file needs: its own, and its vector's.
fn objects(add: &Add) -> Result<Vec<String>> {
    let vector = add.deletion_vector.as_ref().map(vectors::path).transpose()?.flatten();
    Ok(vector.into_iter().chain([add.path.clone()]).collect())
}

/// Follows the log and finds out which files a kept version names.
struct Walk<'a> {
    kept: &'a BTreeSet<u64>,
    /// Files that are live, by path: since when, and what they need.
    live: BTreeMap<String, (u64, Vec<String>)>,
    named: Named,
}

/// What versions name.
#[derive(Default)]
struct Named {
    /// By a kept one.
    needed: HashSet<String>,
    /// By others.
    past: HashSet<String>,
}

impl<'a> Walk<'a> {
    fn new(kept: &'a BTreeSet<u64>) -> Self {
        Self { kept, live: BTreeMap::new(), named: Named::default() }
    }

    fn commit(&mut self, version: u64, actions: Vec<Action>) -> Result<()> {
        for action in in_order(actions) {
            if let Some(remove) = &action.remove {
                self.close(&remove.path, version);
                self.gone(remove)?;
            }
            if let Some(add) = &action.add {
                self.close(&add.path, version);
                self.add(add, version)?;
            }
        }
        Ok(())
    }

    /// Notes what went, whether or not the log still tells when it came.
    fn gone(&mut self, remove: &Remove) -> Result<()> {
        let vector = remove.deletion_vector.as_ref().map(vectors::path).transpose()?;
        self.named.past.extend(vector.flatten());
        self.named.past.insert(remove.path.clone());
        Ok(())
    }

    fn add(&mut self, add: &Add, version: u64) -> Result<()> {
        self.live.insert(add.path.clone(), (version, objects(add)?));
        Ok(())
    }

    /// A file was live, as it was, up to the version before this one.
    fn close(&mut self, path: &str, version: u64) {
        let Some((since, objects)) = self.live.remove(path) else { return };
        let needed = self.kept.range(since..version.max(since)).next().is_some();
        let into = if needed { &mut self.named.needed } else { &mut self.named.past };
        into.extend(objects);
    }

    /// What is live at the end is needed.
    fn end(mut self) -> Named {
        for (_, objects) in std::mem::take(&mut self.live).into_values() {
            self.named.needed.extend(objects);
        }
        self.named
    }
}

/// Deletes: the log's files first, upwards, then the others.
pub(super) async fn commit(table: &mut DeltaTable, done: Done) -> Result<UpkeepOutcome> {
    table.refresh().await?;
    if table.is_superseded()? {
        return Ok(UpkeepOutcome::Dropped("another writer of the pipeline has the table".into()));
    }
    let Some(state) = &table.state else {
        return Ok(UpkeepOutcome::Dropped("the table is gone".into()));
    };
    let live = live_objects(state)?;
    let (store, folder) = (&table.committer.store, &table.committer.folder);
    for path in &done.log_files {
        store.delete(path).await?;
    }
    kill::reached(KillPoint::ExpireCommit);
    let dead = || done.files.iter().filter(|path| !live.contains(log_path(folder, path)));
    for path in dead() {
        store.delete(path).await?;
        kill::reached(KillPoint::ExpireFileDelete);
    }
    let told = format!("expired {} versions, deleted {} files", done.versions, dead().count());
    table.expired_to = table.expired_to.max(done.newest + 1);
    Ok(UpkeepOutcome::Done(told))
}

fn live_objects(state: &State) -> Result<HashSet<String>> {
    let mut live = HashSet::new();
    for add in state.files.values() {
        live.extend(objects(add)?);
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use lakeward_core::TableVersion;

    use super::*;

    fn add(path: &str) -> Add {
        serde_json::from_value(serde_json::json!({
            "path": path, "size": 1, "modificationTime": 0, "dataChange": true
        }))
        .unwrap()
    }

    fn sorted(names: &HashSet<String>) -> Vec<&str> {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_needed_when_a_kept_version_lies_in_its_life() {
        let kept = [2, 5].into();
        let mut walk = Walk::new(&kept);
        let gone = |path: &str| Action::from(add(path).removed(0, true));
        walk.commit(0, vec![add("a").into(), add("b").into()]).unwrap();
        walk.commit(1, vec![gone("a"), add("c").into()]).unwrap();
        walk.commit(3, vec![gone("b"), gone("c"), add("d").into(), gone("older than the log")])
            .unwrap();
        walk.commit(4, vec![gone("d"), add("e").into()]).unwrap();
        let named = walk.end();
        assert_eq!(sorted(&named.needed), ["b", "c", "e"]);
        assert!(named.past.contains("a") && named.past.contains("d"));
        assert!(named.past.contains("older than the log"));
    }

    #[test]
    fn the_version_that_was_current_when_the_retention_began_stays() {
        let policy = |keep: &[&str]| UpkeepPolicy {
            compact: false,
            expire: true,
            force_compact: false,
            force_expire: false,
            target_file_bytes: 0,
            retain: Duration::ZERO,
            keep: keep.iter().map(|v| TableVersion((*v).into())).collect(),
        };
        let there = [3, 4, 5, 6];
        let of = |young, keep: &[&str]| -> Vec<u64> {
            kept(&there, young, 6, &policy(keep)).into_iter().collect()
        };
        assert_eq!(of(4, &[]), [6]);
        assert_eq!(of(2, &[]), [4, 5, 6]);
        assert_eq!(of(0, &[]), [3, 4, 5, 6]);
        assert_eq!(of(4, &["3", "99", "x"]), [3, 6]);
        assert_eq!(kept(&[], 0, 6, &policy(&[])).len(), 1);
    }
}
