//! Files that ended writers left: found once per handle, when its own first commit stands, and deleted.
//!
//! Which of them somebody may still commit is decided by [`lakeward_files::orphans`]; what a snapshot reaches stays.
//! Deliberately absent: metadata files, which expiry sweeps, and files of other programs.
use std::collections::HashSet;

use async_trait::async_trait;
use lakeward_core::{CommitMark, Result, Slot, Upkeep, UpkeepDone};
use lakeward_files::orphans::plain;
use lakeward_files::{Origin, Store};

use crate::commit::delete_quietly;
use crate::metadata::{Line, ManifestCache, TableHead};
use crate::table::IcebergTable;

/// Files that may have been left.
pub(super) struct Work {
    head: TableHead,
    store: Store,
    table: String,
    candidates: Vec<String>,
}

/// Looks for such files, if they were not looked for yet.
pub(super) async fn plan(table: &mut IcebergTable) -> Result<Option<Work>> {
    let (Some(head), Some(mark)) = (table.head.clone(), table.mark()?) else { return Ok(None) };
    let is_ours = plain(&mark.writer) == table.committer.writer;
    if table.looked_for_orphans || table.line != Line(Slot::Visible) || !is_ours {
        return Ok(None);
    }
    table.looked_for_orphans = true;
    let store = table.committer.store.clone();
    let mut candidates = store.list(&format!("{}/data", table.folder)).await?;
    candidates.retain(|path| !table.files.contains_key(path));
    candidates.extend(store.list(&format!("{}/metadata", table.folder)).await?);
    let copies = head.copy_marks()?;
    candidates.retain(|path| is_past(path, &mark, &copies));
    if candidates.is_empty() {
        return Ok(None);
    }
    let table = table.committer.table.to_string();
    Ok(Some(Work { head, store, table, candidates }))
}

fn is_past(path: &str, visible: &CommitMark, copies: &[CommitMark]) -> bool {
    Origin::of(path).is_some_and(|origin| origin.is_past(visible, copies))
}

#[async_trait]
impl Upkeep for Work {
    fn describe(&self) -> String {
        format!("look for files that ended writers left in {}", self.table)
    }

    async fn run(mut self: Box<Self>) -> Result<UpkeepDone> {
        let mut cache = ManifestCache::default();
        let snapshots = self.head.metadata.snapshots();
        let reached = cache.reached(&self.store, &self.head, snapshots).await?;
        let reached: HashSet<String> =
            reached.iter().filter_map(|location| self.store.path_of(location)).collect();
        self.candidates.retain(|path| !reached.contains(path));
        delete_quietly(&self.store, &self.candidates).await;
        Ok(super::finished(super::Done::Orphans(self.candidates.len())))
    }
}
