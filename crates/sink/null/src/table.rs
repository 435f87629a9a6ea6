//! A table of the null sink: one small record with its marks and counts.
use std::collections::BTreeMap;

use async_trait::async_trait;
use lakeward_core::{
    ChangeBatch, CommitMark, CommitOutcome, CommitPermit, Error, ErrorKind, Evolution, LedgerStore,
    Op, OriginId, Result, SchemaChange, SinkTable, Slot, Staged, TableId, TableSchema,
    TableVersion, Upkeep, UpkeepDone, UpkeepOutcome, UpkeepPolicy,
};
use serde::{Deserialize, Serialize};

use crate::storage::Storage;

/// How a line of commits stands: the visible table's, or a copy's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    mark: Option<CommitMark>,
    /// Commits so far.
    version: u64,
    rows_set: u64,
    rows_deleted: u64,
    bytes: u64,
}

/// All that is kept of a table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    visible: Line,
    /// Invisible copies, by generation.
    pub(crate) copies: BTreeMap<u32, Line>,
}

/// The name of a table's record.
pub(crate) fn record_name(table: &TableId) -> String {
    let plain = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'0'..=b'9' | b'_' => char::from(b).to_string(),
                other => format!("%{other:02x}"),
            })
            .collect()
    };
    format!("{}.{}.json", plain(&table.namespace), plain(&table.name))
}

impl Record {
    pub(crate) async fn load(storage: &Storage, table: &TableId) -> Result<Self> {
        match storage.read(&record_name(table)).await? {
            None => Ok(Self::default()),
            Some(content) => serde_json::from_slice(&content).map_err(|error| {
                Error::new(ErrorKind::Corrupt, "a table's record cannot be read")
                    .with("table", table)
                    .caused_by(error)
            }),
        }
    }

    pub(crate) async fn store(&self, storage: &Storage, table: &TableId) -> Result<()> {
        let content = serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Bug, "could not write a table's record").caused_by(error)
        })?;
        storage.replace(&record_name(table), content).await
    }

    /// The line of a handle; that of a copy that was promoted is the visible one.
    fn line(&self, slot: Slot) -> Line {
        let promoted = |generation: u32| {
            let visible = self.visible.mark.as_ref();
            visible.is_some_and(|mark| mark.generation >= generation)
        };
        match slot {
            Slot::Copy(generation) if !promoted(generation) => {
                self.copies.get(&generation).cloned().unwrap_or_default()
            }
            _ => self.visible.clone(),
        }
    }

    fn set(&mut self, slot: Slot, promote: bool, line: Line) {
        match slot {
            Slot::Copy(generation) if promote => {
                self.copies.remove(&generation);
                self.visible = line;
            }
            Slot::Copy(generation) => _ = self.copies.insert(generation, line),
            Slot::Visible => self.visible = line,
        }
    }
}

/// What an epoch has brought so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    set: u64,
    deleted: u64,
    bytes: u64,
}

/// A handle of one table.
pub(crate) struct NullTable {
    storage: Storage,
    table: TableId,
    slot: Slot,
    version: u64,
    schema: lakeward_core::SchemaVersion,
    counts: Counts,
}

impl NullTable {
    pub(crate) async fn open(storage: Storage, schema: &TableSchema, slot: Slot) -> Result<Self> {
        let table = schema.table.clone();
        let version = Record::load(&storage, &table).await?.line(slot).version;
        let (schema, counts) = (schema.version, Counts::default());
        Ok(Self { storage, table, slot, version, schema, counts })
    }

    /// Writes the record anew with this epoch in it.
    async fn land(&mut self, counts: Counts, permit: &CommitPermit) -> Result<()> {
        let mut record = Record::load(&self.storage, &self.table).await?;
        let mut line = record.line(self.slot);
        line.mark = Some(permit.mark().clone());
        line.version += 1;
        line.rows_set += counts.set;
        line.rows_deleted += counts.deleted;
        line.bytes += counts.bytes;
        self.version = line.version;
        record.set(self.slot, permit.promote(), line);
        record.store(&self.storage, &self.table).await?;
        if permit.promote() {
            self.slot = Slot::Visible;
        }
        Ok(())
    }
}

#[async_trait]
impl SinkTable for NullTable {
    async fn last_commit(&mut self) -> Result<Option<CommitMark>> {
        let line = Record::load(&self.storage, &self.table).await?.line(self.slot);
        self.version = line.version;
        Ok(line.mark)
    }

    fn version(&self) -> Option<TableVersion> {
        (self.version > 0).then(|| TableVersion(self.version.to_string()))
    }

    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let deleted = batch.ops.iter().filter(|op| **op == Op::Delete).count() as u64;
        self.counts.deleted += deleted;
        self.counts.set += batch.len() as u64 - deleted;
        self.counts.bytes += batch.memory_bytes();
        Ok(())
    }

    async fn truncate(&mut self, _origin: Option<OriginId>) -> Result<()> {
        Ok(())
    }

    async fn evolve(&mut self, change: &SchemaChange) -> Result<Evolution> {
        if change.after.version == self.schema {
            return Ok(Evolution::Unchanged);
        }
        self.schema = change.after.version;
        Ok(Evolution::Staged)
    }

    fn buffered_bytes(&self) -> u64 {
        0
    }

    fn index_bytes(&self) -> u64 {
        0
    }

    async fn stage(&mut self) -> Result<Staged> {
        let counts = std::mem::take(&mut self.counts);
        Ok(Staged {
            rows_added: counts.set,
            rows_deleted: counts.deleted,
            bytes: counts.bytes,
            unresolved: None,
            payload: Box::new(()),
        })
    }

    async fn rebase(&mut self, staged: Staged) -> Result<Staged> {
        Ok(staged)
    }

    async fn abandon(&mut self, _staged: Staged) -> Result<()> {
        Ok(())
    }

    async fn commit(&mut self, staged: Staged, permit: CommitPermit) -> CommitOutcome {
        let (set, deleted) = (staged.rows_added, staged.rows_deleted);
        let counts = Counts { set, deleted, bytes: staged.bytes };
        match self.land(counts, &permit).await {
            Ok(()) => CommitOutcome::Committed(permit.mark().clone()),
            // a rename that failed may have happened all the same; the mark will tell
            Err(error) => CommitOutcome::Unknown { staged, error },
        }
    }

    async fn upkeep(&mut self, _policy: &UpkeepPolicy) -> Result<Option<Box<dyn Upkeep>>> {
        Ok(None)
    }

    async fn commit_upkeep(&mut self, _done: UpkeepDone) -> Result<UpkeepOutcome> {
        Ok(UpkeepOutcome::Dropped("there is nothing to keep up".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};
    use arrow_schema::DataType;
    use lakeward_core::{
        Admission, Column, ColumnId, Env, Position, Sink, SinkKind, TableIdentity, admit,
    };

    use super::*;
    use crate::{Config, Null};

    fn schema() -> Arc<TableSchema> {
        let id = Column {
            id: ColumnId(1),
            name: "id".into(),
            data_type: DataType::Int64,
            declared: "bigint".into(),
            nullable: false,
        };
        let table = TableId::new("public", "A b");
        Arc::new(TableSchema::new(
            table,
            TableIdentity("1".into()),
            vec![id],
            vec![0],
            String::new(),
        ))
    }

    fn batch(ops: &[Op]) -> ChangeBatch {
        let ids: Int64Array = (0..ops.len() as i64).map(Some).collect();
        let rows = RecordBatch::try_new(schema().arrow(), vec![Arc::new(ids)]).unwrap();
        let (ops, runs) = (ops.to_vec(), Vec::new());
        ChangeBatch { schema: schema(), ops, rows, before: None, absent: None, origin: None, runs }
    }

    fn permit(
        last: Option<&CommitMark>,
        epoch: u64,
        generation: u32,
        promote: bool,
    ) -> CommitPermit {
        let mark = CommitMark {
            pipeline: "p".into(),
            sink: "s".into(),
            writer: "w".into(),
            table: schema().table.clone(),
            identity: TableIdentity("1".into()),
            generation,
            epoch,
            after: None,
            through: Position { at: [1].into(), resume: [1].into() },
            schema_version: schema().version,
            load: None,
        };
        match admit(last, mark, promote) {
            Admission::Go(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    async fn sink(folder: &Path) -> Arc<dyn Sink> {
        let directory = Some(folder.display().to_string());
        let env = Env {
            pipeline: "p".into(),
            name: "s".into(),
            writer: "w".into(),
            state_dir: folder.join("state"),
            memory_bytes: 1 << 20,
        };
        Null::open(Config { directory }, env).await.unwrap()
    }

    #[tokio::test]
    async fn a_commit_is_found_again_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut table =
            sink(folder.path()).await.open_table(&schema(), Slot::Visible).await.unwrap();
        assert!(table.last_commit().await.unwrap().is_none() && table.version().is_none());
        table.write(batch(&[Op::Insert, Op::Update, Op::Delete])).await.unwrap();
        let staged = table.stage().await.unwrap();
        assert_eq!((staged.rows_added, staged.rows_deleted), (2, 1));
        let outcome = table.commit(staged, permit(None, 1, 1, false)).await;
        assert!(matches!(outcome, CommitOutcome::Committed(mark) if mark.epoch == 1));

        let mut again =
            sink(folder.path()).await.open_table(&schema(), Slot::Visible).await.unwrap();
        assert_eq!(again.version(), Some(TableVersion("1".into())));
        assert_eq!(again.last_commit().await.unwrap().unwrap().epoch, 1);
    }

    #[tokio::test]
    async fn a_copy_is_invisible_until_it_is_promoted() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path()).await;
        let mut copy = sink.open_table(&schema(), Slot::Copy(2)).await.unwrap();
        let staged = copy.stage().await.unwrap();
        let outcome = copy.commit(staged, permit(None, 1, 2, false)).await;
        assert!(matches!(outcome, CommitOutcome::Committed(_)));
        let mut visible = sink.open_table(&schema(), Slot::Visible).await.unwrap();
        assert!(visible.last_commit().await.unwrap().is_none());

        let last = copy.last_commit().await.unwrap();
        let staged = copy.stage().await.unwrap();
        let outcome = copy.commit(staged, permit(last.as_ref(), 2, 2, true)).await;
        assert!(matches!(outcome, CommitOutcome::Committed(_)));
        assert_eq!(visible.last_commit().await.unwrap().unwrap().generation, 2);
        assert_eq!(copy.last_commit().await.unwrap().unwrap().epoch, 2);
        // another handle of the promoted copy speaks of the visible table
        let mut late = sink.open_table(&schema(), Slot::Copy(2)).await.unwrap();
        assert_eq!(late.last_commit().await.unwrap().unwrap().epoch, 2);
        sink.drop_table(&schema()).await.unwrap();
        assert!(late.last_commit().await.unwrap().is_none());
    }
}
