//! The filter of a run: which keys it surely does not hold, in ten bits a key.
//!
//! A Bloom filter of blocks of one cache line. A key's block follows the order of keys, so that a filter is written in
//! one pass over sorted facts, and a sorted batch walks through it once. About one key in eighty that is not there
//! passes. Deliberately absent: deciding whether a filter stays in memory.
use super::page::{BODY_BYTES, PAGE_BYTES, Page, word};

/// Bits for each key.
const BITS_PER_KEY: u64 = 10;
/// Bits set for each key.
const PROBES: u32 = 6;
/// Bits of a block.
const BLOCK_BITS: u64 = 512;
const BLOCK_BYTES: usize = 64;
/// Blocks in a page.
pub(crate) const BLOCKS_PER_PAGE: u64 = (BODY_BYTES / BLOCK_BYTES) as u64;

/// A block: one cache line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct Block([u64; 8]);

impl Block {
    /// Adds a key by the lower half of its hash; the upper half chose the block.
    pub(crate) fn insert(&mut self, low: u64) {
        for probe in 0..PROBES {
            let bit = low >> (9 * probe) & 511;
            self.0[(bit >> 6) as usize] |= 1 << (bit & 63);
        }
    }

    /// Whether a key may be there.
    pub(crate) fn may_hold(&self, low: u64) -> bool {
        (0..PROBES).all(|probe| {
            let bit = low >> (9 * probe) & 511;
            self.0[(bit >> 6) as usize] >> (bit & 63) & 1 == 1
        })
    }
}

/// The number of blocks for so many keys; at least one.
pub(crate) fn blocks(keys: u64) -> u64 {
    (keys * BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1)
}

/// The number of pages that so many blocks take.
pub(crate) fn pages(blocks: u64) -> u64 {
    blocks.div_ceil(BLOCKS_PER_PAGE)
}

/// The block of a key, by the upper half of its hash. Ascending with it.
pub(crate) fn block_of(high: u64, blocks: u64) -> u64 {
    ((u128::from(high) * u128::from(blocks)) >> 64) as u64
}

/// The block at a place of a page; `at` is below [`BLOCKS_PER_PAGE`].
pub(crate) fn from_page(page: &Page, at: usize) -> Block {
    let mut block = Block::default();
    for (n, part) in block.0.iter_mut().enumerate() {
        *part = word(page, at * BLOCK_BYTES + 8 * n);
    }
    block
}

/// Blocks as a page; at most [`BLOCKS_PER_PAGE`].
pub(crate) fn to_page(blocks: &[Block]) -> Page {
    let mut page = [0; PAGE_BYTES];
    let parts = blocks.iter().flat_map(|block| block.0);
    for (part, out) in parts.zip(page.chunks_exact_mut(8)) {
        out.copy_from_slice(&part.to_le_bytes());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upsert::random::Random;

    #[test]
    fn every_key_passes_and_few_others_do() {
        let mut random = Random::new(3);
        let mut draw = || random.below(u64::MAX) << 11 ^ random.below(u64::MAX);
        let count = 100_000;
        let blocks_max = blocks(count);
        let mut filter = vec![Block::default(); blocks_max as usize];
        let keys: Vec<(u64, u64)> = (0..count).map(|_| (draw(), draw())).collect();
        for (high, low) in &keys {
            filter[block_of(*high, blocks_max) as usize].insert(*low);
        }
        let passes =
            |(high, low): (u64, u64)| filter[block_of(high, blocks_max) as usize].may_hold(low);
        assert!(keys.iter().all(|key| passes(*key)));
        let wrong = (0..count).filter(|_| passes((draw(), draw()))).count();
        assert!(wrong < 2_000, "{wrong} of {count} pass wrongly");
    }

    #[test]
    fn blocks_survive_their_page() {
        let mut blocks = vec![Block::default(); BLOCKS_PER_PAGE as usize];
        for (n, block) in blocks.iter_mut().enumerate() {
            block.insert((n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        let page = to_page(&blocks);
        let back: Vec<Block> = (0..blocks.len()).map(|at| from_page(&page, at)).collect();
        assert_eq!(back, blocks);
    }
}
