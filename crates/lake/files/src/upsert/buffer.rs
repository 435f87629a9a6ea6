//! Rows that an epoch holds back in memory, so that changes of the same row meet before they are written.
use std::collections::VecDeque;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use lakeward_core::{Error, ErrorKind, KeyHash, Result};

use super::state::BufferPlace;
use crate::layout::slice_bytes;

/// Batches in the order in which they came, numbered on and on.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    batches: VecDeque<Buffered>,
    first: u32,
    bytes: u64,
}

#[derive(Debug)]
struct Buffered {
    rows: RecordBatch,
    /// One per row where rows are told apart by their content; else empty.
    keys: Vec<KeyHash>,
    live: Vec<bool>,
    bytes: u64,
}

/// A batch on its way to files.
pub(crate) struct Popped {
    /// Its number.
    pub(crate) number: u32,
    /// Which of its rows are alive.
    pub(crate) live: Vec<bool>,
    /// Those alone.
    pub(crate) rows: RecordBatch,
    /// Their keys, where the batch has some.
    pub(crate) keys: Vec<KeyHash>,
}

impl Buffer {
    /// The number that the next batch gets.
    pub(crate) fn next_number(&self) -> u32 {
        self.first.wrapping_add(self.batches.len() as u32)
    }

    /// Adds a batch, under [`next_number`](Self::next_number) even if no row of it is alive.
    pub(crate) fn push(&mut self, rows: RecordBatch, keys: Vec<KeyHash>, live: Vec<bool>) {
        let bytes = slice_bytes(&rows) + 17 * live.len() as u64;
        self.bytes += bytes;
        self.batches.push_back(Buffered { rows, keys, live, bytes });
    }

    pub(crate) fn kill(&mut self, place: BufferPlace) {
        let at = place.batch.wrapping_sub(self.first) as usize;
        if let Some(live) =
            self.batches.get_mut(at).and_then(|b| b.live.get_mut(place.row as usize))
        {
            *live = false;
        }
    }

    pub(crate) fn rows(&self, batch: u32) -> Option<&RecordBatch> {
        self.batches.get(batch.wrapping_sub(self.first) as usize).map(|b| &b.rows)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { first: self.next_number(), ..Self::default() };
    }

    /// The oldest batch, which goes.
    pub(crate) fn pop(&mut self) -> Result<Option<Popped>> {
        let Some(batch) = self.batches.pop_front() else { return Ok(None) };
        let number = self.first;
        self.first = self.first.wrapping_add(1);
        self.bytes -= batch.bytes;
        let Buffered { mut rows, mut keys, live, .. } = batch;
        if live.contains(&false) {
            let of_live = keys.iter().zip(&live).filter(|(_, live)| **live);
            keys = of_live.map(|(key, _)| *key).collect();
            rows = filter_record_batch(&rows, &BooleanArray::from(live.clone())).map_err(|e| {
                Error::new(ErrorKind::Bug, "live rows could not be chosen").caused_by(e)
            })?;
        }
        Ok(Some(Popped { number, live, rows, keys }))
    }
}
