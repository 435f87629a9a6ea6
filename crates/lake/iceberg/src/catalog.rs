//! The SQL catalogue on SQLite: which metadata file is a table's current one, and the swap from one to the next.
//!
//! Laid out as Java's JDBC catalogue (schema V1), PyIceberg and the Rust SQL catalogue lay it out, so that each opens it.
//! Deliberately absent: table metadata. The catalogue knows names and locations only.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Result, TableId};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name VARCHAR(255) NOT NULL,
    table_namespace VARCHAR(255) NOT NULL,
    table_name VARCHAR(255) NOT NULL,
    metadata_location VARCHAR(1000),
    previous_metadata_location VARCHAR(1000),
    iceberg_type VARCHAR(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name)
);
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name VARCHAR(255) NOT NULL,
    namespace VARCHAR(255) NOT NULL,
    property_key VARCHAR(255),
    property_value VARCHAR(1000),
    PRIMARY KEY (catalog_name, namespace, property_key)
);";

/// What became of a swap or a create.
#[derive(Debug)]
pub(crate) enum Swap {
    /// It stands.
    Done,
    /// The table's pointer was not what the caller believed: nothing was changed.
    Lost,
    /// Nothing was changed, and the catalogue said so.
    Refused(Error),
    /// It may stand. Reading the pointer tells: the act was one transaction of this process, and it is over.
    Unknown(Error),
}

/// One catalogue in one SQLite file.
#[derive(Clone)]
pub(crate) struct Catalog {
    path: PathBuf,
    name: String,
    connection: Arc<Mutex<Connection>>,
}

impl Catalog {
    /// Opens the catalogue; creates file and tables when they are missing.
    pub(crate) async fn open(path: PathBuf, name: String, timeout: Duration) -> Result<Self> {
        let file = path.clone();
        let connection = blocking(move || connect(&file, timeout)).await?;
        Ok(Self { path, name, connection: Arc::new(Mutex::new(connection)) })
    }

    /// Location of the table's current metadata; `None` when there is no such table.
    pub(crate) async fn pointer(&self, table: &TableId) -> Result<Option<String>> {
        let (name, table) = (self.name.clone(), table.clone());
        self.run("read the catalogue", move |connection| {
            connection
                .query_row(
                    "SELECT metadata_location FROM iceberg_tables
                     WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3",
                    params![name, table.namespace, table.name],
                    |row| row.get::<_, Option<String>>(0),
                )
                .optional()
                .map(Option::flatten)
        })
        .await
    }

    /// Lists a new table, create-only, with its namespace.
    pub(crate) async fn create(&self, table: &TableId, location: &str) -> Swap {
        let (name, table, location) = (self.name.clone(), table.clone(), location.to_owned());
        self.act(move |connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value)
                 VALUES (?1, ?2, 'exists', 'true') ON CONFLICT DO NOTHING",
                params![name, table.namespace],
            )?;
            let rows = transaction.execute(
                "INSERT INTO iceberg_tables
                     (catalog_name, table_namespace, table_name, metadata_location, previous_metadata_location, iceberg_type)
                 VALUES (?1, ?2, ?3, ?4, NULL, 'TABLE') ON CONFLICT DO NOTHING",
                params![name, table.namespace, table.name, location],
            )?;
            transaction.commit()?;
            Ok(rows)
        })
        .await
    }

    /// Moves the table's pointer from `old` to `new`, if it still is `old`.
    pub(crate) async fn swap(&self, table: &TableId, old: &str, new: &str) -> Swap {
        let (name, table) = (self.name.clone(), table.clone());
        let (old, new) = (old.to_owned(), new.to_owned());
        self.act(move |connection| {
            connection.execute(
                "UPDATE iceberg_tables SET metadata_location = ?5, previous_metadata_location = ?4
                 WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3 AND metadata_location = ?4",
                params![name, table.namespace, table.name, old, new],
            )
        })
        .await
    }

    /// Takes the table off the list, whatever its pointer. Its files stay.
    pub(crate) async fn remove(&self, table: &TableId) -> Result<()> {
        let (name, table) = (self.name.clone(), table.clone());
        self.run("remove a table from the catalogue", move |connection| {
            connection
                .execute(
                    "DELETE FROM iceberg_tables
                     WHERE catalog_name = ?1 AND table_namespace = ?2 AND table_name = ?3",
                    params![name, table.namespace, table.name],
                )
                .map(drop)
        })
        .await
    }

    /// Takes the write lock and gives it back: the catalogue can be written now.
    pub(crate) async fn probe(&self) -> Result<()> {
        self.run("write to the catalogue", |connection| {
            connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?
                .rollback()
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (connection, path) = (Arc::clone(&self.connection), self.path.clone());
        blocking(move || {
            let mut guard = connection.lock().unwrap_or_else(PoisonError::into_inner);
            act(&mut guard).map_err(|error| failure(what, &path, error))
        })
        .await
    }

    async fn act(
        &self,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Swap {
        let (connection, path) = (Arc::clone(&self.connection), self.path.clone());
        let done = blocking(move || {
            let mut guard = connection.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(match act(&mut guard) {
                Ok(0) => Swap::Lost,
                Ok(_) => Swap::Done,
                Err(error) if nothing_was_changed(&error) => {
                    Swap::Refused(failure("commit to the catalogue", &path, error))
                }
                Err(error) => Swap::Unknown(
                    Error::new(
                        ErrorKind::OutcomeUnknown,
                        "the catalogue did not say whether the commit stands",
                    )
                    .with("catalog", path.display())
                    .caused_by(error),
                ),
            })
        });
        done.await.unwrap_or_else(Swap::Unknown)
    }
}

fn connect(path: &Path, timeout: Duration) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(timeout)?;
        // EXTRA also syncs the folder after the journal is gone: only then is an answered commit durable.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        let listed: i64 = connection.query_row(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'
             AND name IN ('iceberg_tables', 'iceberg_namespace_properties')",
            [],
            |row| row.get(0),
        )?;
        if listed < 2 {
            connection.execute_batch(LAYOUT)?;
        }
        Ok(connection)
    };
    open().map_err(|error| failure("open the catalogue", path, error))
}

/// Codes with which SQLite answers before it changed anything.
fn nothing_was_changed(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::DiskFull
        )
    )
}

fn failure(what: &str, path: &Path, error: rusqlite::Error) -> Error {
    let (kind, remedy) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unreachable,
            "another process holds the catalogue's lock: end its transaction, or raise `catalog_timeout`",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
            ErrorKind::Config,
            "make the warehouse directory and its catalogue writable for this user",
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::Exhausted, "free space on the warehouse's disk"),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::Corrupt, "restore the catalogue file from a backup")
        }
        _ => (ErrorKind::Unreachable, "check the warehouse's disk and the catalogue file"),
    };
    Error::new(kind, format!("could not {what}"))
        .with("catalog", path.display())
        .remedied(remedy)
        .caused_by(error)
}

/// Runs `act` where it may block. It runs to its end even when the caller is dropped.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::OutcomeUnknown, "a catalogue call did not end").caused_by(error))
    })
}
