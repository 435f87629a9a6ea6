//! Rows of the table as Arrow columns: those of a chunk, as they are at a place of the log.
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use lakeward_core::{Chunk, ChunkReader, Error, ErrorKind, Position, Result, TableSchema};

use crate::config::Config;
use crate::sequence::Sequence;
use crate::shape::{self, Kind};

/// What a batch may hold, so that it has at most a few MiB.
const BATCH_CELLS: usize = 200_000;

/// Makes batches of one table.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) sequence: Sequence,
    kinds: Vec<Kind>,
    seed: u64,
}

impl Maker {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            schema: shape::schema(config),
            sequence: Sequence::new(config.rows),
            kinds: shape::columns(config.shape).into_iter().map(|(_, kind)| kind).collect(),
            seed: config.seed,
        }
    }

    /// Rows of a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        BATCH_CELLS / self.kinds.len()
    }

    /// The rows of these keys at these versions.
    ///
    /// # Errors
    /// `Bug` when the columns do not fit their schema.
    pub(crate) fn make(&self, rows: &[(u64, u64)]) -> Result<RecordBatch> {
        let salts = (0u64..).map(|n| self.seed.wrapping_add(n << 40));
        let columns = self.kinds.iter().zip(salts).map(|(kind, salt)| kind.values(rows, salt));
        RecordBatch::try_new(self.schema.arrow(), columns.collect()).map_err(|error| {
            Error::new(ErrorKind::Bug, "generated columns do not fit").caused_by(error)
        })
    }
}

/// Which keys a chunk asks for.
enum Keys {
    Range { next: u64, last: u64 },
    Listed(std::vec::IntoIter<u64>),
}

impl Iterator for Keys {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Range { next, last } => {
                let key = *next;
                *next += 1;
                (key <= *last).then_some(key)
            }
            Self::Listed(keys) => keys.next(),
        }
    }
}

/// Reads a chunk as it is at a place of the log.
pub(crate) struct Reader {
    maker: Maker,
    keys: Keys,
    changes: u64,
    place: Position,
}

impl Reader {
    /// # Errors
    /// `Corrupt` for a key that is no number.
    pub(crate) fn new(maker: Maker, chunk: &Chunk, changes: u64, place: Position) -> Result<Self> {
        let last = maker.sequence.last_key(changes);
        let keys = match chunk {
            Chunk::Range { from, to } => Keys::Range {
                next: from.as_deref().map_or(Ok(0), number)? + 1,
                last: to.as_deref().map_or(Ok(last), number)?.min(last),
            },
            Chunk::Keys(keys) => {
                let numbers: Result<Vec<u64>> = keys.iter().map(|key| number(key)).collect();
                Keys::Listed(numbers?.into_iter())
            }
            Chunk::Whole => Keys::Range { next: 1, last },
        };
        Ok(Self { maker, keys, changes, place })
    }
}

fn number(key: &[String]) -> Result<u64> {
    let number = key.first().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a chunk's key is not a number"))
}

#[async_trait]
impl ChunkReader for Reader {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.maker.schema
    }

    fn saw_nothing_after(&self) -> &Position {
        &self.place
    }

    fn exact(&self) -> Option<&Position> {
        Some(&self.place)
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let version = |key| Some((key, self.maker.sequence.version_at(key, self.changes)?));
        let rows: Vec<(u64, u64)> =
            self.keys.by_ref().filter_map(version).take(self.maker.batch_rows()).collect();
        // a batch is a long stretch of work: others get their turn
        tokio::task::yield_now().await;
        if rows.is_empty() { Ok(None) } else { self.maker.make(&rows).map(Some) }
    }
}
