//! Where rows of the buffer went: a row is remembered by its batch and number, and found in its file when it is asked for.
//!
//! So the map of touched keys is written once a change and not again when the row moves to a file. Deliberately absent: which
//! rows are alive.
use super::files::OwnPlace;
use super::state::{BufferPlace, Own};

/// Rows in one word of a batch's mask.
const WORD: usize = 64;

/// The batches of one epoch that were written, in the order of the buffer.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// The number of the first of them.
    first: u32,
    batches: Vec<Batch>,
}

/// One batch's rows that were written, one behind the other, in stretches.
#[derive(Debug)]
struct Batch {
    /// Which rows were written, and how many of them stand before each word; `None`: all were.
    written: Option<(Vec<u64>, Vec<u32>)>,
    /// From which of the written rows on they stand where.
    stretches: Vec<(u32, OwnPlace)>,
}

impl Flushed {
    /// The next batch's rows of which `live` says so are being written; the stretches follow.
    pub(crate) fn begin(&mut self, number: u32, live: &[bool]) {
        if self.batches.is_empty() {
            self.first = number;
        }
        let written = live.contains(&false).then(|| counted(live));
        self.batches.push(Batch { written, stretches: Vec::new() });
    }

    /// The written rows of the last batch stand there from its `from`-th on.
    pub(crate) fn stretch(&mut self, from: usize, place: OwnPlace) {
        if let Some(batch) = self.batches.last_mut() {
            batch.stretches.push((from as u32, place));
        }
    }

    /// Where a row is now.
    pub(crate) fn now(&self, own: Own) -> Own {
        match own {
            Own::Buffer(place) => self.file_place(place).map_or(own, Own::File),
            Own::File(_) => own,
        }
    }

    /// Where a row of the buffer is in a file, if it went there.
    pub(crate) fn file_place(&self, place: BufferPlace) -> Option<OwnPlace> {
        let batch = self.batches.get(place.batch.wrapping_sub(self.first) as usize)?;
        let number = batch.number(place.row)?;
        let at = batch.stretches.partition_point(|(from, _)| *from <= number).checked_sub(1)?;
        let (from, OwnPlace { file, row }) = batch.stretches.get(at).copied()?;
        Some(OwnPlace { file, row: row + (number - from) })
    }

    /// Bytes of memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let batch = |batch: &Batch| {
            let words = batch.written.as_ref().map_or(0, |(words, _)| words.len() * 12);
            words + batch.stretches.len() * size_of::<(u32, OwnPlace)>() + size_of::<Batch>()
        };
        self.batches.iter().map(batch).sum::<usize>() as u64
    }
}

impl Batch {
    /// How many rows were written before this one; `None`: it was not written.
    fn number(&self, row: u32) -> Option<u32> {
        let Some((words, before)) = &self.written else { return Some(row) };
        let (word, bit) = (row as usize / WORD, row as usize % WORD);
        let mask = *words.get(word)?;
        let lower = mask & ((1 << bit) - 1);
        (mask >> bit & 1 == 1).then(|| before[word] + lower.count_ones())
    }
}

fn counted(live: &[bool]) -> (Vec<u64>, Vec<u32>) {
    let word =
        |rows: &[bool]| (0..).zip(rows).fold(0, |all, (bit, row)| all | u64::from(*row) << bit);
    let words: Vec<u64> = live.chunks(WORD).map(word).collect();
    let before = words.iter().scan(0, |sum, word| {
        let before = *sum;
        *sum += word.count_ones();
        Some(before)
    });
    let before = before.collect();
    (words, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: u32, row: u32) -> OwnPlace {
        OwnPlace { file, row }
    }

    fn of(batch: u32, row: u32) -> BufferPlace {
        BufferPlace { batch, row }
    }

    #[test]
    fn rows_are_found_where_they_went() {
        let mut flushed = Flushed::default();
        flushed.begin(u32::MAX, &[true; 3]);
        flushed.stretch(0, at(0, 7));
        let live: Vec<bool> = (0..200).map(|row| row % 3 != 0).collect();
        flushed.begin(0, &live);
        flushed.stretch(0, at(0, 10));
        flushed.stretch(100, at(1, 0));
        assert_eq!(flushed.file_place(of(u32::MAX, 2)), Some(at(0, 9)));
        let mut number = 0;
        for row in 0..200 {
            let expected = (row % 3 != 0).then(|| {
                let place = if number < 100 { at(0, 10 + number) } else { at(1, number - 100) };
                number += 1;
                place
            });
            assert_eq!(flushed.file_place(of(0, row)), expected, "row {row}");
        }
        assert_eq!(flushed.file_place(of(0, 200)), None);
        assert_eq!(flushed.file_place(of(1, 0)), None, "it is in the buffer still");
        assert_eq!(flushed.now(Own::Buffer(of(1, 0))), Own::Buffer(of(1, 0)));
        assert_eq!(flushed.now(Own::File(at(3, 3))), Own::File(at(3, 3)));
    }
}
