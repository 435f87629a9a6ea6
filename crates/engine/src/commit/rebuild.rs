//! A ledger made again from what the tables' own marks say, when the old one is lost or damaged.
//!
//! Marks say how far each table has come. They do not say which tables had diverged and waited to be loaded again, and
//! not which chunks a load still owes: such tables must be loaded again. Reading marks and writing entries is here; who
//! may do it, and when, is the caller's.
use std::sync::Arc;

use lakeward_core::{
    CommitMark, Coverage, Env, Error, ErrorKind, Intent, IntentTable, Position, Result, Sink, Slot,
    Source, TableSchema, TableVersion,
};

use super::ledger::{Entrance, Ledger};
use super::state::{State, TableState};

/// How many generations of invisible copies may have been left behind.
const COPIES_MAX: u32 = 16;

/// How far the marks are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Every table is loaded again, invisibly; readers see the old rows until then. Always right.
    Nothing,
    /// Tables go on from their marks. Right when no table had diverged when the ledger was lost, and the log is still there.
    Marks,
}

/// A table of the lake that carries this pipeline's mark.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it is at the source now.
    pub schema: Arc<TableSchema>,
    /// Its mark.
    pub mark: CommitMark,
    /// The version that readers see.
    pub version: Option<TableVersion>,
}

/// Makes the ledger again. The old one must be gone. Gives the tables back, with why each is loaded again, if it is.
///
/// # Errors
/// `Config` when the lake holds no table of this pipeline; the source's, the sink's.
pub async fn rebuild(
    source: &dyn Source,
    sink: &dyn Sink,
    env: &Env,
    entrance: &Entrance,
    routing: &str,
    trust: Trust,
) -> Result<Vec<TableState>> {
    let tables = source.discover().await?;
    let found = find(sink, env, &tables).await?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, "the lake holds no table of this pipeline")
            .with("pipeline", &env.pipeline)
            .with("sink", &env.name)
            .remedied("`lakeward run` loads the tables"));
    }
    let prepared = source.prepare(&tables).await?;
    let kept = (!prepared.fresh).then_some(&prepared.beginning);
    let covers = |through: &Position, at: &Position| source.covers(through, at);
    let (mut state, position, torn) = go_on(&found, kept, routing, &covers)?;
    if trust == Trust::Nothing {
        distrust_all(&mut state);
    }
    for table in &found {
        for generation in 1..=COPIES_MAX {
            sink.drop_copy(&table.schema, table.mark.generation + generation).await?;
        }
    }
    let mut ledger = Ledger::enter(sink.ledger(), entrance).await?;
    ledger.complete(&state, position).await?;
    if let Some(torn) = torn {
        ledger.intend(torn).await?;
    }
    ledger.release().await?;
    Ok(state.tables.into_values().collect())
}

/// Whether a ledger that can be read is not the one that the tables were written by: their marks are newer.
///
/// # Errors
/// The source's, the sink's.
pub async fn is_outdated(
    source: &dyn Source,
    sink: &dyn Sink,
    env: &Env,
    state: &State,
) -> Result<bool> {
    let found = find(sink, env, &source.discover().await?).await?;
    let newest = state.torn.as_ref().map_or(state.epoch, |torn| torn.epoch);
    Ok(found.iter().any(|found| found.mark.epoch > newest))
}

async fn find(sink: &dyn Sink, env: &Env, tables: &[Arc<TableSchema>]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for schema in tables {
        let mut table = match sink.open_table(schema, Slot::Visible).await {
            Ok(table) => table,
            // Somebody else's table.
            Err(error) if error.kind() == ErrorKind::Config => continue,
            Err(error) => return Err(error),
        };
        let Some(mark) = table.last_commit().await? else { continue };
        if mark.pipeline == env.pipeline && mark.sink == env.name {
            found.push(Found { schema: Arc::clone(schema), mark, version: table.version() });
        }
    }
    Ok(found)
}

/// The state that stands for the marks, and the epoch that may have been left torn. Pure.
///
/// Everything that the source no longer keeps was complete; so was the newest epoch, if the source no longer keeps it.
/// Else it is finished as its marks say: tables that have it skip, the others get what the log holds of it.
fn go_on(
    found: &[Found],
    kept_from: Option<&Position>,
    routing: &str,
    covers: &dyn Fn(&Position, &Position) -> Coverage,
) -> Result<(State, Position, Option<Intent>)> {
    let newest = found.iter().map(|f| &f.mark).max_by_key(|mark| mark.epoch);
    let newest = newest.ok_or_else(|| Error::new(ErrorKind::Bug, "a ledger of no tables"))?;
    let mut state = state_of(found);
    let complete = kept_from.filter(|from| covers(from, &newest.through) == Coverage::Covered);
    if let Some(from) = complete {
        state.epoch = newest.epoch;
        return Ok((state, from.clone(), None));
    }
    let begins = newest.after.clone().ok_or_else(|| {
        Error::new(ErrorKind::LogGone, "the newest mark does not say where its epoch began")
            .remedied("`lakeward drop --tables` and `lakeward run` load the tables anew")
    })?;
    state.epoch = newest.epoch - 1;
    for ahead in found.iter().filter(|f| f.mark.epoch == newest.epoch) {
        // No version of it is known that shows the epoch before.
        if let Some(table) = state.tables.get_mut(&ahead.schema.table) {
            table.version = None;
        }
    }
    let torn = Intent {
        epoch: newest.epoch,
        after: newest.after.clone(),
        through: newest.through.clone(),
        tables: found.iter().filter(|f| follows(f)).map(part).collect(),
        routing: routing.to_owned(),
    };
    Ok((state, begins, Some(torn)))
}

fn part(found: &Found) -> IntentTable {
    IntentTable {
        table: found.schema.table.clone(),
        identity: found.schema.identity.clone(),
        generation: found.mark.generation,
        promote: false,
        schema_version: found.schema.version,
        diverged: None,
    }
}

fn follows(found: &Found) -> bool {
    distrusted(found).is_none()
}

/// Why a table cannot go on from its mark.
fn distrusted(found: &Found) -> Option<&'static str> {
    if found.mark.load.is_some() {
        return Some("the plan of its load was lost with the ledger");
    }
    if found.mark.identity != found.schema.identity {
        return Some("another table has its name at the source now");
    }
    (found.mark.schema_version != found.schema.version)
        .then_some("its columns changed, and what they were was lost with the ledger")
}

fn distrust_all(state: &mut State) {
    for table in state.tables.values_mut() {
        table.diverged.get_or_insert_with(|| "the ledger was lost".into());
    }
}

fn state_of(found: &[Found]) -> State {
    let epoch = found.iter().map(|f| f.mark.epoch).max().unwrap_or(0);
    let table = |f: &Found| TableState {
        table: f.schema.table.clone(),
        schema: f.schema.version,
        visible: f.mark.generation,
        loading: None,
        copy: None,
        diverged: distrusted(f).map(str::to_owned),
        version: f.version.clone(),
    };
    State {
        epoch,
        tables: found.iter().map(|f| (f.schema.table.clone(), table(f))).collect(),
        schemas: found
            .iter()
            .map(|f| (f.schema.table.clone(), f.schema.as_ref().clone()))
            .collect(),
        ..State::default()
    }
}

#[cfg(test)]
mod tests {
    use lakeward_core::{ChunkSet, LoadMark, SchemaVersion, TableId, TableIdentity};

    use super::*;

    fn at(n: u8) -> Position {
        Position { at: [n].into(), resume: [n].into() }
    }

    fn covers(through: &Position, other: &Position) -> Coverage {
        if other.at <= through.at { Coverage::Covered } else { Coverage::After }
    }

    fn found(name: &str, epoch: u64) -> Found {
        let identity = TableIdentity(name.into());
        let table = TableId::new("public", name);
        let schema =
            TableSchema::new(table.clone(), identity.clone(), vec![], vec![], String::new());
        let mark = CommitMark {
            pipeline: "p".into(),
            sink: "s".into(),
            writer: "w".into(),
            table,
            identity,
            generation: 1,
            epoch,
            after: Some(at(epoch as u8 - 1)),
            through: at(epoch as u8),
            schema_version: schema.version,
            load: None,
        };
        Found { schema: Arc::new(schema), mark, version: Some(TableVersion(epoch.to_string())) }
    }

    #[test]
    fn an_epoch_that_the_source_still_keeps_is_finished_again() {
        let tables = [found("a", 7), found("b", 5)];
        let (state, position, torn) = go_on(&tables, Some(&at(6)), "r", &covers).unwrap();
        assert_eq!((state.epoch, position), (6, at(6)));
        let torn = torn.unwrap();
        assert_eq!((torn.epoch, torn.through, torn.tables.len()), (7, at(7), 2));
        let versions: Vec<_> = state.tables.values().map(|t| t.version.clone()).collect();
        assert_eq!(versions, [None, Some(TableVersion("5".into()))], "a point shows one position");
        // A source that keeps nothing for us says nothing about what is complete.
        assert!(go_on(&tables, None, "r", &covers).unwrap().2.is_some());
    }

    #[test]
    fn what_the_source_no_longer_keeps_was_complete() {
        let tables = [found("a", 7), found("b", 5)];
        let (state, position, torn) = go_on(&tables, Some(&at(9)), "r", &covers).unwrap();
        assert_eq!((state.epoch, position, torn.is_none()), (7, at(9), true));
        assert!(state.tables.values().all(|t| t.diverged.is_none()));
    }

    #[test]
    fn a_table_that_its_mark_does_not_explain_is_loaded_again() {
        let (mut loading, mut changed, mut other) = (found("a", 7), found("b", 7), found("c", 7));
        loading.mark.load = Some(LoadMark { held: ChunkSet::default(), owed: vec![] });
        changed.mark.schema_version = SchemaVersion(1);
        other.mark.identity = TableIdentity("before".into());
        let tables = [loading, changed, other, found("d", 7)];
        let (state, _, torn) = go_on(&tables, None, "r", &covers).unwrap();
        let diverged = state.tables.values().filter(|t| t.diverged.is_some()).count();
        assert_eq!((diverged, torn.unwrap().tables.len()), (3, 1));
        let mut nothing = state;
        distrust_all(&mut nothing);
        assert!(nothing.tables.values().all(|t| t.diverged.is_some()));
    }
}
