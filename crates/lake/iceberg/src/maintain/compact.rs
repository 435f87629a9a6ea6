//! Compaction: rows of worn and small files move into new ones; deletes that came meanwhile move with them.
use async_trait::async_trait;
use iceberg::spec::FormatVersion;
use lakeward_core::kill::{self, KillPoint};
use lakeward_core::{Result, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy};
use lakeward_files::{Compacted, Compaction, CompactionPolicy, Store, compact, is_superseded};
use roaring::RoaringBitmap;

use super::ATTEMPTS;
use crate::commit::{Outcome, Request, delete_quietly, unpartitioned_id};
use crate::manifests::FileChange;
use crate::stage::own_deletes;
use crate::table::{IcebergTable, Suspect};
use crate::{datafile, deletes, lineage};

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
pub(super) fn plan(table: &IcebergTable, policy: &UpkeepPolicy) -> Option<Work> {
    if policy.force_expire && !policy.force_compact {
        return None;
    }
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
    options.stem = table.stem().ok()?.compacted();
    options.target_file_bytes = policy.target_file_bytes;
    let mut compaction = Compaction::new(&table.content, &chosen, table.layout().clone(), options)?;
    if table.format() >= FormatVersion::V3 {
        compaction.keep_lineage(lineage::of_files(table));
    }
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

/// One `replace` commit: the new files with the deletes that came meanwhile, instead of the old ones.
pub(super) async fn commit(table: &mut IcebergTable, done: Done) -> Result<UpkeepOutcome> {
    let store = table.committer.store.clone();
    for _ in 0..ATTEMPTS {
        table.refresh().await?;
        // Whoever comes after us counts on this: see `lakeward_files::orphans`.
        if is_superseded(table.mark()?.as_ref(), table.opened.as_ref(), &table.committer.writer) {
            done.compacted.abandon(&store).await?;
            return Ok(UpkeepOutcome::Dropped("another writer has the table now".into()));
        }
        let Some(late) = late_deletes(table, &done) else {
            done.compacted.abandon(&store).await?;
            return Ok(UpkeepOutcome::Dropped("its files were rewritten by another writer".into()));
        };
        let (change, delete_files) = change(table, &done.compacted, &late).await?;
        let attempt = match request(table, &change).await? {
            Some(attempt) => attempt,
            None => break,
        };
        match attempt.outcome {
            Outcome::Committed(head) => {
                kill::reached(KillPoint::CompactCommit);
                table.content.publish_compaction(&done.compacted, &late).await;
                kill::reached(KillPoint::IndexPublish);
                let told = told(&done.compacted);
                table.advance(head).await?;
                return Ok(UpkeepOutcome::Done(told));
            }
            Outcome::Lost => delete_quietly(&store, &delete_files).await,
            Outcome::Failed(error) => {
                delete_quietly(&store, &delete_files).await;
                done.compacted.abandon(&store).await?;
                return Err(error);
            }
            Outcome::Unknown(error) => {
                let data = done.compacted.files.iter().map(|f| f.path.clone());
                table.suspects.push(Suspect {
                    parent: table.head.as_ref().map(|h| h.location.clone()),
                    paths: attempt
                        .written
                        .iter()
                        .cloned()
                        .chain(delete_files)
                        .chain(data)
                        .collect(),
                });
                return Err(error);
            }
        }
    }
    done.compacted.abandon(&store).await?;
    Ok(UpkeepOutcome::Dropped("other writers of the table were always faster".into()))
}

/// `None` when a source file is gone, or the files were numbered anew since the plan.
fn late_deletes(table: &IcebergTable, done: &Done) -> Option<Vec<RoaringBitmap>> {
    let listed =
        done.compacted.sources.iter().all(|(_, path)| table.files.contains_key(path.as_ref()));
    if !listed || table.numbering != done.numbering {
        return None;
    }
    done.compacted.late_deletes(&table.content)
}

async fn request(
    table: &mut IcebergTable,
    change: &FileChange,
) -> Result<Option<crate::commit::Attempt>> {
    let Some(mark) = table.mark()? else { return Ok(None) };
    let request = Request {
        head: table.head.as_ref(),
        line: table.line,
        change,
        replace: true,
        mark: &mark,
        shape: None,
        way: &[],
        promote: false,
        location: "",
    };
    Ok(Some(table.committer.snapshot(request, &mut table.cache).await))
}

/// The change of files, and the paths of the delete files that were written for it.
async fn change(
    table: &IcebergTable,
    compacted: &Compacted,
    late: &[RoaringBitmap],
) -> Result<(FileChange, Vec<String>)> {
    let store = &table.committer.store;
    let schema = table.shape.schema()?;
    let spec = table.head.as_ref().map_or(Ok(0), |head| unpartitioned_id(&head.metadata))?;
    let stem = table.stem()?.compacted();
    let mut change = FileChange::default();
    let mut deleted = Vec::new();
    for (file, late) in compacted.files.iter().zip(late) {
        change.added.push(datafile::data(store, file, &schema, spec)?);
        if !late.is_empty() {
            deleted.push((store.url(&file.path), late.clone()));
        }
    }
    let written = deletes::write(table, &stem, spec, deleted).await?;
    change.added.extend(written.entries);
    for file in compacted.sources.iter().filter_map(|(_, path)| table.files.get(path.as_ref())) {
        change.removed.insert(&file.entry);
        own_deletes(file).for_each(|delete| change.removed.insert(delete));
    }
    Ok((change, written.paths))
}

fn told(compacted: &Compacted) -> String {
    let rows: u64 = compacted.files.iter().map(|f| f.rows).sum();
    format!(
        "compacted {} files into {} ({rows} rows)",
        compacted.sources.len(),
        compacted.files.len()
    )
}
