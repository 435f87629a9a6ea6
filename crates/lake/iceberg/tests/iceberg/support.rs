//! A warehouse in a temporary folder, tables made by hand, and the foreign readers as judges.
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::DataType;
use lakeward_core::{
    Admission, BeforeImages, ChangeBatch, Column, ColumnId, CommitMark, CommitOutcome,
    CommitPermit, Env, Fill, Op, Position, SchemaChange, Sink, SinkKind as _, SinkTable, Slot,
    Staged, TableId, TableIdentity, TableSchema, UpkeepOutcome, UpkeepPolicy, admit,
};
use lakeward_iceberg::{Config, Iceberg};
use serde_json::{Value, json};

/// A cell of a test row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<()> for Cell {
    fn from((): ()) -> Self {
        Self::Null
    }
}

/// A row from values of different types.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$(crate::support::Cell::from($cell)),*] };
}
pub(crate) use row;

pub(crate) type Row = Vec<Cell>;

/// A table's schema: (id, name, type) and the indices of its key.
pub(crate) fn schema(
    name: &str,
    columns: &[(i32, &str, DataType)],
    key: &[u32],
) -> Arc<TableSchema> {
    identified(name, "16384", columns, key)
}

pub(crate) fn identified(
    name: &str,
    identity: &str,
    columns: &[(i32, &str, DataType)],
    key: &[u32],
) -> Arc<TableSchema> {
    let column = |(id, name, data_type): &(i32, &str, DataType)| Column {
        id: ColumnId(*id),
        name: (*name).into(),
        data_type: data_type.clone(),
        declared: String::new(),
        nullable: true,
    };
    Arc::new(TableSchema::new(
        TableId::new("public", name),
        TableIdentity(identity.into()),
        columns.iter().map(column).collect(),
        key.to_vec(),
        String::new(),
    ))
}

/// `id bigint primary key, name text, n integer`.
pub(crate) fn people(name: &str) -> Arc<TableSchema> {
    schema(
        name,
        &[(1, "id", DataType::Int64), (2, "name", DataType::Utf8), (3, "n", DataType::Int32)],
        &[0],
    )
}

pub(crate) fn change(
    before: &Arc<TableSchema>,
    after: &Arc<TableSchema>,
    fill: Fill,
) -> SchemaChange {
    SchemaChange {
        before: Arc::clone(before),
        after: Arc::clone(after),
        fill: vec![fill; after.columns.len()],
        transaction: None,
    }
}

pub(crate) fn batch_of(schema: &TableSchema, rows: &[Row]) -> RecordBatch {
    let column = |(index, column): (usize, &Column)| {
        array(&column.data_type, rows.iter().map(|r| &r[index]))
    };
    let arrays: Vec<ArrayRef> = schema.columns.iter().enumerate().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.arrow(), arrays, &options).unwrap()
}

fn array<'a>(data_type: &DataType, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    let number = |cell: &Cell| match cell {
        Cell::Int(value) => Some(*value),
        _ => None,
    };
    match data_type {
        DataType::Int64 => Arc::new(cells.map(number).collect::<Int64Array>()),
        DataType::Int32 => {
            Arc::new(cells.map(|c| number(c).map(|v| v as i32)).collect::<Int32Array>())
        }
        DataType::Utf8 => Arc::new(
            cells
                .map(|cell| match cell {
                    Cell::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect::<StringArray>(),
        ),
        other => panic!("test rows have no {other}"),
    }
}

pub(crate) fn changes(schema: &Arc<TableSchema>, changes: &[(Op, Row)]) -> ChangeBatch {
    let rows: Vec<Row> = changes.iter().map(|(_, row)| row.clone()).collect();
    ChangeBatch {
        schema: Arc::clone(schema),
        ops: changes.iter().map(|(op, _)| *op).collect(),
        rows: batch_of(schema, &rows),
        before: None,
        absent: None,
        origin: None,
        runs: Vec::new(),
    }
}

/// Updates of whole rows, each with its row before.
pub(crate) fn updates(schema: &Arc<TableSchema>, pairs: &[(Row, Row)]) -> ChangeBatch {
    let after: Vec<(Op, Row)> =
        pairs.iter().map(|(_, after)| (Op::Update, after.clone())).collect();
    let before: Vec<Row> = pairs.iter().map(|(before, _)| before.clone()).collect();
    ChangeBatch {
        before: Some(BeforeImages {
            at: (0..pairs.len() as u32).collect(),
            rows: batch_of(schema, &before),
            key_only: false,
        }),
        ..changes(schema, &after)
    }
}

pub(crate) fn inserts(schema: &Arc<TableSchema>, rows: &[Row]) -> ChangeBatch {
    changes(schema, &rows.iter().map(|row| (Op::Insert, row.clone())).collect::<Vec<_>>())
}

/// A warehouse.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sink: Arc<dyn Sink>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sink = open(folder.path(), "writer-1", json!({})).await.unwrap();
        Self { folder, sink }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The same pipeline in another process run.
    pub(crate) async fn again(&self, writer: &str) -> Arc<dyn Sink> {
        open(self.folder.path(), writer, json!({})).await.unwrap()
    }

    pub(crate) async fn table(&self, schema: &Arc<TableSchema>) -> Box<dyn SinkTable> {
        self.sink.open_table(schema, Slot::Visible).await.unwrap()
    }

    /// What both readers find, in order; they must agree.
    pub(crate) fn read(&self, table: &str) -> Found {
        self.read_at(table, None)
    }

    pub(crate) fn read_at(&self, table: &str, snapshot: Option<&str>) -> Found {
        let answer = self.ask(
            "read",
            table,
            json!({ "snapshot": snapshot.map(|id| id.parse::<i64>().unwrap()) }),
        );
        let [ours, theirs] = ["pyiceberg", "duckdb"].map(|reader| Found::parse(&answer[reader]));
        assert_eq!(
            (&ours.columns, &ours.rows),
            (&theirs.columns, &theirs.rows),
            "the readers disagree"
        );
        ours
    }

    /// What DuckDB answers to a query over `{table}`, whose newest version that stands for.
    #[cfg_attr(test, allow(dead_code, reason = "only the tests of version 3 ask"))]
    pub(crate) fn duckdb(&self, table: &str, query: &str) -> Value {
        self.ask("query", table, json!({ "query": query }))["result"].clone()
    }

    /// Runs Python as another writer of the table.
    pub(crate) fn execute(&self, table: Option<&str>, code: &str) -> Value {
        self.try_execute(table, code).unwrap()
    }

    pub(crate) fn try_execute(&self, table: Option<&str>, code: &str) -> Result<Value, String> {
        let mut request = json!({ "do": "execute", "code": code, "warehouse": self.folder.path() });
        if let Some(table) = table {
            request["namespace"] = "public".into();
            request["table"] = table.into();
        }
        let answer = judge(&request);
        answer["error"]
            .as_str()
            .map_or_else(|| Ok(answer["result"].clone()), |error| Err(error.into()))
    }

    fn ask(&self, what: &str, table: &str, more: Value) -> Value {
        let mut request = more;
        request["do"] = what.into();
        request["warehouse"] = self.folder.path().to_str().unwrap().into();
        request["namespace"] = "public".into();
        request["table"] = table.into();
        let answer = judge(&request);
        assert!(answer["error"].is_null(), "{table}: {}", answer["error"]);
        answer
    }

    pub(crate) fn catalog(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("catalog.db")).unwrap()
    }

    /// All files of the warehouse below a folder, relative, sorted.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.folder.path().join(folder), self.folder.path(), &mut files);
        files.sort();
        files
    }
}

fn walk(folder: &Path, root: &Path, out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            walk(&entry, root, out);
        } else {
            out.push(entry.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

pub(crate) async fn open(
    folder: &Path,
    writer: &str,
    mut options: Value,
) -> lakeward_core::Result<Arc<dyn Sink>> {
    options["warehouse"] = folder.to_str().unwrap().into();
    options["catalog_timeout"] = "1s".into();
    if options["format_version"].is_null() {
        options["format_version"] = crate::FORMAT_VERSION.into();
    }
    let config: Config = serde_json::from_value(options).unwrap();
    Iceberg::open(config, env(writer)).await
}

pub(crate) fn env(writer: &str) -> Env {
    Env {
        pipeline: "shop".into(),
        name: "lake".into(),
        writer: writer.into(),
        state_dir: PathBuf::from("unused"),
        memory_bytes: 64 << 20,
    }
}

/// What a reader found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) columns: Vec<String>,
    /// Sorted.
    pub(crate) rows: Vec<Vec<Value>>,
    /// Name, type, field id, required; from PyIceberg only.
    pub(crate) schema: Vec<Value>,
}

impl Found {
    fn parse(value: &Value) -> Self {
        let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
        let mut rows: Vec<Vec<Value>> =
            list("rows").iter().map(|r| r.as_array().unwrap().clone()).collect();
        rows.sort_by_key(|row| serde_json::to_string(row).unwrap());
        let columns = list("columns").iter().map(|c| c.as_str().unwrap().to_owned()).collect();
        Self { columns, rows, schema: list("schema") }
    }

    /// Compares with rows of cells, order apart.
    #[track_caller]
    pub(crate) fn assert(&self, expected: &[Row]) {
        let cell = |cell: &Cell| match cell {
            Cell::Null => Value::Null,
            Cell::Int(value) => value.to_string().into(),
            Cell::Text(text) => text.clone().into(),
        };
        let mut expected: Vec<Vec<Value>> =
            expected.iter().map(|row| row.iter().map(cell).collect()).collect();
        expected.sort_by_key(|row| serde_json::to_string(row).unwrap());
        assert_eq!(self.rows, expected);
    }
}

struct Judge {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// Asks the one Python process of this test run. It ends when its input closes with us.
fn judge(request: &Value) -> Value {
    static JUDGE: OnceLock<Mutex<Judge>> = OnceLock::new();
    let judge = JUDGE.get_or_init(|| {
        let python = lakeward_testkit::readers::python().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/iceberg/judge.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) =
            (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Mutex::new(Judge { _child: child, stdin, stdout })
    });
    let mut judge = judge.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    writeln!(judge.stdin, "{request}").unwrap();
    let mut line = String::new();
    judge.stdout.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

pub(crate) fn mark(schema: &TableSchema, epoch: u64, generation: u32) -> CommitMark {
    let position = |n: u64| Position { at: n.to_be_bytes().into(), resume: n.to_be_bytes().into() };
    CommitMark {
        pipeline: "shop".into(),
        sink: "lake".into(),
        writer: "writer-1".into(),
        table: schema.table.clone(),
        identity: schema.identity.clone(),
        generation,
        epoch,
        after: Some(position(epoch - 1)),
        through: position(epoch),
        schema_version: schema.version,
        load: None,
    }
}

pub(crate) fn permit(last: Option<&CommitMark>, mark: CommitMark, promote: bool) -> CommitPermit {
    match admit(last, mark, promote) {
        Admission::Go(permit) => permit,
        other => panic!("{other:?}"),
    }
}

/// Stages and commits what was written, as the epoch after the last.
pub(crate) async fn land(table: &mut Box<dyn SinkTable>, schema: &TableSchema) -> CommitMark {
    let staged = table.stage().await.unwrap();
    land_staged(table, schema, staged).await
}

pub(crate) async fn land_staged(
    table: &mut Box<dyn SinkTable>,
    schema: &TableSchema,
    staged: Staged,
) -> CommitMark {
    let last = table.last_commit().await.unwrap();
    let epoch = last.as_ref().map_or(1, |mark| mark.epoch + 1);
    let mark = mark(schema, epoch, last.as_ref().map_or(1, |m| m.generation));
    committed(table.commit(staged, permit(last.as_ref(), mark, false)).await)
}

pub(crate) fn committed(outcome: CommitOutcome) -> CommitMark {
    match outcome {
        CommitOutcome::Committed(mark) => mark,
        CommitOutcome::Conflict { table_version, .. } => panic!("conflict at {table_version}"),
        CommitOutcome::Unknown { error, .. } => panic!("unknown: {error:?}"),
        CommitOutcome::Failed { error, .. } => panic!("failed: {error:?}"),
    }
}

pub(crate) fn policy() -> UpkeepPolicy {
    UpkeepPolicy {
        compact: true,
        expire: true,
        force_compact: false,
        force_expire: false,
        target_file_bytes: 128 << 20,
        retain: Duration::from_secs(3600),
        keep: Vec::new(),
    }
}

/// Runs forced upkeep to its end; `None` when there was nothing to do.
pub(crate) async fn upkeep(
    table: &mut Box<dyn SinkTable>,
    policy: &UpkeepPolicy,
) -> Option<UpkeepOutcome> {
    let work = table.upkeep(policy).await.unwrap()?;
    let done = work.run().await.unwrap();
    Some(table.commit_upkeep(done).await.unwrap())
}
