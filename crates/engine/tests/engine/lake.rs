//! A lake in memory: versions of tables with their marks, invisible copies, a ledger, and scripted faults.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use lakeward_core::*;

use crate::database::{Row, Rows, rows_of, schema};
use crate::random::Random;

#[derive(Debug, Clone, Default)]
struct Version {
    number: u64,
    rows: Rows,
    mark: Option<CommitMark>,
}

#[derive(Debug, Default)]
struct Stored {
    visible: Option<Version>,
    copies: BTreeMap<u32, Version>,
    history: BTreeMap<String, Rows>,
    audit: Vec<(u64, Slot, CommitMark, bool, Vec<Edit>)>,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<TableId, Stored>,
    objects: BTreeMap<String, Vec<u8>>,
    versions: u64,
}

/// The lake; clones are the same lake.
#[derive(Clone)]
pub struct Lake {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Random>>,
    /// Percent of acts that go wrong.
    pub fault_percent: u64,
    /// Whether nothing can be opened or written.
    down: Arc<AtomicBool>,
}

impl Lake {
    pub fn new(seed: u64, fault_percent: u64) -> Self {
        let faults = Arc::new(Mutex::new(Random::new(seed)));
        Self { state: Arc::default(), faults, fault_percent, down: Arc::default() }
    }

    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn reachable(&self) -> Result<()> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unreachable, "the lake is away")),
            false => Ok(()),
        }
    }

    pub fn rows(&self, table: &TableId) -> Option<Rows> {
        let state = self.state.lock().unwrap();
        state.tables.get(table)?.visible.as_ref().map(|v| v.rows.clone())
    }

    pub fn rows_of_version(&self, table: &TableId, version: &TableVersion) -> Option<Rows> {
        self.state.lock().unwrap().tables.get(table)?.history.get(&version.0).cloned()
    }

    /// Every commit, with what it did to one key: the trail to follow when a law breaks.
    pub fn trail(&self, table: &TableId, key: i64) -> String {
        let state = self.state.lock().unwrap();
        let Some(stored) = state.tables.get(table) else { return String::new() };
        let touches = |edit: &&Edit| match edit {
            Edit::Set { id, from, .. } => *id == key || *from == Some(key),
            Edit::Delete(id) => *id == key,
            Edit::Truncate => true,
        };
        let mut lines = String::new();
        for (number, slot, mark, promote, edits) in &stored.audit {
            let edits: Vec<_> = edits.iter().filter(touches).collect();
            lines += &format!(
                "version {number} {slot:?} epoch {} through {} promote {promote} load {:?}: {edits:?}\n",
                mark.epoch, mark.through, mark.load
            );
        }
        lines
    }

    fn fault(&self) -> Option<u64> {
        let mut faults = self.faults.lock().unwrap();
        (faults.below(100) < self.fault_percent).then(|| faults.below(4))
    }
}

#[async_trait]
impl sink::LedgerStore for Lake {
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<bool> {
        tokio::time::sleep(Duration::from_micros(100)).await;
        self.reachable()?;
        let fault = self.fault();
        if fault == Some(0) {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "never arrived"));
        }
        let created = {
            let mut state = self.state.lock().unwrap();
            let created = !state.objects.contains_key(name);
            state.objects.entry(name.to_owned()).or_insert(content);
            created
        };
        tokio::time::sleep(Duration::from_micros(100)).await;
        match fault {
            Some(1) => Err(Error::new(ErrorKind::OutcomeUnknown, "the answer was lost")),
            _ => Ok(created),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.state.lock().unwrap().objects.get(name).cloned())
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.state.lock().unwrap().objects.keys().cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.state.lock().unwrap().objects.remove(name);
        Ok(())
    }
}

#[async_trait]
impl Sink for Lake {
    async fn check(&self) -> Result<CheckReport> {
        Ok(CheckReport::default())
    }

    fn ledger(&self) -> Arc<dyn sink::LedgerStore> {
        Arc::new(self.clone())
    }

    async fn open_table(
        &self,
        schema: &Arc<TableSchema>,
        slot: Slot,
    ) -> Result<Box<dyn SinkTable>> {
        self.reachable()?;
        let mut table = Table {
            lake: self.clone(),
            id: schema.table.clone(),
            slot,
            keyed: !schema.key.is_empty(),
            base: Version::default(),
            edits: vec![],
        };
        table.reload();
        Ok(Box::new(table))
    }

    async fn drop_copy(&self, schema: &TableSchema, generation: u32) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        state.tables.entry(schema.table.clone()).or_default().copies.remove(&generation);
        Ok(())
    }

    async fn drop_table(&self, _: &TableSchema) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Set { id: i64, value: i64, large: Option<String>, from: Option<i64> },
    Delete(i64),
    Truncate,
}

struct Table {
    lake: Lake,
    id: TableId,
    slot: Slot,
    keyed: bool,
    base: Version,
    edits: Vec<Edit>,
}

struct Payload {
    edits: Vec<Edit>,
    parent: u64,
    rows: Rows,
}

impl Table {
    fn head(&self, state: &State) -> Version {
        let stored = state.tables.get(&self.id);
        let found = match self.slot {
            Slot::Visible => stored.and_then(|s| s.visible.clone()),
            Slot::Copy(generation) => stored.and_then(|s| {
                let promoted =
                    |v: &&Version| v.mark.as_ref().is_some_and(|m| m.generation >= generation);
                let visible = s.visible.as_ref().filter(promoted);
                s.copies.get(&generation).or(visible).cloned()
            }),
        };
        found.unwrap_or_default()
    }

    fn reload(&mut self) {
        let head = self.head(&self.lake.state.lock().unwrap());
        self.base = head;
    }

    fn staged(&self, edits: Vec<Edit>) -> Staged {
        let (rows, unresolved) = resolve(&self.base.rows, &edits, self.keyed);
        let unresolved = (!unresolved.is_empty()).then(|| keys(&unresolved));
        let payload = Payload { edits, parent: self.base.number, rows };
        Staged { rows_added: 0, rows_deleted: 0, bytes: 0, unresolved, payload: Box::new(payload) }
    }

    fn put(&mut self, payload: &Payload, permit: &CommitPermit) -> bool {
        let lake = self.lake.clone();
        let mut state = lake.state.lock().unwrap();
        if self.head(&state).number != payload.parent {
            return false;
        }
        state.versions += 1;
        let number = state.versions;
        let version =
            Version { number, rows: payload.rows.clone(), mark: Some(permit.mark().clone()) };
        let stored = state.tables.entry(self.id.clone()).or_default();
        stored.history.insert(number.to_string(), version.rows.clone());
        let (mark, promote) = (permit.mark().clone(), permit.promote());
        stored.audit.push((number, self.slot, mark, promote, payload.edits.clone()));
        match (self.slot, permit.promote()) {
            (Slot::Copy(generation), false) => {
                stored.copies.insert(generation, version);
            }
            (Slot::Copy(generation), true) => {
                stored.copies.remove(&generation);
                stored.visible = Some(version);
            }
            (Slot::Visible, _) => stored.visible = Some(version),
        }
        true
    }
}

/// Applies edits in order; a row without all its cells takes them from its base. Gives back the rows, and the keys
/// that have no base. Without a key nothing replaces a row and nothing may be deleted twice: both leave a trace.
fn resolve(base: &Rows, edits: &[Edit], keyed: bool) -> (Rows, BTreeSet<i64>) {
    let mut rows = base.clone();
    let mut lacking = BTreeSet::new();
    for edit in edits {
        match edit {
            Edit::Truncate => {
                rows.clear();
                lacking.clear();
            }
            Edit::Delete(id) => {
                if rows.remove(id).is_none() && !keyed {
                    rows.insert(-id - 1, (0, "a delete of nothing".into()));
                }
                lacking.remove(id);
            }
            Edit::Set { id, value, large, from } => {
                let old = from.map(|from| {
                    lacking.remove(&from);
                    rows.remove(&from)
                });
                let base: Option<Row> = old.flatten().or_else(|| rows.get(id).cloned());
                if !keyed && rows.contains_key(id) {
                    rows.insert(id + 10_000, (*value, "a double".into()));
                }
                match large.clone().or_else(|| base.map(|b| b.1)) {
                    Some(large) => {
                        rows.insert(*id, (*value, large));
                        lacking.remove(id);
                    }
                    None => {
                        lacking.insert(*id);
                    }
                }
            }
        }
    }
    (rows, lacking)
}

fn keys(ids: &BTreeSet<i64>) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.iter().copied())),
        Arc::new(Int64Array::from_iter(ids.iter().map(|_| None))),
        Arc::new(StringArray::from_iter(ids.iter().map(|_| None::<&str>))),
    ];
    RecordBatch::try_new(schema(0).arrow(), columns).unwrap()
}

#[async_trait]
impl SinkTable for Table {
    async fn last_commit(&mut self) -> Result<Option<CommitMark>> {
        self.reload();
        Ok(self.base.mark.clone())
    }

    fn version(&self) -> Option<TableVersion> {
        (self.base.number > 0).then(|| TableVersion(self.base.number.to_string()))
    }

    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let missing = |i: usize| batch.absent.as_ref().is_some_and(|a| a.row_is_incomplete(i));
        let mut moved = BTreeMap::new();
        if let Some(before) = &batch.before {
            for (at, (id, _, _)) in before.at.iter().zip(rows_of(&before.rows)) {
                moved.insert(*at as usize, id);
            }
        }
        for (i, (id, value, large)) in rows_of(&batch.rows).into_iter().enumerate() {
            if batch.ops[i] == Op::ReadFirst {
                let is_set = |edit: &Edit| matches!(edit, Edit::Set { id: set, .. } if *set == id);
                let known = self.base.rows.contains_key(&id) || self.edits.iter().any(is_set);
                assert!(!known, "row {id} is said to be the first of its key, and is not");
            }
            self.edits.push(match batch.ops[i] {
                Op::Delete => Edit::Delete(id),
                _ => Edit::Set {
                    id,
                    value: value.unwrap(),
                    large: if missing(i) { None } else { large },
                    from: moved.get(&i).copied(),
                },
            });
        }
        Ok(())
    }

    async fn truncate(&mut self, _: Option<OriginId>) -> Result<()> {
        self.edits.push(Edit::Truncate);
        Ok(())
    }

    async fn evolve(&mut self, _: &SchemaChange) -> Result<Evolution> {
        Ok(Evolution::Unchanged)
    }

    fn buffered_bytes(&self) -> u64 {
        0
    }

    fn index_bytes(&self) -> u64 {
        0
    }

    async fn stage(&mut self) -> Result<Staged> {
        tokio::time::sleep(Duration::from_micros(300)).await;
        let edits = std::mem::take(&mut self.edits);
        Ok(self.staged(edits))
    }

    async fn rebase(&mut self, staged: Staged) -> Result<Staged> {
        let payload: Box<Payload> = staged.payload.downcast().unwrap();
        Ok(self.staged(payload.edits))
    }

    async fn abandon(&mut self, _: Staged) -> Result<()> {
        Ok(())
    }

    async fn commit(&mut self, staged: Staged, permit: CommitPermit) -> CommitOutcome {
        tokio::time::sleep(Duration::from_micros(300)).await;
        if let Err(error) = self.lake.reachable() {
            return CommitOutcome::Failed { staged, error };
        }
        let unknown = |staged| {
            let error = Error::new(ErrorKind::OutcomeUnknown, "scripted");
            CommitOutcome::Unknown { staged, error }
        };
        let fault = self.lake.fault();
        if fault == Some(0) {
            return unknown(staged);
        }
        if fault == Some(2) {
            // A foreign commit that changes no row came first.
            let lake = self.lake.clone();
            let mut state = lake.state.lock().unwrap();
            state.versions += 1;
            let number = state.versions;
            let stored = state.tables.entry(self.id.clone()).or_default();
            if let (Some(visible), Slot::Visible) = (&mut stored.visible, self.slot) {
                visible.number = number;
                stored.history.insert(number.to_string(), visible.rows.clone());
            }
        }
        let done = self.put(staged.payload.downcast_ref::<Payload>().unwrap(), &permit);
        tokio::time::sleep(Duration::from_micros(300)).await;
        if !done {
            return CommitOutcome::Conflict { staged, table_version: String::new() };
        }
        if fault == Some(1) {
            return unknown(staged);
        }
        if permit.promote() {
            self.slot = Slot::Visible;
        }
        self.reload();
        CommitOutcome::Committed(permit.mark().clone())
    }

    async fn upkeep(&mut self, _: &UpkeepPolicy) -> Result<Option<Box<dyn Upkeep>>> {
        Ok(None)
    }

    async fn commit_upkeep(&mut self, _: UpkeepDone) -> Result<UpkeepOutcome> {
        Ok(UpkeepOutcome::Dropped("nothing runs here".into()))
    }
}
