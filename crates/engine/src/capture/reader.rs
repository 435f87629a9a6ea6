//! Tasks that read chunks: open a snapshot, send its rows in pieces, end. Decide nothing.
//!
//! Reading goes on while the session commits: pieces wait in a share of memory, and the next reads are ready to begin.
use std::sync::Arc;

use arrow_array::RecordBatch;
use lakeward_core::kill::{KillPoint, reached};
use lakeward_core::{Chunk, Delivered, Error, Position, Result, Source, TableSchema};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::load::Ticket;

/// What a chunk reader says. Comes in this order: `Opened`, any number of `Rows`, `Finished`; or `Failed` at any time.
pub enum ChunkEvent {
    /// The snapshot is open.
    Opened {
        /// The read.
        ticket: Ticket,
        /// The schema under which it reads.
        schema: Arc<TableSchema>,
        /// See [`lakeward_core::ChunkReader::exact`].
        exact: Option<Position>,
        /// A position after which the snapshot saw nothing.
        saw: Position,
    },
    /// Some of its rows.
    Rows {
        /// The read.
        ticket: Ticket,
        /// The rows, in the columns of the schema.
        rows: RecordBatch,
        /// Their memory, given back when it is dropped.
        room: Room,
    },
    /// All rows were sent.
    Finished {
        /// The read.
        ticket: Ticket,
        /// A position after which the snapshot saw nothing.
        saw: Position,
    },
    /// The read ended early.
    Failed {
        /// The read.
        ticket: Ticket,
        /// Why.
        error: Error,
    },
}

/// One read to be done.
pub struct Read {
    /// Its name.
    pub ticket: Ticket,
    /// The table as the engine knows it.
    pub schema: Arc<TableSchema>,
    /// What to read.
    pub chunk: Chunk,
    /// What its snapshot must see.
    pub delivered: Arc<Delivered>,
}

/// Memory that a waiting piece takes. `None` once the share's owner is gone.
pub type Room = Option<OwnedSemaphorePermit>;

/// What all reads of a session share.
#[derive(Clone)]
pub struct Readers {
    events: mpsc::Sender<ChunkEvent>,
    /// Reads that may be open at a time.
    lines: Arc<Semaphore>,
    /// KiB that waiting pieces may still take.
    room: Arc<Semaphore>,
    room_kib: u32,
}

/// Pieces that wait at most, however small they are.
const PIECES_MAX: usize = 256;

impl Readers {
    /// At most so many reads at a time, whose waiting rows take so many bytes at most, but for one piece that is larger.
    pub fn new(at_once: u32, waiting_bytes: u64) -> (Self, mpsc::Receiver<ChunkEvent>) {
        let (events, receiver) = mpsc::channel(PIECES_MAX);
        let room_kib = u32::try_from(waiting_bytes >> 10).unwrap_or(u32::MAX).clamp(1, 1 << 22);
        let lines = Arc::new(Semaphore::new(at_once as usize));
        let room = Arc::new(Semaphore::new(room_kib as usize));
        (Self { events, lines, room, room_kib }, receiver)
    }

    /// Does one read when its turn comes. Ends early, without a word, when nobody listens any more.
    pub async fn read(self, source: Arc<dyn Source>, read: Read) {
        let ticket = read.ticket;
        // The semaphores are never closed.
        let _line = self.lines.acquire().await;
        if let Err(error) = self.send_all(source, read).await {
            let _ = self.events.send(ChunkEvent::Failed { ticket, error }).await;
        }
    }

    async fn room_for(&self, rows: &RecordBatch) -> Room {
        let kib = u32::try_from(rows.get_array_memory_size() >> 10).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(kib.clamp(1, self.room_kib)).await.ok()
    }

    async fn send_all(&self, source: Arc<dyn Source>, read: Read) -> Result<()> {
        let Read { ticket, schema, chunk, delivered } = read;
        let mut reader = source.read_chunk(&schema, &chunk, delivered).await?;
        let saw = reader.saw_nothing_after().clone();
        let opened = ChunkEvent::Opened {
            ticket,
            schema: Arc::clone(reader.schema()),
            exact: reader.exact().cloned(),
            saw: saw.clone(),
        };
        if self.events.send(opened).await.is_err() {
            return Ok(());
        }
        while let Some(rows) = reader.next().await? {
            let room = self.room_for(&rows).await;
            if self.events.send(ChunkEvent::Rows { ticket, rows, room }).await.is_err() {
                return Ok(());
            }
        }
        reached(KillPoint::ChunkRead);
        let _ = self.events.send(ChunkEvent::Finished { ticket, saw }).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; count]));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    #[tokio::test]
    async fn waiting_pieces_keep_to_their_share_of_memory() {
        let (readers, _events) = Readers::new(2, 64 << 10);
        let first = readers.room_for(&rows(4 << 10)).await;
        let second = readers.room_for(&rows(4 << 10)).await;
        assert!(first.is_some() && second.is_some());
        let piece = rows(4 << 10);
        let third = readers.room_for(&piece);
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending(), "64 KiB are full");
        drop(first);
        assert!(third.await.is_some());
    }

    #[tokio::test]
    async fn a_piece_larger_than_the_share_passes_alone() {
        let (readers, _events) = Readers::new(2, 64 << 10);
        let large = readers.room_for(&rows(1 << 20)).await;
        assert!(large.is_some());
        let piece = rows(1);
        let next = readers.room_for(&piece);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        drop(large);
        assert!(next.await.is_some());
    }
}
