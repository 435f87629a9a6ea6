//! The options of `type: mysql`, checked once, and the settings that the rest of the crate works with.
//!
//! Touches no server.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakeward_core::{
    Env, Period, Problem, Result, Secret, SecretRef, Selection, TablePattern, Validate,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::types::Unrepresentable;

/// A MariaDB server as a source (10.11 and 11.8), by its binary log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host name or address, or the path of a Unix socket (begins with `/`).
    pub host: String,
    /// TCP port. Default 3306.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The user to log in as. It needs REPLICATION SLAVE, BINLOG MONITOR (on MySQL REPLICATION CLIENT), and SELECT on
    /// the tables.
    pub user: String,
    /// Where the user's password is found. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Encryption of the connections. Default: `mode: prefer`. Use `verify_full` across networks.
    #[serde(default)]
    pub tls: TlsConfig,
    /// The number under which the log's reader registers. No other replica of this server may have it: the server ends
    /// the older of two readers with one number. Default: made from the pipeline's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<u32>,
    /// Which tables to follow: patterns `database.table`, where `*` stands for any characters. New tables that match
    /// are followed as they come.
    pub tables: Vec<String>,
    /// Patterns of tables to leave out although `tables` names them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// What becomes of values that the lake's types cannot hold (zero dates, days that no calendar has, dates in the
    /// year 0, times below zero or of 24 hours and more). Default `fail`; `text` changes the type of all such columns,
    /// so choose it before the first load.
    #[serde(default)]
    pub unrepresentable: Unrepresentable,
    /// Follow tables although foreign keys change their rows without a trace in the log (ON DELETE or ON UPDATE
    /// CASCADE, SET NULL, SET DEFAULT). Default `false`: such tables are refused. With `true` the lake keeps rows that
    /// a cascade deleted or changed, until the table is loaded again.
    #[serde(default)]
    pub allow_cascades: bool,
    /// How long one attempt to connect may take. Default `10s`. Raise it for servers that are far away.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,
}

/// How connections are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// What is asked of the server. Default `prefer`.
    #[serde(default)]
    pub mode: TlsMode,
    /// PEM file of the authorities to trust, for `verify_ca` and `verify_full`. Default: the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// What is asked of the server's encryption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Never encrypt.
    Disable,
    /// Encrypt when the server can. Does not check who the server is.
    #[default]
    Prefer,
    /// Always encrypt. Does not check who the server is.
    Require,
    /// Also check that a trusted authority signed the server's certificate.
    VerifyCa,
    /// Also check that the certificate is for `host`.
    VerifyFull,
}

fn default_port() -> u16 {
    3306
}

fn default_connect_timeout() -> Period {
    Period(Duration::from_secs(10))
}

impl Validate for Config {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, message: &str| {
            problems.push(Problem { path: path.into(), message: message.into() });
        };
        for (path, text) in [("host", &self.host), ("user", &self.user)] {
            if text.is_empty() {
                wrong(path, "must not be empty");
            }
        }
        if self.port == 0 {
            wrong("port", "must be between 1 and 65535");
        }
        if self.server_id == Some(0) {
            wrong("server_id", "must be at least 1");
        }
        if self.connect_timeout.0.is_zero() {
            wrong("connect_timeout", "must be longer than nothing");
        }
        let verifies = matches!(self.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        if self.tls.ca_file.is_some() && !verifies {
            wrong("tls.ca_file", "has an effect only with `mode: verify_ca` or `verify_full`");
        }
        if self.tables.is_empty() {
            wrong("tables", "names no table; write for example `[\"shop.*\"]`");
        }
        for (list, patterns) in [("tables", &self.tables), ("exclude", &self.exclude)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if TablePattern::parse(pattern).is_none() {
                    wrong(&format!("{list}.{index}"), "must have the form `database.table`");
                }
            }
        }
        problems
    }
}

/// The server's own databases, which nobody follows.
const SYSTEM_DATABASES: &[&str] = &["information_schema", "mysql", "performance_schema", "sys"];

/// Checked options with names filled in and secrets read: what the rest of the crate works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name, address, or the path of a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User.
    pub user: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// Encryption.
    pub tls: TlsConfig,
    /// The number under which the log's reader registers.
    pub server_id: u32,
    /// Which tables are followed.
    pub selection: Selection,
    /// What becomes of values that have no place.
    pub unrepresentable: Unrepresentable,
    /// Whether tables are followed although cascades change them unseen.
    pub allow_cascades: bool,
    /// Limit of one attempt to connect.
    pub connect_timeout: Duration,
    /// How often the server says on the connection of the log that it is still there. One that has not for sixty times as
    /// long is gone.
    pub heartbeat: Duration,
}

/// Longer notices a dead server later; shorter wakes both for nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);

impl Settings {
    /// Fills in names and reads the password.
    ///
    /// # Errors
    /// `Config` for a secret that cannot be read.
    pub fn new(config: Config, env: &Env) -> Result<Arc<Self>> {
        let patterns =
            |texts: &[String]| texts.iter().filter_map(|t| TablePattern::parse(t)).collect();
        Ok(Arc::new(Self {
            password: config.password.map(|secret| secret.read()).transpose()?,
            host: config.host,
            port: config.port,
            user: config.user,
            tls: config.tls,
            server_id: config.server_id.unwrap_or_else(|| default_server_id(&env.pipeline)),
            selection: Selection {
                tables: patterns(&config.tables),
                exclude: patterns(&config.exclude),
                reserved: SYSTEM_DATABASES,
            },
            unrepresentable: config.unrepresentable,
            allow_cascades: config.allow_cascades,
            connect_timeout: config.connect_timeout.0,
            heartbeat: HEARTBEAT,
        }))
    }
}

/// Numbers that people give to servers are small: ours have the highest bit.
fn default_server_id(pipeline: &str) -> u32 {
    let hash = pipeline
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 0x8000_0000
}

/// Settings for tests, with some options replaced.
#[cfg(test)]
pub(crate) fn settings_with(change: serde_json::Value) -> Arc<Settings> {
    let mut options =
        serde_json::json!({"host": "127.0.0.1", "user": "root", "tables": ["shop.*"]});
    if let (Some(options), serde_json::Value::Object(change)) = (options.as_object_mut(), change) {
        options.extend(change);
    }
    let env = Env {
        pipeline: "shop".into(),
        name: "source".into(),
        writer: "w".into(),
        state_dir: "/".into(),
        memory_bytes: 0,
    };
    Settings::new(serde_json::from_value(options).unwrap(), &env).unwrap()
}

#[cfg(test)]
mod tests {
    use lakeward_core::TableId;

    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    const LEAST: &str = r#"{"host":"h","user":"u","tables":["shop.*"]}"#;

    #[test]
    fn the_least_config_is_fine_and_has_the_stated_defaults() {
        let config = config(LEAST);
        assert_eq!(config.validate(), vec![]);
        assert_eq!((config.port, config.tls.mode), (3306, TlsMode::Prefer));
        assert!(!config.allow_cascades);
        assert!(serde_json::from_str::<Config>(&LEAST.replace("host", "hots")).is_err());
    }

    #[test]
    fn all_problems_come_at_once() {
        let config = config(
            r#"{"host":"","port":0,"user":"u","server_id":0,"tables":["shop"],"exclude":[".x"],
                "tls":{"mode":"require","ca_file":"x"}}"#,
        );
        let paths: Vec<_> = config.validate().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["host", "port", "server_id", "tls.ca_file", "tables.0", "exclude.0"]);
    }

    #[test]
    fn the_servers_own_databases_are_never_followed() {
        let selection = settings_with(serde_json::json!({"tables": ["*.*"]})).selection.clone();
        assert!(selection.takes(&TableId::new("shop", "t")));
        assert!(
            !selection.takes(&TableId::new("mysql", "user")) && !selection.takes_namespace("sys")
        );
    }

    #[test]
    fn the_default_number_is_stable_and_of_the_upper_half() {
        assert_eq!(default_server_id("shop"), default_server_id("shop"));
        assert_ne!(default_server_id("shop"), default_server_id("shop2"));
        assert!(default_server_id("") >= 1 << 31);
    }
}
