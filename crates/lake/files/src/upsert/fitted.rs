//! A batch brought into the lake's columns, with the identity of its rows and before images.
use std::collections::HashMap;

use arrow_array::RecordBatch;
use lakeward_core::{ChangeBatch, KeyHash, Op, Result};

use super::base::{Bases, Missing};
use super::state::Base;
use crate::layout::{Identity, TableLayout};

/// A batch in the lake's columns, with its keys.
pub(crate) struct Fitted {
    pub(crate) rows: RecordBatch,
    pub(crate) keys: Vec<KeyHash>,
    pub(crate) before: Option<RecordBatch>,
    /// Where in `before` each row's image is.
    pub(crate) before_at: HashMap<usize, usize>,
    pub(crate) before_keys: Vec<Option<KeyHash>>,
    pub(crate) before_is_whole: bool,
}

impl Fitted {
    pub(crate) fn new(
        batch: &ChangeBatch,
        columns: &[Option<usize>],
        layout: &TableLayout,
    ) -> Result<Self> {
        let rows = layout.fit(&batch.rows, columns)?;
        let mut fitted = Self {
            keys: Self::hash(layout, &rows)?,
            rows,
            before: None,
            before_at: HashMap::new(),
            before_keys: vec![None; batch.len()],
            before_is_whole: false,
        };
        if let Some(before) = &batch.before {
            let images = layout.fit(&before.rows, columns)?;
            let keys = Self::hash(layout, &images)?;
            let at = before.at.iter().map(|row| *row as usize).filter(|row| *row < batch.len());
            for (image, row) in at.enumerate() {
                fitted.before_at.insert(row, image);
                // A deleted row is its own before image.
                if batch.ops[row] == Op::Update {
                    fitted.before_keys[row] = keys.get(image).copied();
                }
            }
            fitted.before = Some(images);
            fitted.before_is_whole = !before.key_only;
        }
        Ok(fitted)
    }

    /// Fills in all missing cells from whole before images: without them the row has no identity.
    pub(crate) fn complete_from_images(
        &mut self,
        incomplete: &[bool],
        missing: &Missing,
        layout: &TableLayout,
    ) -> Result<()> {
        let rows = (0..incomplete.len()).filter(|row| incomplete[*row]);
        let bases: Vec<_> = rows.map(|row| (row, Base::Before)).collect();
        let before = self.before.as_ref().map(|rows| (&self.before_at, rows));
        let (own, lake, buffered) = Default::default();
        let bases = Bases { batch: 0, rows: &bases, before, buffered, own: &own, lake: &lake };
        self.rows = bases.complete(&self.rows, missing)?;
        self.keys = Self::hash(layout, &self.rows)?;
        Ok(())
    }

    fn hash(layout: &TableLayout, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        match layout.identity() {
            Identity::Append => Ok(Vec::new()),
            _ => layout.hash(rows),
        }
    }
}
