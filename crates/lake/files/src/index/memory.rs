//! The part of the key index that lives in memory: all of it for small tables.
//!
//! Deliberately absent: disk.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use lakeward_core::KeyHash;

use super::{IndexChange, Place};

/// The whole index in one hash table: 24 bytes an entry plus the table's slack (25 to 59 bytes a key in all).
#[derive(Debug, Default, Clone)]
pub struct MemoryIndex {
    first: HashMap<Packed, Place, PackedHash>,
    /// Further places of keys that are in `first`; never an empty list.
    more: HashMap<Packed, Vec<Place>, PackedHash>,
    extra: u64,
}

impl MemoryIndex {
    fn add(&mut self, key: Packed, place: Place) {
        match self.first.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(place);
            }
            Entry::Occupied(_) => {
                self.more.entry(key).or_default().push(place);
                self.extra += 1;
            }
        }
    }

    fn remove(&mut self, key: Packed, place: Place) {
        if self.first.get(&key) == Some(&place) {
            match self.pop_more(key) {
                Some(other) => self.first.insert(key, other),
                None => self.first.remove(&key),
            };
        } else if let Entry::Occupied(mut entry) = self.more.entry(key) {
            let places = entry.get_mut();
            if let Some(at) = places.iter().rposition(|p| *p == place) {
                places.swap_remove(at);
                self.extra -= 1;
            }
            if places.is_empty() {
                entry.remove();
            }
        }
    }

    fn pop_more(&mut self, key: Packed) -> Option<Place> {
        let Entry::Occupied(mut entry) = self.more.entry(key) else { return None };
        let place = entry.get_mut().pop();
        if entry.get().is_empty() {
            entry.remove();
        }
        self.extra -= u64::from(place.is_some());
        place
    }

    /// Keeps only the places that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(Place) -> bool) {
        let mut orphans = Vec::new();
        for (key, place) in &self.first {
            if !keep(*place) {
                orphans.push(*key);
            }
        }
        self.more.retain(|_, places| {
            places.retain(|place| keep(*place));
            !places.is_empty()
        });
        self.extra = self.more.values().map(|places| places.len() as u64).sum();
        for key in orphans {
            match self.pop_more(key) {
                Some(other) => self.first.insert(key, other),
                None => self.first.remove(&key),
            };
        }
    }

    /// Appends all places of all keys, each with the position of its key in `keys`, ascending by that.
    pub fn lookup_all(&self, keys: &[KeyHash], out: &mut Vec<(usize, Place)>) {
        for (at, key) in keys.iter().enumerate() {
            let key = Packed::from(*key);
            let Some(place) = self.first.get(&key) else { continue };
            out.push((at, *place));
            if !self.more.is_empty() {
                out.extend(self.more.get(&key).into_iter().flatten().map(|place| (at, *place)));
            }
        }
    }

    /// Takes changes in.
    pub fn apply(&mut self, change: &IndexChange) {
        for (key, place) in &change.removed {
            self.remove(Packed::from(*key), *place);
        }
        self.first.reserve(change.added.len());
        for (key, place) in &change.added {
            self.add(Packed::from(*key), *place);
        }
    }

    /// All places with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (KeyHash, Place)> + '_ {
        let more = self.more.iter().flat_map(|(key, places)| places.iter().map(move |p| (key, p)));
        self.first.iter().chain(more).map(|(key, place)| (KeyHash::from(*key), *place))
    }

    /// Number of places.
    pub fn len(&self) -> u64 {
        self.first.len() as u64 + self.extra
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places beyond the first of their key.
    pub fn duplicates(&self) -> u64 {
        self.extra
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        // A slot is the entry and a control byte; one slot in eight stays free.
        let slots = |capacity: usize| capacity as u64 * 8 / 7;
        let first = slots(self.first.capacity()) * (size_of::<(Packed, Place)>() as u64 + 1);
        let lists = slots(self.more.capacity()) * (size_of::<(Packed, Vec<Place>)>() as u64 + 1);
        first + lists + self.extra * 2 * size_of::<Place>() as u64
    }
}

/// A key's hash without the 16-byte alignment that would cost a third more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed([u32; 4]);

impl From<KeyHash> for Packed {
    fn from(key: KeyHash) -> Self {
        let KeyHash(bits) = key;
        Self([bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32])
    }
}

impl From<Packed> for KeyHash {
    fn from(Packed(parts): Packed) -> Self {
        Self(parts.iter().rev().fold(0, |all, part| all << 32 | u128::from(*part)))
    }
}

impl Hash for Packed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) | u64::from(self.0[1]) << 32);
    }
}

type PackedHash = BuildHasherDefault<AsIs>;

/// Takes a hash for what it is.
#[derive(Debug, Default, Clone)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::index::FileId;

    fn place(file: u32, row: u32) -> Place {
        Place { file: FileId(file), row }
    }

    #[test]
    fn an_index_equals_the_multimap_it_stands_for() {
        let mut random = crate::upsert::random::Random::new(7);
        let mut index = MemoryIndex::default();
        let mut model: BTreeMap<KeyHash, Vec<Place>> = BTreeMap::new();
        for step in 0..20_000u32 {
            let key = KeyHash(u128::from(random.below(50)) << 60 | 5);
            let known = model.entry(key).or_default();
            let mut change = IndexChange::default();
            if !known.is_empty() && random.below(2) == 0 {
                let gone = known.swap_remove(random.below(known.len() as u64) as usize);
                change.removed.push((key, gone));
            } else {
                known.push(place(step % 5, step));
                change.added.push((key, place(step % 5, step)));
            }
            index.apply(&change);
            if step % 1000 == 999 {
                index.retain(|place| place.file != FileId(step % 4));
                for places in model.values_mut() {
                    places.retain(|p| p.file != FileId(step % 4));
                }
            }
            check(&index, &model);
        }
    }

    fn check(index: &MemoryIndex, model: &BTreeMap<KeyHash, Vec<Place>>) {
        let keys: Vec<_> = model.keys().copied().collect();
        let mut all = Vec::new();
        index.lookup_all(&keys, &mut all);
        all.sort_unstable();
        let mut expected: Vec<_> = model
            .values()
            .enumerate()
            .flat_map(|(at, places)| places.iter().map(move |p| (at, *p)))
            .collect();
        expected.sort_unstable();
        assert_eq!(all, expected);
        assert_eq!(index.len(), expected.len() as u64);
        let mut places: Vec<_> = index.iter().collect();
        places.sort_unstable();
        let mut expected: Vec<_> = expected.iter().map(|(at, place)| (keys[*at], *place)).collect();
        expected.sort_unstable();
        assert_eq!(places, expected);
    }

    #[test]
    fn a_million_keys_take_at_most_59_bytes_each() {
        let mut index = MemoryIndex::default();
        let added = (0..1_000_000u32)
            .map(|row| {
                (
                    KeyHash(u128::from(row).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C5B)),
                    place(0, row),
                )
            })
            .collect();
        index.apply(&IndexChange { added, ..IndexChange::default() });
        assert_eq!(index.len(), 1_000_000);
        assert!(index.memory_bytes() <= 59_000_000, "{}", index.memory_bytes());
    }
}
