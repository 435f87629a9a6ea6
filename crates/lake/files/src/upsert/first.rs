//! Rows whose keys were never written before: written at once, and remembered without a look-up or a map.
//!
//! An initial load is made of them. What the log brings of such a key later in the same epoch replaces its row: that is
//! settled once, when the epoch ends. Deliberately absent: how it is known that a key was never written.
use std::collections::hash_map::Entry;

use lakeward_core::KeyHash;

use super::files::{Files, OwnPlace};
use super::state::{KeyMap, Own, Spot};

/// Rows that stand one behind the other in a file.
#[derive(Debug)]
struct Stretch {
    from: OwnPlace,
    keys: Vec<KeyHash>,
}

impl Stretch {
    fn rows(&self) -> impl Iterator<Item = (KeyHash, OwnPlace)> + '_ {
        let OwnPlace { file, row } = self.from;
        self.keys.iter().zip(row..).map(move |(key, row)| (*key, OwnPlace { file, row }))
    }
}

/// The first rows of their keys that an epoch wrote.
#[derive(Debug, Default)]
pub(crate) struct FirstRows {
    stretches: Vec<Stretch>,
}

impl FirstRows {
    /// The rows with these keys stand from there on.
    pub(crate) fn push(&mut self, from: OwnPlace, keys: Vec<KeyHash>) {
        self.stretches.push(Stretch { from, keys });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let keys: usize = self.stretches.iter().map(|stretch| stretch.keys.capacity()).sum();
        (keys * size_of::<KeyHash>()) as u64
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyHash> + '_ {
        self.stretches.iter().flat_map(|stretch| stretch.keys.iter().copied())
    }

    /// Rows whose keys no later change touched, and where they are.
    pub(crate) fn untouched<'a>(
        &'a self,
        touched: &'a KeyMap<Spot>,
    ) -> impl Iterator<Item = (KeyHash, OwnPlace)> + 'a {
        let is_untouched = |key: &KeyHash| touched.is_empty() || !touched.contains_key(key);
        let rows = self.stretches.iter().flat_map(Stretch::rows);
        rows.filter(move |(key, _)| is_untouched(key))
    }

    /// Rows whose keys a later change touched die.
    pub(crate) fn settle(&self, touched: &KeyMap<Spot>, files: &mut Files) {
        if touched.is_empty() {
            return;
        }
        for (key, place) in self.stretches.iter().flat_map(Stretch::rows) {
            if touched.contains_key(&key) {
                files.kill(place);
            }
        }
    }

    /// Rows become keys like any other, for whoever must find one among them. None is left here.
    pub(crate) fn join(&mut self, touched: &mut KeyMap<Spot>, files: &mut Files) {
        for stretch in std::mem::take(&mut self.stretches) {
            for (key, place) in stretch.rows() {
                match touched.entry(key) {
                    Entry::Vacant(entry) => {
                        entry.insert(Spot::Here(Own::File(place)));
                    }
                    Entry::Occupied(_) => files.kill(place),
                }
            }
        }
    }
}
