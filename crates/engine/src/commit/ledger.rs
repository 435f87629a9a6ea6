//! The ledger: a row of small create-only objects beside the tables. Who creates entry k owns it.
//!
//! Deliberately absent: what the entries mean (`state`), and who may commit (`lakeward_core::admit`).
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lakeward_core::sink::LedgerStore;
use lakeward_core::{Chunk, Error, ErrorKind, Position, Result, TableSchema};

use super::state::{Body, ConsistentPoint, Done, Entry, Plan, State};

/// A complete state is written this often, so that a start reads few entries and old ones can go. It is also how
/// many consistent points are kept at least: half a minute of them at a commit a second. More make every commit dearer, because
/// each keeps a version of every table alive, which all later commits name in their metadata.
const FULL_EVERY: u64 = 32;

/// How long the last entry of another writer must be quiet before a newcomer takes over unasked.
const QUIET_MIN: Duration = Duration::from_secs(3);

/// How a writer comes in.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// This process run.
    pub writer: String,
    /// The lock that this process holds.
    pub lock: String,
    /// The lock's earlier holder is known to be dead, because this process has its lock now.
    pub predecessor_lock: Option<String>,
    /// Come in whatever the other does.
    pub take_over: bool,
    /// The pipeline's commit interval.
    pub commit_interval: Duration,
}

/// The ledger, owned by one writer until a newer one takes it.
pub struct Ledger {
    store: Arc<dyn LedgerStore>,
    writer: String,
    next: u64,
    state: State,
    fulls: Vec<u64>,
    points: Vec<(u64, ConsistentPoint)>,
}

/// What stands in a ledger.
struct Folded {
    next: u64,
    state: State,
    fulls: Vec<u64>,
    points: Vec<(u64, ConsistentPoint)>,
    last: Option<Entry>,
}

const DAMAGED: &str = "restore the object from a backup of the lake; without one, `lakeward rebuild-ledger` makes \
                       the ledger again from the tables' marks";

fn object(number: u64) -> String {
    format!("{number:020}.json")
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".json").filter(|n| n.len() == 20)?.parse().ok()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

async fn read_entry(store: &dyn LedgerStore, number: u64) -> Result<Option<Entry>> {
    let name = object(number);
    let Some(content) = store.read(&name).await? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "a ledger entry is damaged")
            .with("object", &name)
            .caused_by(error)
            .remedied(DAMAGED)
    })
}

async fn fold(store: &dyn LedgerStore) -> Result<Folded> {
    let mut numbers: Vec<u64> =
        store.list().await?.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    let mut folded =
        Folded { next: 1, state: State::default(), fulls: vec![], points: vec![], last: None };
    for (i, &n) in numbers.iter().enumerate() {
        // Pruning goes upwards: an entry may vanish below us, never between two that remain.
        let Some(entry) = read_entry(store, n).await? else { continue };
        if i > 0 && numbers[i - 1] + 1 != n {
            return Err(missing(numbers[i - 1] + 1));
        }
        fold_entry(&mut folded, n, entry)?;
    }
    if folded.next > 1 && folded.fulls.is_empty() && numbers.first() != Some(&1) {
        return Err(missing(1));
    }
    Ok(folded)
}

fn fold_entry(folded: &mut Folded, number: u64, entry: Entry) -> Result<()> {
    let full = matches!(&entry.body, Body::Done(done) if done.full);
    if full {
        folded.fulls.push(number);
    }
    // Before the first complete state only the newest writer's word is of use.
    let readable =
        !folded.fulls.is_empty() || !matches!(entry.body, Body::Intent(_) | Body::Done(_));
    if readable {
        folded.state.apply(&entry).map_err(|e| e.with("object", object(number)))?;
    }
    if let (Body::Done(_), true) = (&entry.body, readable)
        && let Some(point) = folded.state.point()
    {
        folded.points.push((number, point));
    }
    folded.next = number + 1;
    folded.last = Some(entry);
    Ok(())
}

fn missing(number: u64) -> Error {
    Error::new(ErrorKind::Corrupt, "a ledger entry is missing")
        .with("object", object(number))
        .remedied(DAMAGED)
}

fn fenced(by: &str) -> Error {
    Error::new(ErrorKind::Fenced, "another writer has taken this pipeline over").with("writer", by)
}

/// Reads the consistent points that the ledger still holds, oldest first. Safe beside a running writer.
///
/// # Errors
/// `Corrupt` naming the damaged object; the store's own errors.
pub async fn read_points(store: &dyn LedgerStore) -> Result<Vec<ConsistentPoint>> {
    Ok(fold(store).await?.points.into_iter().map(|(_, point)| point).collect())
}

/// Reads the state that the ledger stands for. Safe beside a running writer.
///
/// # Errors
/// As [`read_points`].
pub async fn read_state(store: &dyn LedgerStore) -> Result<State> {
    Ok(fold(store).await?.state)
}

/// Reads all entries that the ledger still holds, oldest first, with their numbers.
///
/// # Errors
/// As [`read_points`].
pub async fn read_entries(store: &dyn LedgerStore) -> Result<Vec<(u64, Entry)>> {
    let mut entries = Vec::new();
    for n in store.list().await?.iter().filter_map(|name| number(name)) {
        if let Some(entry) = read_entry(store, n).await? {
            entries.push((n, entry));
        }
    }
    entries.sort_by_key(|(n, _)| *n);
    Ok(entries)
}

impl Ledger {
    /// Reads the ledger and takes it over: from here on an older writer loses its next create.
    ///
    /// # Errors
    /// `Fenced` when another writer is alive and `take_over` was not asked for; `Corrupt`; the store's own errors.
    pub async fn enter(store: Arc<dyn LedgerStore>, entrance: &Entrance) -> Result<Self> {
        let mut folded = fold(store.as_ref()).await?;
        if !may_enter(&folded, entrance) {
            folded = wait_until_quiet(store.as_ref(), folded, entrance).await?;
        }
        let Folded { next, state, fulls, points, .. } = folded;
        let writer = entrance.writer.clone();
        let mut ledger = Self { store, writer, next, state, fulls, points };
        ledger.append(Body::Takeover { lock: entrance.lock.clone() }).await?;
        Ok(ledger)
    }

    /// What the ledger says.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The consistent points that the ledger still holds.
    pub fn points(&self) -> impl Iterator<Item = &ConsistentPoint> {
        self.points.iter().map(|(_, point)| point)
    }

    /// Announces an epoch.
    ///
    /// # Errors
    /// `Fenced` when another writer got there first: stop.
    pub async fn intend(&mut self, intent: lakeward_core::Intent) -> Result<()> {
        self.append(Body::Intent(intent)).await
    }

    /// Completes an epoch: `next` is the state after it.
    ///
    /// # Errors
    /// As [`intend`](Self::intend).
    pub async fn complete(&mut self, next: &State, through: Position) -> Result<()> {
        let due = self.fulls.last().is_none_or(|full| self.next >= full + 2 * FULL_EVERY);
        let done: Done = self.state.done_towards(next, through, due);
        self.append(Body::Done(done)).await?;
        if due {
            self.prune().await?;
        }
        Ok(())
    }

    /// Records that a table's load begins, after its chunks were stored.
    ///
    /// # Errors
    /// As [`intend`](Self::intend).
    pub async fn plan(
        &mut self,
        schema: &TableSchema,
        generation: u32,
        copy: bool,
        chunks: &[Chunk],
    ) -> Result<String> {
        let name = format!("plan-{}-{}-{generation}.json", schema.identity, self.writer);
        let content = serde_json::to_vec(chunks).map_err(unserialisable)?;
        self.store.create(&name, content).await?;
        let plan = Plan { schema: schema.clone(), generation, copy, chunks: name.clone() };
        self.append(Body::Plan(plan)).await?;
        Ok(name)
    }

    /// Reads the chunks of a load.
    ///
    /// # Errors
    /// `Corrupt` naming the object.
    pub async fn chunks(&self, name: &str) -> Result<Vec<Chunk>> {
        let damaged = || {
            Error::new(ErrorKind::Corrupt, "a load's chunks are missing or damaged")
                .with("object", name)
                .remedied("`lakeward resync` the table")
        };
        let content = self.store.read(name).await?.ok_or_else(damaged)?;
        serde_json::from_slice(&content).map_err(|error| damaged().caused_by(error))
    }

    /// Forgets the chunks of a load that has ended.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_chunks(&self, name: &str) -> Result<()> {
        self.store.delete(name).await
    }

    /// Says that this writer has ended in order.
    ///
    /// # Errors
    /// As [`intend`](Self::intend).
    pub async fn release(&mut self) -> Result<()> {
        self.append(Body::Release).await
    }

    async fn append(&mut self, body: Body) -> Result<()> {
        let entry = Entry { writer: self.writer.clone(), at_ms: now_ms(), body };
        let content = serde_json::to_vec(&entry).map_err(unserialisable)?;
        if self.next > 1 && self.store.read(&object(self.next - 1)).await?.is_none() {
            return Err(fenced("unknown: the entry before is gone"));
        }
        self.create(self.next, content).await?;
        self.state.apply(&entry)?;
        if let Body::Done(done) = &entry.body {
            if done.full {
                self.fulls.push(self.next);
            }
            if let Some(point) = self.state.point() {
                self.points.push((self.next, point));
            }
        }
        self.next += 1;
        Ok(())
    }

    /// Creates an entry; a lost answer is settled by reading who stands there.
    async fn create(&self, number: u64, content: Vec<u8>) -> Result<()> {
        for _ in 0..5 {
            match self.store.create(&object(number), content.clone()).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {}
                Err(error) => return Err(error),
            }
            match self.store.read(&object(number)).await? {
                Some(found) if found == content => return Ok(()),
                Some(_) => return Err(self.lost_to(number).await),
                None => {}
            }
        }
        Err(Error::new(ErrorKind::OutcomeUnknown, "a ledger entry could not be created")
            .with("object", object(number)))
    }

    /// Why another entry stands where ours should.
    async fn lost_to(&self, number: u64) -> Error {
        match read_entry(self.store.as_ref(), number).await {
            Ok(Some(found)) if found.writer == self.writer => {
                Error::new(ErrorKind::OutcomeUnknown, "an earlier attempt of ours landed late")
                    .with("object", object(number))
            }
            Ok(found) => fenced(found.as_ref().map_or("unknown", |e| &e.writer)),
            Err(error) => error,
        }
    }

    /// Reads the ledger again: an attempt that was given up may have landed. Called before every new session.
    ///
    /// # Errors
    /// `Fenced` when another writer has come in; `Corrupt`; the store's own errors.
    pub async fn refresh(&mut self) -> Result<()> {
        let folded = fold(self.store.as_ref()).await?;
        if let Some(last) = folded.last.as_ref().filter(|last| last.writer != self.writer) {
            return Err(fenced(&last.writer));
        }
        let Folded { next, state, fulls, points, .. } = folded;
        (self.next, self.state, self.fulls, self.points) = (next, state, fulls, points);
        Ok(())
    }

    /// Deletes, upwards, what stands before the last complete state but one.
    async fn prune(&mut self) -> Result<()> {
        let Some(&keep) = self.fulls.len().checked_sub(2).and_then(|i| self.fulls.get(i)) else {
            return Ok(());
        };
        let oldest = self.store.list().await?.iter().filter_map(|name| number(name)).min();
        for n in oldest.unwrap_or(keep)..keep {
            self.store.delete(&object(n)).await?;
        }
        self.fulls.retain(|n| *n >= keep);
        self.points.retain(|(n, _)| *n >= keep);
        Ok(())
    }
}

fn unserialisable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Bug, "a ledger entry cannot be written").caused_by(error)
}

fn may_enter(folded: &Folded, entrance: &Entrance) -> bool {
    let Some(last) = &folded.last else { return true };
    let dead =
        entrance.predecessor_lock.is_some() && entrance.predecessor_lock == folded.state.lock;
    entrance.take_over || folded.state.released || dead || quiet_for(last, entrance).is_zero()
}

/// How long the last writer must still be quiet before a newcomer may come in.
fn quiet_for(last: &Entry, entrance: &Entrance) -> Duration {
    let needed = QUIET_MIN.max(entrance.commit_interval * 5);
    let age = Duration::from_millis(now_ms().saturating_sub(last.at_ms));
    needed.saturating_sub(age)
}

async fn wait_until_quiet(
    store: &dyn LedgerStore,
    before: Folded,
    entrance: &Entrance,
) -> Result<Folded> {
    let wait = before.last.as_ref().map_or(Duration::ZERO, |last| quiet_for(last, entrance));
    tracing::info!(
        wait_seconds = wait.as_secs_f32(),
        "the last writer was active a moment ago; waiting for it to be quiet"
    );
    tokio::time::sleep(wait).await;
    let after = fold(store).await?;
    if after.next == before.next || after.state.released {
        return Ok(after);
    }
    let by = after.last.as_ref().map_or("unknown", |e| e.writer.as_str());
    Err(Error::new(ErrorKind::Fenced, "another writer of this pipeline is running")
        .with("writer", by)
        .remedied("stop the other process, or run with --take-over to fence it"))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
