//! The log as a [`ChangeStream`]: reads the walsender, asks the catalogue where tables change, folds.
//!
//! Deliberately absent: retries and reconnecting (the engine opens a new stream).
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use lakeward_core::{
    ChangeStream, Divergence, Error, ErrorKind, Fill, Result, SchemaChange, SourceEvent, StartAt,
    TableSchema,
};
use tokio::io::ReadHalf;
use tokio::time::{Instant, sleep, timeout};

use crate::batch::Layout;
use crate::catalog::{Catalog, Described};
use crate::decode::{self, Message, RelationMessage};
use crate::feedback::Feedback;
use crate::fold::{Fold, OpenLayout};
use crate::position::{Place, parse_lsn, print_lsn, resume_lsn};
use crate::relation::{self, Known, Resolved, Step};
use crate::setup;
use crate::types::PgType;
use crate::wire::{self, BoxedSocket, CopyBoth, Frame, Frames, Refusal, ReplicationConnection};

/// While more keeps coming, closed transactions go out after this long. Longer makes larger batches, and staler ones.
const FRESH: Duration = Duration::from_millis(50);
/// A server that was asked and says nothing for this long is gone, unless it is patient itself: a walsender that
/// decodes a huge transaction answers only when half its own patience is over.
const SILENCE: Duration = Duration::from_secs(60);
/// How long another reader of the slot is waited for: a dead one of ours goes when the server notices.
const SLOT_BUSY: Duration = Duration::from_secs(20);
/// After this long its connection is ended. Whoever opens the log owns the pipeline by its ledger: the other reader is
/// an older writer that was taken over, or a connection that outlived its process.
const SLOT_OURS: Duration = Duration::from_secs(2);
/// How long the catalogue may lag behind a commit that the log has delivered (synchronous standbys hold commits back).
const CATALOGUE_LAG: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const CATALOGUE_LOOK: Duration = Duration::from_millis(20);

/// Opens the log. `confirmed` holds the LSN that may be released; the stream's own task tells the server.
///
/// # Errors
/// `LogGone` when the slot is missing, invalidated or already past `from`, or when `from` is of another server;
/// `Unreachable`, `Auth`, `Conflict` (slot in use).
pub async fn open(
    catalog: Arc<Catalog>,
    from: StartAt,
    known: &[Arc<TableSchema>],
    confirmed: Arc<AtomicU64>,
) -> Result<Box<dyn ChangeStream>> {
    let (StartAt::Beginning(position) | StartAt::After(position)) = from;
    let (place, resume) = (Place::parse(&position)?, resume_lsn(&position)?);
    let settings = Arc::clone(catalog.settings());
    let deadline = Instant::now() + SLOT_BUSY;
    let copy = loop {
        let mut connection = ReplicationConnection::connect(&settings).await?;
        let patience = examine(&mut connection, &settings.slot, place, resume).await?;
        match connection.stream(&settings.slot, &settings.publication, resume).await {
            Ok(copy) => break (copy, patience),
            Err(error) if error.kind() == ErrorKind::Conflict && Instant::now() < deadline => {
                tracing::debug!(slot = settings.slot, "the slot is in use, waiting");
                sleep(Duration::from_millis(200)).await;
                if Instant::now() + SLOT_BUSY > deadline + SLOT_OURS {
                    setup::end_reader(catalog.session().await?.as_ref(), &settings.slot).await?;
                }
            }
            Err(error) => return Err(error),
        }
    };
    let (CopyBoth { reader, frames, writer }, patience) = copy;
    let known = known.iter().filter_map(|s| Some((s.identity.0.parse().ok()?, Arc::clone(s))));
    Ok(Box::new(Log {
        socket: reader,
        frames,
        fold: Fold::new(place.system, place.lsn),
        feedback: Feedback::start(writer, confirmed, resume, patience),
        known: known.collect(),
        catalog,
        gathering_since: None,
        silence: patience.map(|patience| patience.max(SILENCE)),
    }))
}

/// Whether the slot still holds what is owed. Returns the server's patience with a silent client.
async fn examine(
    connection: &mut ReplicationConnection,
    slot: &str,
    place: Place,
    resume: u64,
) -> Result<Option<Duration>> {
    let identity = connection.identify().await?;
    let gone = |what: &'static str| {
        Error::new(ErrorKind::LogGone, what)
            .with("slot", slot)
            .with("position", print_lsn(resume))
            .remedied("load the tables again: `lakeward resync`")
    };
    if identity.system != place.system {
        return Err(gone("this is another server than the one that was followed")
            .with("system", identity.system));
    }
    if identity.flushed < resume {
        return Err(gone(
            "the server's log ends before what was followed: it was restored or failed over",
        )
        .with("server", print_lsn(identity.flushed)));
    }
    let state = connection.slot(slot).await?;
    let Some(state) = state else {
        return Err(gone("the replication slot is gone"));
    };
    if state.lost {
        return Err(gone("the server has invalidated the replication slot"));
    }
    if state.confirmed.is_some_and(|confirmed| confirmed > resume) {
        return Err(gone("the slot begins later than what is owed")
            .with("confirmed", print_lsn(state.confirmed.unwrap_or_default())));
    }
    connection.sender_timeout().await
}

struct Log {
    socket: ReadHalf<BoxedSocket>,
    frames: Frames,
    fold: Fold,
    feedback: Feedback,
    catalog: Arc<Catalog>,
    /// What the engine holds of tables of which the log has not yet brought as much.
    known: HashMap<u32, Arc<TableSchema>>,
    gathering_since: Option<Instant>,
    silence: Option<Duration>,
}

#[async_trait]
impl ChangeStream for Log {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.fold.pop() {
                return Ok(event);
            }
            match self.walk()? {
                Walked::Event => {}
                Walked::Question => self.question().await?,
                Walked::End => self.read().await?,
            }
        }
    }
}

/// Where a walk over messages that were read ended.
enum Walked {
    /// An event is ready.
    Event,
    /// The next message needs the catalogue.
    Question,
    /// No whole message is left.
    End,
}

impl Log {
    /// Uses messages one after the other, without waiting for anything.
    fn walk(&mut self) -> Result<Walked> {
        while !self.fold.is_ready() {
            let Some(frame) = self.frames.peek()? else { return Ok(Walked::End) };
            let length = frame.body.len();
            match (frame.tag, frame.body.first()) {
                (b'd', Some(b'w')) => {
                    let message = message(frame)?;
                    if decode::is_question(message) {
                        return Ok(Walked::Question);
                    }
                    self.fold.apply(decode::parse(message, self.fold.streaming())?)?;
                }
                (b'd', Some(b'k')) => self.keepalive()?,
                (b'd', _) => return Err(unknown(frame.body.first().copied())),
                (b'E', _) => return Err(Refusal::parse(frame.body).into_error(wire::Step::Stream)),
                (b'c' | b'Z' | b'C', _) => return Err(wire::closed()),
                (b'N' | b'S' | b'A', _) => {}
                (tag, _) => return Err(unknown(Some(tag))),
            }
            self.frames.skip(length);
        }
        Ok(Walked::Event)
    }

    fn keepalive(&mut self) -> Result<()> {
        let Some(frame) = self.frames.peek()? else { return Ok(()) };
        let (Some([_, lsn @ ..]), Some(ask)) = (frame.body.first_chunk::<9>(), frame.body.get(17))
        else {
            return Err(unknown(Some(b'k')));
        };
        let (lsn, ask) = (u64::from_be_bytes(*lsn), *ask);
        if ask == 1 {
            self.feedback.answer();
        }
        self.fold.keepalive(lsn)?;
        self.gathering_since = None;
        Ok(())
    }

    /// Uses a message that needs the catalogue.
    async fn question(&mut self) -> Result<()> {
        let Some(frame) = self.frames.peek()? else { return Ok(()) };
        match decode::parse(message(frame)?, self.fold.streaming())? {
            Message::Relation { xid, relation } => self.relation(xid, relation).await?,
            Message::StreamCommit { xid, end } => {
                self.verify_open(xid).await?;
                self.fold.apply(Message::StreamCommit { xid, end })?;
            }
            message => self.fold.apply(message)?,
        }
        self.frames.consume();
        Ok(())
    }

    /// Reads more. When nothing is there, or enough time has passed, lets closed transactions go first.
    async fn read(&mut self) -> Result<()> {
        let since = *self.gathering_since.get_or_insert_with(Instant::now);
        if self.fold.may_flush() && since.elapsed() >= FRESH {
            return self.let_go();
        }
        self.frames.gather().await;
        let read = match self.frames.try_fill(&mut self.socket).await.map_err(wire::broken)? {
            Some(read) => read,
            None if self.fold.may_flush() => return self.let_go(),
            None => self.wait().await?,
        };
        if read == 0 { Err(wire::closed()) } else { Ok(()) }
    }

    async fn wait(&mut self) -> Result<usize> {
        let read = self.frames.fill(&mut self.socket);
        let Some(silence) = self.silence else { return read.await.map_err(wire::broken) };
        match timeout(silence, read).await {
            Ok(read) => read.map_err(wire::broken),
            Err(_) => Err(Error::new(ErrorKind::Unreachable, "the server fell silent")),
        }
    }

    fn let_go(&mut self) -> Result<()> {
        self.gathering_since = None;
        self.fold.flush()
    }

    fn told(&self, relid: u32) -> Option<Arc<TableSchema>> {
        let layout = self.fold.layout(relid).map(|layout| Arc::clone(&layout.schema));
        layout.or_else(|| self.known.get(&relid).cloned())
    }

    /// A table's columns are announced: everything is asked first and done afterwards, so that a cancelled call leaves
    /// the message where it was.
    async fn relation(&mut self, xid: Option<u32>, message: RelationMessage) -> Result<()> {
        let relid = message.relid;
        let told = self.told(relid);
        let open = self.fold.streaming();
        let transaction = self.fold.transaction(xid).map(|t| t.id.0 as u32);
        let catalog = Arc::clone(&self.catalog);
        // A transaction that is still open may stay so for long: what it did is verified when it commits.
        let deadline = Instant::now() + if open { Duration::ZERO } else { CATALOGUE_LAG };
        let answers = ask(&catalog, &message, told.as_deref(), transaction, deadline).await?;
        let resolved = relation::resolve(answers.known(
            told.as_deref(),
            self.known.contains_key(&relid),
            &message,
        ));
        let doubt = resolved.diverged.is_some() && !resolved.exact && !open;
        let until = if doubt { Some(catalog.log_end().await?) } else { None };
        self.settle(xid, message, told, resolved, until)
    }

    fn settle(
        &mut self,
        xid: Option<u32>,
        message: RelationMessage,
        told: Option<Arc<TableSchema>>,
        resolved: Resolved,
        until: Option<u64>,
    ) -> Result<()> {
        let open = self.fold.streaming();
        let transaction = if open { self.fold.transaction(xid) } else { None };
        let after = Arc::new(resolved.schema);
        let policy = self.catalog.settings().unrepresentable;
        let layout = Layout::new(message.relid, Arc::clone(&after), resolved.slots, policy)
            .with_defaults(resolved.defaults);
        let changed = matches!(resolved.step, Step::Changed(_));
        let behind = matches!(resolved.step, Step::Behind);
        let event = match (resolved.step, told) {
            (Step::Changed(fill), Some(before)) => {
                tracing::info!(table = %after.table, version = %after.version, "the table has become another version");
                let change = SchemaChange { before, after: Arc::clone(&after), fill, transaction };
                Some(SourceEvent::Schema(change))
            }
            _ => None,
        };
        let unsure = changed || resolved.diverged.is_some();
        let relid = message.relid;
        let open_layout = OpenLayout {
            part: 0,
            layout: Arc::new(layout),
            changed: (open && unsure).then(|| Arc::new(message)),
        };
        self.fold.install(xid, open_layout, event)?;
        if !open {
            if !behind {
                self.known.remove(&relid);
            }
            if let Some(why) = resolved.diverged {
                self.fold.diverged(after.table.clone(), why, until);
            }
        }
        Ok(())
    }

    /// An open transaction that changed tables commits: now the catalogue can tell whether what was assumed inside it
    /// was right.
    async fn verify_open(&mut self, top: u32) -> Result<()> {
        let changed: Vec<OpenLayout> =
            self.fold.open_layouts(top).iter().filter(|l| l.changed.is_some()).cloned().collect();
        let catalog = Arc::clone(&self.catalog);
        let mut wrong = Vec::new();
        for open in changed {
            let Some(message) = &open.changed else { continue };
            let relid = message.relid;
            let told = self.fold.base(relid).map(|l| Arc::clone(&l.schema));
            let told = told.or_else(|| self.known.get(&relid).cloned());
            let deadline = Instant::now() + CATALOGUE_LAG;
            let answers = ask(&catalog, message, told.as_deref(), Some(top), deadline).await?;
            let resolved = relation::resolve(answers.known(
                told.as_deref(),
                self.known.contains_key(&relid),
                message,
            ));
            if let Some(why) = verdict(&open, resolved, answers.seen) {
                wrong.push((open.layout.schema.table.clone(), why));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let until = catalog.log_end().await?;
        for (table, why) in wrong {
            self.fold.diverged(table, why, Some(until));
        }
        Ok(())
    }
}

/// What is asked of the server when a table is announced.
struct Answers {
    now: Described,
    types: Vec<PgType>,
    /// The catalogue shows what the transaction did to the table.
    seen: bool,
}

impl Answers {
    fn known<'a>(
        &'a self,
        told: Option<&'a TableSchema>,
        told_may_be_newer: bool,
        relation: &'a RelationMessage,
    ) -> Known<'a> {
        let Self { now, types, seen } = self;
        Known { told, relation, types, now, told_may_be_newer, unseen_ddl: !seen }
    }
}

/// Asks for the catalogue and the types of the columns. Where the log's list is not the catalogue's, the transaction
/// `xid` may have changed the table and not be visible yet: it is waited for until `deadline`.
async fn ask(
    catalog: &Catalog,
    message: &RelationMessage,
    told: Option<&TableSchema>,
    xid: Option<u32>,
    deadline: Instant,
) -> Result<Answers> {
    let wanted: Vec<_> = message.columns.iter().map(|c| (c.type_oid, c.typmod)).collect();
    let types = catalog.pg_types(&wanted).await?;
    let mut ended = xid.is_none();
    loop {
        let Some(now) = catalog.describe(message.relid).await? else {
            return Ok(Answers { now: relation::as_told(message, told), types, seen: true });
        };
        let seen = ended || relation::is_current(message, &now);
        if seen {
            return Ok(Answers { now, types, seen });
        }
        let running = match xid {
            Some(xid) => catalog.is_running(xid).await?,
            None => false,
        };
        if running && Instant::now() >= deadline {
            return Ok(Answers { now, types, seen });
        }
        // Whoever has ended by now is in the catalogue that is read next.
        ended = !running;
        if running {
            sleep(CATALOGUE_LOOK).await;
        }
    }
}

/// What was assumed inside an open transaction against what its commit shows. Inside, new columns were assumed to hold
/// NULL in older rows.
fn verdict(open: &OpenLayout, resolved: Resolved, seen: bool) -> Option<Divergence> {
    if !seen || resolved.schema.version != open.layout.schema.version {
        return Some(Divergence::SchemaUnknown);
    }
    let filled = match &resolved.step {
        Step::Changed(fills) => fills.iter().any(|fill| !matches!(fill, Fill::Null)),
        _ => false,
    };
    resolved.diverged.or(filled.then_some(Divergence::Rewritten))
}

/// The piece of the log in a frame.
#[inline]
fn message(frame: Frame<'_>) -> Result<&[u8]> {
    /// Kind, start, end, time.
    const HEADER: usize = 25;
    frame.body.get(HEADER..).ok_or_else(|| unknown(Some(b'w')))
}

#[cold]
fn unknown(kind: Option<u8>) -> Error {
    Error::new(ErrorKind::Corrupt, "the server's stream is not understood")
        .with("message", char::from(kind.unwrap_or(b'?')).escape_default())
}

/// Reads `pg_current_wal_insert_lsn()`.
pub(crate) fn lsn_cell(text: Option<&str>) -> Result<u64> {
    text.and_then(parse_lsn)
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "the server's LSN is not understood"))
}
