//! A table's log on disk: numbered commits, checkpoints, and how a state is read from them.
//!
//! A *line* of a table is a log of its own: the visible one, or that of an invisible copy, whose paths are the table's all the
//! same. Deliberately absent: deciding what to commit.
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use lakeward_core::{Error, ErrorKind, Result, Slot};
use lakeward_files::Store;

use crate::action::Action;
use crate::checkpoint;
use crate::features;
use crate::state::{Changed, Gathering, State};

/// Beginning of the names of the folders in which invisible copies have their logs. Readers and clean-ups pass over names
/// that begin with an underscore.
const COPY: &str = "_lakeward_copy_";

/// The log of one line of a table.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    store: Store,
    /// Folder of its commits.
    dir: String,
}

/// What lies in a log's folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Paths of commits by version.
    pub(crate) commits: BTreeMap<u64, String>,
    /// Paths of checkpoints by version, all parts of each; incomplete ones too.
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
}

/// The parts of a checkpoint that are there.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) paths: Vec<String>,
    /// How many there should be.
    pub(crate) parts: usize,
}

/// A commit that was read or is to be written.
pub(crate) struct Commit {
    pub(crate) actions: Vec<Action>,
    /// Tells this commit from another of the same version.
    pub(crate) print: u64,
}

impl Log {
    /// The log of a line of the table in `folder`.
    pub(crate) fn new(store: Store, folder: &str, slot: Slot) -> Self {
        let dir = match slot {
            Slot::Visible => format!("{folder}/_delta_log"),
            Slot::Copy(generation) => format!("{}/_delta_log", copy_folder(folder, generation)),
        };
        Self { store, dir }
    }

    /// The path of a commit.
    pub(crate) fn commit_path(&self, version: u64) -> String {
        format!("{}/{version:020}.json", self.dir)
    }

    /// The path of a checkpoint of ours.
    pub(crate) fn checkpoint_path(&self, version: u64) -> String {
        format!("{}/{version:020}.checkpoint.parquet", self.dir)
    }

    /// The path of the note that names the last checkpoint.
    pub(crate) fn hint_path(&self) -> String {
        format!("{}/_last_checkpoint", self.dir)
    }

    /// What lies in the folder.
    pub(crate) async fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for path in self.store.list(&self.dir).await? {
            match file_of(path.strip_prefix(&self.dir).unwrap_or_default()) {
                Some(File::Commit(version)) => {
                    listing.commits.insert(version, path);
                }
                Some(File::Checkpoint { version, parts }) => {
                    let found = listing.checkpoints.entry(version).or_default();
                    // One whole file serves better than parts of which some may be missing.
                    if parts == 1 {
                        *found = Checkpoint { paths: vec![path], parts };
                    } else if found.parts != 1 {
                        found.parts = parts;
                        found.paths.push(path);
                    }
                }
                None => {}
            }
        }
        Ok(listing)
    }

    /// The newest state; `None` when there is no log.
    ///
    /// # Errors
    /// `Corrupt` naming file and line; `Unsupported` for a table that needs more than this sink can do.
    pub(crate) async fn load(&self) -> Result<Option<State>> {
        let listing = self.list().await?;
        let checkpoint = listing.newest_checkpoint();
        if listing.commits.is_empty() && checkpoint.is_none() {
            return Ok(None);
        }
        let mut state = match checkpoint {
            Some((version, checkpoint)) => {
                let gathering = checkpoint::read(&self.store, &checkpoint.paths).await?;
                let state = gathering.end(version).ok_or_else(|| self.lacking(version))?;
                self.with_restores(state, &listing).await?
            }
            None => {
                let commit = self.read(0).await?.ok_or_else(|| self.missing(0))?;
                let mut gathering = Gathering::default();
                crate::state::in_order(commit.actions).for_each(|action| gathering.take(action));
                let mut state = gathering.end(0).ok_or_else(|| self.lacking(0))?;
                state.print = Some(commit.print);
                state
            }
        };
        if state.print.is_none() {
            state.print = self.read(state.version).await?.map(|commit| commit.print);
        }
        features::check(&state.protocol, &state.metadata)?;
        if let Some((newer, _)) = self.advance(&state).await? {
            state = newer;
        }
        match listing.commits.last_key_value() {
            Some((newest, _)) if *newest > state.version => Err(self.missing(state.version + 1)),
            _ => Ok(Some(state)),
        }
    }

    /// A checkpoint does not tell whether the table was restored since its mark: the commits do, as far as they are there.
    async fn with_restores(&self, mut state: State, listing: &Listing) -> Result<State> {
        let Some(marked) = state.mark_version()? else { return Ok(state) };
        for version in listing.commits.range(marked + 1..state.version + 1).map(|(v, _)| *v) {
            for action in self.read(version).await?.map(|c| c.actions).unwrap_or_default() {
                if let Some(info) = &action.commit_info {
                    state.note_restore(version, info);
                }
            }
        }
        Ok(state)
    }

    /// The state after all commits that came since, and what they changed; `None` when none came.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) async fn advance(&self, state: &State) -> Result<Option<(State, Changed)>> {
        let Some(mut commit) = self.read(state.version + 1).await? else { return Ok(None) };
        let (mut state, mut changed) = (state.clone(), Changed::default());
        loop {
            changed |= state.apply(state.version + 1, commit.actions);
            state.print = Some(commit.print);
            match self.read(state.version + 1).await? {
                Some(next) => commit = next,
                None => break,
            }
        }
        features::check(&state.protocol, &state.metadata)?;
        Ok(Some((state, changed)))
    }

    /// Whether the state's newest commit is still the one that it was: the table was not dropped or replaced.
    pub(crate) async fn holds(&self, state: &State) -> Result<bool> {
        let Some(print) = state.print else { return Ok(true) };
        let content = self.store.get(&self.commit_path(state.version)).await?;
        Ok(content.is_some_and(|content| self::print(&content) == print))
    }

    /// A commit; `None` when there is none of this version.
    pub(crate) async fn read(&self, version: u64) -> Result<Option<Commit>> {
        let path = self.commit_path(version);
        let Some(content) = self.store.get(&path).await? else { return Ok(None) };
        Ok(Some(Commit { actions: parse(&path, &content)?, print: print(&content) }))
    }

    /// The error for a commit that should be there.
    pub(crate) fn missing(&self, version: u64) -> Error {
        Error::new(ErrorKind::Corrupt, "a commit of the table's log is missing")
            .with("file", self.commit_path(version))
            .remedied("restore that file, or drop the table and `lakeward resync` it")
    }

    fn lacking(&self, version: u64) -> Error {
        Error::new(ErrorKind::Corrupt, "the table's log tells neither schema nor protocol")
            .with("folder", &self.dir)
            .with("version", version)
    }
}

impl Listing {
    /// The newest checkpoint that is whole.
    pub(crate) fn newest_checkpoint(&self) -> Option<(u64, &Checkpoint)> {
        self.whole_checkpoints().next_back()
    }

    /// Checkpoints of which no part is missing.
    pub(crate) fn whole_checkpoints(&self) -> impl DoubleEndedIterator<Item = (u64, &Checkpoint)> {
        let whole = |c: &Checkpoint| c.paths.len() == c.parts;
        self.checkpoints.iter().filter(move |(_, c)| whole(c)).map(|(v, c)| (*v, c))
    }
}

/// The folder of an invisible copy's own files.
pub(crate) fn copy_folder(folder: &str, generation: u32) -> String {
    format!("{folder}/{COPY}{generation}")
}

/// The generation of the copy to whose log a path below the table's folder belongs.
pub(crate) fn copy_of(path: &str) -> Option<u32> {
    path.strip_prefix(COPY)?.split('/').next()?.parse().ok()
}

/// The lines of a commit.
pub(crate) fn lines(actions: &[Action]) -> Result<Bytes> {
    let mut content = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut content, action).map_err(|error| {
            Error::new(ErrorKind::Bug, "could not write a line of the log").caused_by(error)
        })?;
        content.push(b'\n');
    }
    Ok(content.into())
}

/// Tells contents apart.
pub(crate) fn print(content: &[u8]) -> u64 {
    let mut hash = DefaultHasher::new();
    content.hash(&mut hash);
    hash.finish()
}

fn parse(path: &str, content: &[u8]) -> Result<Vec<Action>> {
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    let actions: Vec<Action> = lines
        .map(|(number, line)| {
            // The parser's message may hold what stands there: it is not kept.
            serde_json::from_slice(line).map_err(|_| {
                Error::new(ErrorKind::Corrupt, "a line of the table's log cannot be read")
                    .with("file", path)
                    .with("line", number + 1)
                    .remedied("restore that file, or drop the table and `lakeward resync` it")
            })
        })
        .collect::<Result<_>>()?;
    if actions.is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "a commit of the table's log is empty")
            .with("file", path)
            .with("line", 1)
            .remedied("restore that file, or drop the table and `lakeward resync` it"));
    }
    Ok(actions)
}

#[derive(Debug, PartialEq, Eq)]
enum File {
    Commit(u64),
    Checkpoint { version: u64, parts: usize },
}

/// What a name in a log's folder says. Sidecars, compacted logs and checksums say nothing to us.
fn file_of(name: &str) -> Option<File> {
    let name = name.strip_prefix('/')?;
    let (version, rest) = name.split_at_checked(20)?;
    let version = version.parse().ok()?;
    if rest == ".json" {
        return Some(File::Commit(version));
    }
    let kind = rest.strip_prefix(".checkpoint")?.strip_suffix("parquet")?;
    let mut words = kind.split('.').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next(), words.next()) {
        (None, ..) => Some(File::Checkpoint { version, parts: 1 }),
        (Some(part), Some("of"), Some(parts), None) if part.parse::<usize>().is_ok() => {
            Some(File::Checkpoint { version, parts: parts.parse().ok().filter(|n| *n > 0)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_log_say_what_they_are() {
        let version = "/00000000000000000012";
        let of = |rest: &str| file_of(&format!("{version}{rest}"));
        assert_eq!(of(".json"), Some(File::Commit(12)));
        assert_eq!(of(".checkpoint.parquet"), Some(File::Checkpoint { version: 12, parts: 1 }));
        assert_eq!(of(".checkpoint.0000000001.0000000003.parquet"), None);
        assert_eq!(
            of(".checkpoint.0000000001.of.0000000003.parquet"),
            Some(File::Checkpoint { version: 12, parts: 3 })
        );
        assert_eq!(of(".checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet"), None);
        assert_eq!(of(".crc"), None);
        assert_eq!(file_of("/_last_checkpoint"), None);
        assert_eq!(copy_of("_lakeward_copy_7/_delta_log/0.json"), Some(7));
        assert_eq!(copy_of("data/x.parquet"), None);
    }

    #[test]
    fn a_damaged_line_is_named_and_its_content_is_not() {
        let content = b"{\"txn\":{\"appId\":\"a\",\"version\":1}}\n{\"add\":{\"path\":\"sec";
        let error = parse("t/_delta_log/1.json", content).unwrap_err();
        assert_eq!((error.kind(), error.context("line")), (ErrorKind::Corrupt, Some("2")));
        assert!(!error.to_string().contains("sec"), "{error}");
        assert!(parse("x", b"\n").is_err());
    }
}
