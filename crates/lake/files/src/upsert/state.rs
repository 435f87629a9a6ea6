//! The pure heart of an epoch: where the current row of each touched key is, which change wins, and which rows die.
//!
//! No I/O, no row values: keys are hashes, rows are places. Deliberately absent: the lake's own places, which are
//! asked of the key index by the caller.
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use lakeward_core::{KeyHash, Op};

use super::files::OwnPlace;
use crate::index::{AsIs, Place};

/// A map from key hashes, which need no further hashing.
pub(crate) type KeyMap<V> = HashMap<KeyHash, V, BuildHasherDefault<AsIs>>;

/// A row held back in memory: the number of its batch, and the row in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BufferPlace {
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// Where a row that this epoch wrote is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// It came in this batch; where it is now, [`Flushed`](super::flushed::Flushed) knows.
    Buffer(BufferPlace),
    File(OwnPlace),
}

/// What this epoch knows of a key that it touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Its row is here.
    Here(Own),
    /// It has no row.
    Gone,
    /// Its row came incomplete and has no base: it was not written.
    Owed,
}

/// What this epoch did to rows that are equal in all columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Equals {
    /// Added and still there, oldest first.
    pub(crate) own: Vec<Own>,
    /// So many of `own`, from its beginning, are in files; the others are buffered.
    pub(crate) in_files: usize,
    /// How many go from the lake.
    pub(crate) from_lake: u64,
}

impl Equals {
    fn pop(&mut self) -> Option<Own> {
        let own = self.own.pop();
        self.in_files = self.in_files.min(self.own.len());
        own
    }

    /// The oldest buffered row has gone to a file.
    fn moved(&mut self, to: OwnPlace) {
        if let Some(own) = self.own.get_mut(self.in_files) {
            *own = Own::File(to);
            self.in_files += 1;
        }
    }
}

/// The touched keys of an epoch.
#[derive(Debug)]
pub(crate) enum Keys {
    /// Rows have no identity.
    Append,
    /// One row a key.
    Keyed(KeyMap<Spot>),
    /// Equal rows are counted.
    Counted(KeyMap<Equals>),
}

/// A batch of changes, reduced to what decides.
pub(crate) struct Changes<'a> {
    /// The number of the batch in the buffer.
    pub(crate) batch: u32,
    pub(crate) ops: &'a [Op],
    /// The key of each row; empty in append mode.
    pub(crate) keys: &'a [KeyHash],
    /// The key of each row's before image, where it has one.
    pub(crate) before: &'a [Option<KeyHash>],
    /// Whether before images are whole rows.
    pub(crate) before_is_whole: bool,
    /// Whether each row lacks a cell. Rows that are counted by their whole content lack none.
    pub(crate) incomplete: &'a [bool],
    /// Where the lake holds keys of incomplete rows; empty once it was truncated.
    pub(crate) lake: &'a KeyMap<Place>,
}

/// Where an incomplete row's missing cells come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The row's own before image.
    Before,
    /// A row of this epoch.
    Own(Own),
    /// A row of the lake.
    Lake(Place),
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Whether each row of the batch is alive at the batch's end.
    pub(crate) live: Vec<bool>,
    /// Rows of earlier batches that died.
    pub(crate) displaced: Vec<Own>,
    /// Each incomplete row that has a base, ascending.
    pub(crate) bases: Vec<(usize, Base)>,
    /// Incomplete rows without a base.
    pub(crate) owed: Vec<usize>,
}

impl Plan {
    /// Replaces places of earlier batches by those that `now` says of them.
    pub(crate) fn find_rows(&mut self, now: impl Fn(Own) -> Own) {
        self.displaced.iter_mut().for_each(|own| *own = now(*own));
        for (_, base) in &mut self.bases {
            if let Base::Own(own) = base {
                *own = now(*own);
            }
        }
    }

    fn displace(&mut self, own: Own, batch: u32) {
        match own {
            Own::Buffer(place) if place.batch == batch => self.live[place.row as usize] = false,
            own => self.displaced.push(own),
        }
    }
}

impl Keys {
    /// Follows a batch in order and decides about every row.
    pub(crate) fn apply(&mut self, changes: &Changes<'_>) -> Plan {
        let mut plan = Plan { live: vec![false; changes.ops.len()], ..Plan::default() };
        for row in 0..changes.ops.len() {
            match self {
                Self::Append => plan.live[row] = true,
                Self::Keyed(spots) => keyed(spots, changes, row, &mut plan),
                Self::Counted(rows) => counted(rows, changes, row, &mut plan),
            }
        }
        plan
    }

    /// Rows with these keys, all of them alive, went from the buffer to files, from there on: for rows that are told apart
    /// by their content. A keyed row is found through its place in the buffer.
    pub(crate) fn moved(&mut self, keys: &[KeyHash], from: OwnPlace) {
        if let Self::Counted(rows) = self {
            for (key, row) in keys.iter().zip(from.row..) {
                rows.entry(*key).or_default().moved(OwnPlace { file: from.file, row });
            }
        }
    }

    /// Whether [`moved`](Self::moved) is told which rows went.
    pub(crate) fn follows_rows(&self) -> bool {
        matches!(self, Self::Counted(_))
    }

    /// Whether this epoch knows the key.
    pub(crate) fn knows(&self, key: &KeyHash) -> bool {
        matches!(self, Self::Keyed(spots) if spots.contains_key(key))
    }

    /// Number of touched keys.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Append => 0,
            Self::Keyed(spots) => spots.len(),
            Self::Counted(rows) => rows.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for so many keys at once, if there are none yet.
    pub(crate) fn expect(&mut self, count: usize) {
        if let Self::Keyed(spots) = self
            && spots.is_empty()
        {
            spots.reserve(count);
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let slots = |capacity: usize, entry: usize| (capacity * 8 / 7 * (entry + 1)) as u64;
        match self {
            Self::Append => 0,
            Self::Keyed(spots) => slots(spots.capacity(), size_of::<(KeyHash, Spot)>()),
            Self::Counted(rows) => {
                let own = rows.len() * 4 * size_of::<Own>();
                slots(rows.capacity(), size_of::<(KeyHash, Equals)>()) + own as u64
            }
        }
    }
}

fn keyed(spots: &mut KeyMap<Spot>, changes: &Changes<'_>, row: usize, plan: &mut Plan) {
    let key = changes.keys[row];
    if changes.ops[row] == Op::Delete {
        return put(spots, key, Spot::Gone, changes.batch, plan);
    }
    let incomplete = changes.incomplete[row];
    let base = if incomplete { base(spots, changes, row) } else { None };
    if let Some(old) = changes.before[row] {
        put(spots, old, Spot::Gone, changes.batch, plan);
    }
    if incomplete && base.is_none() {
        plan.owed.push(row);
        return put(spots, key, Spot::Owed, changes.batch, plan);
    }
    plan.bases.extend(base.map(|base| (row, base)));
    let here = Own::Buffer(BufferPlace { batch: changes.batch, row: row as u32 });
    put(spots, key, Spot::Here(here), changes.batch, plan);
    plan.live[row] = true;
}

fn put(spots: &mut KeyMap<Spot>, key: KeyHash, spot: Spot, batch: u32, plan: &mut Plan) {
    if let Some(Spot::Here(own)) = spots.insert(key, spot) {
        plan.displace(own, batch);
    }
}

/// The current version of an incomplete row: under its old key first, then under its new one.
fn base(spots: &KeyMap<Spot>, changes: &Changes<'_>, row: usize) -> Option<Base> {
    if changes.before_is_whole && changes.before[row].is_some() {
        return Some(Base::Before);
    }
    let current = |key: KeyHash| match spots.get(&key) {
        Some(Spot::Here(own)) => Some(Base::Own(*own)),
        Some(Spot::Gone | Spot::Owed) => None,
        None => changes.lake.get(&key).copied().map(Base::Lake),
    };
    changes.before[row].and_then(current).or_else(|| current(changes.keys[row]))
}

fn counted(rows: &mut KeyMap<Equals>, changes: &Changes<'_>, row: usize, plan: &mut Plan) {
    let key = changes.keys[row];
    if changes.ops[row] == Op::Delete {
        return take_one(rows, key, changes, plan);
    }
    if let Some(old) = changes.before[row] {
        take_one(rows, old, changes, plan);
    }
    let here = Own::Buffer(BufferPlace { batch: changes.batch, row: row as u32 });
    rows.entry(key).or_default().own.push(here);
    plan.live[row] = true;
}

fn take_one(rows: &mut KeyMap<Equals>, key: KeyHash, changes: &Changes<'_>, plan: &mut Plan) {
    let equals = rows.entry(key).or_default();
    match equals.pop() {
        Some(own) => plan.displace(own, changes.batch),
        None => equals.from_lake += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> KeyHash {
        KeyHash(n)
    }

    fn here(batch: u32, row: u32) -> Own {
        Own::Buffer(BufferPlace { batch, row })
    }

    struct Step {
        op: Op,
        key: u128,
        before: Option<u128>,
        incomplete: bool,
    }

    fn step(op: Op, key: u128) -> Step {
        Step { op, key, before: None, incomplete: false }
    }

    fn apply(keys: &mut Keys, batch: u32, steps: &[Step], lake: &[(u128, Place)]) -> Plan {
        let lake = lake.iter().map(|(k, p)| (key(*k), *p)).collect();
        keys.apply(&Changes {
            batch,
            ops: &steps.iter().map(|s| s.op).collect::<Vec<_>>(),
            keys: &steps.iter().map(|s| key(s.key)).collect::<Vec<_>>(),
            before: &steps.iter().map(|s| s.before.map(key)).collect::<Vec<_>>(),
            before_is_whole: false,
            incomplete: &steps.iter().map(|s| s.incomplete).collect::<Vec<_>>(),
            lake: &lake,
        })
    }

    #[test]
    fn the_last_change_of_a_key_wins() {
        let mut keys = Keys::Keyed(KeyMap::default());
        let plan = apply(&mut keys, 0, &[step(Op::Insert, 1), step(Op::Update, 1)], &[]);
        assert_eq!(plan.live, [false, true]);
        let plan = apply(&mut keys, 1, &[step(Op::Delete, 1), step(Op::Insert, 1)], &[]);
        assert_eq!((plan.live, plan.displaced), (vec![false, true], vec![here(0, 1)]));
    }

    #[test]
    fn a_base_is_the_old_keys_row_then_the_new_keys_then_nothing() {
        let place = Place { file: crate::index::FileId(3), row: 9 };
        let change = |incomplete, before| Step { op: Op::Update, key: 2, before, incomplete };
        let mut keys = Keys::Keyed(KeyMap::default());
        let plan = apply(&mut keys, 0, &[change(true, Some(1))], &[(1, place)]);
        assert_eq!(plan.bases, [(0, Base::Lake(place))]);
        let plan = apply(&mut keys, 1, &[change(true, Some(1))], &[(1, place)]);
        assert_eq!(plan.bases, [(0, Base::Own(here(0, 0)))]);
        let plan = apply(&mut keys, 2, &[step(Op::Delete, 2), change(true, None)], &[(2, place)]);
        assert_eq!((plan.bases, plan.owed), (vec![], vec![1]));
        let plan = apply(&mut keys, 3, &[step(Op::Insert, 2), change(true, None)], &[]);
        assert_eq!(plan.bases, [(1, Base::Own(here(3, 0)))]);
        assert_eq!(plan.live, [false, true]);
    }

    #[test]
    fn equal_rows_go_one_for_one_the_epochs_own_first() {
        let mut keys = Keys::Counted(KeyMap::default());
        let steps = [step(Op::Insert, 5), step(Op::Insert, 5), step(Op::Delete, 5)];
        assert_eq!(apply(&mut keys, 0, &steps, &[]).live, [true, false, false]);
        keys.moved(&[key(5)], OwnPlace { file: 0, row: 0 });
        let plan = apply(&mut keys, 1, &[step(Op::Delete, 5), step(Op::Delete, 5)], &[]);
        assert_eq!(plan.displaced, [Own::File(OwnPlace { file: 0, row: 0 })]);
        let Keys::Counted(rows) = keys else { panic!("counted") };
        assert_eq!(rows[&key(5)], Equals { from_lake: 1, ..Equals::default() });
    }
}
