//! What each followed table is: one memory for the log, the catalogue's look-ups and the chunks.
//!
//! It holds what the log last told of a table. A table that is seen for the first time is entered by
//! [`looked`](Tables::looked); one that is dropped, replaced or renamed is forgotten, and whatever has its name at the
//! next look is another table. After a restart it begins with what the ledger knows.
//!
//! ```text
//!  ledger ──seed──▶ ┌────────┐ ◀── looked / drifted ── catalogue
//!                   │ Tables │
//!  log ──altered──▶ │        │ ◀── as_looked ───────── chunks
//!      ──mapped───▶ └────────┘
//! ```
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use lakeward_core::{Divergence, SchemaChange, TableId, TableIdentity, TableSchema};

use crate::binlog::table_map::LogColumn;
use crate::follow::{self, Alter, ColumnNow, Look, Note};
use crate::position::{Gtid, GtidSet};
use crate::types::{Charsets, Kind, Unrepresentable};

/// A table of the log, laid against what is known of it.
#[derive(Debug)]
pub struct Mapped {
    /// What its rows become.
    pub schema: Arc<TableSchema>,
    /// Per column of the log its place in `schema` and the kind of its values; `None`: it is not followed.
    pub slots: Vec<Option<(u32, Kind)>>,
    /// What changed since the log last told; to be sent before the rows.
    pub change: Option<SchemaChange>,
    /// Rows changed that the log did not carry; to be sent after the change.
    pub diverged: Option<Divergence>,
}

/// All followed tables.
#[derive(Debug)]
pub struct Tables {
    policy: Unrepresentable,
    entries: Mutex<HashMap<TableId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// What the log last told, or what the table began with.
    told: Arc<TableSchema>,
    /// Transactions that every snapshot of this table has seen.
    seen: Option<GtidSet>,
    /// What a look has shown that no log told, and the place behind which it holds.
    drifted: Option<(Arc<TableSchema>, GtidSet)>,
}

impl Entry {
    fn new(told: Arc<TableSchema>) -> Self {
        let seen = gtid_set(&Note::of(&told).seen);
        Self { told, seen, drifted: None }
    }

    /// From now on the log stands behind `before`: what a look showed there is what the log would have told. Returns
    /// what was told until now.
    fn catch_up(&mut self, before: &GtidSet) -> Arc<TableSchema> {
        let told = Arc::clone(&self.told);
        if let Some((after, _)) = self.drifted.take_if(|(_, seen_by)| before.covers(seen_by)) {
            self.told = after;
        }
        told
    }
}

impl Tables {
    /// Knows no table yet.
    pub fn new(policy: Unrepresentable) -> Self {
        Self { policy, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<TableId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy that decides types.
    pub fn policy(&self) -> Unrepresentable {
        self.policy
    }

    /// Begins anew with what the engine knows. Of two schemas of one name the later counts: it is that of the newer copy.
    pub fn seed(&self, known: &[Arc<TableSchema>]) {
        let entry =
            |schema: &Arc<TableSchema>| (schema.table.clone(), Entry::new(Arc::clone(schema)));
        *self.entries() = known.iter().map(entry).collect();
    }

    /// What the log last told of a table; `None`: nobody follows it, its rows are left out.
    pub fn get(&self, table: &TableId) -> Option<Arc<TableSchema>> {
        self.entries().get(table).map(|entry| Arc::clone(&entry.told))
    }

    /// Whether a transaction says nothing new of a table: every snapshot of it has seen the transaction, and what the
    /// table was then is no longer known. Its rows and its DDL are left out.
    pub fn skips(&self, table: &TableId, transaction: &Gtid) -> bool {
        let entries = self.entries();
        let seen = entries.get(table).and_then(|entry| entry.seen.as_ref());
        seen.is_some_and(|seen| seen.contains(transaction))
    }

    /// The log tells an ALTER TABLE; `before`: everything before its transaction. `None`: nobody follows the table.
    pub fn altered(
        &self,
        table: &TableId,
        alter: &Alter,
        before: &GtidSet,
    ) -> Option<(SchemaChange, Option<Divergence>)> {
        let mut entries = self.entries();
        let entry = entries.get_mut(table)?;
        let told = entry.catch_up(before);
        entry.drifted = None;
        entry.told = Arc::new(follow::altered(&entry.told, alter));
        let (change, diverged) = follow::change(&told, Arc::clone(&entry.told));
        Some((change, diverged.or(alter.rewritten.then_some(Divergence::Rewritten))))
    }

    /// The log announces rows of a table with these columns; `before`: everything before their transaction. `None`:
    /// nobody follows the table.
    pub fn mapped(
        &self,
        table: &TableId,
        columns: &[LogColumn],
        charsets: &Charsets,
        before: &GtidSet,
    ) -> Option<Mapped> {
        let mut entries = self.entries();
        let entry = entries.get_mut(table)?;
        let told = entry.catch_up(before);
        let look = look_of(columns, &entry.told, charsets);
        let after = Arc::new(follow::follow(&entry.told, &look, self.policy));
        let changed = after.version != told.version || after.note != told.note;
        let (change, diverged) = match changed {
            true => {
                let (change, diverged) = follow::change(&told, Arc::clone(&after));
                (Some(change), diverged)
            }
            false => (None, None),
        };
        entry.told = Arc::clone(&after);
        let slots = columns.iter().map(|column| slot(column, &after, charsets)).collect();
        Some(Mapped { schema: after, slots, change, diverged })
    }

    /// The log tells that a table was dropped or replaced. Returns whether anybody followed it: it then has diverged.
    pub fn gone(&self, table: &TableId) -> bool {
        self.entries().remove(table).is_some()
    }

    /// The log tells that a database was dropped. Returns the tables in it that were followed until then.
    pub fn database_gone(&self, database: &str, transaction: &Gtid) -> Vec<TableId> {
        let mut entries = self.entries();
        let older = |entry: &Entry| entry.seen.as_ref().is_none_or(|s| !s.contains(transaction));
        let gone = entries.iter().filter(|(t, entry)| t.namespace == database && older(entry));
        let gone: Vec<_> = gone.map(|(table, _)| table.clone()).collect();
        for table in &gone {
            entries.remove(table);
        }
        gone
    }

    /// The log tells that a table has another name. What follows it ends; under its new name it is another table.
    pub fn renamed(&self, from: &TableId, to: &TableId) -> Option<SchemaChange> {
        let mut entries = self.entries();
        entries.remove(to);
        let before = entries.remove(from)?.told;
        let after = TableSchema::new(
            to.clone(),
            before.identity.clone(),
            before.columns.clone(),
            before.key.clone(),
            before.note.clone(),
        );
        Some(follow::change(&before, Arc::new(after)).0)
    }

    /// A look for new tables: the table as it is known, become what the look shows. One that is not known is entered;
    /// `seen`: a place of the log behind the look.
    pub fn looked(&self, table: &TableId, look: &Look, seen: &str) -> Arc<TableSchema> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(table) {
            return Arc::new(follow::follow(&entry.told, look, self.policy));
        }
        let identity = new_identity(table, seen);
        let schema = follow::first(table.clone(), identity, look, seen.to_owned(), self.policy);
        let schema = Arc::new(schema);
        entries.insert(table.clone(), Entry::new(Arc::clone(&schema)));
        schema
    }

    /// What a followed table is when its columns are those of `look`; `known` stands in for one that nobody follows.
    pub fn as_looked(&self, known: &TableSchema, look: &Look) -> Arc<TableSchema> {
        let entries = self.entries();
        let told = entries.get(&known.table).map(|entry| &*entry.told);
        let told = told.filter(|told| told.identity == known.identity).unwrap_or(known);
        Arc::new(follow::follow(told, look, self.policy))
    }

    /// A look has shown what the log did not tell; behind `seen_by` it holds.
    pub fn drifted(&self, after: &Arc<TableSchema>, seen_by: GtidSet) {
        if let Some(entry) = self.entries().get_mut(&after.table)
            && entry.told.identity == after.identity
        {
            entry.drifted = Some((Arc::clone(after), seen_by));
        }
    }
}

fn gtid_set(text: &str) -> Option<GtidSet> {
    let given = Some(text).filter(|text| !text.is_empty())?;
    GtidSet::parse_mariadb(given).or_else(|| GtidSet::parse_mysql(given))
}

/// What the log says of a table, as a look. Columns without a name are not looked at: the reader of the log refuses such
/// tables before.
fn look_of(columns: &[LogColumn], told: &TableSchema, charsets: &Charsets) -> Look {
    let mut look = Look { columns: Vec::new(), key: Vec::new(), ignored: Vec::new() };
    let known = Note::of(told).ignored;
    for column in columns {
        let Some(name) = &column.name else { continue };
        match Kind::of_log(column, charsets) {
            _ if known.contains(name) => look.ignored.push(name.clone()),
            Ok(kind) => {
                look.columns.push(ColumnNow {
                    name: name.clone(),
                    kind,
                    nullable: column.nullable,
                });
            }
            Err(unsupported) => {
                tracing::warn!(table = %told.table, column = name, %unsupported, "a column is left out");
                look.ignored.push(name.clone());
            }
        }
    }
    let mut key: Vec<_> =
        columns.iter().filter_map(|c| Some((c.in_key?, c.name.clone()?))).collect();
    key.sort_unstable();
    look.key = key.into_iter().map(|(_, name)| name).collect();
    look
}

fn slot(column: &LogColumn, schema: &TableSchema, charsets: &Charsets) -> Option<(u32, Kind)> {
    let name = column.name.as_ref()?;
    let at = schema.columns.iter().position(|c| c.name == *name)?;
    let kind = Kind::of_log(column, charsets).ok()?;
    let told = Kind::of_declared(&schema.columns.get(at)?.declared)?;
    Some((u32::try_from(at).ok()?, kind.unhidden(&told)))
}

/// A name for a table that no other table has had, under this name or another.
fn new_identity(table: &TableId, seen: &str) -> TableIdentity {
    let parts = [table.namespace.as_bytes(), table.name.as_bytes(), seen.as_bytes()];
    let hash =
        parts.into_iter().flatten().chain(&[0]).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    TableIdentity(format!("{hash:016x}{now:016x}"))
}

#[cfg(test)]
mod tests;
