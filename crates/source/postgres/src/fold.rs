//! Messages of the log in, events out: gathers rows into batches and keeps the order that the contract promises.
//!
//! ```text
//!  Begin ─ rows ─ Commit ─ Begin ─ rows ─ Commit ──▶ Rows (one batch a table) … Commit (the last one)
//!  StreamStart ─ rows ─ StreamStop ────────────────▶ Rows (end unknown)
//!  StreamCommit / StreamAbort ─────────────────────▶ Commit / Abort
//! ```
//!
//! A batch holds rows of closed transactions, or rows of one open transaction: at `StreamStart` and `StreamStop`
//! everything gathered goes out. `Commit` goes out only when all rows up to it have, and before any later row.
//! Deliberately absent: the socket, the catalogue, the clock, and holding rows of open transactions (the engine's).
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lakeward_core::{
    ChangeBatch, Divergence, Error, ErrorKind, PartId, Result, SourceEvent, TableId,
    TransactionEnd, TransactionId, TransactionInfo, TransactionRef,
};

use crate::batch::{Layout, TableBatch};
use crate::decode::{CommitEnd, Message, OldTuple, Relids, Tuple};
use crate::position::Place;

/// A table's batch goes out at this many rows. More saves nothing; fewer costs an allocation per column more often.
const BATCH_ROWS: usize = 1 << 16;
/// Or at this many bytes of log: with narrow rows that is about as many rows as above.
const BATCH_BYTES: usize = 6 << 20;
/// All batches together go out at this many bytes of log: many tables with few rows each must not add up.
const ALL_BYTES: usize = 16 << 20;
/// A transaction's layouts are kept while it is open; more than this is no workload but a leak.
const OPEN_MAX: usize = 100_000;

/// What gathers.
pub struct Fold {
    system: u64,
    base: HashMap<u32, Arc<Layout>>,
    open: HashMap<u32, OpenTransaction>,
    mode: Mode,
    batches: Vec<TableBatch>,
    index: HashMap<u32, usize>,
    /// Batches that may hold rows, in the order of their first.
    filled: Vec<usize>,
    last: (u32, usize),
    bytes: usize,
    ended: Option<(TransactionId, CommitEnd)>,
    idle: u64,
    doubts: Vec<Doubt>,
    events: VecDeque<SourceEvent>,
}

/// A divergence whose place in the log is not known, only that it lies before `until`.
#[derive(Debug)]
struct Doubt {
    until: u64,
    table: TableId,
    why: Divergence,
}

/// Where in the stream we are.
#[derive(Debug)]
enum Mode {
    /// Between transactions.
    Between,
    /// Inside a committed transaction.
    Closed(Arc<TransactionInfo>),
    /// Inside a piece of an open one: its top id, and the part that the last change belonged to.
    Open(u32, Arc<TransactionInfo>),
}

/// What an open transaction brought besides rows.
#[derive(Debug, Default)]
struct OpenTransaction {
    layouts: Vec<OpenLayout>,
}

/// A layout that holds inside an open transaction only.
#[derive(Debug, Clone)]
pub struct OpenLayout {
    /// The part that brought it.
    pub part: u32,
    /// The layout.
    pub layout: Arc<Layout>,
    /// Its schema is not what was told outside: the transaction changed the table.
    pub changed: Option<Arc<crate::decode::RelationMessage>>,
}

impl Fold {
    /// Of a cluster, beginning behind `from` (an LSN).
    pub fn new(system: u64, from: u64) -> Self {
        Self {
            system,
            base: HashMap::new(),
            open: HashMap::new(),
            mode: Mode::Between,
            batches: Vec::new(),
            index: HashMap::new(),
            filled: Vec::new(),
            last: (0, usize::MAX),
            bytes: 0,
            ended: None,
            idle: from,
            doubts: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// The next event that is ready.
    pub fn pop(&mut self) -> Option<SourceEvent> {
        self.events.pop_front()
    }

    /// Whether an event is ready.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether messages carry the id of their (sub)transaction.
    pub fn streaming(&self) -> bool {
        matches!(self.mode, Mode::Open(..))
    }

    /// Whether everything gathered may go out with its `Commit`.
    pub fn may_flush(&self) -> bool {
        self.ended.is_some() && matches!(self.mode, Mode::Between)
    }

    /// The transaction that the next message of part `xid` belongs to.
    pub fn transaction(&self, xid: Option<u32>) -> Option<TransactionRef> {
        match &self.mode {
            Mode::Between => None,
            Mode::Closed(info) => Some(info.transaction),
            Mode::Open(top, _) => Some(reference(*top, xid.unwrap_or(*top))),
        }
    }

    /// The layout that holds for a table at this place.
    pub fn layout(&self, relid: u32) -> Option<&Arc<Layout>> {
        let open = match &self.mode {
            Mode::Open(top, _) => self.open.get(top),
            _ => None,
        };
        let inside = open.and_then(|o| o.layouts.iter().rev().find(|l| l.layout.relid == relid));
        inside.map(|l| &l.layout).or_else(|| self.base.get(&relid))
    }

    /// The layout that holds for a table outside open transactions.
    pub fn base(&self, relid: u32) -> Option<&Arc<Layout>> {
        self.base.get(&relid)
    }

    /// Layouts that an open transaction brought.
    pub fn open_layouts(&self, top: u32) -> &[OpenLayout] {
        self.open.get(&top).map_or(&[], |open| open.layouts.as_slice())
    }

    /// Takes a message in, except `Relation`, which [`install`](Fold::install) does after the catalogue was asked.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`.
    pub fn apply(&mut self, message: Message<'_>) -> Result<()> {
        match message {
            Message::Insert { xid, relid, new } => self.insert(xid, relid, new),
            Message::Update { xid, relid, old, new } => self.update(xid, relid, old, new),
            Message::Delete { xid, relid, old } => self.delete(xid, relid, old),
            Message::Begin { commit_start, committed_at, xid } => {
                self.begin(commit_start, committed_at, xid)
            }
            Message::Commit(end) => self.commit(end),
            Message::Truncate { xid, relids } => self.truncate(xid, relids),
            Message::StreamStart { xid } => self.stream_start(xid),
            Message::StreamStop => self.stream_stop(),
            Message::StreamCommit { xid, end } => self.stream_commit(xid, end),
            Message::StreamAbort { xid, part } => self.stream_abort(xid, part),
            Message::Relation { .. } | Message::Other => Ok(()),
        }
    }

    /// Makes a layout hold from here on; inside an open transaction for that one only.
    ///
    /// # Errors
    /// `Corrupt`, `Exhausted`.
    pub fn install(
        &mut self,
        xid: Option<u32>,
        layout: OpenLayout,
        event: Option<SourceEvent>,
    ) -> Result<()> {
        self.flush_table(layout.layout.relid)?;
        self.forget_last();
        self.events.extend(event);
        match &self.mode {
            Mode::Open(top, _) => {
                let part = xid.unwrap_or(*top);
                let open = self.open.entry(*top).or_default();
                if open.layouts.len() >= OPEN_MAX {
                    return Err(Error::new(
                        ErrorKind::Exhausted,
                        "an open transaction changed tables too often",
                    )
                    .with("transaction", *top));
                }
                open.layouts.push(OpenLayout { part, ..layout });
            }
            _ => {
                self.base.insert(layout.layout.relid, layout.layout);
            }
        }
        Ok(())
    }

    /// Says that rows changed that the log does not carry. With `until` they may do so up to that LSN: it is said again
    /// when the log has passed it, for whoever loaded the table in between.
    pub fn diverged(&mut self, table: TableId, why: Divergence, until: Option<u64>) {
        self.doubts.extend(until.map(|until| Doubt {
            until,
            table: table.clone(),
            why: why.clone(),
        }));
        self.events.push_back(SourceEvent::Diverged { table, why });
    }

    fn settle_doubts(&mut self) {
        let passed = self.idle;
        for doubt in self.doubts.extract_if(.., |doubt| doubt.until <= passed) {
            self.events.push_back(SourceEvent::Diverged { table: doubt.table, why: doubt.why });
        }
    }

    /// A keepalive. Inside a transaction it says nothing.
    ///
    /// # Errors
    /// `Bug`.
    pub fn keepalive(&mut self, lsn: u64) -> Result<()> {
        if !matches!(self.mode, Mode::Between) || lsn <= self.idle {
            return Ok(());
        }
        self.flush()?;
        self.idle = lsn;
        self.settle_doubts();
        self.events.push_back(SourceEvent::Idle { position: Place::before(self.system, lsn) });
        Ok(())
    }

    /// Lets everything gathered go, and the last transaction's `Commit` if no later one has begun.
    ///
    /// # Errors
    /// `Bug`.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_rows()?;
        if self.may_flush()
            && let Some((transaction, end)) = self.ended.take()
        {
            self.settle_doubts();
            let end = self.end(end);
            self.events.push_back(SourceEvent::Commit { transaction, end });
        }
        Ok(())
    }

    fn flush_rows(&mut self) -> Result<()> {
        for at in std::mem::take(&mut self.filled) {
            if let Some(rows) =
                self.batches.get_mut(at).map(TableBatch::finish).transpose()?.flatten()
            {
                self.events.push_back(SourceEvent::Rows(rows));
            }
        }
        self.bytes = 0;
        Ok(())
    }

    fn flush_table(&mut self, relid: u32) -> Result<()> {
        let Some(batch) = self.index.get(&relid).and_then(|at| self.batches.get_mut(*at)) else {
            return Ok(());
        };
        self.bytes = self.bytes.saturating_sub(batch.bytes());
        let rows: Option<ChangeBatch> = batch.finish()?;
        self.events.extend(rows.map(SourceEvent::Rows));
        Ok(())
    }

    /// Where a change of this table goes, and the transaction it belongs to.
    #[inline]
    fn target(
        &mut self,
        xid: Option<u32>,
        relid: u32,
    ) -> Result<(&mut TableBatch, &Arc<TransactionInfo>)> {
        self.enter_part(xid);
        let at = if self.last.0 == relid && self.last.1 < self.batches.len() {
            self.last.1
        } else {
            self.find(relid)?
        };
        let info = match &self.mode {
            Mode::Closed(info) | Mode::Open(_, info) => info,
            Mode::Between => return Err(misplaced("a row outside a transaction")),
        };
        let batch = &mut self.batches[at];
        if batch.is_empty() {
            self.filled.push(at);
        }
        Ok((batch, info))
    }

    #[inline]
    fn enter_part(&mut self, xid: Option<u32>) {
        if let (Mode::Open(top, info), Some(xid)) = (&mut self.mode, xid) {
            let transaction = reference(*top, xid);
            if info.transaction != transaction {
                *info = Arc::new(TransactionInfo { transaction, end: None });
            }
        }
    }

    #[cold]
    fn find(&mut self, relid: u32) -> Result<usize> {
        let layout = self.layout(relid).cloned().ok_or_else(|| {
            misplaced("a row of a table that the log has not announced").with("oid", relid)
        })?;
        let at = match self.index.get(&relid) {
            Some(at) => {
                let fits = Arc::ptr_eq(self.batches[*at].layout(), &layout);
                let at = *at;
                if !fits {
                    self.flush_table(relid)?;
                    self.batches[at] = TableBatch::new(layout)?;
                }
                at
            }
            None => {
                self.batches.push(TableBatch::new(layout)?);
                self.index.insert(relid, self.batches.len() - 1);
                self.batches.len() - 1
            }
        };
        self.last = (relid, at);
        Ok(at)
    }

    #[inline]
    fn insert(&mut self, xid: Option<u32>, relid: u32, new: Tuple<'_>) -> Result<()> {
        let (batch, info) = self.target(xid, relid)?;
        batch.insert(new, info)?;
        self.grown(relid, new.bytes())
    }

    fn update(
        &mut self,
        xid: Option<u32>,
        relid: u32,
        old: Option<OldTuple<'_>>,
        new: Tuple<'_>,
    ) -> Result<()> {
        let (batch, info) = self.target(xid, relid)?;
        batch.update(old, new, info)?;
        self.grown(relid, new.bytes() + old.map_or(0, |old| old.tuple.bytes()))
    }

    fn delete(&mut self, xid: Option<u32>, relid: u32, old: OldTuple<'_>) -> Result<()> {
        let (batch, info) = self.target(xid, relid)?;
        batch.delete(old, info)?;
        self.grown(relid, old.tuple.bytes())
    }

    #[inline]
    fn grown(&mut self, relid: u32, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        let full = self
            .batches
            .get(self.last.1)
            .is_some_and(|b| b.len() >= BATCH_ROWS || b.bytes() >= BATCH_BYTES);
        if self.bytes >= ALL_BYTES {
            return self.flush_rows();
        }
        if full { self.flush_table(relid) } else { Ok(()) }
    }

    fn begin(&mut self, commit_start: u64, committed_at: i64, xid: u32) -> Result<()> {
        if !matches!(self.mode, Mode::Between) {
            return Err(misplaced("a transaction begins inside another"));
        }
        let end = TransactionEnd {
            position: Place::behind(self.system, commit_start, None),
            committed_at: time(committed_at),
        };
        let transaction = reference(xid, xid);
        self.mode = Mode::Closed(Arc::new(TransactionInfo { transaction, end: Some(end) }));
        Ok(())
    }

    fn commit(&mut self, end: CommitEnd) -> Result<()> {
        let Mode::Closed(info) = &self.mode else {
            return Err(misplaced("a transaction ends that did not begin"));
        };
        self.ended = Some((info.transaction.id, end));
        self.idle = self.idle.max(end.end);
        self.mode = Mode::Between;
        Ok(())
    }

    fn end(&self, end: CommitEnd) -> TransactionEnd {
        TransactionEnd {
            position: Place::behind(self.system, end.start, Some(end.end)),
            committed_at: time(end.committed_at),
        }
    }

    fn truncate(&mut self, xid: Option<u32>, relids: Relids<'_>) -> Result<()> {
        self.enter_part(xid);
        let transaction = match &self.mode {
            Mode::Closed(info) | Mode::Open(_, info) => Arc::clone(info),
            Mode::Between => return Err(misplaced("a truncate outside a transaction")),
        };
        for relid in relids.iter() {
            self.flush_table(relid)?;
            let layout = self.layout(relid).ok_or_else(|| {
                misplaced("a truncate of a table that the log has not announced").with("oid", relid)
            })?;
            self.events.push_back(SourceEvent::Truncate {
                table: layout.schema.table.clone(),
                origin: None,
                transaction: Arc::clone(&transaction),
            });
        }
        Ok(())
    }

    fn stream_start(&mut self, top: u32) -> Result<()> {
        if !matches!(self.mode, Mode::Between) {
            return Err(misplaced("a piece of an open transaction inside another transaction"));
        }
        self.flush()?;
        let info = TransactionInfo { transaction: reference(top, top), end: None };
        self.mode = Mode::Open(top, Arc::new(info));
        self.forget_last();
        Ok(())
    }

    fn stream_stop(&mut self) -> Result<()> {
        if !self.streaming() {
            return Err(misplaced("a piece of an open transaction ends that did not begin"));
        }
        self.flush_rows()?;
        self.mode = Mode::Between;
        self.forget_last();
        Ok(())
    }

    fn stream_commit(&mut self, top: u32, end: CommitEnd) -> Result<()> {
        if !matches!(self.mode, Mode::Between) {
            return Err(misplaced("an open transaction ends inside another"));
        }
        self.flush()?;
        for open in self.open.remove(&top).unwrap_or_default().layouts {
            self.base.insert(open.layout.relid, open.layout);
        }
        self.forget_last();
        self.idle = self.idle.max(end.end);
        let end = self.end(end);
        let transaction = TransactionId(u64::from(top));
        self.settle_doubts();
        self.events.push_back(SourceEvent::Commit { transaction, end });
        Ok(())
    }

    fn stream_abort(&mut self, top: u32, part: u32) -> Result<()> {
        if !matches!(self.mode, Mode::Between) {
            return Err(misplaced("an open transaction is rolled back inside another"));
        }
        if top == part {
            self.open.remove(&top);
        } else if let Some(open) = self.open.get_mut(&top) {
            open.layouts.retain(|layout| layout.part != part);
        }
        self.events.push_back(SourceEvent::Abort(reference(top, part)));
        Ok(())
    }

    /// A table's layout may be another one now.
    fn forget_last(&mut self) {
        self.last = (0, usize::MAX);
    }
}

fn reference(top: u32, xid: u32) -> TransactionRef {
    let part = (xid != top && xid != 0).then(|| PartId(u64::from(xid)));
    TransactionRef { id: TransactionId(u64::from(top)), part }
}

/// Microseconds since 2000-01-01 as a time.
fn time(micros: i64) -> SystemTime {
    const EPOCH_SECONDS: u64 = 946_684_800;
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS);
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(epoch)
}

#[cold]
fn misplaced(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}
