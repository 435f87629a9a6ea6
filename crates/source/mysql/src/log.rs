//! The log as a [`ChangeStream`]: reads what the server sends, folds, and decides when to let go.
//!
//! Deliberately absent: retries and reconnecting (the engine opens a new stream).
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lakeward_core::{ChangeStream, Error, ErrorKind, Result, SourceEvent, StartAt};

use crate::binlog::Flavour;
use crate::catalog::{Catalog, cell, head, row};
use crate::connect::connect;
use crate::fold::{Fold, World};
use crate::position::{GtidSet, at, resume};
use crate::shared::Shared;
use crate::tables::Tables;
use crate::wire::Conn;
use crate::wire::dump::{Dump, Group};

/// While more keeps coming, closed transactions go out after this long. Longer makes larger batches, and staler ones.
const FRESH: Duration = Duration::from_millis(50);

/// Opens the log behind `from` on a connection of its own, which registers as a replica.
///
/// # Errors
/// `LogGone` when the server's log does not reach `from`; that the server has purged what is owed is told by the first
/// event. `Unreachable`, `Auth`.
pub async fn open(
    catalog: &Catalog,
    tables: Arc<Tables>,
    shared: Arc<Shared>,
    from: StartAt,
) -> Result<Box<dyn ChangeStream>> {
    let (StartAt::Beginning(position) | StartAt::After(position)) = from;
    let (at, resume) = (at(&position)?, resume(&position)?);
    let flavour = catalog.server().await?.flavour;
    if matches!(at, GtidSet::MariaDb(_)) != (flavour == Flavour::MariaDb) {
        return Err(gone("this is another server than the one that was followed", &at));
    }
    let charsets = Arc::new(catalog.charsets().await?);
    let settings = catalog.settings();
    let mut connection = connect(settings).await?;
    let lower_case = lower_case(&mut connection).await?;
    // A server whose log is empty takes every place for its own.
    let head = head(&mut connection, flavour).await?;
    if !head.covers(&at) {
        const WHY: &str =
            "the server's log ends before what was followed: it was reset, restored or failed over";
        return Err(gone(WHY, &at).with("server", head));
    }
    let dump = Dump::open(connection, settings, &resume).await?;
    let fold = Fold::new(World { tables, shared, charsets, flavour, lower_case }, at, resume);
    Ok(Box::new(Log { dump, group: Group::default(), taken: 0, fold, gathering_since: None }))
}

fn gone(why: &'static str, at: &GtidSet) -> Error {
    Error::new(ErrorKind::LogGone, why)
        .with("position", at)
        .remedied("load the tables again: `lakeward resync --all`")
}

async fn lower_case(connection: &mut Conn) -> Result<bool> {
    cell(&row(connection, "SELECT @@lower_case_table_names").await?, 0)
}

struct Log {
    dump: Dump,
    group: Group,
    /// How many events of the group were taken.
    taken: usize,
    fold: Fold,
    gathering_since: Option<Instant>,
}

#[async_trait]
impl ChangeStream for Log {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.fold.pop() {
                return Ok(event);
            }
            if !self.take()? {
                self.read().await?;
            }
        }
    }
}

impl Log {
    /// Takes the group's next event. False: there is none.
    fn take(&mut self) -> Result<bool> {
        let Some((header, body)) = self.group.get(self.taken) else { return Ok(false) };
        self.taken += 1;
        self.fold.apply(header, body).map_err(|error| error.with("log_position", header.next))?;
        if self.fold.may_flush() && self.since().elapsed() >= FRESH {
            self.let_go()?;
        }
        Ok(true)
    }

    fn since(&mut self) -> Instant {
        *self.gathering_since.get_or_insert_with(Instant::now)
    }

    /// Reads more. When nothing is there, lets closed transactions go first.
    async fn read(&mut self) -> Result<()> {
        let group = match self.dump.ready()? {
            Some(group) => group,
            None if self.fold.may_flush() => return self.let_go(),
            None => self.dump.next().await?,
        };
        self.since();
        (self.group, self.taken) = (group, 0);
        Ok(())
    }

    fn let_go(&mut self) -> Result<()> {
        self.gathering_since = None;
        self.fold.flush()
    }
}
