//! The options of `type: postgres`, checked once, and the settings that the rest of the crate works with.
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

use crate::tls::Tls;
pub use crate::types::Unrepresentable;

/// Longest name that PostgreSQL keeps, in bytes; it cuts longer ones without an error.
const NAME_BYTES_MAX: usize = 63;

/// A PostgreSQL database as a source (versions 14 to 18, logical replication).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host name or address, or the folder of a Unix socket (begins with `/`).
    pub host: String,
    /// TCP port. Default 5432.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The database that holds the tables.
    pub database: String,
    /// The user to log in as. It needs REPLICATION, SELECT on the tables, and CREATE on the database.
    pub user: String,
    /// Where the user's password is found. Default: none (trust or peer authentication).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Encryption of the connections. Default: `mode: prefer`. Use `verify_full` across networks.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Name of the replication slot, made when missing: letters a to z, digits and `_`. Default `lakeward_<pipeline>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Name of the publication, made when missing. Default: the slot's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<String>,
    /// Which tables to follow: patterns `schema.table`, where `*` stands for any characters. New tables that match are
    /// followed as they come.
    pub tables: Vec<String>,
    /// Patterns of tables to leave out although `tables` names them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// What becomes of values that the lake's types cannot hold (NaN and infinity in `numeric(p,s)`, infinite dates,
    /// dates before the year 1, the time 24:00:00, arrays of another shape than one dimension from 1).
    /// Default `fail`; `text` changes the type of all such columns, so choose it before the first load.
    #[serde(default)]
    pub unrepresentable: Unrepresentable,
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
    5432
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
        for (path, text) in
            [("host", &self.host), ("database", &self.database), ("user", &self.user)]
        {
            if text.is_empty() {
                wrong(path, "must not be empty");
            }
        }
        if self.port == 0 {
            wrong("port", "must be between 1 and 65535");
        }
        if self.slot.as_deref().is_some_and(|name| !is_slot_name(name)) {
            wrong("slot", "must be 1 to 63 of the characters a-z, 0-9 and _");
        }
        if self.publication.as_deref().is_some_and(|n| n.is_empty() || n.len() > NAME_BYTES_MAX) {
            wrong("publication", "must be 1 to 63 bytes long");
        }
        if self.connect_timeout.0.is_zero() {
            wrong("connect_timeout", "must be longer than nothing");
        }
        let verifies = matches!(self.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        if self.tls.ca_file.is_some() && !verifies {
            wrong("tls.ca_file", "has an effect only with `mode: verify_ca` or `verify_full`");
        }
        if self.tables.is_empty() {
            wrong("tables", "names no table; write for example `[\"public.*\"]`");
        }
        for (list, patterns) in [("tables", &self.tables), ("exclude", &self.exclude)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if TablePattern::parse(pattern).is_none() {
                    wrong(&format!("{list}.{index}"), "must have the form `schema.table`");
                }
            }
        }
        problems
    }
}

fn is_slot_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal)
}

/// Checked options with names filled in and secrets read: what the rest of the crate works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name, address, or the folder of a Unix socket.
    pub host: String,
    /// TCP port, or the number in the Unix socket's name.
    pub port: u16,
    /// Database.
    pub database: String,
    /// User.
    pub user: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// Encryption.
    pub tls: Tls,
    /// The replication slot's name.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// Which tables are followed.
    pub selection: Selection,
    /// What becomes of values that have no place.
    pub unrepresentable: Unrepresentable,
    /// Limit of one attempt to connect.
    pub connect_timeout: Duration,
}

impl Settings {
    /// Fills in names, reads the password and the authorities' file.
    ///
    /// # Errors
    /// `Config` for a secret or file that cannot be read.
    pub fn new(config: Config, env: &Env) -> Result<Arc<Self>> {
        let slot = config.slot.unwrap_or_else(|| default_slot(&env.pipeline));
        let patterns =
            |texts: &[String]| texts.iter().filter_map(|t| TablePattern::parse(t)).collect();
        Ok(Arc::new(Self {
            password: config.password.map(|secret| secret.read()).transpose()?,
            tls: Tls::new(&config.tls, &config.host)?,
            host: config.host,
            port: config.port,
            database: config.database,
            user: config.user,
            publication: config.publication.unwrap_or_else(|| slot.clone()),
            slot,
            selection: Selection {
                tables: patterns(&config.tables),
                exclude: patterns(&config.exclude),
                reserved: &[],
            },
            unrepresentable: config.unrepresentable,
            connect_timeout: config.connect_timeout.0,
        }))
    }
}

fn default_slot(pipeline: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = format!("lakeward_{pipeline}").chars().map(legal).collect();
    name.chars().take(NAME_BYTES_MAX).collect()
}

/// Settings for tests, with some options replaced.
#[cfg(test)]
pub(crate) fn settings_with(change: serde_json::Value) -> Arc<Settings> {
    let mut options = serde_json::json!({
        "host": "127.0.0.1", "database": "postgres", "user": "postgres", "tables": ["public.*"]
    });
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
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    const LEAST: &str = r#"{"host":"h","database":"d","user":"u","tables":["public.*"]}"#;

    #[test]
    fn the_least_config_is_fine_and_has_the_stated_defaults() {
        let config = config(LEAST);
        assert_eq!(config.validate(), vec![]);
        assert_eq!((config.port, config.tls.mode), (5432, TlsMode::Prefer));
        assert_eq!(config.connect_timeout.0, Duration::from_secs(10));
        assert!(serde_json::from_str::<Config>(&LEAST.replace("host", "hots")).is_err());
    }

    #[test]
    fn all_problems_come_at_once() {
        let config = config(
            r#"{"host":"","port":0,"database":"d","user":"u","slot":"A-b","publication":"",
                "tables":["public"],"exclude":[".x"],"tls":{"mode":"require","ca_file":"x"}}"#,
        );
        let paths: Vec<_> = config.validate().into_iter().map(|p| p.path).collect();
        let expected =
            ["host", "port", "slot", "publication", "tls.ca_file", "tables.0", "exclude.0"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn the_default_slot_is_a_legal_name() {
        assert_eq!(default_slot("My-shop"), "lakeward_my_shop");
        assert!(is_slot_name(&default_slot(&"x".repeat(99))));
    }
}
