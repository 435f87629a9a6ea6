//! The sources and lakes that the laws are run on today. A new one adds its own part here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::postgres::{Postgres, describe};
use crate::world::{LakeTarget, Pending, Session, SourceServer};
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

impl SourceServer for Postgres {
    fn title(&self) -> String {
        format!("postgres {}", self.version().major())
    }

    fn full_version(&self) -> Pending<'_, String> {
        Box::pin(async move {
            let full = self.text("postgres", "SHOW server_version").await?.unwrap_or_default();
            Ok(full.split_whitespace().next().unwrap_or("?").to_owned())
        })
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

    fn definition(&self, database: &str) -> Vec<String> {
        vec![
            "type: postgres".to_owned(),
            format!("host: {}", self.host()),
            format!("port: {}", self.port()),
            format!("database: {database}"),
            "user: postgres".to_owned(),
        ]
    }

    fn judged_at(&self, database: &str) -> String {
        self.url(database)
    }
}

/// Iceberg tables in a local folder, with a SQLite catalogue beside them.
pub struct IcebergFolder {
    warehouse: PathBuf,
}

impl LakeTarget for IcebergFolder {
    fn title() -> &'static str {
        "iceberg"
    }

    fn create(home: &Path) -> Result<IcebergFolder> {
        let warehouse = home.join("lake");
        fs::create_dir_all(&warehouse)?;
        Ok(IcebergFolder { warehouse })
    }

    fn definition(&self) -> Vec<String> {
        vec!["type: iceberg".to_owned(), format!("warehouse: {}", self.warehouse.display())]
    }

    fn folder(&self) -> &Path {
        &self.warehouse
    }
}
