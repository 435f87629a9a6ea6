//! Many rows of one event at once: where their cells stand is found first, then each column is filled.
//!
//! Only for images that leave no column out; the others go row by row. Both ways give the same batch.
use std::iter::repeat_n;
use std::sync::Arc;

use lakeward_core::{Op, Result, Run, TransactionInfo};

use super::fill::Fill;
use super::{Plan, TableBatch};
use crate::binlog::Malformed;
use crate::binlog::event::RowsKind;
use crate::binlog::layout::{NOWHERE, Places, content};
use crate::binlog::rows::{Rows, Width};
use crate::types::{ColumnBuilder, Value};

/// Rows that are taken at once at most. Their places, and the part of each column that is written, stay in the nearest
/// cache.
const BLOCK_ROWS: usize = 256;
/// A block is closed when its rows took so many bytes: with rows of any size, batches end where they should.
const BLOCK_BYTES: usize = 1 << 20;

/// What blocks need; kept between them, so that nothing is allocated.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The only image of each row, or that after the change.
    new: Places,
    /// The images before the change.
    old: Places,
    /// The rows of the block whose key changed.
    moved: Vec<u32>,
    /// Of the column at hand.
    places: Vec<u32>,
    old_places: Vec<u32>,
    nulls: Vec<bool>,
    bytes: Vec<u8>,
}

impl TableBatch {
    /// Adds rows of an event from `from` on: at least one, and no more than make `most` in all. Returns where the row
    /// behind them begins.
    ///
    /// # Errors
    /// `BadData` naming table and column, `Corrupt`.
    pub fn add_some(
        &mut self,
        rows: &Rows<'_>,
        from: usize,
        most: usize,
        of: &Arc<TransactionInfo>,
        scratch: &mut Scratch,
    ) -> Result<usize> {
        let plan = Arc::clone(&self.plan);
        let whole = |present| plan.layout.is_whole(present);
        if !plan.is_complete || !whole(rows.present) || !whole(rows.present_after) {
            return self.add(rows, from, of);
        }
        let most = most.saturating_sub(self.len()).clamp(1, BLOCK_ROWS);
        let next = walk(&plan, rows, from, most, scratch).map_err(|error| plan.corrupt(error))?;
        self.add_block(&plan, rows, scratch)?;
        let count = scratch.new.rows() as u32;
        self.bytes += next - from;
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.transaction, of) => run.rows += count,
            _ => self.runs.push(Run { rows: count, transaction: Arc::clone(of) }),
        }
        Ok(next)
    }

    /// Adds the rows whose cells were found. When it fails, none of them.
    fn add_block(&mut self, plan: &Plan, rows: &Rows<'_>, scratch: &mut Scratch) -> Result<()> {
        let images = rows.images;
        let op = match rows.kind {
            RowsKind::Write => Op::Insert,
            RowsKind::Delete => Op::Delete,
            RowsKind::Update => Op::Update,
        };
        if op == Op::Update {
            moved(plan, images, scratch);
        }
        let (len, old_len) = (self.ops.len(), self.before_at.len());
        let filled = self.fill_block(plan, images, scratch);
        if filled.is_err() {
            self.rows.iter_mut().for_each(|column| column.truncate(len));
            self.before.iter_mut().for_each(|column| column.truncate(old_len));
        }
        filled?;
        self.before_at.extend(scratch.moved.iter().map(|row| len as u32 + row));
        self.ops.extend(repeat_n(op, scratch.new.rows()));
        Ok(())
    }

    fn fill_block(&mut self, plan: &Plan, images: &[u8], scratch: &mut Scratch) -> Result<()> {
        for (slot, builder) in self.rows.iter_mut().enumerate() {
            let Some((at, _)) = plan.sources.get(slot).and_then(Option::as_ref) else { continue };
            plan.layout.column(&scratch.new, *at, &mut scratch.places);
            let nulls = nulls(scratch.new.has_nulls(), &scratch.places, &mut scratch.nulls);
            let cells = (images, &scratch.places[..], nulls);
            fill(plan, (slot, *at), cells, builder, &mut scratch.bytes)?;
        }
        if scratch.moved.is_empty() {
            return Ok(());
        }
        for (slot, builder) in self.before.iter_mut().enumerate() {
            let Some((at, _)) = plan.sources.get(slot).and_then(Option::as_ref) else { continue };
            plan.layout.column(&scratch.old, *at, &mut scratch.old_places);
            let of = |row: &u32| scratch.old_places.get(*row as usize).copied().unwrap_or(NOWHERE);
            scratch.places.clear();
            scratch.places.extend(scratch.moved.iter().map(of));
            let nulls = nulls(scratch.old.has_nulls(), &scratch.places, &mut scratch.nulls);
            let cells = (images, &scratch.places[..], nulls);
            fill(plan, (slot, *at), cells, builder, &mut scratch.bytes)?;
        }
        Ok(())
    }
}

/// Finds the cells of the next rows. Returns where the row behind them begins.
fn walk(
    plan: &Plan,
    rows: &Rows<'_>,
    from: usize,
    most: usize,
    scratch: &mut Scratch,
) -> Result<usize, Malformed> {
    let Scratch { new, old, moved, .. } = scratch;
    new.clear();
    old.clear();
    moved.clear();
    let mut next = from;
    while new.rows() < most && next - from < BLOCK_BYTES && next < rows.images.len() {
        if rows.kind == RowsKind::Update {
            next = plan.layout.walk(rows.images, next, old)?;
        }
        next = plan.layout.walk(rows.images, next, new)?;
    }
    Ok(next)
}

/// Finds the rows whose key changed; without a key all of them, because all their values identify them.
fn moved(plan: &Plan, images: &[u8], scratch: &mut Scratch) {
    let Scratch { new, old, moved, places, old_places, .. } = scratch;
    if plan.schema.key.is_empty() {
        moved.extend(0..new.rows() as u32);
        return;
    }
    for (at, _) in
        plan.sources.iter().zip(&plan.key).filter(|(_, key)| **key).filter_map(|(s, _)| s.as_ref())
    {
        plan.layout.column(new, *at, places);
        plan.layout.column(old, *at, old_places);
        let width = plan.layout.width(*at);
        for (row, (new, old)) in places.iter().zip(&*old_places).enumerate() {
            if !same(images, *new, *old, width) {
                moved.push(row as u32);
            }
        }
    }
    moved.sort_unstable();
    moved.dedup();
}

/// Whether two cells of one column hold the same bytes.
#[inline]
fn same(images: &[u8], a: u32, b: u32, width: Width) -> bool {
    match width {
        Width::Fixed(8) => array::<8>(images, a) == array::<8>(images, b),
        Width::Fixed(4) => array::<4>(images, a) == array::<4>(images, b),
        _ => bytes(images, a, width) == bytes(images, b, width),
    }
}

/// `None`: NULL.
#[inline]
fn array<const N: usize>(images: &[u8], place: u32) -> Option<&[u8; N]> {
    images.get(place as usize..).and_then(|rest| rest.first_chunk())
}

/// `None`: NULL.
fn bytes(images: &[u8], place: u32, width: Width) -> Option<&[u8]> {
    match width {
        Width::Fixed(bytes) => images.get(place as usize..)?.get(..bytes as usize),
        Width::Counted(counted) => content(images, place, counted),
    }
}

fn nulls<'a>(any: bool, places: &[u32], into: &'a mut Vec<bool>) -> Option<&'a [bool]> {
    if !any || !places.contains(&NOWHERE) {
        return None;
    }
    into.clear();
    into.extend(places.iter().map(|place| *place == NOWHERE));
    Some(into)
}

/// Fills the column `slot` with cells of the log's column `at`.
fn fill(
    plan: &Plan,
    (slot, at): (usize, usize),
    (images, places, nulls): (&[u8], &[u32], Option<&[bool]>),
    builder: &mut ColumnBuilder,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    if plan.fills.get(slot).is_some_and(|fill: &Fill| fill.fill(images, places, nulls, builder)) {
        return Ok(());
    }
    let (reader, width) = (plan.reader(at)?, plan.layout.width(at));
    for place in places {
        let value: Value<'_> = match bytes(images, *place, width) {
            Some(bytes) => reader.value(bytes, scratch).map_err(|error| plan.corrupt(error))?,
            None => Value::Null,
        };
        builder.push(value).map_err(|bad| plan.bad(slot, bad))?;
    }
    Ok(())
}
