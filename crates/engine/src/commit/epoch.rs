//! The commit of an epoch: stage, Intent, table by table, Done. A crash between any two steps loses nothing.
//!
//! Deliberately absent: when an epoch is cut (`supervise`), what a table holds (`write`).
use lakeward_core::kill::{KillPoint, reached};
use lakeward_core::{
    Admission, CommitMark, CommitOutcome, Error, ErrorKind, IntentTable, KeyText, Position, Result,
    Source, Staged, admit,
};

use crate::write::lane::Lane;

/// What all marks of an epoch have in common.
pub struct Frame {
    /// The pipeline.
    pub pipeline: String,
    /// The sink's name.
    pub sink: String,
    /// This process run.
    pub writer: String,
    /// The epoch.
    pub epoch: u64,
    /// Where it begins.
    pub after: Option<Position>,
    /// Where it ends.
    pub through: Position,
}

/// A lane's part of an epoch, staged.
pub struct Part<'a> {
    /// The lane.
    pub lane: &'a mut Lane,
    /// Its work.
    pub staged: Staged,
    /// Whether its load ends here.
    pub load_ends: bool,
    /// Whether the copy becomes the visible table here.
    pub promote: bool,
}

/// Stages a lane. Rows that came incomplete and have no base are owed to its load; without a load the table has diverged.
///
/// # Errors
/// The sink's.
pub async fn stage<'a>(lane: &'a mut Lane, source: &dyn Source) -> Result<Part<'a>> {
    let staged = lane.sink.stage().await?;
    reached(KillPoint::Stage);
    let mut owing = lane.take_owing();
    owing.extend(staged.unresolved.clone());
    for rows in &owing {
        let keys: Vec<KeyText> = source.key_text(&lane.schema, rows)?;
        tracing::debug!(table = %lane.table(), rows = keys.len(), "rows without a base are owed");
        match &mut lane.load {
            Some(load) => load.owe(keys),
            None => lane.diverged = Some("the lake lacks a row that the log changes".into()),
        }
    }
    Ok(Part { lane, staged, load_ends: false, promote: false })
}

impl Part<'_> {
    /// How the Intent names it.
    pub fn intent(&self) -> IntentTable {
        IntentTable {
            table: self.lane.table().clone(),
            identity: self.lane.schema.identity.clone(),
            generation: self.lane.generation,
            promote: self.promote,
            schema_version: self.lane.schema.version,
            diverged: self.lane.diverged.clone(),
        }
    }

    fn mark(&self, frame: &Frame) -> CommitMark {
        let load = self.lane.load.as_ref().filter(|_| !self.load_ends);
        CommitMark {
            pipeline: frame.pipeline.clone(),
            sink: frame.sink.clone(),
            writer: frame.writer.clone(),
            table: self.lane.table().clone(),
            identity: self.lane.schema.identity.clone(),
            generation: self.lane.generation,
            epoch: frame.epoch,
            after: frame.after.clone(),
            through: frame.through.clone(),
            schema_version: self.lane.schema.version,
            load: load.map(|l| l.mark()),
        }
    }
}

/// How often a commit is tried against a head that moves.
const ATTEMPTS_MAX: u32 = 10;

/// Commits a lane's part, deciding by the table's own mark whenever the head is not what it was.
///
/// # Errors
/// `Conflict` when the table is another's, or our epoch came into it by another hand: the session must begin anew from
/// the ledger. Else the sink's.
pub async fn commit(part: Part<'_>, frame: &Frame) -> Result<()> {
    let mark = part.mark(frame);
    let Part { lane, mut staged, load_ends, promote } = part;
    let mut last = lane.mark.clone();
    for _ in 0..ATTEMPTS_MAX {
        let permit = match admit(last.as_ref(), mark.clone(), promote) {
            Admission::Go(permit) => permit,
            Admission::AlreadyThere(found) => return Err(settled(&found, frame)),
            Admission::NotOurs { found } => return Err(not_ours(&found)),
        };
        reached(KillPoint::BeforeTableCommit);
        staged = match lane.sink.commit(staged, permit).await {
            CommitOutcome::Committed(mark) => {
                reached(KillPoint::AfterTableCommit);
                took_over(lane, mark, load_ends);
                return Ok(());
            }
            CommitOutcome::Conflict { staged, table_version } => {
                tracing::info!(table = %lane.table(), %table_version, "the table's head moved");
                staged
            }
            CommitOutcome::Unknown { staged, error } => {
                tracing::warn!(table = %lane.table(), %error, "the answer of a commit was lost");
                staged
            }
            CommitOutcome::Failed { staged, error } => {
                lane.sink.abandon(staged).await?;
                return Err(error.with("table", lane.table()));
            }
        };
        last = lane.sink.last_commit().await?;
        if last.as_ref().is_none_or(|found| found.epoch < frame.epoch) {
            staged = lane.sink.rebase(staged).await?;
        }
    }
    Err(Error::new(ErrorKind::Conflict, "another writer keeps changing the table")
        .with("table", lane.table()))
}

fn took_over(lane: &mut Lane, mark: CommitMark, load_ends: bool) {
    lane.mark = Some(mark);
    lane.dirty = false;
    if let Some(load) = &mut lane.load {
        for _ in 0..load.committed() {
            reached(KillPoint::ChunkDurable);
        }
    }
    if load_ends {
        lane.load = None;
        reached(KillPoint::HandOver);
        tracing::info!(table = %lane.table(), "loaded; the table follows the log");
    }
}

/// The epoch stands in the table already: by our own lost attempt, or by a successor's hand. Which of the two, the
/// ledger says.
fn settled(found: &CommitMark, frame: &Frame) -> Error {
    Error::new(ErrorKind::Conflict, "the epoch already stands in the table")
        .with("table", &found.table)
        .with("epoch", frame.epoch)
        .with("writer", &found.writer)
}

fn not_ours(found: &CommitMark) -> Error {
    Error::new(ErrorKind::Config, "the lake's table is written by another pipeline")
        .with("table", &found.table)
        .with("pipeline", &found.pipeline)
        .with("sink", &found.sink)
        .remedied("give one of the two pipelines another warehouse, or remove the table from it")
}
