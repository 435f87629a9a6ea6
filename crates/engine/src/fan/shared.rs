//! A source as one of several sinks sees it.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use lakeward_core::{
    ChangeStream, CheckReport, Chunk, ChunkReader, Coverage, Delivered, Drift, Error, ErrorKind,
    KeyText, Position, Prepared, Result, Source, SourceEvent, StartAt, TableSchema,
};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::confirmed::Confirmed;
use super::pump::{Join, Pump, left_behind};

/// What all views share.
struct Shared {
    source: Arc<dyn Source>,
    confirmed: Mutex<Confirmed>,
    /// How often what the source keeps for this pipeline was removed: sinks that ask for it together mean one removal.
    removals: Mutex<u64>,
    /// How many sinks follow the log now.
    followed: Arc<AtomicUsize>,
    joins: mpsc::Sender<Join>,
}

/// One sink's view of a source: the log is read once for all, everything else goes to the source itself.
pub(crate) struct SharedSource {
    shared: Arc<Shared>,
    sink: usize,
    removals: AtomicU64,
}

impl SharedSource {
    /// A view for each of `sinks` sinks, and the task that reads the log while they live.
    pub(crate) fn views(source: Arc<dyn Source>, sinks: usize) -> (Vec<Arc<dyn Source>>, Pump) {
        let (joins, receiver) = mpsc::channel(sinks.max(1));
        let pump = Pump::new(Arc::clone(&source), sinks, receiver);
        let confirmed = Mutex::new(Confirmed::new(sinks));
        let (removals, followed) = (Mutex::new(0), Arc::default());
        let shared = Arc::new(Shared { source, confirmed, removals, followed, joins });
        let view = |sink| -> Arc<dyn Source> {
            Arc::new(Self { shared: Arc::clone(&shared), sink, removals: AtomicU64::new(0) })
        };
        ((0..sinks).map(view).collect(), pump)
    }
}

#[async_trait]
impl Source for SharedSource {
    async fn check(&self) -> Result<CheckReport> {
        self.shared.source.check().await
    }

    async fn discover(&self) -> Result<Vec<Arc<TableSchema>>> {
        self.shared.source.discover().await
    }

    async fn prepare(&self, tables: &[Arc<TableSchema>]) -> Result<Prepared> {
        // One after the other: the second finds what the first made.
        let _turn = self.shared.removals.lock().await;
        self.shared.source.prepare(tables).await
    }

    async fn publish(&self, tables: &[Arc<TableSchema>]) -> Result<bool> {
        let _turn = self.shared.removals.lock().await;
        self.shared.source.publish(tables).await
    }

    async fn drift(&self, known: &TableSchema) -> Result<Option<Drift>> {
        self.shared.source.drift(known).await
    }

    async fn barrier(&self) -> Result<()> {
        self.shared.source.barrier().await
    }

    async fn head(&self) -> Result<Position> {
        self.shared.source.head().await
    }

    async fn split(&self, table: &TableSchema, rows_per_chunk: u64) -> Result<Vec<Chunk>> {
        self.shared.source.split(table, rows_per_chunk).await
    }

    async fn read_chunk(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
        delivered: Arc<Delivered>,
    ) -> Result<Box<dyn ChunkReader>> {
        self.shared.source.read_chunk(table, chunk, delivered).await
    }

    async fn changes(
        &self,
        from: StartAt,
        known: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>> {
        let (reply, answer) = oneshot::channel();
        let join = Join { sink: self.sink, from, known: known.to_vec(), reply };
        self.shared.joins.send(join).await.map_err(|_| no_reader())?;
        let events = answer.await.map_err(|_| no_reader())??;
        self.shared.followed.fetch_add(1, Ordering::AcqRel);
        Ok(Box::new(Events { events, followed: Arc::clone(&self.shared.followed) }))
    }

    async fn confirm(&self, position: &Position) -> Result<()> {
        let source = &self.shared.source;
        let covers = |p: &Position, at: &Position| source.covers(p, at);
        let mut confirmed = self.shared.confirmed.lock().await;
        match confirmed.confirm(self.sink, position, &covers) {
            Some(all) => source.confirm(&all).await,
            None => Ok(()),
        }
    }

    /// What others follow stays: this sink then begins where the source keeps the log for them.
    async fn remove(&self) -> Result<()> {
        let mut done = self.shared.removals.lock().await;
        if self.shared.followed.load(Ordering::Acquire) > 0 {
            tracing::info!("the log is kept: other sinks follow it");
            return Ok(());
        }
        if self.removals.load(Ordering::Relaxed) == *done {
            self.shared.source.remove().await?;
            *done += 1;
        }
        self.removals.store(*done, Ordering::Relaxed);
        Ok(())
    }

    fn covers(&self, through: &Position, transaction: &Position) -> Coverage {
        self.shared.source.covers(through, transaction)
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        self.shared.source.distance_bytes(from, to)
    }

    fn key_text(&self, table: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>> {
        self.shared.source.key_text(table, rows)
    }
}

/// The log as one sink gets it.
struct Events {
    events: mpsc::Receiver<Result<SourceEvent>>,
    followed: Arc<AtomicUsize>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.followed.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl ChangeStream for Events {
    async fn next(&mut self) -> Result<SourceEvent> {
        self.events.recv().await.unwrap_or_else(|| Err(left_behind()))
    }
}

fn no_reader() -> Error {
    Error::new(ErrorKind::Unreachable, "the log's reader has ended")
}
