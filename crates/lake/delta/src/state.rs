//! What a table's log comes to: live files, schema, marks. Pure: actions in, state out.
//!
//! Deliberately absent: reading the log. See [`crate::log`].
use std::collections::BTreeMap;
use std::sync::Arc;

use lakeward_core::{CommitMark, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Action, Add, Domain, Metadata, Protocol, Remove, Txn};

/// The domain that carries the mark.
pub(crate) const MARK_DOMAIN: &str = "lakeward.mark";

/// The mark, and the version of the log that brought it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Marked {
    version: u64,
    #[serde(flatten)]
    mark: CommitMark,
}

/// A table at one version of its log. Cloning shares the files.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) protocol: Protocol,
    pub(crate) metadata: Arc<Metadata>,
    /// Live files by the path that the log spells.
    pub(crate) files: BTreeMap<Arc<str>, Arc<Add>>,
    /// Files that went, by path, for those who clean up by them.
    pub(crate) gone: BTreeMap<Arc<str>, Arc<Remove>>,
    pub(crate) txns: BTreeMap<String, Txn>,
    pub(crate) domains: BTreeMap<String, Domain>,
    /// Tells its newest commit from another of the same version, where that was read.
    pub(crate) print: Option<u64>,
    /// From which version on, since the mark, the table was set back behind it, or was not any more.
    behind: BTreeMap<u64, bool>,
}

/// What some commits changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) files: bool,
    pub(crate) metadata: bool,
    pub(crate) mark: bool,
}

impl Changed {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { files: true, metadata: true, mark: true }
    }
}

impl std::ops::BitOrAssign for Changed {
    fn bitor_assign(&mut self, other: Self) {
        self.files |= other.files;
        self.metadata |= other.metadata;
        self.mark |= other.mark;
    }
}

/// A state that is still being gathered.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    protocol: Option<Protocol>,
    metadata: Option<Arc<Metadata>>,
    files: BTreeMap<Arc<str>, Arc<Add>>,
    gone: BTreeMap<Arc<str>, Arc<Remove>>,
    txns: BTreeMap<String, Txn>,
    domains: BTreeMap<String, Domain>,
}

impl Gathering {
    /// Takes an action in. Within one version, files must go before files come.
    pub(crate) fn take(&mut self, action: Action) {
        if let Some(protocol) = action.protocol {
            self.protocol = Some(protocol);
        }
        if let Some(metadata) = action.meta_data {
            self.metadata = Some(Arc::new(metadata));
        }
        if let Some(txn) = action.txn {
            self.txns.insert(txn.app_id.clone(), txn);
        }
        if let Some(domain) = action.domain_metadata {
            match domain.removed {
                true => self.domains.remove(&domain.domain),
                false => self.domains.insert(domain.domain.clone(), domain),
            };
        }
        if let Some(remove) = action.remove {
            remove_file(&mut self.files, &mut self.gone, remove);
        }
        if let Some(add) = action.add {
            add_file(&mut self.files, &mut self.gone, add);
        }
    }

    /// The state at a version; `None` when schema or protocol never came.
    pub(crate) fn end(self, version: u64) -> Option<State> {
        Some(State {
            version,
            protocol: self.protocol?,
            metadata: self.metadata?,
            files: self.files,
            gone: self.gone,
            txns: self.txns,
            domains: self.domains,
            print: None,
            behind: BTreeMap::new(),
        })
    }
}

impl State {
    /// The table that a first commit makes; `None` when it brings no schema.
    pub(crate) fn first(version: u64, actions: Vec<Action>) -> Option<Self> {
        let mut gathering = Gathering::default();
        in_order(actions).for_each(|action| gathering.take(action));
        gathering.end(version)
    }

    /// Takes a commit in.
    pub(crate) fn apply(&mut self, version: u64, actions: Vec<Action>) -> Changed {
        let mut changed = Changed::default();
        self.version = version;
        for action in in_order(actions) {
            changed.files |= action.add.is_some() || action.remove.is_some();
            changed.metadata |= action.meta_data.is_some() || action.protocol.is_some();
            changed.mark |=
                action.domain_metadata.as_ref().is_some_and(|d| d.domain == MARK_DOMAIN);
            if let Some(info) = &action.commit_info {
                self.note_restore(version, info);
            }
            self.take(action);
        }
        if changed.mark {
            self.behind.clear();
        }
        changed
    }

    fn take(&mut self, action: Action) {
        let mut gathering = Gathering {
            protocol: None,
            metadata: None,
            files: std::mem::take(&mut self.files),
            gone: std::mem::take(&mut self.gone),
            txns: std::mem::take(&mut self.txns),
            domains: std::mem::take(&mut self.domains),
        };
        gathering.take(action);
        (self.files, self.gone) = (gathering.files, gathering.gone);
        (self.txns, self.domains) = (gathering.txns, gathering.domains);
        if let Some(protocol) = gathering.protocol {
            self.protocol = protocol;
        }
        if let Some(metadata) = gathering.metadata {
            self.metadata = metadata;
        }
    }

    /// Looks at what a commit says of itself: a restore may have set the table back behind its mark.
    pub(crate) fn note_restore(&mut self, version: u64, info: &Value) {
        if info["operation"].as_str() != Some("RESTORE") {
            return;
        }
        let Ok(Some(marked)) = self.marked() else { return };
        let parameter = &info["operationParameters"]["version"];
        let target = parameter.as_u64().or_else(|| parameter.as_str()?.parse().ok());
        let behind = target.is_none_or(|to| to < marked.version || self.is_behind_at(to));
        self.behind.insert(version, behind);
    }

    fn is_behind_at(&self, version: u64) -> bool {
        self.behind.range(..=version).next_back().is_some_and(|(_, behind)| *behind)
    }

    fn marked(&self) -> Result<Option<Marked>> {
        let Some(domain) = self.domains.get(MARK_DOMAIN) else { return Ok(None) };
        serde_json::from_str(&domain.configuration).map(Some).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "the table's mark cannot be read")
                .with("version", self.version)
                .caused_by(error)
        })
    }

    /// The version whose commit brought the mark.
    pub(crate) fn mark_version(&self) -> Result<Option<u64>> {
        Ok(self.marked()?.map(|marked| marked.version))
    }

    /// The mark.
    ///
    /// # Errors
    /// `Corrupt` when someone set the table back behind it.
    pub(crate) fn mark(&self) -> Result<Option<CommitMark>> {
        let Some(marked) = self.marked()? else { return Ok(None) };
        if self.is_behind_at(self.version) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "someone restored the table to a version before its mark",
            )
            .with("table", &marked.mark.table)
            .with("epoch", marked.mark.epoch)
            .remedied(format!(
                "restore the table to version {}, or `lakeward resync` the table",
                marked.version
            )));
        }
        Ok(Some(marked.mark))
    }

    /// Generation and epoch of the mark, whatever happened after it; `None` without a mark.
    pub(crate) fn progress(&self) -> Option<(u32, u64)> {
        self.marked().ok().flatten().map(|marked| (marked.mark.generation, marked.mark.epoch))
    }
}

/// The action that brings a mark.
pub(crate) fn mark_domain(mark: &CommitMark, version: u64) -> Result<Domain> {
    let marked = Marked { version, mark: mark.clone() };
    let configuration = serde_json::to_string(&marked)
        .map_err(|error| Error::new(ErrorKind::Bug, "could not write the mark").caused_by(error))?;
    Ok(Domain { domain: MARK_DOMAIN.into(), configuration, removed: false })
}

/// The order of a commit's lines means nothing: what goes, goes before what comes.
pub(crate) fn in_order(actions: Vec<Action>) -> impl Iterator<Item = Action> {
    let (coming, others): (Vec<_>, Vec<_>) = actions.into_iter().partition(|a| a.add.is_some());
    others.into_iter().chain(coming)
}

fn remove_file(
    files: &mut BTreeMap<Arc<str>, Arc<Add>>,
    gone: &mut BTreeMap<Arc<str>, Arc<Remove>>,
    remove: Remove,
) {
    let path: Arc<str> = remove.path.as_str().into();
    let id = |vector: &Option<crate::action::Vector>| vector.as_ref().map(|v| v.unique_id());
    let same = |add: &Arc<Add>| id(&add.deletion_vector) == id(&remove.deletion_vector);
    if files.get(&path).is_some_and(same) {
        files.remove(&path);
    }
    gone.insert(path, Arc::new(remove));
}

/// A file whose vector is replaced is not gone: it is live with another one.
fn add_file(
    files: &mut BTreeMap<Arc<str>, Arc<Add>>,
    gone: &mut BTreeMap<Arc<str>, Arc<Remove>>,
    add: Add,
) {
    let path: Arc<str> = add.path.as_str().into();
    gone.remove(&path);
    files.insert(path, Arc::new(add));
}

#[cfg(test)]
mod tests {
    use lakeward_core::{Position, SchemaVersion, TableId, TableIdentity};
    use serde_json::json;

    use super::*;
    use crate::action::{Format, Vector};

    fn vector(offset: i32) -> Option<Vector> {
        Some(Vector {
            storage_type: "u".into(),
            path_or_inline_dv: "x".into(),
            offset: Some(offset),
            size_in_bytes: 1,
            cardinality: 1,
        })
    }

    fn add(path: &str, deletion_vector: Option<Vector>) -> Add {
        Add {
            path: path.into(),
            partition_values: BTreeMap::new(),
            size: 1,
            modification_time: 0,
            data_change: true,
            stats: None,
            tags: None,
            deletion_vector,
        }
    }

    fn mark(epoch: u64) -> CommitMark {
        let position = Position { at: [1].into(), resume: [1].into() };
        CommitMark {
            pipeline: "p".into(),
            sink: "s".into(),
            writer: "w".into(),
            table: TableId::new("public", "t"),
            identity: TableIdentity("1".into()),
            generation: 1,
            epoch,
            after: None,
            through: position,
            schema_version: SchemaVersion(u64::MAX),
            load: None,
        }
    }

    fn first() -> State {
        let metadata = Metadata {
            id: "i".into(),
            name: None,
            description: None,
            format: Format { provider: "parquet".into(), options: BTreeMap::new() },
            schema_string: "{}".into(),
            partition_columns: vec![],
            configuration: BTreeMap::new(),
            created_time: None,
        };
        let protocol = Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: None,
            writer_features: None,
        };
        let mark = mark_domain(&mark(1), 0).unwrap();
        State::first(0, vec![metadata.into(), protocol.into(), mark.into(), add("a", None).into()])
            .unwrap()
    }

    #[test]
    fn a_replaced_vector_leaves_its_file_live_whatever_the_order_of_lines() {
        let mut state = first();
        let old = add("a", None);
        let changed = state.apply(1, vec![add("a", vector(1)).into(), old.removed(5, true).into()]);
        assert_eq!(changed, Changed { files: true, ..Changed::default() });
        assert_eq!(state.files["a"].deletion_vector, vector(1));
        assert!(state.gone.is_empty());
        // A removal of the file with its older vector is none of the file as it is now.
        state.apply(2, vec![old.removed(6, true).into()]);
        assert!(state.files.contains_key("a"));
        state.apply(3, vec![add("a", vector(1)).removed(7, false).into(), add("b", None).into()]);
        assert_eq!(state.files.keys().map(|p| &**p).collect::<Vec<_>>(), ["b"]);
        assert_eq!(state.gone.len(), 1);
    }

    #[test]
    fn a_restore_behind_the_mark_is_told_until_it_is_undone() {
        let restore = |to: u64| Action {
            commit_info: Some(
                json!({ "operation": "RESTORE", "operationParameters": { "version": to } }),
            ),
            ..Action::default()
        };
        let mut state = first();
        state.apply(1, vec![mark_domain(&mark(2), 1).unwrap().into()]);
        assert_eq!(state.mark().unwrap().unwrap(), mark(2));
        state.apply(2, vec![restore(1)]);
        assert_eq!(state.mark().unwrap().unwrap().epoch, 2);
        state.apply(3, vec![restore(0)]);
        state.apply(4, vec![add("c", None).into()]);
        assert_eq!(state.mark().unwrap_err().kind(), ErrorKind::Corrupt);
        state.apply(5, vec![restore(4)]);
        assert!(state.mark().is_err());
        state.apply(6, vec![restore(2)]);
        assert_eq!(state.mark().unwrap().unwrap().epoch, 2);
        state.apply(7, vec![restore(0)]);
        state.apply(8, vec![mark_domain(&mark(3), 8).unwrap().into()]);
        assert_eq!(state.mark().unwrap().unwrap().epoch, 3);
    }
}
