//! Connections: how a session is pinned, how it is encrypted, and what a failed statement means.
use lakeward_core::{Error, ErrorKind, Result};

use crate::config::{Settings, TlsMode};
use crate::wire::{Conn, Failure};

/// What every session pins, whatever the server's defaults are: a value must not depend on anything else. A reader of a
/// chunk that must wait for us keeps its connection for an hour; a lock that is not to be had is given up soon.
const SESSION: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION time_zone = '+00:00', sql_mode = '', sql_select_limit = DEFAULT, autocommit = 1, \
     net_write_timeout = 3600, net_read_timeout = 3600, wait_timeout = 28800, lock_wait_timeout = 10 \
     /*M!100305 , max_statement_time = 0, idle_transaction_timeout = 0, \
     idle_readonly_transaction_timeout = 0, old_mode = '' */",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];

/// Opens a pinned session.
///
/// # Errors
/// `Auth`, `Config`, `Unreachable`.
pub(crate) async fn connect(settings: &Settings) -> Result<Conn> {
    let attempt = match settings.tls.mode {
        TlsMode::Prefer => prefer_tls(settings).await,
        TlsMode::Disable => attempt(settings, false).await,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => attempt(settings, true).await,
    };
    let mut connection = attempt?;
    for sql in SESSION {
        connection.run(sql).await.map_err(sql_error)?;
    }
    Ok(connection)
}

async fn prefer_tls(settings: &Settings) -> Result<Conn> {
    if settings.host.starts_with('/') {
        // A Unix socket is not encrypted: the kernel already keeps others out.
        return attempt(settings, false).await;
    }
    match attempt(settings, true).await {
        Err(error) if error.context("tls") == Some("not offered") => attempt(settings, false).await,
        outcome => outcome,
    }
}

async fn attempt(settings: &Settings, tls: bool) -> Result<Conn> {
    match tokio::time::timeout(settings.connect_timeout, Conn::open(settings, tls)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(about(settings, connect_error(error))),
        Err(_) => Err(about(
            settings,
            Error::new(ErrorKind::Unreachable, "the server did not answer in time")
                .with("connect_timeout_ms", settings.connect_timeout.as_millis()),
        )),
    }
}

fn about(settings: &Settings, error: Error) -> Error {
    error.with("host", &settings.host).with("port", settings.port).with("user", &settings.user)
}

fn connect_error(failure: Failure) -> Error {
    match failure {
        Failure::NoTls => Error::new(ErrorKind::Config, "the server does not offer TLS")
            .with("tls", "not offered")
            .remedied(
                "set `ssl_cert` and `ssl_key` on the server, or `tls: {mode: disable}` in the source's options",
            ),
        Failure::UnknownLogin => {
            Error::new(ErrorKind::Auth, "the user's way to log in is not supported")
        }
        Failure::Tls(error) => error,
        Failure::Refused(_) => sql_error(failure),
        Failure::Broken(_) | Failure::NotUnderstood => {
            Error::new(ErrorKind::Unreachable, "cannot connect to the server")
                .caused_by(failure.to_string())
        }
    }
}

/// What a failed statement means. The server's message stands in it unless it may quote a row's value.
pub(crate) fn sql_error(failure: Failure) -> Error {
    let Failure::Refused(server) = failure else {
        return Error::new(ErrorKind::Unreachable, "the connection to the server broke")
            .caused_by(failure.to_string());
    };
    let refused = Error::new(kind_of(server.code, &server.state), "the server refused a statement")
        .with("code", server.code);
    if quotes_values(&server.state) { refused } else { refused.caused_by(server.message) }
}

fn quotes_values(state: &str) -> bool {
    matches!(state.get(..2), Some("22" | "23"))
}

/// The kind of a server's error, by its number and SQLSTATE.
fn kind_of(code: u16, state: &str) -> ErrorKind {
    match code {
        // Access denied: to the server, a database, a table, a column, for want of a privilege.
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 | 1862 => ErrorKind::Auth,
        // Too many connections, shutting down, locks not to be had, killed, timed out, no memory.
        1037..=1042 | 1053 | 1158..=1161 | 1203 | 1205 | 1226 | 1317 | 1927 | 1969 | 3024 => {
            ErrorKind::Unreachable
        }
        // The table or database is not there now, or was changed under a snapshot.
        1049 | 1051 | 1054 | 1109 | 1146 | 1412 | 1615 | 1684 => ErrorKind::Conflict,
        1193 | 1235 => ErrorKind::Unsupported,
        126 | 127 | 144 | 145 | 1033 | 1034 | 1194 | 1195 | 1712 => ErrorKind::Corrupt,
        _ => match state.get(..2).unwrap_or_default() {
            "28" => ErrorKind::Auth,
            "08" => ErrorKind::Unreachable,
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
    fn numbers_say_what_can_be_done() {
        for (code, state, kind) in [
            (1045, "28000", ErrorKind::Auth),
            (1227, "42000", ErrorKind::Auth),
            (1040, "08004", ErrorKind::Unreachable),
            (1205, "HY000", ErrorKind::Unreachable),
            (1412, "HY000", ErrorKind::Conflict),
            (1146, "42S02", ErrorKind::Conflict),
            (1213, "40001", ErrorKind::Conflict),
            (1366, "22007", ErrorKind::BadData),
            (1064, "42000", ErrorKind::Bug),
        ] {
            assert_eq!(kind_of(code, state), kind, "{code}");
        }
    }
}
