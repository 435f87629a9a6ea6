//! How far one table's load has come, and which of a chunk's rows may still be applied. Pure; no I/O.
//!
//! A chunk is applied piece by piece while it is read, minus the keys that the log touched since its read began.
//! It counts as held only when a committed mark names it; after a crash the others are read again.
use std::collections::{HashMap, VecDeque};

use lakeward_core::{Chunk, ChunkSet, KeyHash, KeyText, LoadMark, Position};

/// Most keys that one reader fetches by key at a time: the size of one statement.
const OWED_PER_READ: usize = 500;

/// Names one read of one chunk, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What a reader is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A chunk of the plan, by number.
    Planned(u32),
    /// Rows by key.
    Owed(Vec<KeyText>),
}

struct InFlight {
    work: Work,
    /// Keys touched with this number or a later one were touched since the read began.
    since: u64,
}

/// A table's load.
pub struct Load {
    /// Name of the ledger's object that holds the plan.
    pub plan: String,
    chunks: Vec<Chunk>,
    waiting: VecDeque<u32>,
    held: ChunkSet,
    arrived: Vec<u32>,
    owed: Vec<KeyText>,
    owed_arrived: Vec<KeyText>,
    in_flight: HashMap<Ticket, InFlight>,
    touched: HashMap<KeyHash, u64>,
    sequence: u64,
    unseen: Vec<Position>,
    /// Nothing but rows of chunks, each read once, was ever written to the copy.
    untouched: bool,
}

impl Load {
    /// A load of `chunks`, of which the table's mark says what it holds. `horizon`: a position behind everything that
    /// chunks read by an earlier process can have seen; `None` for a load that begins now.
    pub fn new(
        plan: String,
        chunks: Vec<Chunk>,
        mark: Option<&LoadMark>,
        horizon: Option<Position>,
    ) -> Self {
        let held = mark.map(|m| m.held.clone()).unwrap_or_default();
        let waiting = (0..chunks.len() as u32).filter(|n| !held.contains(*n)).collect();
        Self {
            plan,
            chunks,
            waiting,
            held,
            arrived: Vec::new(),
            owed: mark.map(|m| m.owed.clone()).unwrap_or_default(),
            owed_arrived: Vec::new(),
            in_flight: HashMap::new(),
            touched: HashMap::new(),
            sequence: 0,
            untouched: mark.is_none() && horizon.is_none(),
            unseen: horizon.into_iter().collect(),
        }
    }

    /// Whether the table is read in one exact snapshot, because it has no key.
    pub fn is_whole(&self) -> bool {
        self.chunks.first() == Some(&Chunk::Whole)
    }

    /// Chunks that the table holds or that have arrived, and all chunks.
    pub fn progress(&self) -> (u32, u32) {
        (self.held.len() + self.arrived.len() as u32, self.chunks.len() as u32)
    }

    /// Takes the next thing to read; the read begins with this call.
    pub fn begin(&mut self, ticket: Ticket) -> Option<Chunk> {
        let (work, chunk) = self.next_work()?;
        if self.in_flight.is_empty() {
            self.touched.clear();
        }
        self.sequence += 1;
        self.in_flight.insert(ticket, InFlight { work, since: self.sequence });
        Some(chunk)
    }

    fn next_work(&mut self) -> Option<(Work, Chunk)> {
        if let Some(number) = self.waiting.pop_front() {
            let chunk = self.chunks.get(number as usize)?.clone();
            return Some((Work::Planned(number), chunk));
        }
        let asked = |key: &KeyText| {
            self.owed_arrived.contains(key)
                || self
                    .in_flight
                    .values()
                    .any(|f| matches!(&f.work, Work::Owed(keys) if keys.contains(key)))
        };
        let keys: Vec<KeyText> =
            self.owed.iter().filter(|k| !asked(k)).take(OWED_PER_READ).cloned().collect();
        (!keys.is_empty()).then(|| (Work::Owed(keys.clone()), Chunk::Keys(keys)))
    }

    /// Whether a read is still wanted: its rows count.
    pub fn expects(&self, ticket: Ticket) -> bool {
        self.in_flight.contains_key(&ticket)
    }

    /// Number of reads under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Something else than a chunk was written to the copy.
    pub fn overwritten(&mut self) {
        self.untouched = false;
    }

    /// Whether the copy cannot hold a row of any key that this read brings: chunks share no key, so it can only be there
    /// when the log wrote it or a read was begun twice.
    pub fn is_first(&self, ticket: Ticket) -> bool {
        let read = self.in_flight.get(&ticket);
        self.untouched && read.is_some_and(|read| matches!(read.work, Work::Planned(_)))
    }

    /// Whether the log touched any key since the oldest read under way began.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The log brought changes of these keys.
    pub fn touch(&mut self, keys: impl IntoIterator<Item = KeyHash>) {
        if self.in_flight.is_empty() {
            return;
        }
        for key in keys {
            self.touched.insert(key, self.sequence);
        }
    }

    /// Which rows of a read may be applied: those whose key the log did not touch since the read began.
    pub fn applicable(&self, ticket: Ticket, keys: &[KeyHash]) -> Vec<bool> {
        match self.in_flight.get(&ticket) {
            None => vec![false; keys.len()],
            Some(read) => keys
                .iter()
                .map(|key| self.touched.get(key).is_none_or(|at| *at < read.since))
                .collect(),
        }
    }

    /// A read is complete; `saw` is the position after which its snapshot saw nothing.
    pub fn finish(&mut self, ticket: Ticket, saw: Position) {
        let Some(read) = self.in_flight.remove(&ticket) else { return };
        self.unseen.push(saw);
        match read.work {
            Work::Planned(number) => self.arrived.push(number),
            Work::Owed(keys) => self.owed_arrived.extend(keys),
        }
    }

    /// A read failed or its rows no longer count: it will be done again.
    pub fn discard(&mut self, ticket: Ticket) {
        self.untouched = false;
        if let Some(InFlight { work: Work::Planned(number), .. }) = self.in_flight.remove(&ticket) {
            self.waiting.push_front(number);
        }
    }

    /// All reads under way are done again: their rows are of another schema, or were truncated.
    pub fn discard_all(&mut self) {
        let tickets: Vec<Ticket> = self.in_flight.keys().copied().collect();
        tickets.into_iter().for_each(|ticket| self.discard(ticket));
    }

    /// These rows came incomplete and have no base: they must be read by key before the load may end.
    /// A read of such a key that is under way, or was done in this same epoch, no longer counts: its row may have been
    /// left out because the log touched it.
    pub fn owe(&mut self, keys: Vec<KeyText>) {
        self.owed_arrived.retain(|key| !keys.contains(key));
        for read in self.in_flight.values_mut() {
            if let Work::Owed(asked) = &mut read.work {
                asked.retain(|key| !keys.contains(key));
            }
        }
        for key in keys {
            if !self.owed.contains(&key) {
                self.owed.push(key);
            }
        }
    }

    /// What the table holds once the running epoch is committed.
    pub fn mark(&self) -> LoadMark {
        let mut held = self.held.clone();
        self.arrived.iter().for_each(|number| held.insert(*number));
        let still = |key: &&KeyText| !self.owed_arrived.contains(key);
        LoadMark { held, owed: self.owed.iter().filter(still).cloned().collect() }
    }

    /// The epoch was committed with [`mark`](Self::mark). Returns how many chunks became durable by it.
    pub fn committed(&mut self) -> u32 {
        let LoadMark { held, owed } = self.mark();
        (self.held, self.owed) = (held, owed);
        self.owed_arrived.clear();
        let chunks = self.arrived.len() as u32;
        self.arrived.clear();
        chunks
    }

    /// Whether only the commit of what has arrived keeps the load from its end, as far as the last
    /// [`may_end`](Self::may_end) knew.
    pub fn awaits_mark(&self) -> bool {
        self.unseen.is_empty()
            && self.waiting.is_empty()
            && self.in_flight.is_empty()
            && self.owed.len() == self.owed_arrived.len()
            && !(self.arrived.is_empty() && self.owed_arrived.is_empty())
    }

    /// Whether the load may end with the running epoch: every chunk stands in a committed mark, nothing is owed or
    /// under way, and the log has passed everything that any chunk saw. `passed` says so of one position.
    pub fn may_end(&mut self, passed: impl Fn(&Position) -> bool) -> bool {
        self.unseen.retain(|saw| !passed(saw));
        self.unseen.is_empty()
            && self.held.len() as usize == self.chunks.len()
            && self.owed.is_empty()
            && self.arrived.is_empty()
            && self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> Position {
        Position { at: [n].into(), resume: [n].into() }
    }

    fn two_chunks() -> Load {
        let middle = Some(vec!["10".to_string()]);
        let chunks = vec![
            Chunk::Range { from: None, to: middle.clone() },
            Chunk::Range { from: middle, to: None },
        ];
        Load::new("plan".into(), chunks, None, None)
    }

    #[test]
    fn a_key_touched_since_the_read_began_is_the_logs() {
        let mut load = two_chunks();
        load.touch([KeyHash(1)]);
        load.begin(Ticket(1)).unwrap();
        load.touch([KeyHash(2)]);
        load.begin(Ticket(2)).unwrap();
        let keys = [KeyHash(1), KeyHash(2), KeyHash(3)];
        assert_eq!(load.applicable(Ticket(1), &keys), [true, false, true]);
        assert_eq!(load.applicable(Ticket(2), &keys), [true, true, true]);
        load.touch([KeyHash(3)]);
        assert_eq!(load.applicable(Ticket(2), &keys), [true, true, false]);
        load.discard(Ticket(2));
        assert_eq!(load.applicable(Ticket(2), &keys), [false, false, false]);
    }

    #[test]
    fn rows_are_the_first_of_their_keys_until_something_else_is_written_or_read_twice() {
        let mut load = two_chunks();
        load.begin(Ticket(1)).unwrap();
        load.begin(Ticket(2)).unwrap();
        assert!(load.is_first(Ticket(1)) && load.is_first(Ticket(2)));
        assert!(!load.is_first(Ticket(3)), "not under way");
        load.discard(Ticket(1));
        assert!(!load.is_first(Ticket(2)), "a read begins anew");
        let mut load = two_chunks();
        load.begin(Ticket(1)).unwrap();
        load.overwritten();
        assert!(!load.is_first(Ticket(1)), "the log wrote");
        let mark = LoadMark { held: ChunkSet::default(), owed: vec![] };
        for (mark, horizon) in [(Some(&mark), None), (None, Some(at(1)))] {
            let mut load = Load::new("plan".into(), load.chunks.clone(), mark, horizon);
            load.begin(Ticket(1)).unwrap();
            assert!(!load.is_first(Ticket(1)), "another process may have written");
        }
    }

    #[test]
    fn a_load_ends_only_after_a_mark_holds_all_and_the_log_passed_them() {
        let mut load = two_chunks();
        for n in 1..=2 {
            load.begin(Ticket(n)).unwrap();
            load.finish(Ticket(n), at(n as u8 * 10));
        }
        assert!(load.begin(Ticket(3)).is_none());
        assert!(!load.may_end(|_| true), "held only after the commit");
        assert_eq!(load.committed(), 2);
        load.unseen.push(at(20));
        assert!(!load.may_end(|saw| saw.at[0] <= 10));
        assert!(load.may_end(|saw| saw.at[0] <= 20));
        load.owe(vec![vec!["7".into()]]);
        assert!(!load.may_end(|_| true));
        assert_eq!(load.begin(Ticket(4)), Some(Chunk::Keys(vec![vec!["7".into()]])));
        assert!(load.begin(Ticket(5)).is_none(), "asked for once");
        load.finish(Ticket(4), at(30));
        load.owe(vec![vec!["7".into()]]);
        assert_eq!(load.mark().owed.len(), 1, "owed again in the epoch in which it was read");
        load.begin(Ticket(6)).unwrap();
        load.finish(Ticket(6), at(31));
        load.committed();
        assert!(load.may_end(|_| true));
    }

    #[test]
    fn after_a_restart_only_what_the_mark_lacks_is_read() {
        let mut first = two_chunks();
        first.begin(Ticket(1)).unwrap();
        first.finish(Ticket(1), at(1));
        let mark = first.mark();
        let mut second = Load::new("plan".into(), first.chunks.clone(), Some(&mark), Some(at(9)));
        assert_eq!(second.progress(), (1, 2));
        assert!(matches!(second.begin(Ticket(2)), Some(Chunk::Range { from: Some(_), to: None })));
        second.finish(Ticket(2), at(3));
        second.committed();
        assert!(!second.may_end(|saw| saw.at[0] < 9), "the earlier process may have seen more");
    }
}
