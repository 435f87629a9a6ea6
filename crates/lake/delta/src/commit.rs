//! The commit: all actions as the lines of one new object, created under the next version's name or not at all.
//!
//! Deliberately absent: the decision whether to commit, and any retry.
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use lakeward_core::{CommitMark, Error, Result, TableId};
use lakeward_files::{IndexFolders, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::action::{Action, Add, Remove, Txn};
use crate::features;
use crate::log::{self, Log};
use crate::schema::{Growth, LOADING_PROPERTY, OWNER_PROPERTY, Shape};
use crate::state::{State, mark_domain};

/// Files that come and files that go.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileChange {
    pub(crate) added: Vec<Add>,
    pub(crate) removed: Vec<Remove>,
}

/// One commit.
pub(crate) struct Request<'a> {
    /// The log that gets it.
    pub(crate) log: &'a Log,
    /// What it is built on; `None`: the table is made by this commit.
    pub(crate) base: Option<&'a State>,
    pub(crate) change: FileChange,
    pub(crate) kind: Kind<'a>,
}

/// What a commit is for.
pub(crate) enum Kind<'a> {
    /// An epoch's rows, with the mark, in this shape.
    Epoch { mark: &'a CommitMark, shape: &'a Shape },
    /// Rows moved, and nothing changed.
    Compaction,
}

/// A commit that was sent.
pub(crate) struct Sent {
    pub(crate) trace: Trace,
    pub(crate) outcome: Outcome,
}

/// By what a commit that was sent is known again.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) log: Log,
    pub(crate) version: u64,
    nonce: String,
}

/// What became of it.
pub(crate) enum Outcome {
    /// It stands; its actions, and its print.
    Committed(Vec<Action>, u64),
    /// Another commit has this version.
    Lost,
    /// It may stand.
    Unknown(Error),
    /// It does not stand.
    Failed(Error),
}

/// Whether a commit that was sent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stands,
    /// Another commit has its version: it can never land.
    Past,
    /// No commit has its version yet.
    Open,
}

/// Commits to one table.
#[derive(Clone)]
pub(crate) struct Committer {
    pub(crate) store: Store,
    pub(crate) table: TableId,
    /// Folder of the table in the store.
    pub(crate) folder: String,
    /// `pipeline/sink`, put into new tables.
    pub(crate) owner: String,
    pub(crate) writer: String,
    /// Commits between two checkpoints.
    pub(crate) checkpoint_interval: u32,
    pub(crate) growth: Growth,
    /// Where the table's key index may keep files.
    pub(crate) index: IndexFolders,
}

impl Committer {
    /// Sends a commit.
    pub(crate) async fn send(&self, request: Request<'_>) -> Sent {
        let version = request.base.map_or(0, |base| base.version + 1);
        let nonce = Uuid::new_v4().to_string();
        let trace = Trace { log: request.log.clone(), version, nonce };
        let built = self.actions(request, version, &trace.nonce);
        let outcome = match built.and_then(|actions| Ok((log::lines(&actions)?, actions))) {
            Err(error) => Outcome::Failed(error),
            Ok((lines, actions)) => {
                let print = log::print(&lines);
                match self.store.create(&trace.log.commit_path(version), lines).await {
                    Ok(true) => Outcome::Committed(actions, print),
                    // A store that asked twice may have met its own first attempt.
                    Ok(false) if trace.is_ours().await => Outcome::Committed(actions, print),
                    Ok(false) => Outcome::Lost,
                    Err(e) if e.kind() == lakeward_core::ErrorKind::OutcomeUnknown => {
                        Outcome::Unknown(e.with("table", &self.table))
                    }
                    Err(e) => Outcome::Failed(e.with("table", &self.table)),
                }
            }
        };
        Sent { trace, outcome }
    }

    fn actions(&self, request: Request<'_>, version: u64, nonce: &str) -> Result<Vec<Action>> {
        let mut actions =
            vec![Action { commit_info: Some(self.info(&request, nonce)), ..Action::default() }];
        if let Kind::Epoch { mark, shape } = request.kind {
            actions.extend(self.shape_actions(&request, mark, shape)?);
            let txn = Txn {
                app_id: self.owner.clone(),
                version: i64::try_from(mark.epoch).unwrap_or(i64::MAX),
                last_updated: Some(now_ms()),
            };
            actions.push(txn.into());
            actions.push(mark_domain(mark, version)?.into());
        }
        actions.extend(request.change.removed.into_iter().map(Action::from));
        actions.extend(request.change.added.into_iter().map(Action::from));
        Ok(actions)
    }

    /// Protocol and metadata, where they change.
    fn shape_actions(
        &self,
        request: &Request<'_>,
        mark: &CommitMark,
        shape: &Shape,
    ) -> Result<Vec<Action>> {
        let before = request.base.map(|base| base.metadata.as_ref());
        let mut properties = BTreeMap::from([
            (OWNER_PROPERTY.to_owned(), self.owner.clone()),
            (LOADING_PROPERTY.to_owned(), mark.load.is_some().to_string()),
        ]);
        if before.is_none() {
            let new = features::properties(self.checkpoint_interval);
            properties.extend(new.map(|(key, value)| (key.to_owned(), value)));
        }
        let protocol = features::protocol(shape, request.base.map(|base| &base.protocol));
        let metadata = shape.metadata(before, properties, self.table.to_string(), now_ms())?;
        let mut actions = Vec::new();
        if request.base.is_none_or(|base| base.protocol != protocol) {
            actions.push(protocol.into());
        }
        if before != Some(&metadata) {
            actions.push(metadata.into());
        }
        Ok(actions)
    }

    /// What the commit says of itself, for people and for us.
    fn info(&self, request: &Request<'_>, nonce: &str) -> Value {
        let change = &request.change;
        let (operation, parameters) = match request.kind {
            Kind::Epoch { mark, .. } => (
                "STREAMING UPDATE",
                json!({ "outputMode": "Update", "queryId": self.owner, "epochId": mark.epoch.to_string() }),
            ),
            Kind::Compaction => ("OPTIMIZE", json!({ "predicate": "[]", "auto": "false" })),
        };
        json!({
            "timestamp": now_ms(),
            "operation": operation,
            "operationParameters": parameters,
            "readVersion": request.base.map(|base| base.version),
            "isolationLevel": "Serializable",
            "isBlindAppend": false,
            "operationMetrics": {
                "numAddedFiles": change.added.len().to_string(),
                "numRemovedFiles": change.removed.len().to_string(),
            },
            "engineInfo": concat!("lakeward/", env!("CARGO_PKG_VERSION")),
            "txnId": nonce,
            "userMetadata": self.writer,
        })
    }
}

impl Trace {
    /// What became of the commit, as far as the log tells now.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) async fn fate(&self) -> Result<Fate> {
        let Some(commit) = self.log.read(self.version).await? else { return Ok(Fate::Open) };
        let nonce =
            |action: &Action| Some(action.commit_info.as_ref()?["txnId"].as_str()? == self.nonce);
        let ours = commit.actions.iter().find_map(nonce).unwrap_or(false);
        Ok(if ours { Fate::Stands } else { Fate::Past })
    }

    async fn is_ours(&self) -> bool {
        matches!(self.fate().await, Ok(Fate::Stands))
    }
}

/// Milliseconds since 1970-01-01.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Deletes what nothing names. What cannot be deleted costs space, never truth.
pub(crate) async fn delete_quietly(store: &Store, paths: &[String]) {
    for path in paths {
        if let Err(error) = store.delete(path).await {
            tracing::warn!(file = %path, %error, "could not delete a file that nothing names");
        }
    }
}
