//! A database of its own for each test, on servers that all tests of this binary share; and the log as lines of text.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lakeward_core::{
    ChangeBatch, ChangeStream, Coverage, Env, ErrorKind, Op, Position, Result, Source, SourceEvent,
    StartAt, TableSchema,
};
use lakeward_source_mysql::MySql;
use lakeward_source_mysql::config::Settings;
use lakeward_source_mysql::types::render;
use lakeward_testkit::mariadb::{MariaDb, Version, run};
use mysql_async::Conn;
use tokio::sync::OnceCell;

static V10_11: OnceCell<Arc<MariaDb>> = OnceCell::const_new();
static V11_8: OnceCell<Arc<MariaDb>> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Nothing that a test waits for takes longer, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server of this version that all tests share.
pub async fn server(version: Version) -> Arc<MariaDb> {
    let cell = if version == Version::V10_11 { &V10_11 } else { &V11_8 };
    let start = || async { Arc::new(MariaDb::start(version).await.unwrap()) };
    Arc::clone(cell.get_or_init(start).await)
}

/// One database, a session in it, and a source that follows all its tables.
pub struct World {
    pub server: Arc<MariaDb>,
    pub database: String,
    pub sql: Conn,
    pub source: Arc<dyn Source>,
    pub known: Vec<Arc<TableSchema>>,
    pub beginning: Position,
}

impl World {
    /// Runs `ddl`, then finds the tables and where the log begins.
    pub async fn new(version: Version, ddl: &str) -> World {
        World::on(server(version).await, ddl).await
    }

    pub async fn on(server: Arc<MariaDb>, ddl: &str) -> World {
        World::with(server, ddl, serde_json::json!({})).await
    }

    /// As `on`, with some of the source's options replaced.
    pub async fn with(server: Arc<MariaDb>, ddl: &str, options: serde_json::Value) -> World {
        let database = format!("world_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let mut sql = server.connect_to(&database).await.unwrap();
        run(&mut sql, ddl).await.unwrap();
        let source = source(&server, &database, options).await;
        let known = source.discover().await.unwrap();
        let beginning = source.prepare(&known).await.unwrap().beginning;
        World { server, database, sql, source, known, beginning }
    }

    /// Runs statements in the world's session.
    pub async fn run(&mut self, sql: &str) {
        run(&mut self.sql, sql).await.unwrap();
    }

    /// Opens the log where the world began.
    pub async fn follow(&self) -> Follow {
        self.follow_from(StartAt::Beginning(self.beginning.clone())).await
    }

    pub async fn follow_from(&self, from: StartAt) -> Follow {
        let stream = self.source.changes(from, &self.known).await.unwrap();
        Follow { stream, source: Arc::clone(&self.source), through: None }
    }

    /// What the log says of everything since the world began, as lines.
    pub async fn lines(&self) -> Vec<String> {
        self.follow().await.lines().await
    }
}

/// A source for one database; its server_id is its own.
pub async fn source(
    server: &MariaDb,
    database: &str,
    options: serde_json::Value,
) -> Arc<dyn Source> {
    Arc::new(MySql::new(settings(server, database, options)))
}

/// The settings of such a source.
pub fn settings(server: &MariaDb, database: &str, options: serde_json::Value) -> Arc<Settings> {
    let mut config = serde_json::json!({
        "host": server.host(),
        "port": server.port(),
        "user": "root",
        "server_id": 1000 + NEXT.fetch_add(1, Ordering::Relaxed),
        "tables": [format!("{database}.*")],
    });
    if let (Some(config), serde_json::Value::Object(options)) = (config.as_object_mut(), options) {
        config.extend(options);
    }
    let env = Env {
        pipeline: database.to_owned(),
        name: "source".into(),
        writer: "w".into(),
        state_dir: "/nonexistent".into(),
        memory_bytes: 0,
    };
    Settings::new(serde_json::from_value(config).unwrap(), &env).unwrap()
}

/// An open log.
pub struct Follow {
    pub stream: Box<dyn ChangeStream>,
    source: Arc<dyn Source>,
    /// The last position that was told.
    pub through: Option<Position>,
}

impl Follow {
    /// The next event.
    pub async fn next(&mut self) -> Result<SourceEvent> {
        let event = tokio::time::timeout(PATIENCE, self.stream.next()).await.unwrap()?;
        if let SourceEvent::Commit { end, .. } = &event {
            self.through = Some(end.position.clone());
        }
        if let SourceEvent::Idle { position } = &event {
            self.through = Some(position.clone());
        }
        Ok(event)
    }

    /// All events up to what is committed now.
    pub async fn events(&mut self) -> Vec<SourceEvent> {
        let head = match self.source.head().await {
            // The session that it uses may have died with a server that was restarted.
            Err(error) if error.kind() == ErrorKind::Unreachable => self.source.head().await,
            head => head,
        };
        let head = head.unwrap();
        let mut events = Vec::new();
        while !self.has_passed(&head) {
            events.push(self.next().await.unwrap());
        }
        events
    }

    pub fn has_passed(&self, head: &Position) -> bool {
        let through = self.through.as_ref();
        through.is_some_and(|through| self.source.covers(through, head) == Coverage::Covered)
    }

    /// As `events`, as lines.
    pub async fn lines(&mut self) -> Vec<String> {
        self.events().await.iter().flat_map(lines).collect()
    }
}

/// An event as lines: `+ t 1|x` a row came, `~` changed, `- ` went; `?` before it: not committed yet.
pub fn lines(event: &SourceEvent) -> Vec<String> {
    match event {
        SourceEvent::Rows(batch) => row_lines(batch),
        SourceEvent::Schema(change) => {
            let names: Vec<_> =
                change.after.columns.iter().map(|c| format!("{}#{}", c.name, c.id.0)).collect();
            vec![format!(
                "schema {} -> {}: {}",
                change.before.table.name,
                change.after.table.name,
                names.join(",")
            )]
        }
        SourceEvent::Truncate { table, .. } => vec![format!("truncate {}", table.name)],
        SourceEvent::Diverged { table, why } => vec![format!("diverged {}: {why:?}", table.name)],
        SourceEvent::Abort(_) => vec!["abort".into()],
        SourceEvent::Commit { .. } | SourceEvent::Idle { .. } => Vec::new(),
    }
}

fn row_lines(batch: &ChangeBatch) -> Vec<String> {
    let open: Vec<bool> = batch
        .runs
        .iter()
        .flat_map(|run| vec![run.transaction.end.is_none(); run.rows as usize])
        .collect();
    let line = |row: usize| {
        let sign = match batch.ops[row] {
            Op::Read | Op::ReadFirst | Op::Insert => "+",
            Op::Update => "~",
            Op::Delete => "-",
        };
        let cells: Vec<_> = (0..batch.rows.num_columns()).map(|at| cell(batch, at, row)).collect();
        let before = batch.before.as_ref().and_then(|before| {
            let at = before.at.iter().position(|at| *at as usize == row)?;
            let keys: Vec<_> = batch.schema.key.iter().map(|key| *key as usize).collect();
            let shown = if keys.is_empty() { (0..cells.len()).collect() } else { keys };
            let cells: Vec<_> =
                shown.iter().map(|key| text(before.rows.column(*key), at)).collect();
            Some(format!(" was {}", cells.join("|")))
        });
        let mark = if open[row] { "?" } else { "" };
        let (table, before) = (&batch.schema.table.name, before.unwrap_or_default());
        format!("{mark}{sign} {table} {}{before}", cells.join("|"))
    };
    (0..batch.len()).map(line).collect()
}

fn cell(batch: &ChangeBatch, column: usize, row: usize) -> String {
    let missing = batch.absent.as_ref().is_some_and(|absent| {
        absent.columns.iter().any(|c| c.column as usize == column && c.missing.value(row))
    });
    if missing { "?".into() } else { text(batch.rows.column(column), row) }
}

fn text(array: &arrow_array::ArrayRef, row: usize) -> String {
    use arrow_array::Array as _;
    if array.is_null(row) {
        return "NULL".into();
    }
    let mut out = String::new();
    render(array, row, &mut out).unwrap();
    out
}
