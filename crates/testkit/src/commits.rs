//! Many small commits through a sink's own contract, with upkeep beside them, and what they cost: for the benches of the
//! lakes. No source, no engine: rows are made here, and upkeep is run as the engine runs it.
//!
//! Deliberately absent: any lake. The bench brings the sink, and says which folders hold metadata.
use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Decimal128Array, Int32Array, Int64Array, StringArray};
use arrow_array::{RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, TimeUnit};
use lakeward_core::{
    Admission, ChangeBatch, Column, ColumnId, CommitMark, CommitOutcome, Op, Position, Sink,
    SinkTable, Slot, TableId, TableIdentity, TableSchema, TableVersion, UpkeepDone, UpkeepPolicy,
    admit,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::workload::Random;
use crate::{Result, fail, readers};

/// How much is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rows of the table before the changes.
    pub rows: u64,
    /// Commits of changes.
    pub commits: u64,
    /// Changes in each: 60 % updates of random rows, 30 % new rows, 10 % deletes.
    pub changes: u64,
    /// Versions younger than this stay.
    pub retain: Duration,
    /// Rest between two commits.
    pub pause: Duration,
    /// Whether upkeep runs.
    pub upkeep: bool,
}

impl Plan {
    /// The plan that `LAKEWARD_COMMITS` (commits), `LAKEWARD_ROWS`, `LAKEWARD_PAUSE_MS` and `LAKEWARD_UPKEEP=0` ask for:
    /// by default 3,600 commits of 2,000 changes over a million rows, back to back.
    pub fn from_env() -> Plan {
        let number = |name: &str, default: u64| {
            std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        Plan {
            rows: number("LAKEWARD_ROWS", 1_000_000),
            commits: number("LAKEWARD_COMMITS", 3_600),
            changes: number("LAKEWARD_CHANGES", 2_000),
            retain: Duration::from_secs(number("LAKEWARD_RETAIN_S", 900)),
            pause: Duration::from_millis(number("LAKEWARD_PAUSE_MS", 0)),
            upkeep: number("LAKEWARD_UPKEEP", 1) > 0,
        }
    }
}

/// Where the lake stands, for counting bytes and for the reader.
pub struct Lake {
    /// The table's folder.
    pub folder: PathBuf,
    /// The part of it that holds metadata.
    pub metadata: PathBuf,
    /// Python that sets `source` to DuckDB's scan of the table's newest version.
    pub source: String,
}

/// The table that is changed: six narrow columns.
fn schema() -> Arc<TableSchema> {
    let columns = [
        ("id", DataType::Int64),
        ("a", DataType::Int32),
        ("b", DataType::Int32),
        ("amount", DataType::Decimal128(12, 2)),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("note", DataType::Utf8),
    ];
    let column = |(index, (name, data_type)): (usize, (&str, DataType))| Column {
        id: ColumnId(index as i32 + 1),
        name: name.to_owned(),
        data_type,
        declared: String::new(),
        nullable: index > 0,
    };
    let columns = columns.into_iter().enumerate().map(column).collect();
    let identity = TableIdentity("1".to_owned());
    Arc::new(TableSchema::new(
        TableId::new("public", "narrow"),
        identity,
        columns,
        vec![0],
        String::new(),
    ))
}

fn rows(schema: &TableSchema, ids: Vec<i64>, random: &mut Random) -> Result<RecordBatch> {
    let count = ids.len();
    let mut numbers = |below: u64| (0..count).map(|_| random.below(below)).collect::<Vec<u64>>();
    let small: Int32Array = numbers(1_000).into_iter().map(|n| Some(n as i32)).collect();
    let wide: Int32Array = numbers(1 << 31).into_iter().map(|n| Some(n as i32)).collect();
    let amounts: Decimal128Array =
        numbers(10_000_000).into_iter().map(|n| Some(i128::from(n))).collect();
    let times = numbers(86_400_000_000).into_iter().map(|n| Some(1_700_000_000_000_000 + n as i64));
    let times: TimestampMicrosecondArray = times.collect();
    let notes: StringArray =
        numbers(1 << 40).into_iter().map(|n| Some(format!("note {n:015}"))).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(small),
        Arc::new(wide),
        Arc::new(amounts.with_precision_and_scale(12, 2)?),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(notes),
    ];
    Ok(RecordBatch::try_new(schema.arrow(), columns)?)
}

fn batch(schema: &Arc<TableSchema>, ops: Vec<Op>, rows: RecordBatch) -> ChangeBatch {
    let schema = Arc::clone(schema);
    ChangeBatch { schema, ops, rows, before: None, absent: None, origin: None, runs: Vec::new() }
}

fn mark(schema: &TableSchema, epoch: u64) -> CommitMark {
    let position = |n: u64| Position { at: n.to_be_bytes().into(), resume: n.to_be_bytes().into() };
    CommitMark {
        pipeline: "bench".into(),
        sink: "lake".into(),
        writer: "bench-1".into(),
        table: schema.table.clone(),
        identity: schema.identity.clone(),
        generation: 1,
        epoch,
        after: Some(position(epoch - 1)),
        through: position(epoch),
        schema_version: schema.version,
        load: None,
    }
}

/// Rows of a loaded table that come in one batch, and in one commit.
const ROWS_PER_BATCH: u64 = 8_192;
const ROWS_PER_LOAD: u64 = 1_000_000;

/// A consistent point is kept for so many commits at least, as the engine's ledger keeps them.
const POINTS: u64 = 64;

/// A table being changed, and what it has cost.
struct Drive {
    table: Box<dyn SinkTable>,
    schema: Arc<TableSchema>,
    plan: Plan,
    lake: Lake,
    random: Random,
    epoch: u64,
    points: VecDeque<(u64, TableVersion)>,
    seen: HashSet<PathBuf>,
    running: Option<JoinHandle<lakeward_core::Result<UpkeepDone>>>,
    job_began: Instant,
    rest_until: Instant,
    began: Instant,
    cost: Cost,
}

/// Bytes and times.
#[derive(Debug, Default)]
struct Cost {
    commit_bytes: u64,
    row_bytes: u64,
    upkeep_bytes: u64,
    upkeeps: u64,
    waits: Vec<Duration>,
}

/// Runs the plan and tells what it cost, as one JSON object.
///
/// # Errors
/// What the sink or a reader answers.
pub async fn run(sink: Arc<dyn Sink>, lake: Lake, plan: Plan) -> Result<Value> {
    let schema = schema();
    let table = sink.open_table(&schema, Slot::Visible).await.map_err(told)?;
    let mut drive = Drive {
        table,
        schema,
        lake,
        random: Random::new(7),
        epoch: 0,
        points: VecDeque::new(),
        seen: HashSet::new(),
        running: None,
        job_began: Instant::now(),
        rest_until: Instant::now(),
        began: Instant::now(),
        cost: Cost::default(),
        plan,
    };
    drive.load().await?;
    drive.new_bytes();
    drive.cost = Cost::default();
    let (cpu, began) = (cpu_seconds(), Instant::now());
    drive.change().await?;
    let (cpu, wall) = (cpu_seconds() - cpu, began.elapsed().as_secs_f64());
    drive.report(cpu, wall).await
}

impl Drive {
    async fn load(&mut self) -> Result<()> {
        let mut from = 0;
        while from < self.plan.rows {
            let end = (from + ROWS_PER_LOAD).min(self.plan.rows);
            while from < end {
                let until = (from + ROWS_PER_BATCH).min(end);
                let ids: Vec<i64> = (from..until).map(|id| id as i64).collect();
                let rows = rows(&self.schema, ids, &mut self.random)?;
                let ops = vec![Op::Read; rows.num_rows()];
                self.table.write(batch(&self.schema, ops, rows)).await.map_err(told)?;
                from = until;
            }
            self.commit().await?;
        }
        Ok(())
    }

    async fn change(&mut self) -> Result<()> {
        let mut next = self.plan.rows;
        for number in 0..self.plan.commits {
            let (mut ids, mut ops) = (Vec::new(), Vec::new());
            for _ in 0..self.plan.changes {
                let (op, id) = match self.random.below(10) {
                    0..=5 => (Op::Update, self.random.below(next)),
                    6 => (Op::Delete, self.random.below(next)),
                    _ => (Op::Insert, next),
                };
                next += u64::from(op == Op::Insert);
                ids.push(id as i64);
                ops.push(op);
            }
            let rows = rows(&self.schema, ids, &mut self.random)?;
            self.table.write(batch(&self.schema, ops, rows)).await.map_err(told)?;
            let begun = Instant::now();
            self.cost.row_bytes += self.commit().await?;
            self.cost.waits.push(begun.elapsed());
            self.cost.commit_bytes += self.new_bytes();
            if self.plan.upkeep {
                self.upkeep().await?;
            }
            if (number + 1).is_multiple_of(200) {
                println!("{} commits, {:.1} s", number + 1, self.began.elapsed().as_secs_f64());
            }
            tokio::time::sleep(self.plan.pause).await;
        }
        if let Some(running) = self.running.take() {
            self.end_upkeep(running).await?;
        }
        Ok(())
    }

    /// Bytes of the new data files.
    async fn commit(&mut self) -> Result<u64> {
        let staged = self.table.stage().await.map_err(told)?;
        let bytes = staged.bytes;
        let last = self.table.last_commit().await.map_err(told)?;
        self.epoch += 1;
        let mark = mark(&self.schema, self.epoch);
        let Admission::Go(permit) = admit(last.as_ref(), mark, false) else {
            fail!("epoch {} was not admitted", self.epoch)
        };
        match self.table.commit(staged, permit).await {
            CommitOutcome::Committed(_) => {}
            CommitOutcome::Conflict { .. } => fail!("a conflict without another writer"),
            CommitOutcome::Unknown { error, .. } | CommitOutcome::Failed { error, .. } => {
                return Err(told(error));
            }
        }
        self.points.extend(self.table.version().map(|version| (self.epoch, version)));
        // The ledger forgets up to the last complete state but one.
        let oldest = (self.epoch / POINTS).saturating_sub(1) * POINTS;
        self.points.retain(|(epoch, _)| *epoch >= oldest);
        Ok(bytes)
    }

    fn policy(&self) -> UpkeepPolicy {
        UpkeepPolicy {
            compact: true,
            expire: true,
            force_compact: false,
            force_expire: false,
            target_file_bytes: 128 << 20,
            retain: self.plan.retain,
            keep: self.points.iter().map(|(_, version)| version.clone()).collect(),
        }
    }

    /// One job at a time, and a rest after each that is as long as it was.
    async fn upkeep(&mut self) -> Result<()> {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            self.end_upkeep(running).await?;
        }
        if self.running.is_some() || Instant::now() < self.rest_until {
            return Ok(());
        }
        if let Some(work) = self.table.upkeep(&self.policy()).await.map_err(told)? {
            self.cost.upkeeps += 1;
            self.job_began = Instant::now();
            self.running = Some(tokio::spawn(work.run()));
        }
        Ok(())
    }

    async fn end_upkeep(
        &mut self,
        running: JoinHandle<lakeward_core::Result<UpkeepDone>>,
    ) -> Result<()> {
        let done = running.await?.map_err(told)?;
        let took = self.job_began.elapsed();
        self.table.commit_upkeep(done).await.map_err(told)?;
        self.rest_until = Instant::now() + took;
        self.cost.upkeep_bytes += self.new_bytes();
        Ok(())
    }

    /// Bytes of files that were not there before. Those of a compaction that runs are upkeep's.
    fn new_bytes(&mut self) -> u64 {
        let mut new = 0;
        for (path, bytes) in files(&self.lake.folder) {
            if self.seen.insert(path.clone()) {
                match compacted(&path) {
                    true => self.cost.upkeep_bytes += bytes,
                    false => new += bytes,
                }
            }
        }
        new
    }

    async fn report(mut self, cpu: f64, wall: f64) -> Result<Value> {
        let metadata_bytes: u64 = files(&self.lake.metadata).iter().map(|(_, bytes)| bytes).sum();
        let all = files(&self.lake.folder);
        let (count, bytes) = (all.len(), all.iter().map(|(_, bytes)| bytes).sum::<u64>());
        let worn = self.scan()?;
        let fresh = self.fresh_scan().await?;
        let cost = &mut self.cost;
        cost.waits.sort_unstable();
        let wait = |percent: usize| {
            let at = (cost.waits.len() * percent / 100).min(cost.waits.len().saturating_sub(1));
            cost.waits.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
        };
        let ratio = |bytes: u64| bytes as f64 / cost.row_bytes.max(1) as f64;
        Ok(json!({
            "rows": self.plan.rows,
            "commits": self.plan.commits,
            "write_amplification": ratio(cost.commit_bytes),
            "total_amplification": ratio(cost.commit_bytes + cost.upkeep_bytes),
            "row_bytes_per_commit": cost.row_bytes / self.plan.commits.max(1),
            "metadata_bytes": metadata_bytes,
            "files": count,
            "bytes": bytes,
            "upkeeps": cost.upkeeps,
            "cpu_us_per_commit": cpu * 1e6 / self.plan.commits.max(1) as f64,
            "wall_s": wall,
            "commit_p50_ms": wait(50),
            "commit_p99_ms": wait(99),
            "scan_s": worn,
            "scan_fresh_s": fresh,
            "scan_ratio": worn / fresh,
        }))
    }

    /// Seconds of a full scan.
    fn scan(&self) -> Result<f64> {
        let script = format!("{}{SCAN}", self.lake.source);
        let out = Command::new(readers::python()?).args(["-c", &script]).output()?;
        if !out.status.success() {
            fail!("DuckDB could not scan: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().parse()?)
    }

    /// Seconds of a full scan of the same rows when all of them have just been rewritten.
    async fn fresh_scan(&mut self) -> Result<f64> {
        let policy = UpkeepPolicy { force_compact: true, ..self.policy() };
        while let Some(work) = self.table.upkeep(&policy).await.map_err(told)? {
            let done = work.run().await.map_err(told)?;
            self.table.commit_upkeep(done).await.map_err(told)?;
        }
        self.scan()
    }
}

/// The median of five scans of all columns, after one that warms the caches.
const SCAN: &str = r#"
import duckdb, importlib, pathlib, statistics, time
duck = duckdb.connect(config={"autoinstall_known_extensions": False})
for name in ("avro", "icu", "json", "parquet", "iceberg", "delta"):
    module = importlib.import_module(f"duckdb_extension_{name}")
    found = sorted(pathlib.Path(module.__path__[0]).rglob(f"{name}.duckdb_extension"))
    duck.execute(f"LOAD '{found[0]}'" if found else f"LOAD {name}")
query = f"SELECT count(*), sum(id), sum(a), sum(b), sum(amount), max(at), max(note) FROM {source}"
times = []
for _ in range(6):
    began = time.monotonic()
    duck.execute(query).fetchall()
    times.append(time.monotonic() - began)
print(statistics.median(times[1:]))
"#;

fn told(error: lakeward_core::Error) -> crate::Error {
    format!("{error:?}").into()
}

/// Whether a file's name says that a compaction wrote it.
fn compacted(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.starts_with("bench-1-g1-c")
}

/// All files below a folder with their sizes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => found.extend(files(&entry.path())),
            Ok(about) => found.push((entry.path(), about.len())),
            Err(_) => {}
        }
    }
    found
}

/// User and system time of this process. The kernel counts in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
