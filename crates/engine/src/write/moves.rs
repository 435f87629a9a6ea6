//! Rows that change their key without all their cells, while their table is being loaded. Pure.
//!
//! The lake may then hold rows from the future: a chunk saw more than the log has brought. Under the old key there may
//! stand a row that came later, and its cells would be given to the row that moved away: a wrong value that no later
//! change corrects, because the log never sends the cell. So the old key is deleted, and the new key is read by key.
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::BooleanBuffer;
use arrow_select::interleave::interleave;
use arrow_select::take::take_record_batch;
use lakeward_core::{
    AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Error, ErrorKind, Op, Result,
};

/// Turns moves that lack cells into deletes of the old key; gives back the rows whose keys must be read.
///
/// # Errors
/// `Bug` when the batch breaks its own invariants.
pub(super) fn settle(batch: ChangeBatch) -> Result<(ChangeBatch, Option<RecordBatch>)> {
    let (Some(before), Some(absent)) = (&batch.before, &batch.absent) else {
        return Ok((batch, None));
    };
    // Place in the before images, by row.
    let moves: Vec<(u32, usize)> = before
        .at
        .iter()
        .enumerate()
        .filter(|(_, row)| absent.row_is_incomplete(**row as usize))
        .map(|(place, row)| (*row, place))
        .collect();
    if moves.is_empty() {
        return Ok((batch, None));
    }
    let broken = |e| Error::new(ErrorKind::Bug, "a batch does not fit its schema").caused_by(e);
    let owing = take_record_batch(
        &batch.rows,
        &UInt32Array::from_iter_values(moves.iter().map(|(row, _)| *row)),
    )
    .map_err(broken)?;
    let mut sources: Vec<(usize, usize)> = (0..batch.len()).map(|row| (0, row)).collect();
    let mut ops = batch.ops.clone();
    for (row, place) in &moves {
        sources[*row as usize] = (1, *place);
        ops[*row as usize] = Op::Delete;
    }
    let columns = batch
        .rows
        .columns()
        .iter()
        .zip(before.rows.columns())
        .map(|(after, before)| interleave(&[after.as_ref(), before.as_ref()], &sources))
        .collect::<Result<Vec<ArrayRef>, _>>()
        .map_err(broken)?;
    let rows = RecordBatch::try_new(batch.rows.schema(), columns).map_err(broken)?;
    let moved = |row: u32| moves.iter().any(|(m, _)| *m == row);
    let settled = ChangeBatch {
        before: other_images(before, &moved).map_err(broken)?,
        absent: other_absences(absent, batch.len(), &moved),
        schema: Arc::clone(&batch.schema),
        ops,
        rows,
        origin: batch.origin.clone(),
        runs: batch.runs.clone(),
    };
    Ok((settled, Some(owing)))
}

fn other_images(
    before: &BeforeImages,
    moved: &impl Fn(u32) -> bool,
) -> Result<Option<BeforeImages>, arrow_schema::ArrowError> {
    let places: Vec<u32> =
        (0..before.at.len() as u32).filter(|place| !moved(before.at[*place as usize])).collect();
    if places.is_empty() {
        return Ok(None);
    }
    let at = places.iter().map(|place| before.at[*place as usize]).collect();
    let rows = take_record_batch(&before.rows, &UInt32Array::from(places))?;
    Ok(Some(BeforeImages { at, rows, key_only: before.key_only }))
}

fn other_absences(
    absent: &AbsentCells,
    rows: usize,
    moved: &impl Fn(u32) -> bool,
) -> Option<AbsentCells> {
    let columns: Vec<_> = absent
        .columns
        .iter()
        .map(|c| AbsentColumn {
            column: c.column,
            missing: BooleanBuffer::collect_bool(rows, |i| c.missing.value(i) && !moved(i as u32)),
        })
        .filter(|c| c.missing.count_set_bits() > 0)
        .collect();
    (!columns.is_empty()).then_some(AbsentCells { columns })
}
