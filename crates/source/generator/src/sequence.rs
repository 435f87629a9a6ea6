//! The order of changes, in closed form: which key the n-th change touches, and what a key has become at any place. Pure.
//!
//! The keys 1 to `rows` exist when the log begins. Of each ten changes six update, three insert, one deletes:
//!
//! | kind | key of its n-th change |
//! |---|---|
//! | update | of the first rows those that are no multiple of 10, all of them in a scattered order, again and again |
//! | insert | `rows` + 1 + n |
//! | delete | 10, 20, 30 … of the first rows, then what was inserted, oldest first |
use lakeward_core::Op;

/// What each of ten changes does. An insert comes before its block's delete, so that there is always something to delete.
const BLOCK: [Op; 10] = {
    use Op::{Delete, Insert, Update};
    [Update, Update, Insert, Update, Update, Insert, Update, Update, Insert, Delete]
};

/// Changes of one kind before each change of a block.
const UPDATES_BEFORE: [u64; 10] = [0, 1, 2, 2, 3, 4, 4, 5, 6, 6];
const INSERTS_BEFORE: [u64; 10] = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3];
const UPDATES: u64 = 6;
const INSERTS: u64 = 3;

/// A change: what it does, to which key, and how often that key was updated when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) key: u64,
    pub(crate) version: u64,
}

/// The order for a table of some size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    rows: u64,
    /// How many of the first rows are ever updated.
    updated: u64,
    /// A step that visits each of them once, and the step back.
    stride: u64,
    back: u64,
}

impl Sequence {
    pub(crate) fn new(rows: u64) -> Self {
        let updated = rows - rows / 10;
        // about the golden section: neighbours in time lie far from each other in the table
        let mut stride = (updated as f64 * 0.618_034) as u64 | 1;
        while common_divisor(stride, updated) != 1 {
            stride += 2;
        }
        Self { rows, updated, stride: stride % updated, back: inverse(stride, updated) }
    }

    /// The n-th change, from 0.
    pub(crate) fn change(&self, n: u64) -> Change {
        let (block, at) = (n / 10, (n % 10) as usize);
        match BLOCK[at] {
            Op::Insert => {
                let nth = block * INSERTS + INSERTS_BEFORE[at];
                Change { op: Op::Insert, key: self.rows + 1 + nth, version: 0 }
            }
            Op::Delete => self.deletion(block),
            op => {
                let nth = block * UPDATES + UPDATES_BEFORE[at];
                let place = multiply(nth % self.updated, self.stride, self.updated);
                Change { op, key: nth_updated(place), version: nth / self.updated + 1 }
            }
        }
    }

    fn deletion(&self, nth: u64) -> Change {
        let of_first = self.rows / 10;
        let key = if nth < of_first { 10 * (nth + 1) } else { self.rows + 1 + nth - of_first };
        Change { op: Op::Delete, key, version: 0 }
    }

    /// How often a key has been updated when `changes` have happened; `None`: it does not exist.
    pub(crate) fn version_at(&self, key: u64, changes: u64) -> Option<u64> {
        let (updates, inserts, deletes) = counts(changes);
        if key == 0 || key > self.rows + inserts {
            return None;
        }
        let of_first = self.rows / 10;
        if key > self.rows {
            let gone = deletes.saturating_sub(of_first);
            return (key > self.rows + gone).then_some(0);
        }
        if key.is_multiple_of(10) {
            return (key / 10 > deletes).then_some(0);
        }
        let turn = multiply(place_updated(key), self.back, self.updated);
        Some(updates / self.updated + u64::from(turn < updates % self.updated))
    }

    /// The largest key that exists, or has existed, when `changes` have happened.
    pub(crate) fn last_key(&self, changes: u64) -> u64 {
        self.rows + counts(changes).1
    }
}

/// Updates, inserts and deletes among the first changes.
fn counts(changes: u64) -> (u64, u64, u64) {
    let (blocks, at) = (changes / 10, (changes % 10) as usize);
    (blocks * UPDATES + UPDATES_BEFORE[at], blocks * INSERTS + INSERTS_BEFORE[at], blocks)
}

/// The keys that are no multiple of 10, counted from 0.
fn nth_updated(place: u64) -> u64 {
    place + place / 9 + 1
}

fn place_updated(key: u64) -> u64 {
    key - 1 - key / 10
}

fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(modulus)) as u64
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The number that undoes a multiplication with `a`.
fn inverse(a: u64, modulus: u64) -> u64 {
    let (mut r, mut next_r) = (i128::from(modulus), i128::from(a % modulus));
    let (mut t, mut next_t) = (0, 1);
    while next_r != 0 {
        let quotient = r / next_r;
        (r, next_r) = (next_r, r - quotient * next_r);
        (t, next_t) = (next_t, t - quotient * next_t);
    }
    t.rem_euclid(i128::from(modulus)) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Carries every change out on a real table and compares it with the closed form at every place.
    #[test]
    fn the_closed_form_says_what_the_changes_did() {
        for rows in [10, 11, 19, 37, 100, 123] {
            let sequence = Sequence::new(rows);
            let mut model: BTreeMap<u64, u64> = (1..=rows).map(|key| (key, 0)).collect();
            for n in 0..2_000 {
                let last = sequence.last_key(n);
                let stated: BTreeMap<u64, u64> = (0..=last + 2)
                    .filter_map(|key| Some((key, sequence.version_at(key, n)?)))
                    .collect();
                assert_eq!(stated, model, "{rows} rows, {n} changes");
                let change = sequence.change(n);
                let before = model.get(&change.key).copied();
                match change.op {
                    Op::Insert => assert_eq!(model.insert(change.key, 0), None, "{change:?}"),
                    Op::Delete => assert!(model.remove(&change.key).is_some(), "{n} {change:?}"),
                    _ => {
                        assert_eq!(before, Some(change.version - 1), "{n} {change:?}");
                        model.insert(change.key, change.version);
                    }
                }
            }
        }
    }

    #[test]
    fn large_tables_stay_in_range() {
        let sequence = Sequence::new(10_000_000);
        for n in (0..30_000_000).step_by(999_983) {
            let change = sequence.change(n);
            let after = sequence.version_at(change.key, n + 1);
            let expected = (change.op != Op::Delete).then_some(change.version);
            assert_eq!(after, expected, "{n} {change:?}");
        }
    }
}
