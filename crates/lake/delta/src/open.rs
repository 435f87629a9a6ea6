//! Opening a table: what its logs hold, whether it is ours, and the shape in which it is written on.
//!
//! Deliberately absent: the handle. See [`crate::table`].
use lakeward_core::{Error, ErrorKind, Result, Slot, TableSchema};
use lakeward_files::{Identity, TableLayout};

use crate::commit::Committer;
use crate::log::Log;
use crate::schema::{OWNER_PROPERTY, Shape};
use crate::state::State;

/// What was found of a table when it was opened.
pub(crate) struct Opened {
    /// A copy whose promotion stands is the visible table.
    pub(crate) slot: Slot,
    pub(crate) state: Option<State>,
    /// Of a copy: the visible table.
    pub(crate) visible: Option<State>,
}

impl Opened {
    /// Reads the line's log, and the visible one's.
    pub(crate) async fn read(committer: &Committer, slot: Slot) -> Result<Self> {
        let log = |slot| Log::new(committer.store.clone(), &committer.folder, slot);
        let visible = log(Slot::Visible).load().await?;
        match slot {
            Slot::Copy(generation)
                if !visible.as_ref().is_some_and(|v| is_promoted(v, generation)) =>
            {
                Ok(Self { slot, state: log(slot).load().await?, visible })
            }
            _ => Ok(Self { slot: Slot::Visible, state: visible, visible: None }),
        }
    }

    /// The shape in which the line is written.
    pub(crate) fn shape(&self, committer: &Committer, schema: &TableSchema) -> Result<Shape> {
        let basis = self.state.as_ref().or(self.visible.as_ref());
        let landed = basis.map(|state| owned_shape(committer, state, self.slot)).transpose()?;
        match (landed, self.slot) {
            (None, _) => Shape::first(schema),
            (Some(landed), Slot::Visible) => Ok(landed),
            (Some(landed), Slot::Copy(_)) => {
                Ok(landed.becoming(schema, committer.growth, |_| None)?.shape)
            }
        }
    }
}

/// Whether the copy of this generation, or a later one, is the visible table.
pub(crate) fn is_promoted(visible: &State, generation: u32) -> bool {
    visible.progress().is_some_and(|(found, _)| found >= generation)
}

/// The table's shape, if this pipeline made the table.
pub(crate) fn owned_shape(committer: &Committer, state: &State, slot: Slot) -> Result<Shape> {
    let owner = state.metadata.configuration.get(OWNER_PROPERTY);
    let landed = Shape::of(&state.metadata).map_err(|e| e.with("table", &committer.table))?;
    match (landed, owner) {
        (Some(landed), Some(owner)) if *owner == committer.owner => {
            // A copy brings all columns again.
            if landed.complete || slot != Slot::Visible {
                Ok(landed.shape)
            } else {
                Err(lacking(committer))
            }
        }
        (_, owner) => Err(Error::new(
            ErrorKind::Config,
            "a table of this name is there that this pipeline did not make",
        )
        .with("table", &committer.table)
        .with("folder", &committer.folder)
        .with("made_by", owner.map_or("another program", String::as_str))
        .remedied("drop that table, or write to another warehouse")),
    }
}

fn lacking(committer: &Committer) -> Error {
    Error::new(ErrorKind::Corrupt, "another writer dropped a column of the table")
        .with("table", &committer.table)
        .remedied("`lakeward resync` the table")
}

/// Where the rows of a shape lie, and what identifies them.
pub(crate) fn layout(committer: &Committer, shape: &Shape) -> Result<TableLayout> {
    let identity = match shape.key_indices() {
        key if key.is_empty() => Identity::WholeRow,
        key => Identity::Key(key),
    };
    TableLayout::new(committer.table.to_string(), shape.arrow(), identity)
}
