//! Values that repeat, written once each and named by number.
//!
//! Deliberately absent: whether a column deserves one (see `encoding`), and what its values mean.
use super::bits::{indices, width};

/// A dictionary that has grown past this is not worth its page: the pages that follow hold values.
const BYTES_MAX: usize = 512 << 10;
/// As many values, counted.
const ENTRIES_MAX: usize = 32 << 10;
/// Places looked at for one value. Past them the value gets a second number: that is allowed, and no input is slow.
const PROBES_MAX: usize = 64;

/// The distinct values of a row group's column, in their plain form.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// `None`: values are preceded by their length in four bytes.
    width: Option<usize>,
    plain: Vec<u8>,
    /// Where each value begins in `plain`.
    starts: Vec<u32>,
    /// Numbers plus one, by hash; 0 is free.
    table: Vec<u32>,
    /// The page's values.
    numbers: Vec<u32>,
}

impl Dictionary {
    pub(super) fn new(width: Option<usize>) -> Self {
        Self {
            width,
            plain: Vec::new(),
            starts: Vec::new(),
            table: vec![0; 1024],
            numbers: Vec::new(),
        }
    }

    /// Appends a value to the page; `true` when it was not known.
    pub(super) fn push(&mut self, value: &[u8]) -> bool {
        if let Some(last) = self.numbers.last()
            && self.value(*last) == value
        {
            self.numbers.push(*last);
            return false;
        }
        let mask = self.table.len() - 1;
        let home = hash(value) as usize;
        for slot in (home..home + PROBES_MAX).map(|n| n & mask) {
            match self.table[slot].checked_sub(1) {
                Some(number) if self.value(number) == value => {
                    self.numbers.push(number);
                    return false;
                }
                Some(_) => {}
                None => {
                    self.table[slot] = self.insert(value) + 1;
                    self.grow();
                    return true;
                }
            }
        }
        self.insert(value);
        true
    }

    fn insert(&mut self, value: &[u8]) -> u32 {
        let number = self.starts.len() as u32;
        if self.width.is_none() {
            self.plain.extend_from_slice(&(value.len() as u32).to_le_bytes());
        }
        self.starts.push(self.plain.len() as u32);
        self.plain.extend_from_slice(value);
        self.numbers.push(number);
        number
    }

    fn value(&self, number: u32) -> &[u8] {
        let start = self.starts[number as usize] as usize;
        let end = match (self.width, self.starts.get(number as usize + 1)) {
            (Some(width), _) => start + width,
            (None, Some(next)) => *next as usize - 4,
            (None, None) => self.plain.len(),
        };
        &self.plain[start..end]
    }

    /// Keeps at least half of the table free.
    fn grow(&mut self) {
        if self.starts.len() * 2 <= self.table.len() {
            return;
        }
        let length = self.table.len() * 2;
        self.table.clear();
        self.table.resize(length, 0);
        for number in 0..self.starts.len() as u32 {
            let home = hash(self.value(number)) as usize;
            let slots = (home..home + PROBES_MAX).map(|n| n & (length - 1));
            if let Some(free) = slots.into_iter().find(|slot| self.table[*slot] == 0) {
                self.table[free] = number + 1;
            }
        }
    }

    /// Whether the next page should hold values instead.
    pub(super) fn is_full(&self) -> bool {
        self.plain.len() >= BYTES_MAX || self.starts.len() >= ENTRIES_MAX
    }

    /// Appends the page's values by number to `out`; the next page begins empty.
    pub(super) fn end_page(&mut self, out: &mut Vec<u8>) {
        let width = width(self.starts.len().saturating_sub(1) as u64).max(1);
        out.push(width as u8);
        indices(&self.numbers, width, out);
        self.numbers.clear();
    }

    /// Distinct values so far.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The distinct values in their plain form.
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Forgets all values.
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.starts.clear();
        self.table.fill(0);
        self.numbers.clear();
    }

    /// Bytes that the page takes so far, about: what is new in the dictionary is not told from what was there.
    pub(super) fn page_bytes(&self) -> usize {
        self.numbers.len() * 2
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        let numbers = self.starts.capacity() + self.table.capacity() + self.numbers.capacity();
        self.plain.capacity() + numbers * size_of::<u32>()
    }
}

/// Spreads values over the table; a clash costs time only.
fn hash(value: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = value.len() as u64;
    for part in value.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        hash = (hash.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers_while_the_table_grows() {
        let mut texts = Dictionary::new(None);
        let text = |n: usize| "x".repeat(n % 11) + &(n % 5000).to_string();
        for n in 0..20_000 {
            texts.push(text(n % 12_000).as_bytes());
        }
        let numbers = texts.numbers.clone();
        assert_eq!(numbers.len(), 20_000);
        for (n, number) in numbers.iter().enumerate() {
            assert_eq!(texts.value(*number), text(n % 12_000).as_bytes());
        }
        // A clash may give a value a second number, but rarely.
        assert!((12_000..12_100).contains(&texts.len()), "{}", texts.len());
        texts.clear();
        assert!(texts.push(b"") && !texts.push(b""));
    }
}
