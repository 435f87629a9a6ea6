//! A database in memory: tables of `(id, value, large)`, a log, snapshots that may lag behind the log, and a source on it.
//! Every third table has no key: its changes carry whole rows, and its load is one exact snapshot.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use async_trait::async_trait;
use lakeward_core::*;

/// A row but for its key: a value, and a large cell that the log leaves out when it did not change.
pub type Row = (i64, String);
pub type Rows = BTreeMap<i64, Row>;

#[derive(Debug, Clone)]
pub enum Change {
    Put {
        id: i64,
        old: Option<Row>,
        row: Row,
        large_sent: bool,
        part: Option<u64>,
    },
    Move {
        from: i64,
        old: Row,
        to: i64,
        row: Row,
        large_sent: bool,
        part: Option<u64>,
    },
    Delete {
        id: i64,
        old: Row,
        part: Option<u64>,
    },
    Truncate {
        part: Option<u64>,
    },
    AbortPart(u64),
    /// Every row changes, and the log says only that.
    Rewrite,
}

#[derive(Debug, Clone)]
pub struct Transaction {
    pub id: u64,
    pub table: usize,
    pub changes: Vec<Change>,
    /// Sent while open: its rows come before its end, and before other transactions that end earlier.
    pub streamed: bool,
}

#[derive(Default)]
pub struct State {
    /// The n-th transaction ends at position n + 1.
    pub log: Vec<Transaction>,
    pub visible: Vec<Rows>,
    /// Transactions in the log that snapshots do not see yet.
    pub hidden: BTreeSet<u64>,
    pub confirmed: u64,
    /// Whether a sink was left out for a while, so that its part of the log may be gone.
    pub may_lose_log: bool,
    /// How long it takes to plan a load; a chunk takes a part of that.
    pub slow: Duration,
    /// How often somebody was told that the log is gone.
    pub log_gone: u64,
    /// How many more loads of the first table may be planned, and how many more of its chunks read; `None`: any number.
    /// Whoever comes later waits.
    pub plans_left: Option<u32>,
    pub reads_left: Option<u32>,
}

pub struct Database {
    pub state: Mutex<State>,
    pub tables: usize,
}

pub fn position(n: u64) -> Position {
    Position { at: n.to_be_bytes().into(), resume: n.to_be_bytes().into() }
}

pub fn number(position: &Position) -> u64 {
    u64::from_be_bytes(position.at.as_ref().try_into().unwrap())
}

pub fn apply(rows: &mut Rows, transaction: &Transaction) {
    let aborted: BTreeSet<u64> = transaction
        .changes
        .iter()
        .filter_map(|c| if let Change::AbortPart(part) = c { Some(*part) } else { None })
        .collect();
    let lives = |part: &Option<u64>| part.is_none_or(|p| !aborted.contains(&p));
    for change in &transaction.changes {
        match change {
            Change::Put { id, row, part, .. } if lives(part) => {
                rows.insert(*id, row.clone());
            }
            Change::Move { from, to, row, part, .. } if lives(part) => {
                rows.remove(from);
                rows.insert(*to, row.clone());
            }
            Change::Delete { id, part, .. } if lives(part) => {
                rows.remove(id);
            }
            Change::Truncate { part } if lives(part) => rows.clear(),
            Change::Rewrite => rows.values_mut().for_each(|row| row.0 += 1_000),
            _ => {}
        }
    }
}

impl Database {
    pub fn new(tables: usize) -> Arc<Self> {
        let visible = vec![Rows::new(); tables];
        Arc::new(Self { state: Mutex::new(State { visible, ..State::default() }), tables })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Rows of a table after the first `through` transactions.
    pub fn rows_at(&self, table: usize, through: u64) -> Rows {
        let mut rows = Rows::new();
        for transaction in self.lock().log.iter().take(through as usize) {
            if transaction.table == table {
                apply(&mut rows, transaction);
            }
        }
        rows
    }

    /// Rows of a table after everything that was committed.
    pub fn rows(&self, table: usize) -> Rows {
        let end = self.lock().log.len() as u64;
        self.rows_at(table, end)
    }

    pub fn commit(&self, transaction: Transaction, hidden: bool) {
        let mut state = self.lock();
        if hidden || !state.hidden.is_empty() {
            // Visibility keeps the log's order here, so that a snapshot is always a prefix.
            state.hidden.insert(transaction.id);
        } else {
            apply(&mut state.visible[transaction.table], &transaction);
        }
        state.log.push(transaction);
    }

    /// Waits until a permit is left, and takes it.
    async fn permit(&self, left: impl Fn(&mut State) -> &mut Option<u32>) {
        loop {
            match left(&mut self.lock()) {
                None => return,
                Some(0) => {}
                Some(n) => {
                    *n -= 1;
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Everything in the log becomes visible.
    pub fn reveal(&self) {
        let mut state = self.lock();
        let hidden = std::mem::take(&mut state.hidden);
        let shown: Vec<_> = state.log.iter().filter(|t| hidden.contains(&t.id)).cloned().collect();
        for transaction in shown {
            apply(&mut state.visible[transaction.table], &transaction);
        }
    }
}

/// Every third table has no key.
pub fn has_key(table: usize) -> bool {
    table % 3 != 2
}

pub fn table_id(table: usize) -> TableId {
    TableId::new("public", format!("t{table}"))
}

pub fn schema(table: usize) -> Arc<TableSchema> {
    let column = |id, name: &str, data_type| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        declared: String::new(),
        nullable: id > 1,
    };
    let columns = vec![
        column(1, "id", DataType::Int64),
        column(2, "value", DataType::Int64),
        column(3, "large", DataType::Utf8),
    ];
    let identity = TableIdentity(format!("{table}"));
    let key = if has_key(table) { vec![0] } else { vec![] };
    Arc::new(TableSchema::new(table_id(table), identity, columns, key, String::new()))
}

fn batch_of(rows: &[(i64, Option<Row>)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.1.as_ref().map(|v| v.0)))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.as_ref().map(|v| v.1.as_str())))),
    ];
    RecordBatch::try_new(schema(0).arrow(), columns).unwrap()
}

/// A source on the database.
pub struct FakeSource(pub Arc<Database>);

#[async_trait]
impl Source for FakeSource {
    async fn check(&self) -> Result<CheckReport> {
        Ok(CheckReport::default())
    }

    async fn discover(&self) -> Result<Vec<Arc<TableSchema>>> {
        Ok((0..self.0.tables).map(schema).collect())
    }

    async fn prepare(&self, _: &[Arc<TableSchema>]) -> Result<Prepared> {
        Ok(Prepared { beginning: position(self.0.lock().confirmed), fresh: false })
    }

    async fn publish(&self, _: &[Arc<TableSchema>]) -> Result<bool> {
        Ok(false)
    }

    async fn drift(&self, _: &TableSchema) -> Result<Option<Drift>> {
        Ok(None)
    }

    async fn barrier(&self) -> Result<()> {
        let ends = self.0.lock().log.len();
        loop {
            {
                let state = self.0.lock();
                if state.log[..ends].iter().all(|t| !state.hidden.contains(&t.id)) {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn head(&self) -> Result<Position> {
        Ok(position(self.0.lock().log.len() as u64))
    }

    async fn split(&self, table: &TableSchema, rows_per_chunk: u64) -> Result<Vec<Chunk>> {
        let slow = self.0.lock().slow;
        tokio::time::sleep(slow).await;
        let index = index_of(table);
        if index == 0 {
            self.0.permit(|state| &mut state.plans_left).await;
        }
        if !has_key(index) {
            return Ok(vec![Chunk::Whole]);
        }
        let keys: Vec<i64> = self.0.lock().visible[index].keys().copied().collect();
        let bound = |k: &i64| Some(vec![k.to_string()]);
        let bounds: Vec<_> =
            keys.chunks(rows_per_chunk as usize).filter_map(|c| c.last()).map(bound).collect();
        let mut from = None;
        let mut chunks = Vec::new();
        for to in bounds {
            chunks.push(Chunk::Range { from: from.clone(), to: to.clone() });
            from = to;
        }
        chunks.push(Chunk::Range { from, to: None });
        Ok(chunks)
    }

    async fn read_chunk(
        &self,
        table: &TableSchema,
        chunk: &Chunk,
        delivered: Arc<Delivered>,
    ) -> Result<Box<dyn ChunkReader>> {
        let slow = self.0.lock().slow;
        tokio::time::sleep(slow / 8).await;
        let index = index_of(table);
        if index == 0 {
            self.0.permit(|state| &mut state.reads_left).await;
        }
        loop {
            {
                let state = self.0.lock();
                if delivered.ids.iter().all(|id| !state.hidden.contains(&id.0)) {
                    let saw = position(state.log.len() as u64);
                    let rows: Vec<_> = state.visible[index]
                        .iter()
                        .filter(|(id, _)| contains(chunk, **id))
                        .map(|(id, row)| (*id, Some(row.clone())))
                        .collect();
                    let hidden = state.log.iter().position(|t| state.hidden.contains(&t.id));
                    let exact = position(hidden.unwrap_or(state.log.len()) as u64);
                    let exact = (!has_key(index)).then_some(exact);
                    return Ok(Box::new(Reader { schema: schema(index), rows, saw, exact, at: 0 }));
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn changes(
        &self,
        from: StartAt,
        _: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>> {
        let (StartAt::Beginning(at) | StartAt::After(at)) = from;
        let at = number(&at);
        let mut state = self.0.lock();
        if state.may_lose_log && at < state.confirmed {
            state.log_gone += 1;
            return Err(Error::new(ErrorKind::LogGone, "scripted"));
        }
        assert!(at >= state.confirmed, "the engine confirmed what it did not hold");
        drop(state);
        Ok(Box::new(Log { database: Arc::clone(&self.0), at, sent: BTreeSet::new(), out: vec![] }))
    }

    async fn confirm(&self, position: &Position) -> Result<()> {
        let mut state = self.0.lock();
        state.confirmed = state.confirmed.max(number(position));
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn covers(&self, through: &Position, transaction: &Position) -> Coverage {
        match number(transaction) <= number(through) {
            true => Coverage::Covered,
            false => Coverage::After,
        }
    }

    fn distance_bytes(&self, from: &Position, to: &Position) -> Option<u64> {
        Some(number(to).saturating_sub(number(from)))
    }

    fn key_text(&self, _: &TableSchema, rows: &RecordBatch) -> Result<Vec<KeyText>> {
        let ids = rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        Ok(ids.values().iter().map(|id| vec![id.to_string()]).collect())
    }
}

fn index_of(table: &TableSchema) -> usize {
    table.identity.0.parse().unwrap()
}

fn contains(chunk: &Chunk, id: i64) -> bool {
    let parse = |key: &KeyText| key[0].parse::<i64>().unwrap();
    match chunk {
        Chunk::Range { from, to } => {
            from.as_ref().is_none_or(|k| id > parse(k))
                && to.as_ref().is_none_or(|k| id <= parse(k))
        }
        Chunk::Keys(keys) => keys.iter().any(|k| parse(k) == id),
        Chunk::Whole => true,
    }
}

struct Reader {
    schema: Arc<TableSchema>,
    rows: Vec<(i64, Option<Row>)>,
    saw: Position,
    exact: Option<Position>,
    at: usize,
}

#[async_trait]
impl ChunkReader for Reader {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    fn saw_nothing_after(&self) -> &Position {
        &self.saw
    }

    fn exact(&self) -> Option<&Position> {
        self.exact.as_ref()
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        tokio::time::sleep(Duration::from_millis(self.rows.len() as u64 % 4)).await;
        let end = (self.at + 3).min(self.rows.len());
        let piece = &self.rows[self.at..end];
        self.at = end;
        Ok((!piece.is_empty()).then(|| batch_of(piece)))
    }
}

/// The log, read from a position. A streamed transaction's rows are sent early, when the one before it ends.
struct Log {
    database: Arc<Database>,
    at: u64,
    sent: BTreeSet<u64>,
    out: Vec<SourceEvent>,
}

#[async_trait]
impl ChangeStream for Log {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if !self.out.is_empty() {
                return Ok(self.out.remove(0));
            }
            self.fill();
            if self.out.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

impl Log {
    fn fill(&mut self) {
        let database = Arc::clone(&self.database);
        let state = database.lock();
        let Some(transaction) = state.log.get(self.at as usize) else { return };
        if let Some(next) = state.log.get(self.at as usize + 1).filter(|t| t.streamed)
            && self.sent.insert(next.id)
        {
            self.rows(next, None);
        }
        let end = TransactionEnd { position: position(self.at + 1), committed_at: UNIX_EPOCH };
        if !self.sent.contains(&transaction.id) {
            let open = transaction.streamed;
            self.rows(transaction, (!open).then(|| end.clone()));
        }
        self.out.push(SourceEvent::Commit { transaction: TransactionId(transaction.id), end });
        self.at += 1;
        if self.at as usize == state.log.len() {
            self.out.push(SourceEvent::Idle { position: position(self.at) });
        }
    }

    fn rows(&mut self, transaction: &Transaction, end: Option<TransactionEnd>) {
        let id = TransactionId(transaction.id);
        let info = |part: Option<u64>| {
            let transaction = TransactionRef { id, part: part.map(PartId) };
            Arc::new(TransactionInfo { transaction, end: end.clone() })
        };
        for change in &transaction.changes {
            let part_of = |part: &Option<u64>| info(*part);
            let table = transaction.table;
            let keyed = has_key(table);
            let event = match change {
                Change::Put { id, old, row, large_sent, part } => {
                    let op = if old.is_some() { Op::Update } else { Op::Insert };
                    let before = old.clone().filter(|_| !keyed).map(|old| (*id, Some(old)));
                    let row = (*id, Some(row.clone()));
                    rows_event(table, op, row, *large_sent || !keyed, before, part_of(part))
                }
                Change::Move { from, old, to, row, large_sent, part } => {
                    let before = Some((*from, Some(old.clone()).filter(|_| !keyed)));
                    let row = (*to, Some(row.clone()));
                    rows_event(table, Op::Update, row, *large_sent || !keyed, before, part_of(part))
                }
                Change::Delete { id, old, part } => {
                    let row = (*id, Some(old.clone()).filter(|_| !keyed));
                    rows_event(table, Op::Delete, row, true, None, part_of(part))
                }
                Change::Truncate { part } => SourceEvent::Truncate {
                    table: table_id(table),
                    origin: None,
                    transaction: part_of(part),
                },
                Change::Rewrite => {
                    SourceEvent::Diverged { table: table_id(table), why: Divergence::Rewritten }
                }
                Change::AbortPart(part) => {
                    SourceEvent::Abort(TransactionRef { id, part: Some(PartId(*part)) })
                }
            };
            self.out.push(event);
        }
    }
}

fn rows_event(
    table: usize,
    op: Op,
    (id, row): (i64, Option<Row>),
    large_sent: bool,
    before: Option<(i64, Option<Row>)>,
    transaction: Arc<TransactionInfo>,
) -> SourceEvent {
    let row = row.map(|(value, large)| (value, if large_sent { large } else { String::new() }));
    let before = before.map(|before| BeforeImages {
        at: vec![0],
        key_only: before.1.is_none(),
        rows: batch_of(&[before]),
    });
    let missing = BooleanBuffer::collect_bool(1, |_| true);
    let absent =
        (!large_sent).then(|| AbsentCells { columns: vec![AbsentColumn { column: 2, missing }] });
    SourceEvent::Rows(ChangeBatch {
        schema: schema(table),
        ops: vec![op],
        rows: batch_of(&[(id, row)]),
        before,
        absent,
        origin: None,
        runs: vec![Run { rows: 1, transaction }],
    })
}

pub fn rows_of(batch: &RecordBatch) -> Vec<(i64, Option<i64>, Option<String>)> {
    let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    let values = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
    let large = batch.column(2).as_any().downcast_ref::<StringArray>().unwrap();
    (0..batch.num_rows())
        .map(|i| {
            let value = values.is_valid(i).then(|| values.value(i));
            (ids.value(i), value, large.is_valid(i).then(|| large.value(i).to_owned()))
        })
        .collect()
}
