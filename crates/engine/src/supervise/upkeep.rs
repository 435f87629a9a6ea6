//! Compaction and expiry: planned after an epoch, run beside the stream, committed between epochs.
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use lakeward_core::{Error, Result, Slot, TableId, UpkeepDone, UpkeepOutcome, UpkeepPolicy};
use tokio::sync::oneshot;

use crate::write::lane::Lane;

use super::command::RunMode;
use super::planning::Note;
use super::session::{LaneKey, Session, unknown_table};

/// Upkeep that has run.
pub(super) struct Upkept {
    key: LaneKey,
    done: Result<UpkeepDone>,
}

/// A person's wish for compaction.
pub(super) struct Asked {
    pub(super) table: Option<TableId>,
    pub(super) reply: oneshot::Sender<Result<String>>,
}

/// A table that has had commits is looked at again after a commit's interval, but neither sooner nor later than this: looking
/// is cheap, and under many commits files wear much faster than the interval of tables at rest.
const LOOK_AGAIN: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// After a job upkeep rests for this part of the time that the job took: it is a guest.
const REST_PARTS: u32 = 4;

/// When tables were last looked at and at which epoch, and what runs. One job at a time, and a rest after it.
#[derive(Default)]
pub(super) struct Schedule {
    looked: HashMap<LaneKey, (Instant, u64)>,
    running: Option<LaneKey>,
    began: Option<Instant>,
    rest_until: Option<Instant>,
    /// Whether expiry is tried before compaction the next time.
    expiry_next: bool,
    asked: Option<Answering>,
}

impl Schedule {
    /// Whether nothing runs and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.asked.is_none()
    }
}

/// Tables that a person asked to compact, one after the other.
struct Answering {
    left: Vec<LaneKey>,
    report: Vec<String>,
    reply: oneshot::Sender<Result<String>>,
}

impl Session<'_> {
    /// Plans upkeep of one table that is due, if none runs.
    pub(super) async fn plan_upkeep(&mut self) -> Result<()> {
        let options = &self.cx.options;
        let wanted = options.compaction.enabled || options.expiry.enabled;
        let rests = self.upkeep.rest_until.is_some_and(|until| Instant::now() < until);
        if !wanted || rests || self.upkeep.running.is_some() || self.drain_by.is_some() {
            return Ok(());
        }
        let every = options.compaction.interval.0.min(options.expiry.interval.0);
        // A run that is to end does not look for work of its own at its end.
        let follows = self.cx.mode != RunMode::UntilCaughtUp;
        let again = options.commit_interval.0.clamp(*LOOK_AGAIN.start(), *LOOK_AGAIN.end());
        let (looked, started) = (&self.upkeep.looked, self.started);
        let due = |key: &LaneKey, epoch: u64| {
            let (at, seen) = looked.get(key).copied().unwrap_or((started, 0));
            let due = at.elapsed() >= every || (follows && epoch > seen && at.elapsed() >= again);
            due.then_some(at)
        };
        // What is being loaded is not tidied up meanwhile.
        let rest = |lane: &Lane| lane.slot == Slot::Visible && lane.load.is_none();
        let at_rest = self.lanes.iter().filter(|(_, lane)| rest(lane));
        let marked = at_rest.filter_map(|(key, lane)| Some((key, lane.mark.as_ref()?.epoch)));
        // Who has waited longest is next: one busy table must not keep the others waiting.
        let next = marked
            .filter_map(|(key, epoch)| Some((due(key, epoch)?, key)))
            .min_by_key(|(at, _)| *at)
            .map(|(_, key)| key.clone());
        match next {
            Some(key) => self.begin_upkeep(key, false).await.map(|_| ()),
            None => Ok(()),
        }
    }

    fn policy(&self, force_compact: bool) -> UpkeepPolicy {
        let options = &self.cx.options;
        let keep = self.ledger.points().flat_map(|p| p.tables.values().cloned()).collect();
        UpkeepPolicy {
            compact: options.compaction.enabled,
            expire: options.expiry.enabled,
            force_compact,
            force_expire: false,
            target_file_bytes: options.compaction.target_file_size.0,
            retain: options.expiry.retain.0,
            keep,
        }
    }

    /// Plans and starts upkeep of a table; false when there is nothing to do.
    async fn begin_upkeep(&mut self, key: LaneKey, force_compact: bool) -> Result<bool> {
        let policy = self.policy(force_compact);
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(false) };
        let epoch = lane.mark.as_ref().map_or(0, |mark| mark.epoch);
        self.upkeep.looked.insert(key.clone(), (Instant::now(), epoch));
        // Both kinds get their turn: a table that always has something to compact must not keep all its versions.
        let expiry_first = !force_compact && std::mem::take(&mut self.upkeep.expiry_next);
        let mut job = None;
        if expiry_first {
            job = lane.sink.upkeep(&UpkeepPolicy { compact: false, ..policy.clone() }).await?;
        }
        if job.is_none() {
            job = lane.sink.upkeep(&policy).await?;
        }
        self.upkeep.expiry_next = !expiry_first;
        let Some(job) = job else { return Ok(false) };
        tracing::info!(table = %key.0, job = job.describe(), "upkeep begins");
        (self.upkeep.running, self.upkeep.began) = (Some(key.clone()), Some(Instant::now()));
        self.side(async move { Note::Upkept(Upkept { key, done: job.run().await }) });
        Ok(true)
    }

    /// Commits upkeep that has run. A failure costs nothing but the work: it is planned again later.
    pub(super) async fn commit_upkeep(&mut self, upkept: Upkept) -> Result<()> {
        let Upkept { key, done } = upkept;
        self.upkeep.running = None;
        self.upkeep.rest_until =
            self.upkeep.began.map(|began| Instant::now() + began.elapsed() / REST_PARTS);
        let said = match (done, self.lanes.get_mut(&key)) {
            (Ok(done), Some(lane)) => match lane.sink.commit_upkeep(done).await? {
                UpkeepOutcome::Done(what) => {
                    tracing::info!(table = %key.0, what, "upkeep done");
                    what
                }
                UpkeepOutcome::Dropped(why) => {
                    tracing::info!(table = %key.0, why, "upkeep dropped; planned again later");
                    format!("dropped: {why}")
                }
            },
            (Ok(_), None) => "the table is gone".to_owned(),
            (Err(error), _) => {
                tracing::warn!(table = %key.0, %error, "upkeep failed; planned again later");
                format!("failed: {error}")
            }
        };
        if let Some(asked) = &mut self.upkeep.asked {
            asked.report.push(format!("{}: {said}", key.0));
        }
        self.next_asked().await
    }

    /// Begins what a person asked for.
    pub(super) async fn plan_compaction(&mut self, asked: Asked) -> Result<()> {
        let Asked { table, reply } = asked;
        let left: Vec<LaneKey> = self
            .lanes
            .iter()
            .filter(|((t, _), lane)| {
                lane.slot == Slot::Visible && table.as_ref().is_none_or(|wanted| wanted == t)
            })
            .map(|(key, _)| key.clone())
            .collect();
        if let (Some(table), true) = (&table, left.is_empty()) {
            let _ = reply.send(Err(unknown_table(table)));
            return Ok(());
        }
        if self.upkeep.asked.is_some() {
            let busy = Error::new(lakeward_core::ErrorKind::Conflict, "a compaction is running");
            let _ = reply.send(Err(busy.remedied("ask again when it has ended")));
            return Ok(());
        }
        self.upkeep.asked = Some(Answering { left, report: Vec::new(), reply });
        self.next_asked().await
    }

    async fn next_asked(&mut self) -> Result<()> {
        while self.upkeep.running.is_none() {
            let Some(asked) = &mut self.upkeep.asked else { return Ok(()) };
            let Some(key) = asked.left.pop() else { break };
            if !self.begin_upkeep(key.clone(), true).await?
                && let Some(asked) = &mut self.upkeep.asked
            {
                asked.report.push(format!("{}: nothing to do", key.0));
            }
        }
        if self.upkeep.running.is_none()
            && let Some(asked) = self.upkeep.asked.take()
        {
            let _ = asked.reply.send(Ok(asked.report.join("\n")));
        }
        Ok(())
    }
}
