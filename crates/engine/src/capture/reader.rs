//! Tasks that read chunks: open a snapshot, send its rows in pieces, end. Decide nothing.
use std::sync::Arc;

use arrow_array::RecordBatch;
use lakeward_core::kill::{KillPoint, reached};
use lakeward_core::{Chunk, Delivered, Error, Position, Result, Source, TableSchema};
use tokio::sync::mpsc;

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

/// Does one read. Ends early, without a word, when nobody listens any more.
pub async fn run(source: Arc<dyn Source>, read: Read, events: mpsc::Sender<ChunkEvent>) {
    let ticket = read.ticket;
    if let Err(error) = send_all(source, read, &events).await {
        let _ = events.send(ChunkEvent::Failed { ticket, error }).await;
    }
}

async fn send_all(
    source: Arc<dyn Source>,
    read: Read,
    events: &mpsc::Sender<ChunkEvent>,
) -> Result<()> {
    let Read { ticket, schema, chunk, delivered } = read;
    let mut reader = source.read_chunk(&schema, &chunk, delivered).await?;
    let saw = reader.saw_nothing_after().clone();
    let opened = ChunkEvent::Opened {
        ticket,
        schema: Arc::clone(reader.schema()),
        exact: reader.exact().cloned(),
        saw: saw.clone(),
    };
    if events.send(opened).await.is_err() {
        return Ok(());
    }
    while let Some(rows) = reader.next().await? {
        if events.send(ChunkEvent::Rows { ticket, rows }).await.is_err() {
            return Ok(());
        }
    }
    reached(KillPoint::ChunkRead);
    let _ = events.send(ChunkEvent::Finished { ticket, saw }).await;
    Ok(())
}
