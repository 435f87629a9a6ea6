//! Connections: how a session is pinned, how it is encrypted, and what a failed statement means.
use std::path::Path;
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Opts, OptsBuilder, SslOpts};

use crate::config::{Settings, TlsMode};

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

/// A line that is dead in silence is found within minutes; the system's own default is two hours.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The largest packet of the protocol.
const PACKET_BYTES_MAX: usize = 1 << 30;

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
        connection.query_drop(sql).await.map_err(sql_error)?;
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
    let options: Opts = options(settings, tls).into();
    match tokio::time::timeout(settings.connect_timeout, Conn::new(options)).await {
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

fn options(settings: &Settings, tls: bool) -> OptsBuilder {
    let options = OptsBuilder::default()
        .user(Some(&settings.user))
        .pass(settings.password.as_ref().map(|password| password.expose()))
        .prefer_socket(false)
        .stmt_cache_size(0)
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(28_800))
        .tcp_keepalive(Some(KEEPALIVE))
        .ssl_opts(tls.then(|| ssl(settings)));
    match settings.host.starts_with('/') {
        true => options.socket(Some(&settings.host)),
        false => options.ip_or_hostname(&settings.host).tcp_port(settings.port),
    }
}

fn ssl(settings: &Settings) -> SslOpts {
    let verifies = matches!(settings.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    let ssl = SslOpts::default()
        .with_danger_accept_invalid_certs(!verifies)
        .with_danger_skip_domain_validation(settings.tls.mode != TlsMode::VerifyFull);
    match settings.tls.ca_file.as_deref().filter(|_| verifies) {
        Some(file) => {
            let file: &Path = file;
            ssl.with_root_certs(vec![file.to_owned().into()]).with_disable_built_in_roots(true)
        }
        None => ssl,
    }
}

fn connect_error(error: mysql_async::Error) -> Error {
    use mysql_async::Error as Failure;
    if let Failure::Driver(DriverError::NoClientSslFlagFromServer) = &error {
        return Error::new(ErrorKind::Config, "the server does not offer TLS")
            .with("tls", "not offered")
            .remedied(
                "set `ssl_cert` and `ssl_key` on the server, or `tls: {mode: disable}` in the source's options",
            );
    }
    if let Failure::Driver(
        driver @ (DriverError::UnknownAuthPlugin { .. } | DriverError::CleartextPluginDisabled),
    ) = &error
    {
        return Error::new(ErrorKind::Auth, "the user's way to log in is not supported")
            .caused_by(driver.to_string());
    }
    let text = error.to_string();
    if text.contains("certificate") || text.contains("root cert") {
        return Error::new(ErrorKind::Config, "the server's certificate is not trusted")
            .caused_by(text)
            .remedied("set `tls.ca_file` to the authority that signed it, or correct `host`");
    }
    if matches!(error, Failure::Server(_)) {
        return sql_error(error);
    }
    Error::new(ErrorKind::Unreachable, "cannot connect to the server").caused_by(text)
}

/// What a failed statement means. The server's message stands in it unless it may quote a row's value.
pub(crate) fn sql_error(error: mysql_async::Error) -> Error {
    let mysql_async::Error::Server(server) = error else {
        return Error::new(ErrorKind::Unreachable, "the connection to the server broke")
            .caused_by(error.to_string());
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
