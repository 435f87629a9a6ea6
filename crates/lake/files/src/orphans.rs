//! Names of files, and which files that nothing names may go: staged by a process that died, or for a commit that lost.
//!
//! A file is named by its writer, the table's generation and an epoch:
//!
//! ```text
//! <writer>-g<generation>-e<epoch>-<number>-<random>.parquet    staged for this epoch of the table or a later one
//! <writer>-g<generation>-c<epoch>-<number>-<random>.parquet    a compaction's, planned when this epoch was the next
//! ```
//!
//! The table's own mark then tells whether somebody may still be about to commit it, a paused process included. An epoch
//! that the table has passed is admitted by no writer again. A compaction is given up by its writer when it finds a mark of
//! another one (see [`is_superseded`]), so that its files are past when such a mark stands. Nothing is decided by age.
//!
//! Deliberately absent: listing, deleting, and what a table's kept versions reach: what they reach never goes.
use lakeward_core::CommitMark;

/// Whose work a file is: the beginning of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stem {
    /// The process run; ASCII letters, digits, `_` and `-`.
    pub writer: String,
    /// The copy of the table.
    pub generation: u32,
    /// The first epoch that the file can belong to.
    pub epoch: u64,
}

/// What a file's name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The process run that wrote it.
    pub writer: &'a str,
    /// The copy of the table.
    pub generation: u32,
    /// The first epoch that it can belong to.
    pub epoch: u64,
    /// A compaction wrote it.
    pub compacted: bool,
}

impl Stem {
    /// The stem of what comes after `mark`. `generation` is that of a table without one.
    pub fn after(mark: Option<&CommitMark>, writer: &str, generation: u32) -> Self {
        let (generation, epoch) = mark.map_or((generation, 1), |m| (m.generation, m.epoch + 1));
        Self { writer: plain(writer), generation, epoch }
    }

    /// For files of an epoch.
    pub fn staged(&self) -> String {
        format!("{}-g{}-e{}", self.writer, self.generation, self.epoch)
    }

    /// For files of a compaction.
    pub fn compacted(&self) -> String {
        format!("{}-g{}-c{}", self.writer, self.generation, self.epoch)
    }
}

impl<'a> Origin<'a> {
    /// What the name at the end of `path` tells; `None` when no [`Stem`] made it. Behind the stem a name must have two
    /// parts without `-`.
    pub fn of(path: &'a str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let mut parts = name.rsplitn(5, '-').skip(2);
        let (epoch, generation, writer) = (parts.next()?, parts.next()?, parts.next()?);
        let (kind, epoch) = epoch.split_at_checked(1)?;
        Some(Self {
            writer,
            generation: number(generation.strip_prefix('g')?)?,
            epoch: number(epoch).filter(|_| matches!(kind, "e" | "c"))?,
            compacted: kind == "c",
        })
    }

    /// Whether nobody can commit the file any more, if no version of the table has it. `visible` is the mark of the table
    /// that readers see, `copies` those of its invisible copies, all of one head. A file of a copy without a mark stays.
    pub fn is_past(&self, visible: &CommitMark, copies: &[CommitMark]) -> bool {
        let mark = if self.generation <= visible.generation {
            visible
        } else {
            match copies.iter().find(|copy| copy.generation == self.generation) {
                Some(copy) => copy,
                None => return false,
            }
        };
        let has_passed = self.generation < mark.generation || self.epoch <= mark.epoch;
        has_passed && (!self.compacted || plain(&mark.writer) != self.writer)
    }
}

/// Whether upkeep that `writer` began must be given up: since it opened the table at the mark `opened`, another writer has
/// committed. Looked at on the very head that the upkeep's commit is built on.
pub fn is_superseded(now: Option<&CommitMark>, opened: Option<&CommitMark>, writer: &str) -> bool {
    now.is_some_and(|mark| plain(&mark.writer) != plain(writer) && Some(mark) != opened)
}

/// A writer's name as it stands in names of files.
pub fn plain(writer: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '-';
    writer.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

/// Only as we write it: no sign, no leading zero.
fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use lakeward_core::{Position, SchemaVersion, TableId, TableIdentity};

    use super::*;

    fn mark(writer: &str, generation: u32, epoch: u64) -> CommitMark {
        let position = Position { at: Box::default(), resume: Box::default() };
        CommitMark {
            pipeline: "shop".into(),
            sink: "lake".into(),
            writer: writer.into(),
            table: TableId::new("public", "t"),
            identity: TableIdentity("1".into()),
            generation,
            epoch,
            after: None,
            through: position,
            schema_version: SchemaVersion(0),
            load: None,
        }
    }

    fn name(writer: &str, generation: u32, kind: char, epoch: u64) -> String {
        let stem = Stem { writer: writer.into(), generation, epoch };
        let stem = if kind == 'c' { stem.compacted() } else { stem.staged() };
        format!("public/t/data/{stem}-00001-0123456789abcdef.parquet")
    }

    #[test]
    fn a_name_tells_whose_it_is() {
        let path = name("w-1_x-g9-e9", 3, 'c', 70_000);
        let origin = Origin::of(&path).unwrap();
        let expected =
            Origin { writer: "w-1_x-g9-e9", generation: 3, epoch: 70_000, compacted: true };
        assert_eq!(origin, expected);
        assert!(!Origin::of(&name("w", 1, 'e', 1)).unwrap().compacted);
    }

    #[test]
    fn names_of_other_programs_tell_nothing() {
        for foreign in [
            "t/data/00000-12-8c2f8ad1-9b0b-4c43-e123-7a8f0c6d7e11-00001.parquet",
            "t/data/00000-0-8c2f8ad1-9b0b-4c43-e123-7a8f0c6d7e11.parquet",
            "t/metadata/8c2f8ad1-9b0b-4c43-8123-123456789012-m0.avro",
            "t/metadata/snap-1234567890123456789-1-8c2f8ad1-9b0b-4c43-8123-123456789012.avro",
            "part-00000-0a-c000.snappy.parquet",
            "w-g1-e01-a-b.parquet",
            "w-g+1-e1-a-b.parquet",
            "w-g1-x1-a-b.parquet",
            "w-g1-é-a-b.parquet",
            "x.parquet",
            "",
        ] {
            assert_eq!(Origin::of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_somebody_may_commit_stays() {
        let (visible, copy) = (mark("new", 2, 10), mark("new", 3, 4));
        for (writer, generation, kind, epoch, is_past) in [
            // Staged for the next epoch, by us or by one that has fenced us.
            ("new", 2, 'e', 11, false),
            ("newer", 2, 'e', 11, false),
            // Left by a dead or fenced writer: the table has passed what it could be admitted with.
            ("old", 2, 'e', 10, true),
            ("old", 2, 'e', 3, true),
            ("new", 2, 'e', 10, true),
            // The generation before.
            ("old", 1, 'e', 500, true),
            ("old", 1, 'c', 500, true),
            // An invisible copy has epochs of its own.
            ("old", 3, 'e', 4, true),
            ("old", 3, 'e', 5, false),
            ("old", 4, 'e', 1, false),
            // A compaction of a writer that will give it up, and of one that will not.
            ("old", 2, 'c', 10, true),
            ("old", 2, 'c', 11, false),
            ("new", 2, 'c', 10, false),
            ("new", 1, 'c', 10, false),
        ] {
            let path = name(writer, generation, kind, epoch);
            let origin = Origin::of(&path).unwrap();
            assert_eq!(origin.is_past(&visible, std::slice::from_ref(&copy)), is_past, "{path}");
        }
    }

    #[test]
    fn upkeep_is_given_up_when_another_writer_has_committed() {
        let (opened, ours, other) = (mark("old", 1, 4), mark("me", 1, 5), mark("new", 1, 5));
        assert!(!is_superseded(Some(&opened), Some(&opened), "me"));
        assert!(!is_superseded(Some(&ours), Some(&opened), "me"));
        assert!(!is_superseded(None, None, "me"));
        assert!(is_superseded(Some(&other), Some(&opened), "me"));
        assert!(is_superseded(Some(&other), None, "me"));
        // The writer that was there when the table was opened comes back late.
        assert!(is_superseded(Some(&mark("old", 1, 5)), Some(&opened), "me"));
    }
}
