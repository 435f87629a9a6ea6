//! What the ledger says when it is read from the beginning: a pure fold over its entries.
//!
//! Deliberately absent: storage (`ledger`) and the tables themselves, whose marks decide in the end.
use std::collections::BTreeMap;

use lakeward_core::{
    Error, ErrorKind, Intent, Position, Result, SchemaVersion, TableId, TableSchema, TableVersion,
};
use serde::{Deserialize, Serialize};

/// A create-only object of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The process run that wrote it.
    pub writer: String,
    /// When, in milliseconds since 1970, by the writer's clock. For people and for the take-over rule only.
    pub at_ms: u64,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A writer begins; whoever wrote before must stop.
    Takeover {
        /// The lock that the writer holds while it lives; a successor that gets this lock knows that it is dead.
        lock: String,
    },
    /// The writer ended in order: a successor need not wait.
    Release,
    /// A table's load begins; its chunks stand in the object `chunks`.
    Plan(Plan),
    /// An epoch is announced.
    Intent(Intent),
    /// An epoch is complete.
    Done(Done),
}

/// The beginning of a table's load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The table under the schema of the load.
    pub schema: TableSchema,
    /// The copy that is loaded.
    pub generation: u32,
    /// Whether it is loaded invisibly and promoted at its end.
    pub copy: bool,
    /// Name of the object that holds the chunks.
    pub chunks: String,
}

/// The end of an epoch: a consistent point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// The epoch; 0 is where the log begins.
    pub epoch: u64,
    /// Its end.
    pub through: Position,
    /// Tables whose state changed; all of them when `full`.
    pub tables: Vec<TableState>,
    /// Schemas that changed; all of them when `full`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<TableSchema>,
    /// Whether the state is complete in this entry: nothing before it is needed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// What is known of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// The table.
    pub table: TableId,
    /// The version of its schema.
    pub schema: SchemaVersion,
    /// The copy that readers see; 0: none yet.
    pub visible: u32,
    /// Object with the chunks of the visible table's load, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<String>,
    /// The invisible copy that is being loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyState>,
    /// Why the visible rows no longer follow from the log; the table must be loaded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
    /// The version that readers saw after the table's last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<TableVersion>,
}

/// An invisible copy that is being loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// Its generation.
    pub generation: u32,
    /// Object with its chunks.
    pub chunks: String,
    /// Why it can no longer become right: another copy must be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

impl TableState {
    /// Whether the table shows exactly the rows of a position, and so belongs to consistent points.
    pub fn consistent(&self) -> bool {
        self.visible > 0 && self.loading.is_none() && self.diverged.is_none()
    }

    /// The generation that the next load gets.
    pub fn next_generation(&self) -> u32 {
        self.visible.max(self.copy.as_ref().map_or(0, |c| c.generation)) + 1
    }
}

/// The ledger, folded.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The last complete epoch.
    pub epoch: u64,
    /// Its end; `None`: nothing was ever begun.
    pub position: Option<Position>,
    /// An epoch that was announced and not completed.
    pub torn: Option<Intent>,
    /// All tables.
    pub tables: BTreeMap<TableId, TableState>,
    /// Their schemas.
    pub schemas: BTreeMap<TableId, TableSchema>,
    /// Whether the last writer ended in order.
    pub released: bool,
    /// The lock of the last writer.
    pub lock: Option<String>,
}

/// A position, and the table versions that show exactly that position.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsistentPoint {
    /// The epoch that ended there.
    pub epoch: u64,
    /// The position.
    pub position: Position,
    /// The versions, by `namespace.table`.
    pub tables: BTreeMap<String, TableVersion>,
}

impl State {
    /// Takes one more entry in.
    ///
    /// # Errors
    /// `Corrupt` when the entry contradicts what came before.
    pub fn apply(&mut self, entry: &Entry) -> Result<()> {
        match &entry.body {
            Body::Takeover { lock } => {
                self.released = false;
                self.lock = Some(lock.clone());
            }
            Body::Release => self.released = true,
            Body::Plan(plan) => self.apply_plan(plan),
            Body::Intent(intent) => {
                self.expect(intent.epoch, self.epoch + 1, "an announced epoch")?;
                self.torn = Some(intent.clone());
            }
            Body::Done(done) => self.apply_done(done)?,
        }
        Ok(())
    }

    fn apply_plan(&mut self, plan: &Plan) {
        let table = plan.schema.table.clone();
        let version = plan.schema.version;
        let state = self.tables.entry(table.clone()).or_insert_with(|| TableState {
            table: table.clone(),
            schema: version,
            visible: 0,
            loading: None,
            copy: None,
            diverged: None,
            version: None,
        });
        state.schema = version;
        if plan.copy {
            let chunks = plan.chunks.clone();
            let (generation, diverged) = (plan.generation, None);
            state.copy = Some(CopyState { generation, chunks, diverged });
        } else {
            state.visible = plan.generation;
            state.loading = Some(plan.chunks.clone());
        }
        self.schemas.insert(table, plan.schema.clone());
    }

    fn apply_done(&mut self, done: &Done) -> Result<()> {
        if done.full {
            self.tables.clear();
            self.schemas.clear();
        } else if self.position.is_some() {
            self.expect(done.epoch, self.epoch + 1, "a completed epoch")?;
        }
        self.epoch = done.epoch;
        self.position = Some(done.through.clone());
        self.torn = None;
        self.tables.extend(done.tables.iter().map(|t| (t.table.clone(), t.clone())));
        self.schemas.extend(done.schemas.iter().map(|s| (s.table.clone(), s.clone())));
        Ok(())
    }

    fn expect(&self, found: u64, expected: u64, what: &str) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, format!("the ledger holds {what} out of order"))
            .with("found", found)
            .with("expected", expected))
    }

    /// The consistent point that this state stands for.
    pub fn point(&self) -> Option<ConsistentPoint> {
        let tables = self
            .tables
            .values()
            .filter(|t| t.consistent())
            .filter_map(|t| Some((t.table.to_string(), t.version.clone()?)))
            .collect();
        Some(ConsistentPoint { epoch: self.epoch, position: self.position.clone()?, tables })
    }

    /// The `Done` that turns this state into `next`.
    pub fn done_towards(&self, next: &State, through: Position, full: bool) -> Done {
        let changed = |t: &&TableState| full || self.tables.get(&t.table) != Some(*t);
        let altered = |s: &&TableSchema| full || self.schemas.get(&s.table) != Some(*s);
        Done {
            epoch: next.epoch,
            through,
            tables: next.tables.values().filter(changed).cloned().collect(),
            schemas: next.schemas.values().filter(altered).cloned().collect(),
            full,
        }
    }
}

#[cfg(test)]
mod tests {
    use lakeward_core::{Column, ColumnId, TableIdentity};

    use super::*;

    fn schema() -> TableSchema {
        let column = Column {
            id: ColumnId(1),
            name: "id".into(),
            data_type: arrow_schema::DataType::Int64,
            declared: "bigint".into(),
            nullable: false,
        };
        let identity = TableIdentity("16400".into());
        TableSchema::new(
            TableId::new("public", "t"),
            identity,
            vec![column],
            vec![0],
            String::new(),
        )
    }

    fn position(at: u8) -> Position {
        Position { at: [at].into(), resume: [at].into() }
    }

    fn entry(body: Body) -> Entry {
        Entry { writer: "w".into(), at_ms: 0, body }
    }

    #[test]
    fn a_loading_table_is_in_no_point_until_its_done_says_so() {
        let mut state = State::default();
        let begin =
            Done { epoch: 0, through: position(1), tables: vec![], schemas: vec![], full: true };
        state.apply(&entry(Body::Done(begin))).unwrap();
        let plan = Plan { schema: schema(), generation: 1, copy: false, chunks: "plan-t-1".into() };
        state.apply(&entry(Body::Plan(plan))).unwrap();
        assert!(state.point().unwrap().tables.is_empty());

        let mut next = state.clone();
        next.epoch = 1;
        let table = next.tables.get_mut(&schema().table).unwrap();
        table.loading = None;
        table.version = Some(TableVersion("77".into()));
        let done = state.done_towards(&next, position(2), false);
        assert_eq!(done.tables.len(), 1);
        let json = serde_json::to_string(&entry(Body::Done(done))).unwrap();
        state.apply(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(state.point().unwrap().tables["public.t"], TableVersion("77".into()));
    }

    #[test]
    fn an_epoch_out_of_order_is_corrupt() {
        let mut state = State::default();
        let done = |epoch, full| {
            entry(Body::Done(Done {
                epoch,
                through: position(1),
                tables: vec![],
                schemas: vec![],
                full,
            }))
        };
        state.apply(&done(0, true)).unwrap();
        state.apply(&done(1, false)).unwrap();
        let error = state.apply(&done(3, false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
