//! Events of the log in, changes out: knows where transactions begin and end, and keeps the order that the contract
//! promises.
//!
//! ```text
//!  GTID ─ rows ─ XID ─ GTID ─ rows ─ XID ──▶ Rows (one batch a table) … Commit (the last one)
//!  GTID ─ rows ─ XA PREPARE ───────────────▶ Rows (end unknown)
//!  GTID ─ XA COMMIT / XA ROLLBACK ─────────▶ Commit / Abort
//! ```
//!
//! The transaction's id comes first, so rows of a committed one know their end. A batch holds rows of closed
//! transactions, or of one prepared one. `Commit` goes out only when all rows up to it have, and before any later row.
//! Deliberately absent: the connection, the clock, and holding rows of prepared transactions (the engine's).
mod gather;
mod statement;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lakeward_core::{
    Divergence, Error, ErrorKind, Position, Result, SourceEvent, TableId, TransactionEnd,
    TransactionId, TransactionInfo, TransactionRef,
};

use crate::batch::Plan;
use crate::binlog::event::{self, Begin, Event, Header, Prepared, RowsEvent, XaId};
use crate::binlog::rows::{self, Rows};
use crate::binlog::{Flavour, table_map};
use crate::position::{Gtid, GtidSet, position};
use crate::shared::Shared;
use crate::tables::Tables;
use crate::types::Charsets;
use gather::Gather;

/// Announcements that are remembered. A server gives a table a new number with every change of it.
const ANNOUNCED_MAX: usize = 8192;
/// The table number of an event that only ends a statement.
const NO_TABLE: u64 = 0xFF_FFFF;

/// What a fold knows of the server and shares with others.
#[derive(Debug, Clone)]
pub struct World {
    /// What each followed table is.
    pub tables: Arc<Tables>,
    /// What was handed out.
    pub shared: Arc<Shared>,
    /// Which collation is of which character set.
    pub charsets: Arc<Charsets>,
    /// Whose log it is.
    pub flavour: Flavour,
    /// The server keeps names of tables in lower case.
    pub lower_case: bool,
}

/// What gathers.
#[derive(Debug)]
pub struct Fold {
    world: World,
    gather: Gather,
    announced: HashMap<u64, Announced>,
    /// Everything up to here was delivered before; what is read again of it serves prepared transactions only.
    delivered: GtidSet,
    /// Everything that ended before this place, what was delivered before included.
    now: GtidSet,
    /// Everything that was read, from where the log was opened.
    read: GtidSet,
    mode: Mode,
    /// Everything before the transaction at hand, or else before the last one: sets before it, of `now` and of `read`.
    before: (GtidSet, GtidSet),
    /// The transaction that `before` lacks, and whether it was delivered before.
    last: Option<(Gtid, bool)>,
    /// Batches into which rows of the transaction at hand went.
    touched: Vec<usize>,
    /// Transactions that were prepared and neither committed nor rolled back, the oldest first.
    open: Vec<OpenTransaction>,
    /// The last transaction that ended, whose `Commit` has not gone out.
    ended: Option<Arc<TransactionInfo>>,
    /// Nobody was told of `now` yet.
    untold: bool,
    /// Something closed went out within a prepared transaction since the last `Commit`: a `Commit` of its own must follow
    /// before an `Idle` may. Its id and time.
    owes_end: Option<(TransactionId, SystemTime)>,
    unpacked: Vec<u8>,
}

/// A table of the log under the number that its rows use.
#[derive(Debug)]
struct Announced {
    /// What was announced, without the number.
    bytes: Box<[u8]>,
    table: TableId,
    /// `None`: not followed when it was announced.
    plan: Option<Arc<Plan>>,
    /// Its batch.
    batch: usize,
    /// The rows of the transaction at hand are left out.
    skipped: bool,
    /// No transaction from here on is skipped.
    caught_up: bool,
}

/// Where in the log we are.
#[derive(Debug)]
enum Mode {
    /// Between transactions.
    Between,
    /// Inside one.
    Inside(Inside),
}

/// A transaction while it is read.
#[derive(Debug)]
struct Inside {
    gtid: Gtid,
    info: Arc<TransactionInfo>,
    committed_at: SystemTime,
    /// It was delivered before.
    known: bool,
    /// It is one statement.
    standalone: bool,
    /// It is only an announcement of an `ALTER`, or the end of one that failed.
    without_effect: bool,
    /// Its rows are not committed by its end.
    prepares: bool,
    completes: Option<XaId>,
}

/// A transaction that was prepared.
#[derive(Debug)]
struct OpenTransaction {
    xid: XaId,
    id: TransactionId,
    /// Everything before its rows: where the log must be reopened for them.
    behind: GtidSet,
}

impl Fold {
    /// Of a log that was opened behind `resume` and whose content up to `at` was delivered before.
    pub fn new(world: World, at: GtidSet, resume: GtidSet) -> Self {
        world.shared.opened_at(&at);
        Self {
            world,
            gather: Gather::default(),
            announced: HashMap::new(),
            delivered: at.clone(),
            before: (at.clone(), resume.clone()),
            now: at,
            read: resume,
            mode: Mode::Between,
            last: None,
            touched: Vec::new(),
            open: Vec::new(),
            ended: None,
            untold: false,
            owes_end: None,
            unpacked: Vec::new(),
        }
    }

    /// The next event that is ready.
    pub fn pop(&mut self) -> Option<SourceEvent> {
        self.gather.pop()
    }

    /// Whether everything gathered may go out with its `Commit`.
    pub fn may_flush(&self) -> bool {
        matches!(self.mode, Mode::Between) && (self.ended.is_some() || self.untold)
    }

    /// Takes an event in.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`, `Unsupported`, `LogGone`.
    pub fn apply(&mut self, header: &Header, body: &[u8]) -> Result<()> {
        match event::parse(header, body)? {
            Event::Rows(event) => self.rows(&event),
            Event::TableMap(body) => self.announce(body),
            Event::Begin(begin) => self.begin(header, begin),
            Event::Commit => self.commit(),
            Event::Query(query) => self.query(&query),
            Event::Prepare(prepared) => self.prepare(prepared),
            Event::Heartbeat => self.heartbeat(),
            Event::Format => self.format(),
            Event::Rotate | Event::Nothing => Ok(()),
            Event::Incident => Err(Error::new(
                ErrorKind::LogGone,
                "the server says that it lost events of its binary log",
            )
            .remedied("load the tables again: `lakeward resync --all`")),
            Event::Payload(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "the log holds transactions in compressed blocks",
            )
            .remedied("SET GLOBAL binlog_transaction_compression=OFF, then load the tables again")),
            Event::Unknown(kind) => Err(Error::new(
                ErrorKind::Unsupported,
                "the log holds an event of a kind that is not known",
            )
            .with("kind", kind)),
        }
    }

    /// Lets everything gathered go, and the last transaction's `Commit` if no later one has begun.
    ///
    /// # Errors
    /// `Bug`.
    pub fn flush(&mut self) -> Result<()> {
        self.gather.flush()?;
        if !matches!(self.mode, Mode::Between) {
            return Ok(());
        }
        if self.tell_end() {
            self.untold = false;
        } else if self.untold {
            let position = self.position();
            self.gather.push(match self.owes_end.take() {
                Some((transaction, committed_at)) => SourceEvent::Commit {
                    transaction,
                    end: TransactionEnd { position, committed_at },
                },
                None => SourceEvent::Idle { position },
            });
            self.untold = false;
        }
        Ok(())
    }

    /// Lets the last `Commit` go. False: there is none.
    fn tell_end(&mut self) -> bool {
        let Some(info) = self.ended.take() else { return false };
        let Some(end) = info.end.clone() else { return false };
        self.gather.push(SourceEvent::Commit { transaction: info.transaction.id, end });
        self.owes_end = None;
        true
    }

    /// The place behind everything that ended.
    fn position(&self) -> Position {
        let resume = self.open.first().map_or(&self.read, |open| &open.behind);
        position(&self.now, resume)
    }

    fn begin(&mut self, header: &Header, begin: Begin) -> Result<()> {
        let Some(gtid) = begin.gtid else { return Err(no_gtid()) };
        if let Mode::Inside(_) = self.mode {
            tracing::warn!(transaction = %gtid, "the transaction before it has no end in the log");
            self.give_up()?;
        }
        self.check_order(&gtid)?;
        self.catch_up();
        let known = self.delivered.contains(&gtid);
        self.last = Some((gtid.clone(), known));
        self.touched.clear();
        self.read.add(&gtid);
        if !known {
            self.now.add(&gtid);
            self.world.shared.hand_out(&gtid);
        }
        if begin.prepares {
            self.flush_closed()?;
        }
        let committed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(header.timestamp.into());
        let end =
            (!begin.prepares).then(|| TransactionEnd { position: self.position(), committed_at });
        let transaction = TransactionRef { id: gtid.transaction_id(), part: None };
        self.mode = Mode::Inside(Inside {
            gtid,
            info: Arc::new(TransactionInfo { transaction, end }),
            committed_at,
            known,
            standalone: begin.standalone,
            without_effect: begin.without_effect,
            prepares: begin.prepares,
            completes: begin.completes,
        });
        Ok(())
    }

    /// The last transaction is over: the next one has it before itself.
    fn catch_up(&mut self) {
        let Some((gtid, known)) = self.last.take() else { return };
        self.before.1.add(&gtid);
        if !known {
            self.before.0.add(&gtid);
        }
    }

    /// In MariaDB a set is known by its last transactions: one that comes late would be taken for a known one.
    fn check_order(&self, gtid: &Gtid) -> Result<()> {
        if matches!(gtid, Gtid::MariaDb { .. }) && self.read.contains(gtid) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "transactions of one replication domain are out of order in the log",
            )
            .with("transaction", gtid)
            .with("after", &self.read)
            .remedied("SET GLOBAL gtid_strict_mode=ON, then `lakeward resync --all`"));
        }
        Ok(())
    }

    /// Rows of closed transactions go out before those of an open one, and the other way round.
    fn flush_closed(&mut self) -> Result<()> {
        self.gather.flush()?;
        self.tell_end();
        Ok(())
    }

    /// The transaction at hand will be prepared: its rows are not committed by its end.
    fn opens(&mut self) -> Result<()> {
        self.flush_closed()?;
        if let Mode::Inside(inside) = &mut self.mode {
            inside.prepares = true;
            let transaction = inside.info.transaction;
            inside.info = Arc::new(TransactionInfo { transaction, end: None });
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let Mode::Inside(inside) = std::mem::replace(&mut self.mode, Mode::Between) else {
            return Err(misplaced("a transaction ends that did not begin"));
        };
        self.untold = true;
        if inside.prepares {
            return self.gather.flush();
        }
        if !inside.known {
            self.ended = Some(inside.info);
        }
        Ok(())
    }

    fn prepare(&mut self, prepared: Prepared) -> Result<()> {
        if prepared.one_phase {
            return self.commit();
        }
        let Mode::Inside(inside) = &self.mode else {
            return Err(misplaced("a transaction is prepared that did not begin"));
        };
        // One that changed nothing that is followed need not be remembered: its commit is an empty transaction.
        if !self.touched.is_empty() {
            self.open.push(OpenTransaction {
                xid: prepared.xid,
                id: inside.info.transaction.id,
                behind: self.before.1.clone(),
            });
        }
        self.commit()
    }

    /// The outcome of a prepared transaction. One that is not known had no rows for us, or was prepared before the log's
    /// beginning: then every chunk has seen it.
    fn complete(&mut self, xid: &XaId, commits: bool) -> Result<()> {
        let Some(at) = self.open.iter().position(|open| open.xid == *xid) else {
            return self.commit();
        };
        let open = self.open.remove(at);
        let Mode::Inside(inside) = std::mem::replace(&mut self.mode, Mode::Between) else {
            return Err(misplaced("a prepared transaction ends outside a transaction"));
        };
        self.flush_closed()?;
        self.untold = true;
        if commits && !inside.known {
            self.world.shared.complete(open.xid);
            let committed_at = inside.committed_at;
            let end = TransactionEnd { position: self.position(), committed_at };
            self.gather.push(SourceEvent::Commit { transaction: open.id, end });
            self.owes_end = None;
            self.untold = false;
        } else {
            let aborted = TransactionRef { id: open.id, part: None };
            self.gather.push(SourceEvent::Abort(aborted));
        }
        Ok(())
    }

    fn heartbeat(&mut self) -> Result<()> {
        if self.may_flush() { self.flush() } else { Ok(()) }
    }

    /// A new file begins, or a connection. A transaction that the last file did not end never happened: the server died.
    fn format(&mut self) -> Result<()> {
        match self.mode {
            Mode::Between => Ok(()),
            Mode::Inside(_) => self.give_up(),
        }
    }

    /// The transaction at hand did not happen. Its rows may have gone out: their tables must be loaded again.
    fn give_up(&mut self) -> Result<()> {
        let Mode::Inside(inside) = std::mem::replace(&mut self.mode, Mode::Between) else {
            return Ok(());
        };
        self.void_touched("a transaction that the server did not finish")?;
        (self.now, self.read) = self.before.clone();
        self.last = None;
        if inside.prepares {
            self.gather.push(SourceEvent::Abort(inside.info.transaction));
        }
        Ok(())
    }

    /// Rows of the transaction at hand went out, or will, that are not true.
    fn void_touched(&mut self, why: &str) -> Result<()> {
        for at in self.touched.clone() {
            if let Some(table) = self.gather.table(at) {
                self.diverge(&table, Divergence::Other(why.to_owned()))?;
            }
        }
        Ok(())
    }

    fn diverge(&mut self, table: &TableId, why: Divergence) -> Result<()> {
        self.gather.flush_table(table)?;
        self.gather.push(SourceEvent::Diverged { table: table.clone(), why });
        Ok(())
    }

    /// A table is announced for the rows that follow.
    fn announce(&mut self, body: &[u8]) -> Result<()> {
        let Mode::Inside(inside) = &self.mode else {
            return Err(misplaced("a table is announced outside a transaction"));
        };
        if inside.known && !inside.prepares {
            return Ok(());
        }
        let (id, bytes) = table_map::identity(body)?;
        let same = self.announced.get(&id).is_some_and(|announced| *announced.bytes == *bytes);
        if !same {
            let (database, name) = table_map::name_of(body)?;
            if self.announced.len() >= ANNOUNCED_MAX {
                self.announced.clear();
            }
            let announced = Announced {
                bytes: bytes.into(),
                table: TableId::new(database, name),
                plan: None,
                batch: 0,
                skipped: false,
                caught_up: false,
            };
            self.announced.insert(id, announced);
        }
        let Some(announced) = self.announced.get_mut(&id) else { return Ok(()) };
        if !announced.caught_up {
            announced.skipped = self.world.tables.skips(&announced.table, &inside.gtid);
            announced.caught_up = !announced.skipped && announced.plan.is_some();
        }
        if announced.skipped || announced.plan.is_some() {
            return Ok(());
        }
        self.plan(id, body)
    }

    /// Makes the plan by which rows of a table become columns, and tells what the table has become.
    fn plan(&mut self, id: u64, body: &[u8]) -> Result<()> {
        let (Mode::Inside(inside), Some(announced)) = (&self.mode, self.announced.get_mut(&id))
        else {
            return Ok(());
        };
        if self.world.tables.get(&announced.table).is_none() {
            return Ok(());
        }
        let map = table_map::parse(body, self.world.flavour)?;
        if !map.has_names {
            return Err(nameless(&announced.table));
        }
        let charsets = &self.world.charsets;
        let mapped =
            self.world.tables.mapped(&announced.table, &map.columns, charsets, &self.before.0);
        let Some(mapped) = mapped else { return Ok(()) };
        let policy = self.world.tables.policy();
        let plan = Arc::new(Plan::new(mapped.schema, &map.columns, mapped.slots, policy)?);
        let table = announced.table.clone();
        if mapped.change.is_some() {
            self.gather.flush_table(&table)?;
        }
        if let Some(change) = mapped.change {
            tracing::info!(%table, version = %change.after.version, "the table has become another version");
            self.gather.push(SourceEvent::Schema(change));
            if inside.prepares {
                // Not the id of the transaction, which is still open.
                let id = TransactionId(!inside.info.transaction.id.0);
                self.owes_end = Some((id, inside.committed_at));
            }
        }
        announced.batch = self.gather.batch_of(&plan, announced.batch)?;
        announced.plan = Some(plan);
        match mapped.diverged {
            Some(why) => self.diverge(&table, why),
            None => Ok(()),
        }
    }

    fn rows(&mut self, event: &RowsEvent<'_>) -> Result<()> {
        let Mode::Inside(inside) = &self.mode else {
            return Err(misplaced("rows outside a transaction"));
        };
        if inside.known && !inside.prepares {
            return Ok(());
        }
        let id = rows::table_of(event)?;
        let Some(announced) = self.announced.get_mut(&id) else {
            if id == NO_TABLE {
                return Ok(());
            }
            return Err(misplaced("rows of a table that was not announced"));
        };
        let Some(plan) = announced.plan.as_ref().filter(|_| !announced.skipped) else {
            return Ok(());
        };
        announced.batch = self.gather.batch_of(plan, announced.batch)?;
        let rows = Rows::parse(event, &mut self.unpacked)
            .map_err(|error| Error::from(error).with("table", &announced.table))?;
        if rows.columns != plan.columns() {
            return Err(misplaced("rows do not have the columns that were announced")
                .with("table", &announced.table));
        }
        if !self.touched.contains(&announced.batch) {
            self.touched.push(announced.batch);
        }
        self.gather.add(announced.batch, &rows, &inside.info)
    }
}

fn nameless(table: &TableId) -> Error {
    Error::new(ErrorKind::Config, "the log does not carry the names of columns")
        .with("table", table)
        .remedied("SET GLOBAL binlog_row_metadata=FULL, then load the table again")
}

fn no_gtid() -> Error {
    Error::new(ErrorKind::Unsupported, "the log holds a transaction without a global id")
        .remedied("SET GLOBAL gtid_mode=ON (step by step, as the server's manual says)")
}

#[cold]
fn misplaced(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}
