//! A throw-away MariaDB: own data folder, own port on 127.0.0.1, gone with its owner.
//! It makes no schema and no data.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value};
use tempfile::TempDir;

pub use crate::servers::mariadb::Version;
use crate::servers::mariadb::{self, Programs};
use crate::watched::{self, Watched};
use crate::{Result, fail, host};

/// Settings every server starts with. Commits reach the operating system, not the disk: they
/// survive a killed server.
const SETTINGS: &[(&str, &str)] = &[
    ("bind-address", "127.0.0.1"),
    ("skip-name-resolve", "1"),
    ("server-id", "1"),
    ("binlog-format", "ROW"),
    ("binlog-row-image", "FULL"),
    ("binlog-row-metadata", "FULL"),
    ("gtid-strict-mode", "1"),
    ("log-slave-updates", "1"),
    ("sync-binlog", "0"),
    ("innodb-flush-log-at-trx-commit", "2"),
    ("innodb-buffer-pool-size", "64M"),
    ("innodb-log-file-size", "32M"),
    ("innodb-use-native-aio", "0"),
    ("character-set-server", "utf8mb4"),
    ("collation-server", "utf8mb4_general_ci"),
    ("default-time-zone", "+00:00"),
    ("max-connections", "200"),
    ("max-allowed-packet", "64M"),
];

/// How long a server may take to be ready. Far above the usual 2 s: test machines are loaded.
const START_LIMIT: Duration = Duration::from_secs(90);

/// What the server writes when it takes connections; its port is open before that.
const READY: &str = "ready for connections";

/// The user of every connection; it has all rights.
const USER: &str = "root";

/// One running server.
pub struct MariaDb {
    version: Version,
    programs: Programs,
    port: u16,
    home: TempDir,
    settings: Vec<(String, String)>,
    password: Mutex<Option<String>>,
    watched: Watched,
}

impl MariaDb {
    /// Starts a server with the kit's settings.
    pub async fn start(version: Version) -> Result<MariaDb> {
        MariaDb::start_with(version, &[]).await
    }

    /// Starts a server; `settings` (`("binlog-row-image", "MINIMAL")`) win over the kit's own.
    pub async fn start_with(version: Version, settings: &[(&str, &str)]) -> Result<MariaDb> {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        tokio::task::spawn_blocking(move || MariaDb::create(version, settings)).await?
    }

    fn create(version: Version, settings: Vec<(String, String)>) -> Result<MariaDb> {
        let programs = mariadb::programs(version)?;
        let home = tempfile::Builder::new().prefix("lakeward-maria-").tempdir()?;
        host::run(
            Command::new("cp").arg("-a").arg(&programs.template).arg(home.path().join("data")),
        )?;
        if let Some((uid, gid)) = host::unprivileged()? {
            std::os::unix::fs::chown(home.path(), Some(uid), Some(gid))?;
        }
        let (password, watched) = (Mutex::new(None), Watched::default());
        let mut server = MariaDb { version, programs, port: 0, home, settings, password, watched };
        for attempt in 0.. {
            server.port = host::free_port()?;
            match server.launch() {
                Err(_) if attempt < 4 => {}
                outcome => return outcome.map(|()| server),
            }
        }
        fail!("unreachable: the loop above returns")
    }

    fn launch(&self) -> Result<()> {
        let _ = fs::remove_file(self.pid_file());
        let mut command = watched::unprivileged(&self.programs.server(), self.home.path())?;
        command.arg("--no-defaults");
        let mut set = |name: &str, value: &str| {
            command.arg(format!("--{name}={value}"));
        };
        set("datadir", &self.data_dir().to_string_lossy());
        set("socket", &self.home.path().join("socket").to_string_lossy());
        // A server that starts removes the temporary tables of all that share the folder.
        set("tmpdir", &self.home.path().to_string_lossy());
        set("pid-file", &self.pid_file().to_string_lossy());
        set("port", &self.port.to_string());
        set("log-bin", &self.data_dir().join("bin").to_string_lossy());
        if let Some(plugins) = &self.programs.plugins {
            set("plugin-dir", &plugins.to_string_lossy());
            set("lc-messages-dir", &self.programs.share.to_string_lossy());
            set("character-sets-dir", &self.programs.share.join("charsets").to_string_lossy());
        }
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        SETTINGS.iter().copied().chain(own).for_each(|(name, value)| set(name, value));
        let _ = fs::remove_file(self.log_file());
        self.watched.spawn(self.home.path(), "KILL", &command)?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        while Instant::now() < end {
            let log = self.log();
            if log.contains(READY) && self.pid().is_some() {
                return Ok(());
            }
            if log.contains("[ERROR] Aborting") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.watched.release("keep");
        fail!("MariaDB {} did not start:\n{}", self.version.number(), self.log())
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

    /// The data folder; the log's files are `bin.000001` and so on.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The server's own log since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.home.path().join("server.pid")
    }

    /// The programs of this server, `mariadb-binlog` among them.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The server's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    /// `mysql://root@127.0.0.1:3306/database`
    pub fn url(&self, database: &str) -> String {
        let secret = self.password().as_deref().map(|text| format!(":{text}")).unwrap_or_default();
        format!("mysql://{USER}{secret}@127.0.0.1:{}/{database}", self.port)
    }

    /// Connects without a database.
    pub async fn connect(&self) -> Result<Conn> {
        self.open(None).await
    }

    /// Connects to a database by name.
    pub async fn connect_to(&self, database: &str) -> Result<Conn> {
        self.open(Some(database)).await
    }

    async fn open(&self, database: Option<&str>) -> Result<Conn> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.host())
            .tcp_port(self.port)
            .user(Some(USER))
            .pass(self.password().clone())
            .db_name(database)
            .prefer_socket(Some(false))
            .setup(vec!["SET NAMES utf8mb4"]);
        Ok(Conn::new(Opts::from(options)).await?)
    }

    /// Runs statements without a database, on a connection of their own.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        run(&mut self.connect().await?, sql).await.map(|_| ())
    }

    /// Runs statements in a database, on a connection of their own.
    pub async fn execute_in(&self, database: &str, sql: &str) -> Result<()> {
        run(&mut self.connect_to(database).await?, sql).await.map(|_| ())
    }

    /// Runs a query and returns the server's text of every cell.
    pub async fn rows(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        texts(&mut self.connect_to(database).await?, sql).await
    }

    /// Runs a query and returns the text of its only cell; `None` for NULL or no row.
    pub async fn text(&self, database: &str, sql: &str) -> Result<Option<String>> {
        let rows = self.rows(database, sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// From now on the server asks for this password.
    pub async fn require_password(&self, password: &str) -> Result<()> {
        let literal = host::sql_literal(password);
        self.execute(&format!("SET PASSWORD FOR {USER}@'127.0.0.1' = PASSWORD({literal})")).await?;
        *self.password() = Some(password.to_owned());
        Ok(())
    }

    /// Stops the server and starts it again on the same port.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// An orderly end; `kill -9` after 30 s. [`MariaDb::start_again`] brings it back.
    pub async fn stop(&self) -> Result<()> {
        self.end("TERM", Duration::from_secs(30)).await
    }

    /// `kill -9`, as a crash of the machine would be. Returns when it is gone.
    pub async fn kill9(&self) -> Result<()> {
        self.end("KILL", Duration::from_secs(10)).await
    }

    async fn end(&self, signal: &'static str, limit: Duration) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        tokio::task::spawn_blocking(move || {
            host::signal(pid, signal);
            host::wait_gone(pid, limit)
        })
        .await?;
        self.watched.release("keep");
        let _ = fs::remove_file(self.pid_file());
        Ok(())
    }

    /// Starts the stopped or killed server on its old port and data.
    pub async fn start_again(&self) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        loop {
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

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.watched.release("keep");
    }
}

/// Runs statements on an open connection; returns how many rows they touched.
pub async fn run(connection: &mut Conn, sql: &str) -> Result<u64> {
    let mut answer = connection.query_iter(sql).await.map_err(|error| describe(sql, &error))?;
    let mut touched = 0;
    while !answer.is_empty() {
        touched += answer.affected_rows();
        let rows: Result<Vec<Row>, _> = answer.collect().await;
        rows.map_err(|error| describe(sql, &error))?;
    }
    touched += answer.affected_rows();
    // an error of a later statement waits here
    answer.drop_result().await.map_err(|error| describe(sql, &error))?;
    Ok(touched)
}

/// Runs a query on an open connection and returns the server's text of every cell.
pub async fn texts(connection: &mut Conn, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let rows: Vec<Row> = connection.query(sql).await.map_err(|error| describe(sql, &error))?;
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}

/// `1213: Deadlock found … in: UPDATE …`: the server's number first, so that a caller can tell.
pub(crate) fn describe(sql: &str, error: &mysql_async::Error) -> String {
    let start: String = sql.chars().take(300).collect();
    match error {
        mysql_async::Error::Server(server) => {
            format!("{}: {} in: {start}", server.code, server.message)
        }
        other => format!("{other} in: {start}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lives_through_restart_and_crash(version: Version) {
        let server = MariaDb::start_with(version, &[("max-connections", "77")]).await.unwrap();
        let make =
            "CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (7)";
        server.execute(make).await.unwrap();
        server.restart().await.unwrap();
        server.execute_in("d", "INSERT INTO t VALUES (8)").await.unwrap();
        server.kill9().await.unwrap();
        server.start_again().await.unwrap();
        let most = server.text("d", "SELECT @@max_connections").await.unwrap();
        assert_eq!(most.as_deref(), Some("77"));
        let rows = server.rows("d", "SELECT a FROM t ORDER BY a").await.unwrap();
        assert_eq!(rows, [[Some("7".to_owned())], [Some("8".to_owned())]]);
        let full = server.text("d", "SELECT version()").await.unwrap().unwrap();
        assert!(full.starts_with(&format!("{}.", version.number())), "{full}");
        assert!(server.execute("SELECT 1; SELECT nothing").await.is_err());
        let mut session = server.connect_to("d").await.unwrap();
        let three = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2), (3)";
        assert_eq!(run(&mut session, three).await.unwrap(), 3);
        let pid = server.pid().unwrap();
        drop(server);
        assert!(!host::alive(pid), "the server outlived its owner");
    }

    #[tokio::test]
    async fn mariadb_10_11_lives_through_restart_and_crash() {
        lives_through_restart_and_crash(Version::V10_11).await;
    }

    #[tokio::test]
    async fn mariadb_11_8_lives_through_restart_and_crash() {
        lives_through_restart_and_crash(Version::V11_8).await;
    }

    #[tokio::test]
    async fn asks_for_the_password_once_required() {
        let server = MariaDb::start(Version::V10_11).await.unwrap();
        server.require_password("secret").await.unwrap();
        assert_eq!(server.text("mysql", "SELECT 1").await.unwrap().as_deref(), Some("1"));
        let wrong = format!("mysql://root:no@127.0.0.1:{}/mysql", server.port());
        assert!(Conn::from_url(wrong).await.is_err());
    }
}
