//! The sources and lakes that the laws are run on today. A new one adds its own part here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::dialect::{self, Dialect};
use crate::judge::{LakeAt, SourceAt};
use crate::mariadb::{self, MariaDb};
use crate::postgres::{Postgres, describe};
use crate::servers;
use crate::world::{Lake, LakeTarget, Pending, Session, SourceServer, Unfit};
use crate::{Result, host};

impl Session for Client {
    fn run<'a>(&'a mut self, sql: &'a str) -> Pending<'a, u64> {
        Box::pin(async move {
            let messages = self.simple_query(sql).await.map_err(|error| describe(sql, &error))?;
            let touched = messages.iter().map(|message| match message {
                SimpleQueryMessage::CommandComplete(rows) => *rows,
                _ => 0,
            });
            Ok(touched.sum())
        })
    }
}

impl Session for mysql_async::Conn {
    fn run<'a>(&'a mut self, sql: &'a str) -> Pending<'a, u64> {
        Box::pin(mariadb::run(self, sql))
    }
}

impl SourceServer for Postgres {
    type Version = servers::Version;

    async fn begin(version: servers::Version, settings: &[(&str, &str)]) -> Result<Postgres> {
        Postgres::start_with(version, settings).await
    }

    fn unfit() -> Unfit {
        Unfit { setting: ("wal_level", "replica"), words: &["wal_level", "logical"] }
    }

    fn lost_log() -> &'static [&'static str] {
        &["slot"]
    }

    fn title(&self) -> String {
        format!("postgres {}", self.version().major())
    }

    fn full_version(&self) -> Pending<'_, String> {
        Box::pin(async move {
            let full = self.text("postgres", "SHOW server_version").await?.unwrap_or_default();
            Ok(full.split_whitespace().next().unwrap_or("?").to_owned())
        })
    }

    fn dialect(&self) -> &'static dyn Dialect {
        &dialect::postgres::Spoken
    }

    fn namespace(&self, _database: &str) -> String {
        "public".to_owned()
    }

    fn create_database<'a>(&'a self, database: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { self.execute(&format!("CREATE DATABASE \"{database}\"")).await })
    }

    fn copy_database<'a>(&'a self, from: &'a str, to: &'a str) -> Pending<'a, ()> {
        let sql = format!("CREATE DATABASE \"{to}\" TEMPLATE \"{from}\"");
        Box::pin(async move {
            // a closed connection stays visible to the server for a moment
            for _ in 0..50 {
                match self.execute(&sql).await {
                    Err(error) if error.to_string().starts_with("55006") => {}
                    outcome => return outcome,
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.execute(&sql).await
        })
    }

    fn forget<'a>(&'a self, database: &'a str) -> Pending<'a, ()> {
        let literal = host::sql_literal(database);
        let slots = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
             WHERE database = {literal} AND active_pid IS NOT NULL; SELECT pg_sleep(0.1); \
             SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = {literal}"
        );
        Box::pin(async move {
            self.execute(&slots).await?;
            self.execute(&format!("DROP DATABASE \"{database}\" WITH (FORCE)")).await
        })
    }

    fn session<'a>(&'a self, database: &'a str) -> Pending<'a, Box<dyn Session>> {
        Box::pin(async move { Ok(Box::new(self.connect_to(database).await?) as Box<dyn Session>) })
    }

    fn query<'a>(
        &'a self,
        database: &'a str,
        sql: &'a str,
    ) -> Pending<'a, Vec<Vec<Option<String>>>> {
        Box::pin(self.rows(database, sql))
    }

    fn start_anew(&self) -> Pending<'_, ()> {
        Box::pin(self.restart())
    }

    fn stay(&mut self) -> Option<u32> {
        self.leave()
    }

    fn ask_for_password<'a>(&'a self, password: &'a str) -> Pending<'a, ()> {
        Box::pin(self.require_password(password))
    }

    fn definition(&self, database: &str) -> Vec<String> {
        vec![
            "type: postgres".to_owned(),
            format!("host: {}", self.host()),
            format!("port: {}", self.port()),
            format!("database: {database}"),
            "user: postgres".to_owned(),
        ]
    }

    fn judged_at(&self, database: &str) -> SourceAt {
        SourceAt { kind: "postgres".to_owned(), dsn: self.url(database) }
    }
}

impl SourceServer for MariaDb {
    type Version = mariadb::Version;

    async fn begin(version: mariadb::Version, settings: &[(&str, &str)]) -> Result<MariaDb> {
        MariaDb::start_with(version, settings).await
    }

    fn unfit() -> Unfit {
        Unfit { setting: ("binlog-format", "MIXED"), words: &["binlog_format", "row"] }
    }

    fn lost_log() -> &'static [&'static str] {
        &["log", "resync"]
    }

    fn title(&self) -> String {
        format!("mariadb {}", self.version().number())
    }

    fn full_version(&self) -> Pending<'_, String> {
        Box::pin(async move {
            let full = self.text("mysql", "SELECT version()").await?.unwrap_or_default();
            Ok(full.split('-').next().unwrap_or("?").to_owned())
        })
    }

    fn dialect(&self) -> &'static dyn Dialect {
        &dialect::mariadb::Spoken
    }

    fn namespace(&self, database: &str) -> String {
        database.to_owned()
    }

    fn create_database<'a>(&'a self, database: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { self.execute(&format!("CREATE DATABASE `{database}`")).await })
    }

    fn copy_database<'a>(&'a self, from: &'a str, to: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            self.create_database(to).await?;
            for table in self.rows(from, "SHOW TABLES").await?.into_iter().flatten().flatten() {
                let copy = format!(
                    "CREATE TABLE `{to}`.`{table}` LIKE `{from}`.`{table}`; \
                     INSERT INTO `{to}`.`{table}` SELECT * FROM `{from}`.`{table}`"
                );
                self.execute(&copy).await?;
            }
            Ok(())
        })
    }

    fn forget<'a>(&'a self, database: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { self.execute(&format!("DROP DATABASE `{database}`")).await })
    }

    fn session<'a>(&'a self, database: &'a str) -> Pending<'a, Box<dyn Session>> {
        Box::pin(async move { Ok(Box::new(self.connect_to(database).await?) as Box<dyn Session>) })
    }

    fn query<'a>(
        &'a self,
        database: &'a str,
        sql: &'a str,
    ) -> Pending<'a, Vec<Vec<Option<String>>>> {
        Box::pin(self.rows(database, sql))
    }

    fn start_anew(&self) -> Pending<'_, ()> {
        Box::pin(self.restart())
    }

    fn stay(&mut self) -> Option<u32> {
        self.leave()
    }

    fn ask_for_password<'a>(&'a self, password: &'a str) -> Pending<'a, ()> {
        Box::pin(self.require_password(password))
    }

    fn definition(&self, _database: &str) -> Vec<String> {
        vec![
            "type: mysql".to_owned(),
            format!("host: {}", self.host()),
            format!("port: {}", self.port()),
            "user: root".to_owned(),
        ]
    }

    fn judged_at(&self, database: &str) -> SourceAt {
        SourceAt { kind: "mysql".to_owned(), dsn: self.url(database) }
    }
}

/// Iceberg tables in a local folder, with a SQLite catalogue beside them.
pub struct IcebergFolder(PathBuf);

impl LakeTarget for IcebergFolder {
    fn title() -> &'static str {
        "iceberg"
    }

    fn create(home: &Path) -> Result<IcebergFolder> {
        folder(home.join("lake")).map(IcebergFolder)
    }

    fn lakes(&self) -> Vec<Lake> {
        vec![Lake { lock: Some(self.0.join("catalog.db")), ..lake("iceberg", &self.0) }]
    }
}

/// Iceberg tables of format version 3, with deletion vectors.
pub struct Iceberg3Folder(PathBuf);

impl LakeTarget for Iceberg3Folder {
    fn title() -> &'static str {
        "iceberg-3"
    }

    fn create(home: &Path) -> Result<Iceberg3Folder> {
        folder(home.join("lake3")).map(Iceberg3Folder)
    }

    fn lakes(&self) -> Vec<Lake> {
        let mut lake = Lake { lock: Some(self.0.join("catalog.db")), ..lake("iceberg", &self.0) };
        lake.definition.push("format_version: 3".to_owned());
        vec![lake]
    }
}

/// Delta tables in a local folder.
pub struct DeltaFolder(PathBuf);

impl LakeTarget for DeltaFolder {
    fn title() -> &'static str {
        "delta"
    }

    fn create(home: &Path) -> Result<DeltaFolder> {
        folder(home.join("delta")).map(DeltaFolder)
    }

    fn lakes(&self) -> Vec<Lake> {
        vec![lake("delta", &self.0)]
    }
}

/// Two lakes that follow one log: two sinks of one pipeline.
pub struct Both<A, B>(A, B);

impl<A: LakeTarget, B: LakeTarget> LakeTarget for Both<A, B> {
    fn title() -> &'static str {
        "both"
    }

    fn create(home: &Path) -> Result<Both<A, B>> {
        Ok(Both(A::create(home)?, B::create(home)?))
    }

    fn lakes(&self) -> Vec<Lake> {
        self.0.lakes().into_iter().chain(self.1.lakes()).collect()
    }
}

fn folder(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn lake(kind: &str, folder: &Path) -> Lake {
    Lake {
        name: kind.to_owned(),
        definition: vec![format!("type: {kind}"), format!("warehouse: {}", folder.display())],
        at: LakeAt { kind: kind.to_owned(), folder: folder.to_path_buf() },
        lock: None,
    }
}
