//! Open transactions: their rows are held until the commit, spilled past a share of memory, dropped on abort.
//! One implementation for all sources.
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use lakeward_core::{
    ChangeBatch, Error, ErrorKind, PartId, Result, Run, TransactionEnd, TransactionId,
    TransactionInfo, TransactionRef,
};

use super::queue::{Item, SpillQueue};

/// All open transactions of one stream.
pub struct Held {
    open: HashMap<TransactionId, Open>,
    folder: PathBuf,
    memory_max: u64,
    disk_max: u64,
    sequence: u64,
}

struct Open {
    queue: SpillQueue,
    aborted: HashSet<PartId>,
}

impl Held {
    /// Nothing held; spill files go to `folder`.
    pub fn new(folder: PathBuf, memory_max: u64, disk_max: u64) -> Self {
        Self { open: HashMap::new(), folder, memory_max, disk_max, sequence: 0 }
    }

    /// Adds to an open transaction.
    ///
    /// # Errors
    /// `Exhausted` past the spill cap, naming the option.
    pub fn push(&mut self, id: TransactionId, item: Item) -> Result<()> {
        if !self.open.contains_key(&id) {
            self.sequence += 1;
            let path = self.folder.join(format!("transaction-{}-{}.spill", id.0, self.sequence));
            self.open.insert(id, Open { queue: SpillQueue::new(path), aborted: HashSet::new() });
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.queue.push(item);
        }
        self.keep_within_memory()
    }

    fn keep_within_memory(&mut self) -> Result<()> {
        while self.memory_bytes() > self.memory_max {
            let largest = self.open.values_mut().max_by_key(|o| o.queue.memory_bytes());
            let Some(open) = largest else { return Ok(()) };
            let before = open.queue.memory_bytes();
            open.queue.spill()?;
            if open.queue.memory_bytes() == before {
                break;
            }
        }
        let disk = self.disk_bytes();
        if disk > self.disk_max {
            return Err(Error::new(ErrorKind::Exhausted, "open transactions exceed the spill cap")
                .with("bytes", disk)
                .with("cap", self.disk_max)
                .remedied(
                    "raise `pipeline.spill_max`, or end the long transaction at the source",
                ));
        }
        Ok(())
    }

    /// Bytes held in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.open.values().map(|o| o.queue.memory_bytes()).sum()
    }

    /// Bytes held on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.open.values().map(|o| o.queue.file_bytes()).sum()
    }

    /// Number of open transactions with rows.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no transaction is held.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Drops the rows of an aborted transaction or part.
    pub fn abort(&mut self, aborted: TransactionRef) {
        match aborted.part {
            None => {
                self.open.remove(&aborted.id);
            }
            Some(part) => {
                if let Some(open) = self.open.get_mut(&aborted.id) {
                    open.aborted.insert(part);
                }
            }
        }
    }

    /// The rows of a committed transaction, in order, without its aborted parts and with its end filled in.
    /// `None` when nothing was held of it.
    ///
    /// # Errors
    /// The spill file's.
    pub fn commit(
        &mut self,
        id: TransactionId,
        end: TransactionEnd,
    ) -> Result<Option<impl Iterator<Item = Result<Item>> + use<>>> {
        let Some(Open { queue, aborted }) = self.open.remove(&id) else { return Ok(None) };
        let items = queue.drain()?;
        Ok(Some(items.filter_map(move |item| match item {
            Ok(item) => survive(item, &aborted, &end).map(Ok),
            Err(error) => Some(Err(error)),
        })))
    }
}

fn survive(item: Item, aborted: &HashSet<PartId>, end: &TransactionEnd) -> Option<Item> {
    let gone = |t: &TransactionRef| t.part.is_some_and(|part| aborted.contains(&part));
    match item {
        Item::Rows(batch) => surviving_rows(batch, &gone, end).map(Item::Rows),
        Item::Truncate { transaction, .. } if gone(&transaction.transaction) => None,
        Item::Truncate { table, origin, transaction } => {
            Some(Item::Truncate { table, origin, transaction: ended(&transaction, end) })
        }
        Item::Schema(change) if change.transaction.as_ref().is_some_and(&gone) => None,
        Item::Schema(change) => Some(Item::Schema(change)),
    }
}

fn ended(info: &TransactionInfo, end: &TransactionEnd) -> Arc<TransactionInfo> {
    Arc::new(TransactionInfo { transaction: info.transaction, end: Some(end.clone()) })
}

fn surviving_rows(
    batch: ChangeBatch,
    gone: &impl Fn(&TransactionRef) -> bool,
    end: &TransactionEnd,
) -> Option<ChangeBatch> {
    let batch = match batch.runs.iter().any(|run| gone(&run.transaction.transaction)) {
        true => keep_runs(&batch, |run| !gone(&run.transaction.transaction))?,
        false => batch,
    };
    let runs = batch
        .runs
        .iter()
        .map(|run| Run { rows: run.rows, transaction: ended(&run.transaction, end) })
        .collect();
    Some(ChangeBatch { runs, ..batch })
}

/// The rows of the runs that `keep` accepts; `None` when there are none.
pub fn keep_runs(batch: &ChangeBatch, keep: impl Fn(&Run) -> bool) -> Option<ChangeBatch> {
    let mut mask = Vec::with_capacity(batch.len());
    for run in &batch.runs {
        let kept = keep(run);
        mask.extend(std::iter::repeat_n(kept, run.rows as usize));
    }
    crate::capture::filter::filter_batch(batch, &mask)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow_buffer::BooleanBuffer;
    use arrow_schema::DataType;
    use lakeward_core::{
        AbsentCells, AbsentColumn, BeforeImages, Column, ColumnId, Op, Position, TableId,
        TableIdentity, TableSchema,
    };

    use super::*;

    fn schema() -> Arc<TableSchema> {
        let column = |id, name: &str, data_type| Column {
            id: ColumnId(id),
            name: name.into(),
            data_type,
            declared: String::new(),
            nullable: true,
        };
        let columns = vec![column(1, "id", DataType::Int64), column(2, "text", DataType::Utf8)];
        let identity = TableIdentity("1".into());
        Arc::new(TableSchema::new(
            TableId::new("public", "t"),
            identity,
            columns,
            vec![0],
            String::new(),
        ))
    }

    /// Rows `ids`, in runs of the given parts and lengths; the last row lacks its text, the first has a before image.
    fn batch(ids: std::ops::Range<i64>, parts: &[(Option<u64>, u32)]) -> ChangeBatch {
        let n = (ids.end - ids.start) as usize;
        let schema = schema();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(StringArray::from_iter_values(ids.map(|i| format!("text {i}")))),
        ];
        let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
        let missing = BooleanBuffer::collect_bool(n, |i| i == n - 1);
        let runs = parts
            .iter()
            .map(|(part, rows)| {
                let transaction = TransactionRef { id: TransactionId(9), part: part.map(PartId) };
                Run {
                    rows: *rows,
                    transaction: Arc::new(TransactionInfo { transaction, end: None }),
                }
            })
            .collect();
        ChangeBatch {
            before: Some(BeforeImages { at: vec![0], rows: rows.slice(0, 1), key_only: true }),
            absent: Some(AbsentCells { columns: vec![AbsentColumn { column: 1, missing }] }),
            schema,
            ops: vec![Op::Update; n],
            rows,
            origin: None,
            runs,
        }
    }

    fn end() -> TransactionEnd {
        let position = Position { at: [7].into(), resume: [7].into() };
        TransactionEnd { position, committed_at: UNIX_EPOCH }
    }

    fn ids(items: impl Iterator<Item = Result<Item>>) -> Vec<i64> {
        let mut found = Vec::new();
        for item in items {
            let Item::Rows(batch) = item.unwrap() else { panic!("only rows were held") };
            let column = batch.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            found.extend(column.values().iter().copied());
            assert!(batch.runs.iter().all(|run| run.transaction.end == Some(end())));
            assert_eq!(batch.runs.iter().map(|r| r.rows as usize).sum::<usize>(), batch.len());
        }
        found
    }

    fn held(memory_max: u64) -> (tempfile::TempDir, Held) {
        let folder = tempfile::tempdir().unwrap();
        let held = Held::new(folder.path().join("spill"), memory_max, 1 << 30);
        (folder, held)
    }

    #[test]
    fn an_aborted_part_is_dropped_in_memory_and_on_disk() {
        for memory_max in [u64::MAX, 0] {
            let (folder, mut held) = held(memory_max);
            let id = TransactionId(9);
            held.push(id, Item::Rows(batch(0..4, &[(None, 2), (Some(5), 2)]))).unwrap();
            held.push(id, Item::Rows(batch(4..7, &[(Some(6), 3)]))).unwrap();
            assert_eq!(held.disk_bytes() > 0, memory_max == 0);
            held.abort(TransactionRef { id, part: Some(PartId(5)) });
            let items = held.commit(id, end()).unwrap().unwrap();
            assert_eq!(ids(items), [0, 1, 4, 5, 6]);
            assert!(held.commit(id, end()).unwrap().is_none());
            let left = std::fs::read_dir(folder.path().join("spill")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "the spill file goes with its transaction");
        }
    }

    #[test]
    fn a_spilled_batch_comes_back_whole() {
        let (_folder, mut held) = held(0);
        let before = batch(0..3, &[(None, 3)]);
        held.push(TransactionId(9), Item::Rows(before.clone())).unwrap();
        let item = held.commit(TransactionId(9), end()).unwrap().unwrap().next().unwrap();
        let Item::Rows(after) = item.unwrap() else { panic!("rows were held") };
        assert_eq!(after.rows, before.rows);
        assert_eq!(after.ops, before.ops);
        let image = |b: &ChangeBatch| b.before.clone().map(|b| (b.at, b.rows, b.key_only)).unwrap();
        assert_eq!(image(&after), image(&before));
        let absent = after.absent.unwrap();
        assert!(absent.row_is_incomplete(2) && !absent.row_is_incomplete(1));
    }

    #[test]
    fn past_the_cap_on_disk_the_option_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = Held::new(folder.path().into(), 0, 10);
        let error = held.push(TransactionId(1), Item::Rows(batch(0..9, &[(None, 9)]))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.remedy().contains("spill_max"));
    }
}
