//! The options of an Iceberg sink, parsed once into checked types.
//!
//! Deliberately absent: object stores and REST catalogues. An option that has no effect yet has no field.
use std::path::{Path, PathBuf};

use iceberg::spec::FormatVersion;
use lakeward_core::{Bytes, Period, Problem, Validate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the tables stand and how they are written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the warehouse, an absolute path or a `file://` URL; it is made when missing. It holds the tables, the
    /// catalogue `catalog.db` and the pipeline's ledger. Readers see its files as `file://` URLs: to move it means to load again.
    pub warehouse: String,
    /// Name under which the tables are listed in the catalogue (column `catalog_name`); readers open the catalogue by this
    /// name. Default `lakeward`; change it when several catalogues share one database.
    #[serde(default = "default_catalog_name")]
    pub catalog_name: String,
    /// Iceberg format version, 2 or 3. Default 2: deletes are position delete files, which every reader understands. 3: they
    /// are deletion vectors, cheaper to write and to read, and rows have ids; readers must know version 3. A table of
    /// version 2 becomes one of version 3 with its next commit; none goes back.
    #[serde(default = "default_format_version")]
    pub format_version: u8,
    /// Data files aim at this size. Default 128MiB; smaller files make updates cheaper to compact, larger ones scans faster.
    #[serde(default = "default_target_file_size")]
    pub target_file_size: Bytes,
    /// How long a commit waits while another process holds the catalogue's lock. Default 10s; raise it when a reader keeps
    /// the catalogue locked for long.
    #[serde(default = "default_catalog_timeout")]
    pub catalog_timeout: Period,
    /// How many metadata files before the current one stay on disk. Default 20; each is one commit, and costs its readers nothing.
    #[serde(default = "default_metadata_versions")]
    pub metadata_versions: u32,
}

fn default_catalog_name() -> String {
    "lakeward".into()
}

fn default_format_version() -> u8 {
    2
}

fn default_target_file_size() -> Bytes {
    Bytes(128 << 20)
}

fn default_catalog_timeout() -> Period {
    Period(std::time::Duration::from_secs(10))
}

fn default_metadata_versions() -> u32 {
    20
}

impl Config {
    /// The format version as the library names it.
    pub(crate) fn format(&self) -> FormatVersion {
        if self.format_version >= 3 { FormatVersion::V3 } else { FormatVersion::V2 }
    }

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
        if self.catalog_name.is_empty() || self.catalog_name.len() > 255 {
            refuse("catalog_name", "write a name of 1 to 255 bytes");
        }
        if !matches!(self.format_version, 2 | 3) {
            refuse("format_version", "write 2 or 3");
        }
        if self.target_file_size < Bytes(1 << 20) {
            refuse("target_file_size", "write at least 1MiB");
        }
        if self.metadata_versions == 0 {
            refuse("metadata_versions", "write at least 1");
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
            paths(r#"{"warehouse": "here", "format_version": 4}"#),
            ["warehouse", "format_version"]
        );
        assert_eq!(paths(r#"{"warehouse": "/here", "format_version": 3}"#), [""; 0]);
    }
}
