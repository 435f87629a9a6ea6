//! A throw-away PostgreSQL: own data folder, own port on 127.0.0.1, gone with its owner.
//! It makes no schema and no data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::servers::{self, Programs, Version};
use crate::watched::{self, Watched};
use crate::{Result, fail, host};

/// Settings every server starts with. A tiny `logical_decoding_work_mem` makes transactions of
/// a few hundred rows stream while they are still open.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("logical_decoding_work_mem", "64kB"),
    ("max_wal_senders", "50"),
    ("max_replication_slots", "50"),
    ("max_prepared_transactions", "10"),
    ("max_connections", "120"),
    ("max_wal_size", "4GB"),
    ("log_min_messages", "warning"),
];

/// How long a server may take to answer. Far above the usual 2 s: test machines are loaded.
const START_LIMIT: Duration = Duration::from_secs(90);

/// One running server.
pub struct Postgres {
    version: Version,
    programs: Programs,
    port: u16,
    home: TempDir,
    settings: Vec<(String, String)>,
    password: Mutex<Option<String>>,
    watched: Watched,
}

impl Postgres {
    /// Starts a server with the kit's settings.
    pub async fn start(version: Version) -> Result<Postgres> {
        Postgres::start_with(version, &[]).await
    }

    /// Starts a server; `settings` win over the kit's own.
    pub async fn start_with(version: Version, settings: &[(&str, &str)]) -> Result<Postgres> {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        tokio::task::spawn_blocking(move || Postgres::create(version, settings)).await?
    }

    fn create(version: Version, settings: Vec<(String, String)>) -> Result<Postgres> {
        let programs = servers::programs(version)?;
        let home = tempfile::Builder::new().prefix("lakeward-pg-").tempdir()?;
        if let Some((uid, gid)) = host::unprivileged()? {
            std::os::unix::fs::chown(home.path(), Some(uid), Some(gid))?;
        }
        let mut server = Postgres {
            version,
            programs,
            port: 0,
            home,
            settings,
            password: Mutex::new(None),
            watched: Watched::default(),
        };
        server.init()?;
        for attempt in 0.. {
            server.port = host::free_port()?;
            match server.launch() {
                Err(_) if attempt < 4 => {}
                outcome => return outcome.map(|()| server),
            }
        }
        fail!("unreachable: the loop above returns")
    }

    fn command(&self, program: &Path) -> Result<Command> {
        let mut command = watched::unprivileged(program, self.home.path())?;
        if let Some(lib) = &self.programs.lib {
            command.env("LD_LIBRARY_PATH", lib);
        }
        Ok(command)
    }

    fn init(&self) -> Result<()> {
        let mut command = self.command(&self.programs.bin.join("initdb"))?;
        command.arg("-D").arg(self.data_dir());
        command.args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]);
        host::run(command.arg("--locale=C.UTF-8"))?;
        Ok(())
    }

    fn launch(&self) -> Result<()> {
        let _ = fs::remove_file(self.data_dir().join("postmaster.pid"));
        let mut command = self.command(&self.programs.bin.join("postgres"))?;
        command.arg("-D").arg(self.data_dir());
        command.arg("-k").arg(self.data_dir());
        command.args(["-p", &self.port.to_string()]);
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in SETTINGS.iter().copied().chain(own) {
            command.args(["-c", &format!("{name}={value}")]);
        }
        self.watched.spawn(self.home.path(), "QUIT", &command)?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        let pid_file = self.data_dir().join("postmaster.pid");
        while Instant::now() < end {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            if text.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if text.is_empty() && self.log().contains("FATAL") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.watched.release("drop");
        fail!("PostgreSQL {} did not start:\n{}", self.version.major(), self.log())
    }

    /// The version that was asked for.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Always 127.0.0.1.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The server's own log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("server.log")).unwrap_or_default()
    }

    /// The programs of this server, `psql` among them.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The postmaster's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// A connection string for `database`.
    pub fn url(&self, database: &str) -> String {
        let password = self.password();
        let secret =
            password.as_deref().map(|text| format!(" password='{text}'")).unwrap_or_default();
        format!("host=127.0.0.1 port={} user=postgres dbname={database}{secret}", self.port)
    }

    /// Connects to the database `postgres`.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_to("postgres").await
    }

    /// Connects to a database by name.
    pub async fn connect_to(&self, database: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements in the database `postgres`, on a connection of their own.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.execute_in("postgres", sql).await
    }

    /// Runs statements in a database, on a connection of their own.
    pub async fn execute_in(&self, database: &str, sql: &str) -> Result<()> {
        let client = self.connect_to(database).await?;
        Ok(client.batch_execute(sql).await.map_err(|error| describe(sql, &error))?)
    }

    /// Runs a query and returns the server's text of every cell.
    pub async fn rows(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let client = self.connect_to(database).await?;
        texts(&client, sql).await
    }

    /// Runs a query and returns the text of its only cell; `None` for NULL or no row.
    pub async fn text(&self, database: &str, sql: &str) -> Result<Option<String>> {
        let rows = self.rows(database, sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// From now on the server asks for this password (SCRAM), for replication too.
    pub async fn require_password(&self, password: &str) -> Result<()> {
        let literal = host::sql_literal(password);
        self.execute(&format!("ALTER USER postgres PASSWORD {literal}")).await?;
        let rules = "local all all trust\n\
            host all all 127.0.0.1/32 scram-sha-256\n\
            host replication all 127.0.0.1/32 scram-sha-256\n";
        fs::write(self.data_dir().join("pg_hba.conf"), rules)?;
        *self.password() = Some(password.to_owned());
        if let Some(pid) = self.pid() {
            host::signal(pid, "HUP");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }

    /// Stops the server (fast shutdown) and starts it again on the same port.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Fast shutdown; immediate after 20 s. [`Postgres::start_again`] brings it back.
    pub async fn stop(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        host::signal(pid, "INT");
        let gone =
            tokio::task::spawn_blocking(move || host::wait_gone(pid, Duration::from_secs(20)))
                .await?;
        if !gone {
            host::signal(pid, "QUIT");
        }
        self.watched.release("keep");
        Ok(())
    }

    /// `kill -9` of the postmaster, as a crash of the machine would be. Returns when it is gone.
    pub async fn kill9(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        host::signal(pid, "KILL");
        if !host::wait_gone(pid, Duration::from_secs(10)) {
            fail!("postmaster {pid} survived SIGKILL");
        }
        self.watched.release("keep");
        Ok(())
    }

    /// Starts the stopped or killed server on its old port and data.
    pub async fn start_again(&self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        loop {
            let _ = fs::remove_file(self.home.path().join("server.log"));
            match self.launch() {
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Leaves the server and its folder behind when this process ends. Returns its process id.
    pub fn leave(&mut self) -> Option<u32> {
        self.home.disable_cleanup(true);
        self.watched.release("stay");
        self.pid()
    }

    fn password(&self) -> MutexGuard<'_, Option<String>> {
        self.password.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.watched.release("keep");
    }
}

/// Runs a query on an open connection and returns the server's text of every cell.
pub async fn texts(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(sql).await.map_err(|error| describe(sql, &error))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let cells = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|cell| row.get(cell).map(str::to_owned)).collect()
    };
    Ok(rows.map(cells).collect())
}

pub(crate) fn describe(sql: &str, error: &tokio_postgres::Error) -> String {
    let start: String = sql.chars().take(300).collect();
    match error.as_db_error() {
        Some(db) => format!("{}: {} in: {start}", db.code().code(), db.message()),
        None => format!("{error} in: {start}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lives_through_restart_and_crash(version: Version) {
        let server = Postgres::start_with(version, &[("max_wal_senders", "8")]).await.unwrap();
        server.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await.unwrap();
        server.restart().await.unwrap();
        server.kill9().await.unwrap();
        server.start_again().await.unwrap();
        let senders = server.text("postgres", "SHOW max_wal_senders").await.unwrap();
        assert_eq!(senders.as_deref(), Some("8"));
        let value = server.text("postgres", "SELECT a FROM t").await.unwrap();
        assert_eq!(value.as_deref(), Some("7"));
        let pid = server.pid().unwrap();
        drop(server);
        assert!(!host::alive(pid), "the server outlived its owner");
    }

    #[tokio::test]
    async fn postgres_15_lives_through_restart_and_crash() {
        lives_through_restart_and_crash(Version::V15).await;
    }

    #[tokio::test]
    async fn postgres_18_lives_through_restart_and_crash() {
        lives_through_restart_and_crash(Version::V18).await;
    }

    #[tokio::test]
    async fn asks_for_the_password_once_required() {
        let server = Postgres::start(Version::V18).await.unwrap();

        server.require_password("secret").await.unwrap();
        assert!(server.text("postgres", "SELECT 1").await.is_ok());
        let wrong = format!("host=127.0.0.1 port={} user=postgres password=no", server.port());
        assert!(tokio_postgres::connect(&wrong, NoTls).await.is_err());
    }
}
