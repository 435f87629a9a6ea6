//! The options of a Delta sink, parsed once into checked types.
//!
//! Deliberately absent: object stores. An option that has no effect yet has no field.
use std::path::{Path, PathBuf};

use lakeward_core::{Bytes, Problem, Validate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the tables stand and how they are written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the warehouse, an absolute path or a `file://` URL; it is made when missing. Table `a.b` stands in its
    /// folder `a/b`, the pipeline's ledger beside them.
    pub warehouse: String,
    /// Data files aim at this size. Default 128MiB; smaller files make updates cheaper to compact, larger ones scans faster.
    #[serde(default = "default_target_file_size")]
    pub target_file_size: Bytes,
    /// Commits between two checkpoints of a table's log. Default 10; more makes opening a table slower, fewer writes the list
    /// of all files more often.
    #[serde(default = "default_checkpoint_interval")]
    pub checkpoint_interval: u32,
    /// Whether a column whose type grows (integer to bigint, more digits) keeps its rows. Default false: the table is loaded
    /// again, and every reader reads it. True: readers must know the table feature `typeWidening`, as DuckDB and Spark 4 do.
    #[serde(default)]
    pub widen_in_place: bool,
}

fn default_target_file_size() -> Bytes {
    Bytes(128 << 20)
}

fn default_checkpoint_interval() -> u32 {
    10
}

impl Config {
    /// The warehouse as a path of this machine.
    pub fn directory(&self) -> PathBuf {
        let path = self.warehouse.strip_prefix("file://").unwrap_or(&self.warehouse);
        let trimmed = path.trim_end_matches('/');
        PathBuf::from(if trimmed.is_empty() { "/" } else { trimmed })
    }
}

impl Validate for Config {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |path: &str, message: &str| {
            problems.push(Problem { path: path.into(), message: message.into() });
        };
        let directory = self.directory();
        if self.warehouse.contains("://") && !self.warehouse.starts_with("file://") {
            refuse("warehouse", "only a local directory or a file:// URL can be a warehouse");
        } else if !directory.is_absolute() || directory == Path::new("/") {
            refuse("warehouse", "write an absolute path of a directory of its own");
        }
        if self.target_file_size < Bytes(1 << 20) {
            refuse("target_file_size", "write at least 1MiB");
        }
        if self.checkpoint_interval == 0 {
            refuse("checkpoint_interval", "write at least 1");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Config, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_warehouse_is_enough() {
        let config = parse(r#"{"warehouse": "file:///data/lake/"}"#).unwrap();
        assert_eq!(config.directory(), PathBuf::from("/data/lake"));
        assert!(config.validate().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_path() {
        assert!(parse(r#"{"warehouse": "/a", "wharehouse": 1}"#).is_err());
        let paths = |json: &str| -> Vec<String> {
            parse(json).unwrap().validate().into_iter().map(|p| p.path).collect()
        };
        assert_eq!(paths(r#"{"warehouse": "s3://b/c"}"#), ["warehouse"]);
        assert_eq!(
            paths(r#"{"warehouse": "here", "checkpoint_interval": 0}"#),
            ["warehouse", "checkpoint_interval"]
        );
    }
}
