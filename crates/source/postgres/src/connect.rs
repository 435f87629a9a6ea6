//! SQL connections: how a session is pinned, and what a failed one means.
//!
//! The replication connection is [`crate::wire`]'s; it pins the same options, so that both render a value alike.
use std::sync::Arc;
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::config::{Settings, TlsMode};
use crate::pool::Connection;

/// What every session pins, whatever role, database or server set: the `options` of the startup message.
/// A value's text must not depend on anything else. Row security that filtered rows in silence fails instead.
pub const SESSION_OPTIONS: &str = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC \
    -c extra_float_digits=1 -c bytea_output=hex -c search_path=pg_catalog \
    -c quote_all_identifiers=off -c standard_conforming_strings=on -c row_security=off \
    -c default_transaction_read_only=off -c statement_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c lock_timeout=10s";

/// A line that is dead in silence is found within two minutes; the system's own default is two hours.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How often a silent line is tried from then on.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often in vain.
pub(crate) const KEEPALIVE_RETRIES: u32 = 6;

/// The name under which our sessions stand in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "lakeward";

/// A session and the task that moves its bytes. Dropping it cuts the line at once, a running COPY included.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Session {
    /// Opens a pinned session.
    ///
    /// # Errors
    /// `Auth`, `Config`, `Unreachable`.
    pub(crate) async fn open(settings: &Settings) -> Result<Self> {
        let config = driver_config(settings);
        let attempt = async {
            if settings.tls.mode() == TlsMode::Disable {
                let (client, connection) = config.connect(NoTls).await?;
                return Ok((client, tokio::spawn(drive(connection))));
            }
            let (client, connection) = config.connect(settings.tls.clone()).await?;
            Ok((client, tokio::spawn(drive(connection))))
        };
        let (client, driver) = match tokio::time::timeout(settings.connect_timeout, attempt).await {
            Ok(outcome) => outcome.map_err(|error| connect_error(settings, error))?,
            Err(_) => {
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    "the server did not answer in time",
                )
                .with("host", &settings.host)
                .with("port", settings.port)
                .with("connect_timeout_ms", settings.connect_timeout.as_millis()));
            }
        };
        let session = Self { client, driver };
        session.lift_transaction_timeout().await?;
        Ok(session)
    }

    /// 17 and later can end long transactions; older servers refuse the name at startup.
    async fn lift_transaction_timeout(&self) -> Result<()> {
        let sql = "SELECT set_config(name, '0', false) FROM pg_settings \
                   WHERE name = 'transaction_timeout'";
        self.client.simple_query(sql).await.map(|_| ()).map_err(sql_error)
    }

    /// Whether the line is cut.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

impl Connection for Session {
    async fn open(settings: &Arc<Settings>) -> Result<Self> {
        Self::open(settings).await
    }

    async fn is_idle(&mut self) -> bool {
        !self.is_closed()
    }
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>>,
{
    // The client's next call reports the same error, to somebody who can act on it.
    let _ = connection.await;
}

fn driver_config(settings: &Settings) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name(APPLICATION_NAME)
        .options(SESSION_OPTIONS)
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .ssl_mode(match settings.tls.mode() {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    config
}

fn connect_error(settings: &Settings, error: tokio_postgres::Error) -> Error {
    let about = |error: Error| {
        error.with("host", &settings.host).with("port", settings.port).with("user", &settings.user)
    };
    if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) {
        return about(
            Error::new(ErrorKind::Config, "the database does not exist")
                .with("database", &settings.database)
                .remedied("correct `database` in the source's options"),
        );
    }
    if error.code().is_some() {
        return about(sql_error(error));
    }
    let text = chain(&error);
    if text.contains("password") {
        let error = Error::new(ErrorKind::Auth, "the server asks for a password that is not given")
            .remedied("set `password` in the source's options");
        return about(error);
    }
    if text.contains("does not support TLS") {
        let error = Error::new(ErrorKind::Config, "the server does not offer TLS").remedied(
            "set `ssl = on` on the server, or `tls: {mode: disable}` in the source's options",
        );
        return about(error);
    }
    let kind =
        if text.contains("certificate") { ErrorKind::Config } else { ErrorKind::Unreachable };
    about(Error::new(kind, "cannot connect to the server").caused_by(text))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// What a failed statement means. The server's message stands in it unless it may quote a row's value.
pub(crate) fn sql_error(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        return Error::new(ErrorKind::Unreachable, "the connection to the server broke")
            .caused_by(chain(&error));
    };
    refused(db.code().code(), db.message())
}

/// What a statement's refusal means. The message stands in it unless it may quote a row's value.
pub(crate) fn refused(code: &str, message: &str) -> Error {
    let error = Error::new(kind_of(code), "the server refused a statement").with("sqlstate", code);
    if matches!(code.get(..2), Some("22" | "23")) {
        return error;
    }
    error.caused_by(message.to_owned())
}

/// The kind of a server's error, by its SQLSTATE.
pub fn kind_of(code: &str) -> ErrorKind {
    match code {
        "42501" => ErrorKind::Auth,
        "3D000" | "42704" | "55000" | "0A000" => ErrorKind::Config,
        // A query that an administrator or a timeout ended, a lock that was not to be had: later it may do.
        "55P03" | "57014" | "55006" => ErrorKind::Unreachable,
        "42P01" | "42703" | "3F000" => ErrorKind::Conflict,
        "XX001" | "XX002" => ErrorKind::Corrupt,
        _ => match code.get(..2).unwrap_or_default() {
            "28" => ErrorKind::Auth,
            "08" | "53" | "57" | "58" => ErrorKind::Unreachable,
            "40" => ErrorKind::Conflict,
            "22" | "23" => ErrorKind::BadData,
            _ => ErrorKind::Bug,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_say_what_can_be_done() {
        for (code, kind) in [
            ("28P01", ErrorKind::Auth),
            ("42501", ErrorKind::Auth),
            ("57P03", ErrorKind::Unreachable),
            ("53300", ErrorKind::Unreachable),
            ("40001", ErrorKind::Conflict),
            ("42601", ErrorKind::Bug),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
