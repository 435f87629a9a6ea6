//! The pages that runs are made of: fixed size, a checksum at the end, facts or filter blocks before it.
//!
//! Deliberately absent: what a page is for, and where it stands.
use std::fs::File;
use std::os::unix::fs::FileExt;

use lakeward_core::{KeyHash, Result};

use super::damaged;

/// Bytes of a page on disk.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes of a page before its checksum.
pub(crate) const BODY_BYTES: usize = PAGE_BYTES - 4;
/// Bytes of a fact on disk.
pub(crate) const FACT_BYTES: usize = 24;
/// Facts in a full page.
pub(crate) const FACTS_PER_PAGE: usize = BODY_BYTES / FACT_BYTES;

/// The bytes of one page.
pub(crate) type Page = [u8; PAGE_BYTES];

/// That a row of a file has a key: true for ever, for files never change. Ordered by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    /// Upper half of the key's hash. Two halves instead of a `u128`, whose alignment would cost a third more memory.
    pub(crate) high: u64,
    /// Lower half.
    pub(crate) low: u64,
    /// Number of the file, as its holder numbers files.
    pub(crate) file: u32,
    /// Row in the file.
    pub(crate) row: u32,
}

impl Fact {
    /// The fact that `row` of `file` has this key.
    pub(crate) fn new(key: KeyHash, file: u32, row: u32) -> Self {
        Self { high: (key.0 >> 64) as u64, low: key.0 as u64, file, row }
    }

    /// The key's hash.
    pub(crate) fn key(&self) -> KeyHash {
        KeyHash(u128::from(self.high) << 64 | u128::from(self.low))
    }

    fn write(&self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.high.to_le_bytes());
        out[8..16].copy_from_slice(&self.low.to_le_bytes());
        out[16..20].copy_from_slice(&self.file.to_le_bytes());
        out[20..24].copy_from_slice(&self.row.to_le_bytes());
    }
}

/// A page of facts; at most [`FACTS_PER_PAGE`].
pub(crate) fn encode(facts: &[Fact]) -> Page {
    let mut page = [0; PAGE_BYTES];
    for (fact, out) in facts.iter().zip(page.chunks_exact_mut(FACT_BYTES)) {
        fact.write(out);
    }
    page
}

/// The fact at a place of a page; `at` is below [`FACTS_PER_PAGE`].
pub(crate) fn fact(page: &Page, at: usize) -> Fact {
    let from = at * FACT_BYTES;
    Fact {
        high: word(page, from),
        low: word(page, from + 8),
        file: word(page, from + 16) as u32,
        row: (word(page, from + 16) >> 32) as u32,
    }
}

/// Eight bytes of a page as a number.
pub(crate) fn word(page: &Page, from: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&page[from..from + 8]);
    u64::from_le_bytes(bytes)
}

/// Puts the checksum in. It covers the page's number: a page in another's place is damage, too.
pub(crate) fn seal(page: &mut Page, number: u64) {
    let sum = checksum(&page[..BODY_BYTES], number);
    page[BODY_BYTES..].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum of bytes that stand at a numbered place.
pub(crate) fn checksum(bytes: &[u8], number: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(number as u32 ^ (number >> 32) as u32);
    hasher.update(bytes);
    hasher.finalize()
}

/// Whether a page is what was sealed under this number.
pub(crate) fn is_sound(page: &Page, number: u64) -> bool {
    page[BODY_BYTES..] == checksum(&page[..BODY_BYTES], number).to_le_bytes()
}

/// Reads page `number` of a file.
///
/// # Errors
/// `Conflict` when it is not what was written.
pub(crate) fn read(file: &File, number: u64, page: &mut Page) -> Result<()> {
    file.read_exact_at(page, number * PAGE_BYTES as u64).map_err(|e| damaged().caused_by(e))?;
    if is_sound(page, number) { Ok(()) } else { Err(damaged()) }
}

/// Reads several pages from `number` on; `pages` is a whole number of them.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_many(file: &File, number: u64, pages: &mut [u8]) -> Result<()> {
    file.read_exact_at(pages, number * PAGE_BYTES as u64).map_err(|e| damaged().caused_by(e))?;
    for (at, page) in pages.chunks_exact(PAGE_BYTES).enumerate() {
        let sum = checksum(&page[..BODY_BYTES], number + at as u64);
        if page[BODY_BYTES..] != sum.to_le_bytes() {
            return Err(damaged());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_and_a_flipped_bit_or_a_wrong_place_is_found() {
        let facts: Vec<Fact> = (0..FACTS_PER_PAGE as u32)
            .map(|n| Fact::new(KeyHash(u128::from(n) << 100 | 7), n, u32::MAX - n))
            .collect();
        let mut page = encode(&facts);
        seal(&mut page, 9);
        assert!(is_sound(&page, 9) && !is_sound(&page, 10));
        let back: Vec<Fact> = (0..FACTS_PER_PAGE).map(|at| fact(&page, at)).collect();
        assert_eq!(back, facts);
        for bit in 0..PAGE_BYTES * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_sound(&page, 9), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
