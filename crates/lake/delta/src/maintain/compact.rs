//! Compaction: rows of worn and small files move into new ones; deletes that came meanwhile move with them.
use async_trait::async_trait;
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{Result, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy};
use lakeward_files::{Compacted, Compaction, CompactionPolicy, Store, compact};
use roaring::RoaringBitmap;

use super::ATTEMPTS;
use crate::commit::{FileChange, Kind, Outcome, Request, delete_quietly, now_ms};
use crate::content;
use crate::stage;
use crate::table::{DeltaTable, Suspect};

/// A planned compaction.
pub(super) struct Work {
    compaction: Compaction,
    store: Store,
    table: String,
    /// The numbering of files under which it was planned.
    numbering: u64,
}

/// A finished compaction that waits for its commit.
pub(super) struct Done {
    compacted: Compacted,
    numbering: u64,
}

/// What is worth rewriting now, if anything is.
pub(super) fn plan(table: &DeltaTable, policy: &UpkeepPolicy) -> Option<Work> {
    let rules = CompactionPolicy {
        target_file_bytes: policy.target_file_bytes,
        force: policy.force_compact,
        ..CompactionPolicy::default()
    };
    let chosen = compact::plan(&table.content.file_states(), &table.spent, &rules);
    if chosen.is_empty() {
        return None;
    }
    let mut options = table.options();
    options.stem = table.stem().compacted();
    options.target_file_bytes = policy.target_file_bytes;
    let compaction = Compaction::new(&table.content, &chosen, table.layout().clone(), options)?;
    Some(Work {
        compaction,
        store: table.committer.store.clone(),
        table: table.committer.table.to_string(),
        numbering: table.numbering,
    })
}

#[async_trait]
impl Upkeep for Work {
    fn describe(&self) -> String {
        let (files, bytes) = self.compaction.input();
        format!("compact {files} files ({bytes} bytes) of {}", self.table)
    }

    async fn run(self: Box<Self>) -> Result<UpkeepDone> {
        let compacted = self.compaction.run(&self.store).await?;
        kill::reached(KillPoint::CompactStage);
        let done = Done { compacted, numbering: self.numbering };
        Ok(super::finished(super::Done::Compaction(Box::new(done))))
    }
}

/// One commit that changes no row: the new files with the deletes that came meanwhile, instead of the old ones.
pub(super) async fn commit(table: &mut DeltaTable, done: Done) -> Result<UpkeepOutcome> {
    let store = table.committer.store.clone();
    for _ in 0..ATTEMPTS {
        table.refresh().await?;
        if table.is_superseded()? {
            done.compacted.abandon(&store).await?;
            return Ok(UpkeepOutcome::Dropped(
                "another writer of the pipeline has the table".into(),
            ));
        }
        let Some(late) = late_deletes(table, &done) else {
            done.compacted.abandon(&store).await?;
            return Ok(UpkeepOutcome::Dropped("its files were rewritten by another writer".into()));
        };
        let mut vectors = Vec::new();
        let change = change(table, &done.compacted, &late, &mut vectors).await?;
        let request =
            Request { log: &table.log, base: table.state.as_ref(), change, kind: Kind::Compaction };
        let sent = table.committer.send(request).await;
        match sent.outcome {
            Outcome::Committed(actions, print) => {
                kill::reached(KillPoint::CompactCommit);
                table.take_in(actions, print);
                table.content.publish_compaction(&done.compacted, &late).await;
                kill::reached(KillPoint::IndexPublish);
                table.checkpoint();
                return Ok(UpkeepOutcome::Done(told(&done.compacted)));
            }
            Outcome::Lost => delete_quietly(&store, &vectors).await,
            Outcome::Failed(error) => {
                delete_quietly(&store, &vectors).await;
                done.compacted.abandon(&store).await?;
                return Err(error);
            }
            Outcome::Unknown(error) => {
                let data = done.compacted.files.iter().map(|f| f.path.clone());
                let paths = data.chain(vectors).collect();
                table.suspects.push(Suspect { sent: vec![sent.trace], paths });
                return Err(error);
            }
        }
    }
    done.compacted.abandon(&store).await?;
    Ok(UpkeepOutcome::Dropped("other writers of the table were always faster".into()))
}

/// `None` when a source file is gone, or the files were numbered anew since the plan.
fn late_deletes(table: &DeltaTable, done: &Done) -> Option<Vec<RoaringBitmap>> {
    let state = table.state.as_ref()?;
    let folder = &table.committer.folder;
    let is_live = |path: &str| state.files.contains_key(content::log_path(folder, path));
    let listed = done.compacted.sources.iter().all(|(_, path)| is_live(path));
    if !listed || table.numbering != done.numbering {
        return None;
    }
    done.compacted.late_deletes(&table.content)
}

/// The change of files; paths of vector files that were written for it go to `written`.
async fn change(
    table: &DeltaTable,
    compacted: &Compacted,
    late: &[RoaringBitmap],
    written: &mut Vec<String>,
) -> Result<FileChange> {
    let folder = &table.committer.folder;
    let rows: Vec<RoaringBitmap> = late.iter().filter(|rows| !rows.is_empty()).cloned().collect();
    let mut vectors = stage::write(table, &rows, written).await?.into_iter();
    let mut change = FileChange::default();
    for (file, deleted) in compacted.files.iter().zip(late) {
        let vector = if deleted.is_empty() { None } else { vectors.next() };
        change.added.push(content::add(folder, file, &table.shape, vector, false));
    }
    let now = now_ms();
    let sources = compacted.sources.iter().map(|(_, path)| content::log_path(folder, path));
    let live = sources.filter_map(|path| table.state.as_ref()?.files.get(path));
    change.removed = live.map(|add| add.removed(now, false)).collect();
    Ok(change)
}

fn told(compacted: &Compacted) -> String {
    let rows: u64 = compacted.files.iter().map(|f| f.rows).sum();
    format!(
        "compacted {} files into {} ({rows} rows)",
        compacted.sources.len(),
        compacted.files.len()
    )
}
