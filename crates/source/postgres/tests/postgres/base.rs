//! A database without publication and slot, for the SQL side.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::RecordBatch;
use lakeward_core::{Chunk, ChunkReader, Delivered, Env, Source, SourceKind, TableSchema};
use lakeward_source_postgres::Postgres as Connector;
use lakeward_source_postgres::config::Config;
use lakeward_source_postgres::types::render;
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;
use serde_json::{Value, json};
use tokio_postgres::Client;

static NEXT: AtomicU32 = AtomicU32::new(1);

pub struct Base {
    pub server: Arc<Postgres>,
    pub name: String,
    pub sql: Client,
}

impl Base {
    pub async fn new(version: Version, ddl: &str) -> Base {
        Base::on(crate::world::server(version).await, ddl).await
    }

    pub async fn on(server: Arc<Postgres>, ddl: &str) -> Base {
        let name = format!("base_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let sql = server.connect_to(&name).await.unwrap();
        let base = Base { server, name, sql };
        base.run(ddl).await;
        base
    }

    pub async fn run(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql:.300}"));
    }

    pub async fn session(&self) -> Client {
        self.server.connect_to(&self.name).await.unwrap()
    }

    /// Options, some of them replaced.
    pub fn config(&self, change: Value) -> Config {
        let mut options = json!({
            "host": self.server.host(),
            "port": self.server.port(),
            "database": self.name,
            "user": "postgres",
            "slot": self.name,
            "tables": ["public.*"],
            "connect_timeout": "60s",
        });
        let replaced = change.as_object().unwrap().clone();
        options.as_object_mut().unwrap().extend(replaced);
        serde_json::from_value(options).unwrap()
    }

    pub async fn source(&self) -> Arc<dyn Source> {
        self.source_with(json!({})).await
    }

    pub async fn source_with(&self, change: Value) -> Arc<dyn Source> {
        let env = Env {
            pipeline: "test".into(),
            name: "source".into(),
            writer: "w".into(),
            state_dir: std::env::temp_dir(),
            memory_bytes: 64 << 20,
        };
        Connector::open(self.config(change), env).await.unwrap()
    }
}

pub async fn table(source: &Arc<dyn Source>, name: &str) -> Arc<TableSchema> {
    let tables = source.discover().await.unwrap();
    let found = tables.iter().find(|t| t.table.name == name);
    Arc::clone(found.unwrap_or_else(|| panic!("{name} is not among {tables:?}")))
}

/// All rows of a chunk, as text.
pub async fn read(
    source: &Arc<dyn Source>,
    table: &TableSchema,
    chunk: &Chunk,
) -> Vec<Vec<String>> {
    let reader = source.read_chunk(table, chunk, Arc::new(Delivered::default())).await.unwrap();
    drain(reader).await
}

pub async fn drain(mut reader: Box<dyn ChunkReader>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        rows.extend(texts(&batch));
    }
    rows
}

pub fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let row = |row: usize| {
        let cell = |column| {
            let mut text = String::new();
            render(column, row, &mut text).unwrap();
            text
        };
        batch.columns().iter().map(cell).collect()
    };
    (0..batch.num_rows()).map(row).collect()
}
