//! Which cells of a column are NULL, while it grows: the places of those that are. A cell that is not costs one addition.
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};

/// The cells so far.
#[derive(Debug, Default)]
pub(super) struct Validity {
    len: usize,
    /// Rising.
    nulls: Vec<u32>,
}

impl Validity {
    /// Number of cells.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a cell that has a value.
    #[inline]
    pub(super) fn push_valid(&mut self) {
        self.len += 1;
    }

    /// Adds NULL.
    #[inline]
    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.len as u32);
        self.len += 1;
    }

    /// Forgets all cells from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        let kept = self.nulls.partition_point(|at| (*at as usize) < len);
        self.nulls.truncate(kept);
    }

    /// The cells as Arrow has them, `None` without a NULL; empty afterwards.
    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        let len = std::mem::take(&mut self.len);
        if self.nulls.is_empty() {
            return None;
        }
        let mut bits = BooleanBufferBuilder::new(len);
        bits.append_n(len, true);
        for at in self.nulls.drain(..) {
            bits.set_bit(at as usize, false);
        }
        Some(NullBuffer::new(bits.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_stand_where_they_were_put() {
        let mut validity = Validity::default();
        for at in 0..100 {
            if at % 7 == 3 { validity.push_null() } else { validity.push_valid() }
        }
        validity.truncate(95);
        validity.push_null();
        assert_eq!(validity.len(), 96);
        let nulls = validity.finish().unwrap();
        let found: Vec<usize> = (0..nulls.len()).filter(|at| nulls.is_null(*at)).collect();
        let expected: Vec<usize> = (0..95).filter(|at| at % 7 == 3).chain([95]).collect();
        assert_eq!((nulls.len(), found), (96, expected));
        validity.push_valid();
        assert_eq!((validity.len(), validity.finish()), (1, None));
    }
}
