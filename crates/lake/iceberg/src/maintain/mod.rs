//! Upkeep: what is worth doing now, and taking finished work in through the table's own committer.
//!
//! All kinds are planned here and run detached. Compaction and expiry end in one short commit that carries the mark on
//! unchanged.
//! Deliberately absent: a clock of its own. The engine says when.
mod compact;
mod expire;
mod orphans;

use lakeward_core::{Error, ErrorKind, Result, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy};

use crate::table::IcebergTable;

pub(crate) use expire::Waiting;

/// A short commit is tried this often against other writers of the table before the work is dropped.
const ATTEMPTS: usize = 8;

/// Work that waits for its short commit.
enum Done {
    Compaction(Box<compact::Done>),
    Expiry(expire::Done),
    Orphans(usize),
}

/// The most useful upkeep now: a forced one first, then compaction, then what ended writers left, then expiry.
pub(crate) async fn plan(
    table: &mut IcebergTable,
    policy: &UpkeepPolicy,
) -> Result<Option<Box<dyn Upkeep>>> {
    if table.head.is_none() {
        return Ok(None);
    }
    expire::finish_interrupted(table).await?;
    expire::delete_waiting(table).await?;
    let expiry_first = policy.force_expire && !policy.force_compact;
    let compact = (policy.compact && !expiry_first) || policy.force_compact;
    if compact && let Some(work) = compact::plan(table, policy) {
        return Ok(Some(Box::new(work)));
    }
    if !policy.force_compact
        && !policy.force_expire
        && let Some(work) = orphans::plan(table).await?
    {
        return Ok(Some(Box::new(work)));
    }
    if !policy.expire && !policy.force_expire {
        return Ok(None);
    }
    let work = expire::plan(table, policy)?;
    Ok(work.map(|work| Box::new(work) as Box<dyn Upkeep>))
}

/// Commits finished work, or drops it.
pub(crate) async fn commit(table: &mut IcebergTable, done: UpkeepDone) -> Result<UpkeepOutcome> {
    let done = done
        .payload
        .downcast::<Done>()
        .map_err(|_| Error::new(ErrorKind::Bug, "upkeep of another sink came to be committed"))?;
    match *done {
        Done::Compaction(done) => compact::commit(table, *done).await,
        Done::Expiry(done) => expire::commit(table, done).await,
        Done::Orphans(deleted) => {
            Ok(UpkeepOutcome::Done(format!("deleted {deleted} files that ended writers left")))
        }
    }
}

fn finished(done: Done) -> UpkeepDone {
    UpkeepDone { payload: Box::new(done) }
}
