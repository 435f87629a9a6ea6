//! A database of its own for each test, on servers that all tests of this binary share.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lakeward_core::{ChangeStream, Env, ErrorKind, Position, Result, StartAt, TableSchema};
use lakeward_source_postgres::catalog::Catalog;
use lakeward_source_postgres::config::{Config, Settings};
use lakeward_source_postgres::position::{Place, parse_lsn};
use lakeward_source_postgres::wire::{CreatedSlot, ReplicationConnection};
use lakeward_testkit::postgres::{Postgres, texts};
use lakeward_testkit::servers::Version;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

static V15: OnceCell<Arc<Postgres>> = OnceCell::const_new();
static V18: OnceCell<Arc<Postgres>> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Room for all tests at once.
const SETTINGS: [(&str, &str); 4] = [
    ("max_replication_slots", "60"),
    ("max_wal_senders", "60"),
    ("max_connections", "300"),
    ("wal_sender_timeout", "20s"),
];

/// The server of this version that all tests share.
pub async fn server(version: Version) -> Arc<Postgres> {
    let cell = if version == Version::V15 { &V15 } else { &V18 };
    let start = || async { Arc::new(Postgres::start_with(version, &SETTINGS).await.unwrap()) };
    Arc::clone(cell.get_or_init(start).await)
}

/// One database, its publication of all tables, its slot.
pub struct World {
    pub server: Arc<Postgres>,
    pub database: String,
    pub sql: Client,
    pub settings: Arc<Settings>,
    pub catalog: Arc<Catalog>,
    pub confirmed: Arc<AtomicU64>,
    pub system: u64,
    pub beginning: Position,
}

impl World {
    /// Runs `ddl`, then makes publication and slot.
    pub async fn new(version: Version, ddl: &str) -> World {
        World::on(server(version).await, ddl).await
    }

    pub async fn on(server: Arc<Postgres>, ddl: &str) -> World {
        let database = format!("world_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let sql = server.connect_to(&database).await.unwrap();
        sql.batch_execute(ddl).await.unwrap();
        sql.batch_execute(&format!("CREATE PUBLICATION {database} FOR ALL TABLES")).await.unwrap();
        let settings = settings(&server, &database);
        let (system, slot) = make_slot(&settings).await;
        World {
            catalog: Arc::new(Catalog::new(Arc::clone(&settings))),
            confirmed: Arc::new(AtomicU64::new(0)),
            beginning: Place::before(system, slot.consistent_point),
            server,
            database,
            sql,
            settings,
            system,
        }
    }

    pub async fn run(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"));
    }

    /// A second session.
    pub async fn session(&self) -> Client {
        self.server.connect_to(&self.database).await.unwrap()
    }

    pub async fn table(&self, name: &str) -> Arc<TableSchema> {
        let rows = texts(&self.sql, &format!("SELECT '{name}'::regclass::oid")).await.unwrap();
        let oid = rows[0][0].as_ref().unwrap().parse().unwrap();
        Arc::new(self.catalog.describe(oid).await.unwrap().unwrap().schema())
    }

    pub async fn tables(&self, names: &[&str]) -> Vec<Arc<TableSchema>> {
        let mut tables = Vec::new();
        for name in names {
            tables.push(self.table(name).await);
        }
        tables
    }

    /// A position that the stream is sure to reach.
    pub async fn head(&self) -> Position {
        let sql = "SELECT pg_logical_emit_message(false, 'lakeward', '')";
        let rows = texts(&self.sql, sql).await.unwrap();
        Place::before(self.system, parse_lsn(rows[0][0].as_ref().unwrap()).unwrap())
    }

    pub async fn open(&self, from: &Position, known: &[Arc<TableSchema>]) -> Box<dyn ChangeStream> {
        self.try_open(from, known).await.unwrap()
    }

    pub async fn try_open(
        &self,
        from: &Position,
        known: &[Arc<TableSchema>],
    ) -> Result<Box<dyn ChangeStream>> {
        let from = StartAt::After(from.clone());
        let confirmed = Arc::clone(&self.confirmed);
        lakeward_source_postgres::log::open(Arc::clone(&self.catalog), from, known, confirmed).await
    }

    /// All rows of a table as the server's own text, sorted.
    pub async fn rows(&self, table: &str) -> Vec<Vec<Option<String>>> {
        self.run("SET TimeZone = 'UTC'; SET DateStyle = ISO; SET extra_float_digits = 1").await;
        let mut rows = texts(&self.sql, &format!("SELECT * FROM {table}")).await.unwrap();
        rows.sort();
        rows
    }
}

pub fn settings(server: &Postgres, database: &str) -> Arc<Settings> {
    let config: Config = serde_json::from_value(serde_json::json!({
        "host": server.host(),
        "port": server.port(),
        "database": database,
        "user": "postgres",
        "slot": database,
        "tables": ["*.*"],
        "connect_timeout": "60s",
    }))
    .unwrap();
    let env = Env {
        pipeline: "test".into(),
        name: "source".into(),
        writer: "w".into(),
        state_dir: std::env::temp_dir(),
        memory_bytes: 64 << 20,
    };
    Settings::new(config, &env).unwrap()
}

pub async fn make_slot(settings: &Settings) -> (u64, CreatedSlot) {
    for attempt in 0.. {
        let mut connection = ReplicationConnection::connect(settings).await.unwrap();
        let system = connection.identify().await.unwrap().system;
        match connection.create_slot(&settings.slot, false, false).await {
            Ok(slot) => return (system, slot),
            Err(error) if error.kind() == ErrorKind::Unreachable && attempt < 3 => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    unreachable!("the loop above returns")
}
