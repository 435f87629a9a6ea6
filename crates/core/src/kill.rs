//! Every place where a test may kill or hold the process, in one list.
//!
//! Compiled to nothing without the cargo feature `kill-points`. With it, three environment variables act:
//! `LAKEWARD_KILL=name:n` aborts the process at the n-th time the point is reached (from 1);
//! `LAKEWARD_HOLD=name:n:file` creates `file` there and waits until it is gone;
//! `LAKEWARD_KILL_LOG=file` gets one line per point reached.

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A place between two steps whose order matters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum KillPoint { $($(#[$doc])* $variant,)* }

        impl KillPoint {
            /// All of them; a test run that does not reach each one has failed.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in the environment variables.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

points! {
    /// A chunk's rows have been read, and are not yet in an epoch.
    ChunkRead = "chunk-read",
    /// A chunk stands in a committed mark.
    ChunkDurable = "chunk-durable",
    /// A table's load ended: the log has passed its chunks.
    HandOver = "hand-over",
    /// Rows of an open transaction went to disk.
    Spill = "spill",
    /// A table's part of an epoch is staged.
    Stage = "stage",
    /// The Intent is written.
    Intent = "intent",
    /// Right before a table's commit is sent.
    BeforeTableCommit = "before-table-commit",
    /// Right after a table's commit was answered.
    AfterTableCommit = "after-table-commit",
    /// The Done is written.
    Done = "done",
    /// The position was confirmed to the source.
    Confirm = "confirm",
    /// The key index took over a commit's places.
    IndexPublish = "index-publish",
    /// A schema change was applied to a table's staged metadata.
    SchemaChange = "schema-change",
    /// Compacted files are written, and not committed.
    CompactStage = "compact-stage",
    /// A compaction was committed.
    CompactCommit = "compact-commit",
    /// Snapshots were expired, their files still there.
    ExpireCommit = "expire-commit",
    /// A file of an expired snapshot was deleted.
    ExpireFileDelete = "expire-file-delete",
}

/// Says that a kill point was reached. Does nothing without the feature `kill-points`.
#[inline]
pub fn reached(point: KillPoint) {
    #[cfg(feature = "kill-points")]
    armed::reached(point);
    #[cfg(not(feature = "kill-points"))]
    let _ = point;
}

#[cfg(feature = "kill-points")]
mod armed {
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::path::Path;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use super::KillPoint;

    static COUNTS: Mutex<Option<HashMap<&'static str, u64>>> = Mutex::new(None);

    pub(super) fn reached(point: KillPoint) {
        let name = point.name();
        let count = count(name);
        log(name);
        if let Some(rest) = directive("LAKEWARD_KILL", name)
            && rest.parse() == Ok(count)
        {
            std::process::abort();
        }
        if let Some(rest) = directive("LAKEWARD_HOLD", name)
            && let Some((n, file)) = rest.split_once(':')
            && n.parse() == Ok(count)
        {
            hold(Path::new(file));
        }
    }

    fn count(name: &'static str) -> u64 {
        let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get_or_insert_default().entry(name).or_insert(0);
        *count += 1;
        *count
    }

    fn directive(variable: &str, name: &str) -> Option<String> {
        let value = std::env::var(variable).ok()?;
        value.strip_prefix(name)?.strip_prefix(':').map(str::to_owned)
    }

    fn log(name: &str) {
        let Ok(path) = std::env::var("LAKEWARD_KILL_LOG") else { return };
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            // One write a line: several sinks write at the same time.
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
    }

    fn hold(file: &Path) {
        let _ = std::fs::write(file, b"held");
        while file.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = KillPoint::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), KillPoint::ALL.len());
    }
}
