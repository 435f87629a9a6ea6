//! What the key indexes of all tables of this process may hold in memory together.
//!
//! Deliberately absent: page indexes of runs (half a bit a key), without which nothing could be found.
use std::sync::atomic::{AtomicU64, Ordering};

/// Filters of all runs. Past it, filters are read from disk page by page.
const FILTER_BYTES_MAX: u64 = 160 << 20;
/// Memory parts of all tables. Past it, tables write theirs to disk earlier.
const LOOSE_BYTES_MAX: u64 = 64 << 20;

static FILTERS: AtomicU64 = AtomicU64::new(0);
static LOOSE: AtomicU64 = AtomicU64::new(0);

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: &'static AtomicU64,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Room for a filter, if there is some.
pub(crate) fn filter(bytes: u64) -> Option<Share> {
    let grow = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= FILTER_BYTES_MAX);
    let grown = FILTERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
    grown.is_ok().then_some(Share { of: &FILTERS, bytes })
}

/// Counts a table's memory part; always granted, see [`is_tight`].
pub(crate) fn loose(bytes: u64) -> Share {
    LOOSE.fetch_add(bytes, Ordering::Relaxed);
    Share { of: &LOOSE, bytes }
}

/// Whether tables hold too much in memory together.
pub(crate) fn is_tight() -> bool {
    LOOSE.load(Ordering::Relaxed) > LOOSE_BYTES_MAX
}
