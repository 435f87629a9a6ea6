//! The log: batches of whole transactions, one after the other, until there is no more.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lakeward_core::{
    ChangeBatch, ChangeStream, Op, Position, Result, Run, SourceEvent, TransactionEnd,
    TransactionId, TransactionInfo, TransactionRef,
};

use crate::rows::Maker;

/// How often an ended log says that it is quiet.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// When the first transaction is said to have been committed: the same in every run.
const BEGAN: Duration = Duration::from_secs(1_700_000_000);

/// The position behind so many changes.
pub(crate) fn place(changes: u64) -> Position {
    let bytes: Box<[u8]> = Box::new(changes.to_be_bytes());
    Position { at: bytes.clone(), resume: bytes }
}

/// The changes before a position; `None`: it is not ours.
pub(crate) fn changes_before(position: &Position) -> Option<u64> {
    Some(u64::from_be_bytes(position.at.as_ref().try_into().ok()?))
}

/// The log, opened.
pub(crate) struct Log {
    maker: Maker,
    /// Changes in one transaction.
    transaction: u64,
    /// Where the log ends.
    end: u64,
    next: u64,
    /// What a commit still owes: the end of what was sent last.
    owed: Option<(TransactionId, TransactionEnd)>,
    /// How far the stream has come, for readers of chunks.
    delivered: Arc<AtomicU64>,
    told_idle: bool,
}

impl Log {
    pub(crate) fn new(
        maker: Maker,
        transaction: u64,
        end: u64,
        from: u64,
        delivered: Arc<AtomicU64>,
    ) -> Self {
        delivered.store(from, Ordering::SeqCst);
        Self { maker, transaction, end, next: from, owed: None, delivered, told_idle: false }
    }

    /// The transaction that begins with this change.
    fn transaction(&self, first: u64) -> (TransactionId, TransactionEnd) {
        let last = (first - first % self.transaction + self.transaction).min(self.end);
        let committed_at = SystemTime::UNIX_EPOCH + BEGAN + Duration::from_millis(last);
        (TransactionId(last), TransactionEnd { position: place(last), committed_at })
    }

    /// Whole transactions, as many as a batch holds, at least one.
    fn batch(&mut self) -> Result<ChangeBatch> {
        let most = self.next + self.maker.batch_rows() as u64;
        let (mut ops, mut rows, mut runs) = (Vec::new(), Vec::new(), Vec::new());
        while self.next < self.end {
            let (id, end) = self.transaction(self.next);
            let last = id.0;
            if last > most && !rows.is_empty() {
                break;
            }
            for n in self.next..last {
                let change = self.maker.sequence.change(n);
                ops.push(change.op);
                rows.push((change.key, change.version));
            }
            let transaction = TransactionRef { id, part: None };
            let info = TransactionInfo { transaction, end: Some(end.clone()) };
            runs.push(Run { rows: (last - self.next) as u32, transaction: Arc::new(info) });
            self.next = last;
            self.owed = Some((id, end));
        }
        debug_assert!(ops.iter().all(|op| *op != Op::Read));
        let (schema, rows) = (Arc::clone(&self.maker.schema), self.maker.make(&rows)?);
        Ok(ChangeBatch { schema, ops, rows, before: None, absent: None, origin: None, runs })
    }
}

#[async_trait]
impl ChangeStream for Log {
    async fn next(&mut self) -> Result<SourceEvent> {
        if let Some((transaction, end)) = self.owed.take() {
            return Ok(SourceEvent::Commit { transaction, end });
        }
        if self.next < self.end {
            tokio::task::yield_now().await;
            let batch = self.batch()?;
            self.delivered.store(self.next, Ordering::SeqCst);
            return Ok(SourceEvent::Rows(batch));
        }
        if self.told_idle {
            tokio::time::sleep(IDLE_EVERY).await;
        }
        self.told_idle = true;
        Ok(SourceEvent::Idle { position: place(self.end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Shape};

    fn config() -> Config {
        Config { shape: Shape::Narrow, rows: 100, changes: 1_050, transaction_changes: 7, seed: 1 }
    }

    async fn read(from: u64) -> (Vec<String>, u64) {
        let delivered = Arc::new(AtomicU64::new(0));
        let mut log = Log::new(Maker::new(&config()), 7, 1_050, from, Arc::clone(&delivered));
        let (mut seen, mut commits) = (Vec::new(), from);
        loop {
            match log.next().await.unwrap() {
                SourceEvent::Rows(batch) => {
                    let rows: u32 = batch.runs.iter().map(|run| run.rows).sum();
                    assert_eq!((rows as usize, batch.rows.num_rows()), (batch.len(), batch.len()));
                    for n in 0..batch.len() {
                        seen.push(format!("{:?} {:?}", batch.ops[n], batch.rows.slice(n, 1)));
                    }
                }
                SourceEvent::Commit { end, .. } => {
                    let at = changes_before(&end.position).unwrap();
                    assert!(at > commits);
                    commits = at;
                }
                _ => return (seen, delivered.load(Ordering::SeqCst)),
            }
        }
    }

    #[tokio::test]
    async fn a_restart_brings_exactly_the_rest() {
        let (whole, end) = read(0).await;
        assert_eq!((whole.len(), end), (1_050, 1_050));
        let (rest, _) = read(700).await;
        assert_eq!(rest[..], whole[700..]);
    }
}
