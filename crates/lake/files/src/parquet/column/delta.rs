//! Integers as differences to the one before, packed by blocks: DELTA_BINARY_PACKED.
//!
//! Values come in pieces of any length; a block is packed as soon as it is full. Deliberately absent: NULLs.
use super::bits::{pack, varint, width, zigzag};

/// Values in a block: the smallest that the format allows.
const BLOCK: usize = 128;
/// Parts of a block that have a width each.
const PARTS: usize = 4;
const PART: usize = BLOCK / PARTS;

/// The integers of one page.
#[derive(Debug)]
pub(super) struct Delta {
    /// 32-bit integers, whose differences wrap at 32 bits.
    narrow: bool,
    first: i64,
    last: i64,
    count: usize,
    block: [i64; BLOCK],
    held: usize,
    packed: Vec<u8>,
    range: Option<(i64, i64)>,
}

impl Delta {
    pub(super) fn new(narrow: bool) -> Self {
        Self {
            narrow,
            first: 0,
            last: 0,
            count: 0,
            block: [0; BLOCK],
            held: 0,
            packed: Vec::new(),
            range: None,
        }
    }

    /// Appends values.
    pub(super) fn extend(&mut self, mut values: impl ExactSizeIterator<Item = i64>) {
        if self.count == 0
            && let Some(first) = values.next()
        {
            (self.first, self.last) = (first, first);
            self.range = Some((first, first));
            self.count = 1;
        }
        while values.len() > 0 {
            let now = values.len().min(BLOCK - self.held);
            for (slot, value) in self.block[self.held..][..now].iter_mut().zip(&mut values) {
                *slot = value;
            }
            self.held += now;
            self.count += now;
            if self.held == BLOCK {
                self.pack_block();
            }
        }
    }

    fn pack_block(&mut self) {
        let values = &self.block[..self.held];
        let Some(last) = values.last() else { return };
        let mut least = values.iter().fold(i64::MAX, |a, b| a.min(*b));
        let mut most = values.iter().fold(i64::MIN, |a, b| a.max(*b));
        if let Some((low, high)) = self.range {
            (least, most) = (least.min(low), most.max(high));
        }
        self.range = Some((least, most));

        let mut deltas = [0i64; BLOCK];
        deltas[0] = values[0].wrapping_sub(self.last);
        for (delta, pair) in deltas[1..].iter_mut().zip(values.windows(2)) {
            *delta = pair[1].wrapping_sub(pair[0]);
        }
        self.last = *last;
        if self.narrow {
            deltas.iter_mut().for_each(|delta| *delta = i64::from(*delta as i32));
        }
        pack_deltas(&mut deltas, self.held, &mut self.packed);
        self.held = 0;
    }

    /// Appends the page's values to `out`; answers the smallest and the largest. This is empty afterwards.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Option<(i64, i64)> {
        self.pack_block();
        varint(BLOCK as u64, out);
        varint(PARTS as u64, out);
        varint(self.count as u64, out);
        varint(zigzag(self.first), out);
        out.append(&mut self.packed);
        (self.first, self.count) = (0, 0);
        self.range.take()
    }

    /// Bytes that the values take so far.
    pub(super) fn bytes(&self) -> usize {
        self.packed.len() + self.held * size_of::<i64>()
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.packed.capacity()
    }
}

/// Appends a block: its smallest difference, a width for each part, what each difference is above the smallest.
fn pack_deltas(deltas: &mut [i64; BLOCK], held: usize, out: &mut Vec<u8>) {
    let least = deltas[..held].iter().fold(i64::MAX, |a, b| a.min(*b));
    deltas[..held].iter_mut().for_each(|delta| *delta = delta.wrapping_sub(least));
    deltas[held..].fill(0);
    varint(zigzag(least), out);
    let widths: [u32; PARTS] = std::array::from_fn(|part| {
        let part = &deltas[part * PART..][..PART];
        width(part.iter().fold(0, |all, delta| all | *delta as u64))
    });
    out.extend(widths.map(|width| width as u8));
    for (part, width) in deltas.chunks(PART).zip(widths).take(held.div_ceil(PART)) {
        pack(part.iter().map(|delta| *delta as u64), width, out);
    }
}
