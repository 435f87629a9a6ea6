//! The source: one table, its chunks and its log.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use async_trait::async_trait;
use lakeward_core::{
    ChangeStream, CheckReport, Chunk, ChunkReader, Coverage, Delivered, Drift, Env, Error,
    ErrorKind, KeyText, Position, Prepared, Result, Source, SourceKind, StartAt, TableSchema,
};

use crate::config::Config;
use crate::log::{Log, changes_before, place};
use crate::rows::{Maker, Reader};

/// The generator.
pub struct Generator {
    config: Config,
    maker: Maker,
    /// Changes that the stream has delivered.
    delivered: Arc<AtomicU64>,
}

impl SourceKind for Generator {
    const NAME: &'static str = "generator";
    type Config = Config;

    async fn open(config: Config, _env: Env) -> Result<Arc<dyn Source>> {
        let maker = Maker::new(&config);
        Ok(Arc::new(Self { config, maker, delivered: Arc::default() }))
    }
}

impl Generator {
    fn number(position: &Position) -> Result<u64> {
        changes_before(position)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "this position is not a generator's"))
    }
}

#[async_trait]
impl Source for Generator {
    async fn check(&self) -> Result<CheckReport> {
        Ok(CheckReport { server: "generated rows".to_owned(), findings: Vec::new() })
    }

    async fn discover(&self) -> Result<Vec<Arc<TableSchema>>> {
        Ok(vec![Arc::clone(&self.maker.schema)])
    }

    async fn prepare(&self, _tables: &[Arc<TableSchema>]) -> Result<Prepared> {
        Ok(Prepared { beginning: place(0), fresh: false })
    }

    async fn publish(&self, _tables: &[Arc<TableSchema>]) -> Result<bool> {
        Ok(false)
    }

    async fn drift(&self, _known: &TableSchema) -> Result<Option<Drift>> {
        Ok(None)
    }

    async fn barrier(&self) -> Result<()> {
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        Ok(place(self.config.changes))
    }

    async fn split(&self, _table: &TableSchema, rows_per_chunk: u64) -> Result<Vec<Chunk>> {
        let step = usize::try_from(rows_per_chunk.max(1)).unwrap_or(usize::MAX);
        let bounds: Vec<u64> = (0..self.config.rows).step_by(step).collect();
        let key = |bound: &u64| vec![bound.to_string()];
        let chunk = |(n, from): (usize, &u64)| Chunk::Range {
            from: (n > 0).then(|| key(from)),
            to: bounds.get(n + 1).map(key),
        };
        Ok(bounds.iter().enumerate().map(chunk).collect())
    }

    async fn read_chunk(
        &self,
        _table: &TableSchema,
        chunk: &Chunk,
        delivered: Arc<Delivered>,
    ) -> Result<Box<dyn ChunkReader>> {
        // a transaction's id is the number of changes up to its end
        let told = delivered.ids.iter().map(|id| id.0).max().unwrap_or(0);
        let changes = self.delivered.load(Ordering::SeqCst).max(told);
        Ok(Box::new(Reader::new(self.maker.clone(), chunk, changes, place(changes))?))
    }

    async fn changes(
        &self,
        from: StartAt,
        _known: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>> {
        let (StartAt::Beginning(position) | StartAt::After(position)) = from;
        let from = Self::number(&position)?;
        if from > self.config.changes {
            return Err(Error::new(ErrorKind::LogGone, "the log ends before this position")
                .with("position", &position)
                .remedied("set `changes` as it was, or load the table again"));
        }
        let (end, size) = (self.config.changes, self.config.transaction_changes);
        let delivered = Arc::clone(&self.delivered);
        Ok(Box::new(Log::new(self.maker.clone(), size, end, from, delivered)))
    }

    async fn confirm(&self, _position: &Position) -> Result<()> {
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn covers(&self, through: &Position, transaction: &Position) -> Coverage {
        match (changes_before(through), changes_before(transaction)) {
            (Some(a), Some(b)) if b <= a => Coverage::Covered,
            (Some(_), Some(_)) => Coverage::After,
            _ => Coverage::OtherIncarnation,
        }
    }

    fn distance_bytes(&self, _from: &Position, _to: &Position) -> Option<u64> {
        None
    }

    fn key_text(&self, _table: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>> {
        let keys = rows.columns().first().and_then(|column| column.as_primitive_opt::<Int64Type>());
        let keys = keys.ok_or_else(|| Error::new(ErrorKind::Bug, "these rows have no key"))?;
        Ok((0..keys.len()).map(|row| vec![keys.value(row).to_string()]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Shape;

    fn generator() -> Generator {
        let config = Config {
            shape: Shape::Narrow,
            rows: 1_000,
            changes: 5_000,
            transaction_changes: 10,
            seed: 3,
        };
        Generator { maker: Maker::new(&config), config, delivered: Arc::default() }
    }

    #[tokio::test]
    async fn chunks_hold_every_row_once_and_see_what_was_delivered() {
        let source = generator();
        let table = Arc::clone(&source.maker.schema);
        let after = StartAt::After(place(2_000));
        let _stream = source.changes(after, &[]).await.unwrap();
        let mut keys = Vec::new();
        for chunk in source.split(&table, 300).await.unwrap() {
            let mut reader = source.read_chunk(&table, &chunk, Arc::default()).await.unwrap();
            assert_eq!(changes_before(reader.saw_nothing_after()), Some(2_000));
            while let Some(batch) = reader.next().await.unwrap() {
                let texts = source.key_text(&table, &batch).unwrap();
                keys.extend(texts.into_iter().map(|text| text[0].parse::<u64>().unwrap()));
            }
        }
        // 600 inserted; 200 deleted, of the first rows 100 and 100 of the inserted
        let expected: Vec<u64> = (1..=1_600)
            .filter(|key| source.maker.sequence.version_at(*key, 2_000).is_some())
            .collect();
        assert_eq!((keys.len(), keys), (1_400, expected));
    }

    #[tokio::test]
    async fn a_listed_key_is_read_if_it_exists() {
        let source = generator();
        let table = Arc::clone(&source.maker.schema);
        let chunk = Chunk::Keys(vec![vec!["7".into()], vec!["99999".into()]]);
        let mut reader = source.read_chunk(&table, &chunk, Arc::default()).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().num_rows(), 1);
        assert!(reader.next().await.unwrap().is_none());
        let beyond = source.changes(StartAt::After(place(5_001)), &[]).await;
        assert!(beyond.is_err_and(|error| error.kind() == ErrorKind::LogGone));
    }
}
