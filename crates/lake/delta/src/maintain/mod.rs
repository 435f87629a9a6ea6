//! Upkeep: what is worth doing now, and taking finished work in.
//!
//! Both kinds are planned here, run detached, and end between epochs. The mark stays as it is. Deliberately absent: a clock of its
//! own. The engine says when.
mod compact;
mod expire;

use lakeward_core::{Error, ErrorKind, Result, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy};

use crate::table::DeltaTable;

/// A short commit is tried this often against other writers of the table before the work is dropped.
const ATTEMPTS: usize = 8;

/// Work that waits for its end.
enum Done {
    Compaction(Box<compact::Done>),
    Expiry(expire::Done),
}

/// The most useful upkeep now: a forced one first, then compaction, then expiry.
pub(crate) async fn plan(
    table: &mut DeltaTable,
    policy: &UpkeepPolicy,
) -> Result<Option<Box<dyn Upkeep>>> {
    if table.state.is_none() {
        return Ok(None);
    }
    let expiry_first = policy.force_expire && !policy.force_compact;
    let compact = (policy.compact && !expiry_first) || policy.force_compact;
    if compact && let Some(work) = compact::plan(table, policy) {
        return Ok(Some(Box::new(work)));
    }
    if !policy.expire && !policy.force_expire {
        return Ok(None);
    }
    let work = expire::plan(table, policy).await?;
    Ok(work.map(|work| Box::new(work) as Box<dyn Upkeep>))
}

/// Ends finished work, or drops it.
pub(crate) async fn commit(table: &mut DeltaTable, done: UpkeepDone) -> Result<UpkeepOutcome> {
    let done = done
        .payload
        .downcast::<Done>()
        .map_err(|_| Error::new(ErrorKind::Bug, "upkeep of another sink came to be committed"))?;
    match *done {
        Done::Compaction(done) => compact::commit(table, *done).await,
        Done::Expiry(done) => expire::commit(table, done).await,
    }
}

fn finished(done: Done) -> UpkeepDone {
    UpkeepDone { payload: Box::new(done) }
}
