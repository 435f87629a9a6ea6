//! The newest mark of a lake table, read from outside: from the catalogue and the metadata file it names, or from the log's
//! newest file. It understands no more of a format than where the mark stands.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use lakeward_testkit::Result;
use rusqlite::{Connection, OpenFlags};

use crate::world::Lake;

/// What stands before the end of a mark, when the text's backslashes are gone.
const THROUGH: &str = "\"through\":{\"at\":\"";

/// A table under watch.
pub(crate) enum Marks {
    Iceberg { catalog: Connection, metadata: String },
    Delta { log: PathBuf, version: u64 },
}

impl Marks {
    /// Watches the only table of a warehouse.
    pub(crate) fn of(warehouse: &Path, lake: Lake) -> Result<Self> {
        Ok(match lake {
            Lake::Iceberg2 | Lake::Iceberg3 => {
                Self::Iceberg { catalog: open(warehouse)?, metadata: String::new() }
            }
            Lake::Delta => Self::Delta { log: delta_log(warehouse)?, version: 0 },
            Lake::Null => return Err("what is thrown away is never fresh".into()),
        })
    }

    /// The LSN up to which the table holds everything, if that has changed since the last look.
    pub(crate) fn newest(&mut self) -> Result<Option<u64>> {
        match self {
            Self::Iceberg { catalog, metadata } => {
                let now = location(catalog)?;
                if now == *metadata {
                    return Ok(None);
                }
                let content = fs::read(now.trim_start_matches("file://"));
                *metadata = now;
                Ok(content.ok().and_then(|content| newest_place(&plain(content)?)))
            }
            Self::Delta { log, version } => {
                let mut found = None;
                while let Ok(text) = fs::read_to_string(log.join(format!("{version:020}.json"))) {
                    found = newest_place(&text).or(found);
                    *version += 1;
                }
                Ok(found)
            }
        }
    }
}

/// A metadata file's text; it may be compressed.
fn plain(content: Vec<u8>) -> Option<String> {
    if !content.starts_with(&[0x1f, 0x8b]) {
        return String::from_utf8(content).ok();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(&content[..]).read_to_string(&mut text).ok()?;
    Some(text)
}

fn open(warehouse: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let catalog = Connection::open_with_flags(warehouse.join("catalog.db"), flags)?;
    catalog.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(catalog)
}

fn location(catalog: &Connection) -> Result<String> {
    let sql = "SELECT metadata_location FROM iceberg_tables";
    Ok(catalog.query_row(sql, [], |row| row.get(0))?)
}

/// Where a reader finds the only table of a warehouse.
pub(crate) fn table(warehouse: &Path, lake: Lake) -> Result<String> {
    Ok(match lake {
        Lake::Delta => {
            let log = delta_log(warehouse)?;
            log.parent().unwrap_or(&log).display().to_string()
        }
        _ => location(&open(warehouse)?)?,
    })
}

/// The log of the only Delta table below a folder.
fn delta_log(warehouse: &Path) -> Result<PathBuf> {
    for namespace in fs::read_dir(warehouse)?.flatten().filter(|entry| entry.path().is_dir()) {
        for table in fs::read_dir(namespace.path())?.flatten() {
            let log = table.path().join("_delta_log");
            // one that has begun later than its first version has been checkpointed and cleaned
            if log.is_dir() {
                return Ok(log);
            }
        }
    }
    Err(format!("no table in {}", warehouse.display()).into())
}

/// The largest place of all marks in a text: the last 16 hexadecimal digits of each.
fn newest_place(text: &str) -> Option<u64> {
    let plain = text.replace('\\', "");
    let place = |(at, _): (usize, &str)| {
        let digits = plain.get(at + THROUGH.len()..)?.split('"').next()?;
        let last = digits.get(digits.len().checked_sub(16)?..)?;
        u64::from_str_radix(last, 16).ok()
    };
    plain.match_indices(THROUGH).filter_map(place).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_mark_counts_however_it_is_quoted() {
        let text = r#"{"lakeward.mark":"{\"after\":{\"at\":\"ff\"},\"through\":{\"at\":\"00000000000000010000000000000010\",\"resume\":\"\"}}"}
            {"through":{"at":"00000000000000010000000000000009","resume":""}}"#;
        assert_eq!(newest_place(text), Some(16));
        assert_eq!(newest_place("{}"), None);
    }
}
