//! Epochs, intents and marks, and the one pure decision whether a table may take a commit.
//!
//! Deliberately absent: the ledger's storage and the order of steps (the engine's), the table's act (the sink's).
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::position::Position;
use crate::schema::{SchemaVersion, TableId, TableIdentity};
use crate::sink::Staged;

/// A compact set of chunk numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkSet(Vec<(u32, u32)>);

impl ChunkSet {
    /// Adds a chunk; adding it twice is harmless.
    pub fn insert(&mut self, chunk: u32) {
        let at = self.0.partition_point(|(_, end)| *end < chunk);
        match self.0.get_mut(at) {
            Some((start, _)) if *start <= chunk => {}
            Some((start, _)) if *start == chunk + 1 => *start = chunk,
            _ => self.0.insert(at, (chunk, chunk)),
        }
        self.merge_left(at);
        self.merge_left(at + 1);
    }

    fn merge_left(&mut self, at: usize) {
        if at == 0 || at >= self.0.len() {
            return;
        }
        let (start, end) = self.0[at];
        if self.0[at - 1].1 + 1 >= start {
            self.0[at - 1].1 = self.0[at - 1].1.max(end);
            self.0.remove(at);
        }
    }

    /// Whether a chunk is in it.
    pub fn contains(&self, chunk: u32) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < chunk);
        self.0.get(at).is_some_and(|(start, _)| *start <= chunk)
    }

    /// Number of chunks in it.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|(start, end)| end - start + 1).sum()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A key as the source's own text, one entry per key column. Kept in marks; made and read by the source alone.
pub type KeyText = Vec<String>;

/// How far a table's running load has come. Written inside the table's own commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadMark {
    /// Chunks whose rows the table holds, of the plan that the ledger keeps for this generation.
    pub held: ChunkSet,
    /// Rows that must be read by key before the load may end: the log brought them incomplete and no base was there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<KeyText>,
}

/// What a table's own commit says about the log. Travels in the same atomic act as the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitMark {
    /// The pipeline that wrote it.
    pub pipeline: String,
    /// The sink's name within the pipeline.
    pub sink: String,
    /// The writer (one process run) that made it.
    pub writer: String,
    /// The source table.
    pub table: TableId,
    /// The source table's identity.
    pub identity: TableIdentity,
    /// Which copy of the table this is: 1 is the first, a re-sync makes the next.
    pub generation: u32,
    /// The epoch.
    pub epoch: u64,
    /// Where the sink's previous epoch ended; `None` for its first.
    pub after: Option<Position>,
    /// Where this epoch ends.
    pub through: Position,
    /// The schema that the table has after it.
    pub schema_version: SchemaVersion,
    /// While its initial load runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadMark>,
}

/// A table that has work in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentTable {
    /// The source table.
    pub table: TableId,
    /// Its identity.
    pub identity: TableIdentity,
    /// The copy that gets the commit.
    pub generation: u32,
    /// Whether this commit makes an invisible copy the visible table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promote: bool,
    /// The schema after the epoch.
    pub schema_version: SchemaVersion,
    /// Why the table must be loaded again after this epoch. Whoever finishes a torn epoch could not tell any more: the
    /// table may have its new shape already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

/// The announcement of an epoch, made before its first table commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// 1, 2, 3 …
    pub epoch: u64,
    /// Where the epoch begins: the end of the one before.
    pub after: Option<Position>,
    /// The exact cut.
    pub through: Position,
    /// All tables that get a commit, and no others.
    pub tables: Vec<IntentTable>,
    /// Hash of selection and routing: a torn epoch is finished under the definition that began it.
    pub routing: String,
}

/// The right to commit one table's part of one epoch. Only [`admit`] makes one.
#[must_use = "a permit that is not used leaves the epoch torn"]
#[derive(Debug, Clone)]
pub struct CommitPermit {
    mark: CommitMark,
    promote: bool,
}

impl CommitPermit {
    /// The mark that must travel with the commit.
    pub fn mark(&self) -> &CommitMark {
        &self.mark
    }

    /// Whether this commit makes an invisible copy the visible table.
    pub fn promote(&self) -> bool {
        self.promote
    }
}

/// What [`admit`] decided.
#[derive(Debug)]
pub enum Admission {
    /// Commit.
    Go(CommitPermit),
    /// This epoch, or a later one, is already in the table: publish nothing, go on.
    AlreadyThere(CommitMark),
    /// The table carries somebody else's mark: touch nothing.
    NotOurs {
        /// What stands there.
        found: CommitMark,
    },
}

/// Decides whether a table whose last mark is `last` may take the commit that `mark` describes. Pure; the epoch decides.
///
/// | last | decision |
/// |---|---|
/// | none | go |
/// | another pipeline, sink or source table | not ours |
/// | same generation, epoch ≥ ours | already there |
/// | a later generation (the copy was promoted) | already there |
/// | else | go |
pub fn admit(last: Option<&CommitMark>, mark: CommitMark, promote: bool) -> Admission {
    let Some(last) = last else {
        return Admission::Go(CommitPermit { mark, promote });
    };
    if last.pipeline != mark.pipeline || last.sink != mark.sink || last.table != mark.table {
        return Admission::NotOurs { found: last.clone() };
    }
    let ahead = last.generation > mark.generation
        || (last.generation == mark.generation && last.epoch >= mark.epoch);
    if ahead {
        return Admission::AlreadyThere(last.clone());
    }
    Admission::Go(CommitPermit { mark, promote })
}

/// What became of a table commit. The staged work comes back where it is still needed.
#[must_use = "an outcome that nobody reads loses or doubles an epoch"]
pub enum CommitOutcome {
    /// It stands.
    Committed(CommitMark),
    /// The table's head was not what the commit was built on: read the mark, [`admit`] again, then rebase.
    Conflict {
        /// The work, still staged.
        staged: Staged,
        /// The head that was found, as far as known.
        table_version: String,
    },
    /// The answer was lost. The next attempt must collide with this one; read the mark first.
    Unknown {
        /// The work, still staged.
        staged: Staged,
        /// What happened.
        error: Error,
    },
    /// It does not stand and will not: nothing was changed.
    Failed {
        /// The work, still staged; abandon it.
        staged: Staged,
        /// Why.
        error: Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64, generation: u32) -> CommitMark {
        let position = Position { at: [1].into(), resume: [1].into() };
        CommitMark {
            pipeline: "p".into(),
            sink: "s".into(),
            writer: "w".into(),
            table: TableId::new("public", "t"),
            identity: TableIdentity("1".into()),
            generation,
            epoch,
            after: None,
            through: position,
            schema_version: SchemaVersion(1),
            load: None,
        }
    }

    #[test]
    fn the_epoch_decides() {
        assert!(matches!(admit(None, mark(1, 1), false), Admission::Go(_)));
        assert!(matches!(admit(Some(&mark(1, 1)), mark(2, 1), false), Admission::Go(_)));
        assert!(matches!(admit(Some(&mark(2, 1)), mark(2, 1), false), Admission::AlreadyThere(_)));
        assert!(matches!(admit(Some(&mark(3, 1)), mark(2, 1), false), Admission::AlreadyThere(_)));
        assert!(matches!(admit(Some(&mark(1, 2)), mark(2, 1), false), Admission::AlreadyThere(_)));
        assert!(matches!(admit(Some(&mark(9, 1)), mark(9, 2), true), Admission::Go(_)));
        let mut other = mark(1, 1);
        other.pipeline = "q".into();
        assert!(matches!(admit(Some(&other), mark(2, 1), false), Admission::NotOurs { .. }));
    }

    #[test]
    fn a_chunk_set_equals_the_set_it_stands_for() {
        let mut seed = 42u64;
        for _ in 0..200 {
            let (mut set, mut model) = (ChunkSet::default(), std::collections::BTreeSet::new());
            for _ in 0..40 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let chunk = (seed >> 33) as u32 % 48;
                set.insert(chunk);
                model.insert(chunk);
                for n in 0..50 {
                    assert_eq!(set.contains(n), model.contains(&n), "{set:?} {model:?} {n}");
                }
                assert_eq!(set.len() as usize, model.len());
                assert!(set.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{set:?}");
            }
        }
    }
}
