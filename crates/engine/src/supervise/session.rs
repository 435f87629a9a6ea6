//! One session: from the ledger's last word until an end or an error. Reads like a list; decides what comes next.
//!
//! ```text
//!  stream task ──events──▶ ┌─────────┐ ──▶ lanes ──▶ commit (between transactions only)
//!  chunk tasks ──rows────▶ │ session │
//!  side tasks  ──notes───▶ └─────────┘ ──▶ confirm to the source
//! ```
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lakeward_core::{
    CheckReport, CommitMark, Coverage, Delivered, Error, ErrorKind, Intent, Position, Result,
    Severity, Slot, SourceEvent, StartAt, TableId, TableIdentity, TransactionId,
};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::capture::load::{Load, Ticket};
use crate::capture::reader::{Read, Readers};
use crate::commit::ledger::Ledger;
use crate::commit::state::{State, TableState};
use crate::stream::held::Held;
use crate::stream::queue::SpillQueue;
use crate::write::lane::{Lane, Opening};

use super::command::{Command, RunEnd, RunMode};
use super::landing::Context;
use super::planning::{Note, foreign_mark};
use super::status::Phase;

/// A copy of a table: its name and generation.
pub(super) type LaneKey = (TableId, u32);

/// How often an idle position is claimed, so that the source can release its log.
const IDLE_CLAIM: Duration = Duration::from_secs(5);

/// How often progress is shown and due work looked for.
const TICK: Duration = Duration::from_millis(100);

/// An epoch of a load alone is up to so many times longer and larger.
const LOAD_PATIENCE: u32 = 4;

/// Events that wait between the stream's task and the session. Each is at most a few MiB.
const EVENTS_MAX: usize = 4;

/// Chunks that are given to readers beyond those being read, for each reader: while the session commits it gives none.
const READS_AHEAD: usize = 2;

/// A read under way.
pub(super) struct ActiveRead {
    pub(super) lane: LaneKey,
    pub(super) delivered: Arc<Delivered>,
    pub(super) task: AbortHandle,
}

/// What must wait until no lane holds uncommitted work.
pub(super) enum Between {
    /// A load can begin.
    Begin(super::planning::Planned),
    /// Upkeep is ready to be committed.
    Upkept(super::upkeep::Upkept),
    /// A table must be loaded again.
    Reload { table: TableId, why: String },
    /// A schema that no row announced.
    Drifted { key: LaneKey, drift: lakeward_core::Drift },
    /// A person asks for compaction.
    Compact(super::upkeep::Asked),
}

/// The running session.
pub(super) struct Session<'a> {
    pub(super) cx: &'a Context,
    pub(super) ledger: &'a mut Ledger,
    pub(super) lanes: BTreeMap<LaneKey, Lane>,
    pub(super) held: Held,
    /// A torn epoch that is being finished, and what came behind its cut.
    pub(super) finishing: Option<Intent>,
    pub(super) beyond: Option<SpillQueue>,
    /// Everything up to here has been delivered.
    pub(super) through: Position,
    /// Whether rows came since `through`: the epoch cannot be cut now.
    pub(super) tail: bool,
    /// From when on the running epoch is taken to gather.
    pub(super) cut_at: Instant,
    pub(super) epoch_rows: u64,
    pub(super) epoch_bytes: u64,
    /// Whether nothing but rows of loads came since the last cut.
    pub(super) epoch_is_load: bool,
    /// Source commit time of the oldest uncommitted change.
    pub(super) oldest_pending: Option<SystemTime>,
    pub(super) head: Option<Position>,
    /// Transactions delivered since tracking began; `None`: no load needs it.
    pub(super) delivered: Option<HashSet<TransactionId>>,
    pub(super) reads: HashMap<Ticket, ActiveRead>,
    pub(super) next_ticket: u64,
    pub(super) awaiting_barrier: HashSet<LaneKey>,
    pub(super) paused: HashMap<LaneKey, Instant>,
    pub(super) planning: HashSet<TableId>,
    pub(super) drifting: HashSet<LaneKey>,
    pub(super) between: VecDeque<Between>,
    /// The selected tables at the last look at the catalogue; `None`: none yet.
    pub(super) discovered: Option<HashMap<TableId, TableIdentity>>,
    pub(super) watched_at: Option<Instant>,
    pub(super) watching: bool,
    pub(super) upkeep: super::upkeep::Schedule,
    pub(super) drain_by: Option<Instant>,
    pub(super) started: Instant,
    pub(super) tasks: JoinSet<()>,
    pub(super) notes: mpsc::Sender<Note>,
    readers: Readers,
}

/// Makes sure that the ledger knows where the log begins.
///
/// # Errors
/// `Config` with the findings when the source or the lake refuses; theirs otherwise.
pub(super) async fn prepare_positions(cx: &Context, ledger: &mut Ledger) -> Result<()> {
    if ledger.state().position.is_some() {
        return Ok(());
    }
    refuse(&cx.source.check().await?)?;
    refuse(&cx.sink.check().await?)?;
    let tables = cx.source.discover().await?;
    let prepared = cx.source.prepare(&tables).await?;
    ledger.complete(&State::default(), prepared.beginning).await
}

fn refuse(report: &CheckReport) -> Result<()> {
    let refused: Vec<_> =
        report.findings.iter().filter(|f| f.severity == Severity::Refused).collect();
    let Some(first) = refused.first() else { return Ok(()) };
    let mut error = Error::new(ErrorKind::Config, first.message.clone())
        .with("about", &first.about)
        .remedied(first.remedy.clone());
    if refused.len() > 1 {
        error = error.with("further_findings", refused.len() - 1);
    }
    Err(error)
}

impl<'a> Session<'a> {
    /// Runs a session.
    pub(super) async fn run(
        cx: &'a Context,
        ledger: &'a mut Ledger,
        control: &mut mpsc::Receiver<Command>,
        target: &mut Option<Position>,
    ) -> Result<RunEnd> {
        if cx.mode == RunMode::UntilCaughtUp && target.is_none() {
            *target = Some(cx.source.head().await?);
        }
        let (notes, mut notes_rx) = mpsc::channel(64);
        // A share of memory far smaller than what is held of the log: chunk readers never starve it.
        let (readers, mut chunks) =
            Readers::new(cx.options.chunk_readers, cx.options.memory.0 / 16);
        let mut session = Self::open(cx, ledger, notes, readers).await?;
        let mut events = session.open_stream().await?;
        session.finish_torn_if_reached(None).await?;
        session.reload_diverged();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            session.between_epochs().await?;
            session.schedule_reads();
            session.watch();
            if let Some(end) = session.ended(target.as_ref()).await? {
                return Ok(end);
            }
            let cut = session.next_cut();
            // Not biased: neither the log nor the chunks may starve the other; orders and notes are rare.
            tokio::select! {
                command = control.recv() => session.command(command)?,
                Some(note) = notes_rx.recv() => session.note(note)?,
                event = events.recv() => match event {
                    Some(event) => session.event(event?).await?,
                    None => return Err(Error::new(ErrorKind::Unreachable, "the log's reader ended")),
                },
                Some(piece) = chunks.recv() => session.chunk(piece).await?,
                () = reaches(cut) => {}
                _ = tick.tick() => session.show(),
            }
            if session.cut_is_due(target.as_ref()) {
                session.commit_epoch(None).await?;
            }
        }
    }

    async fn open(
        cx: &'a Context,
        ledger: &'a mut Ledger,
        notes: mpsc::Sender<Note>,
        readers: Readers,
    ) -> Result<Self> {
        let state = ledger.state().clone();
        let through = state
            .position
            .clone()
            .ok_or_else(|| Error::new(ErrorKind::Bug, "a session without a position"))?;
        if let Some(intent) = &state.torn
            && intent.routing != cx.options.routing_hash
        {
            return Err(Error::new(
                ErrorKind::Config,
                "an epoch was left torn under another definition and must be finished with it first",
            )
            .with("epoch", intent.epoch)
            .remedied("run once with the definition that began it, then change the file"));
        }
        let memory = cx.options.memory.0;
        let spill = cx.env.state_dir.join("spill");
        // What an earlier process left there belongs to nobody: its transactions come again whole.
        let _ = std::fs::remove_dir_all(&spill);
        let now = Instant::now();
        let mut session = Self {
            cx,
            ledger,
            lanes: BTreeMap::new(),
            held: Held::new(spill.clone(), memory / 4, cx.options.spill_max.0),
            finishing: state.torn.clone(),
            beyond: state.torn.is_some().then(|| SpillQueue::new(spill.join("beyond.spill"))),
            through,
            tail: false,
            cut_at: now,
            epoch_rows: 0,
            epoch_bytes: 0,
            epoch_is_load: true,
            oldest_pending: None,
            head: None,
            delivered: None,
            reads: HashMap::new(),
            next_ticket: 0,
            awaiting_barrier: HashSet::new(),
            paused: HashMap::new(),
            planning: HashSet::new(),
            drifting: HashSet::new(),
            between: VecDeque::new(),
            discovered: None,
            watched_at: None,
            watching: false,
            upkeep: super::upkeep::Schedule::default(),
            drain_by: None,
            started: now,
            tasks: JoinSet::new(),
            notes,
            readers,
        };
        session.open_lanes(&state).await?;
        let phase = if session.finishing.is_some() { Phase::Recovering } else { Phase::Running };
        cx.status.update(|s| {
            (s.phase, s.epoch) = (phase, state.epoch);
            s.position = state.position.as_ref().map(ToString::to_string);
        });
        Ok(session)
    }

    async fn open_lanes(&mut self, state: &State) -> Result<()> {
        let mut horizon = None;
        for (table, known) in &state.tables {
            if known.loading.is_some() || known.copy.is_some() {
                horizon = Some(self.cx.source.head().await?);
                tracing::debug!(%table, "a load goes on");
                break;
            }
        }
        for known in state.tables.values() {
            self.open_table(state, known, horizon.clone()).await?;
        }
        if !self.awaiting_barrier.is_empty() {
            self.wait_for_barrier();
        }
        Ok(())
    }

    async fn open_table(
        &mut self,
        state: &State,
        known: &TableState,
        horizon: Option<Position>,
    ) -> Result<()> {
        let mut copy = known.copy.clone();
        if known.visible > 0 {
            let lane =
                self.open_lane(state, known, Slot::Visible, known.visible, horizon.clone()).await?;
            // It was promoted by an epoch that was left torn.
            copy = copy.filter(|c| c.generation > lane.generation);
            // A table whose first load was given up, or whose name another table has now, shows what it had; only the
            // copy goes on.
            let same = lane.mark.as_ref().is_none_or(|m| m.identity == lane.schema.identity);
            if copy.is_none() || (lane.load.is_none() && same) {
                self.enter(lane);
            }
        }
        if let Some(copy) = copy {
            drop_given_up(self.cx, state, known, copy.generation).await?;
            let slot = Slot::Copy(copy.generation);
            let lane = self.open_lane(state, known, slot, copy.generation, horizon).await?;
            self.enter(lane);
        }
        Ok(())
    }

    async fn open_lane(
        &mut self,
        state: &State,
        known: &TableState,
        slot: Slot,
        generation: u32,
        horizon: Option<Position>,
    ) -> Result<Lane> {
        let schema = state.schemas.get(&known.table).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the ledger lacks a table's schema")
                .with("table", &known.table)
        })?;
        let schema = Arc::new(schema);
        let mut sink = self.cx.sink.open_table(&schema, slot).await?;
        let mark = sink.last_commit().await?;
        if let Some(mark) = &mark {
            self.knows(state, mark)?;
        }
        let generation = mark.as_ref().map_or(generation, |m| m.generation);
        let plan = match (slot, &known.copy) {
            (Slot::Copy(_), Some(copy)) => Some(&copy.chunks),
            (_, Some(copy)) if copy.generation == generation => None,
            _ => known.loading.as_ref(),
        };
        let runs = mark.as_ref().is_none_or(|m| m.load.is_some());
        let load = match plan.filter(|_| runs) {
            Some(plan) => {
                let chunks = self.ledger.chunks(plan).await?;
                let held = mark.as_ref().and_then(|m| m.load.as_ref());
                Some(Load::new(plan.clone(), chunks, held, horizon))
            }
            None => None,
        };
        let behaviour = self.cx.options.schema_change(&known.table);
        let opening = Opening { schema, slot, generation, sink, mark, load, behaviour };
        let mut lane = Lane::new(opening, &self.spill_folder());
        lane.diverged = match slot {
            // A copy that was promoted is right again.
            Slot::Visible => known.diverged.clone().filter(|_| generation == known.visible),
            Slot::Copy(_) => known.copy.as_ref().and_then(|copy| copy.diverged.clone()),
        };
        Ok(lane)
    }

    /// A mark from behind the ledger's last word means that the ledger is not the one that the table was written by.
    fn knows(&self, state: &State, mark: &CommitMark) -> Result<()> {
        let newest = state.torn.as_ref().map_or(state.epoch, |intent| intent.epoch);
        if mark.pipeline != self.cx.env.pipeline || mark.sink != self.cx.env.name {
            return Err(foreign_mark(mark));
        }
        if mark.epoch > newest {
            return Err(Error::new(ErrorKind::Corrupt, "a table is newer than the ledger")
                .with("table", &mark.table)
                .with("table_epoch", mark.epoch)
                .with("ledger_epoch", newest)
                .remedied(
                    "restore the ledger of the same time as the tables; without one, `lakeward rebuild-ledger` makes \
                     it again from the tables' marks",
                ));
        }
        Ok(())
    }

    pub(super) fn spill_folder(&self) -> std::path::PathBuf {
        self.cx.env.state_dir.join("spill")
    }

    /// Takes a lane in; a load that goes on waits for a barrier, because what was delivered before is not known.
    fn enter(&mut self, lane: Lane) {
        let key = (lane.table().clone(), lane.generation);
        if lane.load.is_some() {
            self.delivered.get_or_insert_default();
            self.awaiting_barrier.insert(key.clone());
        }
        self.lanes.insert(key, lane);
    }

    async fn open_stream(&mut self) -> Result<mpsc::Receiver<Result<SourceEvent>>> {
        let from = match self.ledger.state().epoch {
            0 => StartAt::Beginning(self.through.clone()),
            _ => StartAt::After(self.through.clone()),
        };
        let known: Vec<_> = self.lanes.values().map(|l| Arc::clone(&l.schema)).collect();
        let mut stream = self.cx.source.changes(from, &known).await?;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        self.tasks.spawn(async move {
            loop {
                let event = stream.next().await;
                let failed = event.is_err();
                if events.send(event).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Whether everything that ends at `at` is delivered when everything up to `position` is.
    pub(super) fn covers(&self, position: &Position, at: &Position) -> bool {
        self.cx.source.covers(position, at) == Coverage::Covered
    }

    /// Begins reads while there is room.
    fn schedule_reads(&mut self) {
        if self.drain_by.is_some() || self.finishing.is_some() {
            return;
        }
        let now = Instant::now();
        self.paused.retain(|_, until| *until > now);
        let reads_max = self.cx.options.chunk_readers as usize * (1 + READS_AHEAD);
        let room = reads_max.saturating_sub(self.reads.len());
        for _ in 0..room {
            if !self.begin_read() {
                return;
            }
        }
    }

    fn begin_read(&mut self) -> bool {
        let ticket = Ticket(self.next_ticket + 1);
        let next = self
            .lanes
            .iter_mut()
            .filter(|(key, _)| {
                !self.awaiting_barrier.contains(*key) && !self.paused.contains_key(*key)
            })
            .find_map(|(key, lane)| {
                let chunk = lane.load.as_mut()?.begin(ticket)?;
                Some((key.clone(), Arc::clone(&lane.schema), chunk))
            });
        let Some((lane, schema, chunk)) = next else { return false };
        self.next_ticket += 1;
        let ids = self.delivered.iter().flatten().copied().collect();
        let delivered = Arc::new(Delivered { ids });
        let read = Read { ticket, schema, chunk, delivered: Arc::clone(&delivered) };
        let source = Arc::clone(&self.cx.source);
        let task = self.tasks.spawn(self.readers.clone().read(source, read));
        self.reads.insert(ticket, ActiveRead { lane, delivered, task });
        true
    }

    /// Whether, and how, the session ends now.
    async fn ended(&mut self, target: Option<&Position>) -> Result<Option<RunEnd>> {
        if let Some(by) = self.drain_by {
            return self.drained(by).await;
        }
        let Some(target) = target else { return Ok(None) };
        let done = self.discovered.is_some()
            && self.clean()
            && self.upkeep.is_idle()
            && self.planning.is_empty()
            && self.between.is_empty()
            && self.drifting.is_empty()
            && self.finishing.is_none()
            && self.lanes.values().all(|l| self.is_settled(l))
            && self
                .ledger
                .state()
                .position
                .as_ref()
                .is_some_and(|position| self.covers(position, target));
        Ok(done.then_some(RunEnd::CaughtUp))
    }

    /// Whether a lane shows what its table holds, or its table is no longer there under this name.
    fn is_settled(&self, lane: &Lane) -> bool {
        (lane.load.is_none() && lane.diverged.is_none()) || !self.is_at_source(lane)
    }

    /// Whether the lane's table has its name at the source still, as far as known.
    pub(super) fn is_at_source(&self, lane: &Lane) -> bool {
        let known = self.discovered.as_ref().and_then(|tables| tables.get(lane.table()));
        known == Some(&lane.schema.identity)
    }

    async fn drained(&mut self, by: Instant) -> Result<Option<RunEnd>> {
        let late = Instant::now() >= by;
        if self.tail && !late {
            return Ok(None);
        }
        if !late && self.finishing.is_none() && !self.clean() {
            self.commit_epoch(None).await?;
        }
        Ok(Some(RunEnd::Drained))
    }

    /// Whether no lane holds uncommitted work and no transaction is half delivered.
    pub(super) fn clean(&self) -> bool {
        !self.tail && self.lanes.values().all(|lane| !lane.dirty)
    }

    fn cut_is_due(&mut self, target: Option<&Position>) -> bool {
        if self.tail || self.finishing.is_some() {
            return false;
        }
        let waited = self.cut_at.elapsed();
        let options = &self.cx.options;
        let times = self.patience();
        let full = self.epoch_bytes >= options.commit_bytes.0.saturating_mul(times.into())
            || self.epoch_rows >= options.commit_rows.saturating_mul(times.into());
        if full || waited >= options.commit_interval.0.saturating_mul(times) {
            return self.has_work() || self.idle_is_due(waited, target);
        }
        self.all_has_come(target)
    }

    /// Whether gathering on would gather nothing that is awaited: the loads have read everything, or the log has come as
    /// far as the run is to go.
    fn all_has_come(&mut self, target: Option<&Position>) -> bool {
        if !self.reads.is_empty() || !self.awaiting_barrier.is_empty() {
            return false;
        }
        let (source, through) = (&self.cx.source, &self.through);
        let passed = |saw: &Position| source.covers(through, saw) == Coverage::Covered;
        let mut loading = false;
        for lane in self.lanes.values_mut() {
            if lane.load_may_end(passed) || lane.load.as_ref().is_some_and(Load::awaits_mark) {
                return true;
            }
            loading |= lane.load.is_some();
        }
        !loading && self.is_awaited(target)
    }

    /// When the running epoch will have gathered for long enough; `None` while that would not end it.
    fn next_cut(&self) -> Option<Instant> {
        let may_be_cut = !self.tail && self.finishing.is_none();
        let has_rows = self.lanes.values().any(|lane| lane.dirty);
        let interval = self.cx.options.commit_interval.0.saturating_mul(self.patience());
        (may_be_cut && has_rows).then(|| self.cut_at.checked_add(interval)).flatten()
    }

    /// How many times longer and larger an epoch may become: nobody waits for rows of a load alone, and the fewer its files
    /// are, the less there is to do about them later.
    fn patience(&self) -> u32 {
        if self.epoch_is_load && !self.reads.is_empty() { LOAD_PATIENCE } else { 1 }
    }

    fn has_work(&mut self) -> bool {
        let (source, through) = (&self.cx.source, &self.through);
        let passed = |saw: &Position| source.covers(through, saw) == Coverage::Covered;
        self.lanes.values_mut().any(|lane| lane.dirty || lane.load_may_end(passed))
    }

    fn idle_is_due(&self, waited: Duration, target: Option<&Position>) -> bool {
        let moved = self.ledger.state().position.as_ref() != Some(&self.through);
        moved && (waited >= IDLE_CLAIM || self.is_awaited(target))
    }

    /// Whether the next commit is the one that reaches the run's end.
    fn is_awaited(&self, target: Option<&Position>) -> bool {
        let committed = self.ledger.state().position.as_ref();
        target.is_some_and(|target| {
            self.covers(&self.through, target)
                && !committed.is_some_and(|position| self.covers(position, target))
        })
    }

    fn command(&mut self, command: Option<Command>) -> Result<()> {
        match command {
            Some(Command::Drain) | None => self.begin_drain(),
            Some(Command::Abort) => self.drain_by = Some(Instant::now()),
            Some(Command::Resync { table, reply }) => {
                let known = self.lanes.keys().any(|(t, _)| *t == table);
                let answer = match known {
                    true => {
                        let why = "asked for".to_owned();
                        self.between.push_back(Between::Reload { table: table.clone(), why });
                        Ok(format!("{table} is loaded again, invisibly, and swapped in at the end"))
                    }
                    false => Err(unknown_table(&table)),
                };
                let _ = reply.send(answer);
            }
            Some(Command::Compact { table, reply }) => {
                self.between.push_back(Between::Compact(super::upkeep::Asked { table, reply }));
            }
        }
        Ok(())
    }

    fn begin_drain(&mut self) {
        if self.drain_by.is_some() {
            return;
        }
        tracing::info!("draining: what was accepted is committed, nothing new is begun");
        self.cx.status.update(|s| s.phase = Phase::Draining);
        self.drain_by = Some(Instant::now() + self.cx.options.drain_timeout.0);
        for (_, read) in self.reads.drain() {
            read.task.abort();
        }
        self.lanes.values_mut().filter_map(|l| l.load.as_mut()).for_each(Load::discard_all);
    }
}

/// Copies between the visible table and the one under way were given up; a crash may have left them.
async fn drop_given_up(cx: &Context, state: &State, known: &TableState, newest: u32) -> Result<()> {
    let Some(schema) = state.schemas.get(&known.table) else { return Ok(()) };
    for generation in known.visible + 1..newest {
        cx.sink.drop_copy(schema, generation).await?;
    }
    Ok(())
}

/// Returns at a moment; never without one.
async fn reaches(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) fn unknown_table(table: &TableId) -> Error {
    Error::new(ErrorKind::Config, "the pipeline has no such table")
        .with("table", table)
        .remedied("`lakeward tables` lists them")
}
