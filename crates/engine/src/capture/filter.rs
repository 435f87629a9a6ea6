//! Choosing rows of a batch. Pure.
use arrow_array::BooleanArray;
use arrow_buffer::BooleanBuffer;
use arrow_select::filter::filter_record_batch;
use lakeward_core::{AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Op, Run};

/// The rows whose entry in `mask` is true, as a batch of its own; `None` when there are none.
/// `mask` has one entry per row of `batch`.
pub fn filter_batch(batch: &ChangeBatch, mask: &[bool]) -> Option<ChangeBatch> {
    if mask.iter().all(|keep| *keep) {
        return (!batch.is_empty()).then(|| batch.clone());
    }
    let bits = BooleanArray::from(mask.to_vec());
    // The mask has the batch's length, so the kernel cannot fail; an empty answer drops nothing that was asked for.
    let rows = filter_record_batch(&batch.rows, &bits).ok().filter(|r| r.num_rows() > 0)?;
    let kept: Vec<usize> = (0..mask.len()).filter(|i| mask[*i]).collect();
    Some(ChangeBatch {
        schema: std::sync::Arc::clone(&batch.schema),
        ops: kept.iter().map(|i| batch.ops[*i]).collect::<Vec<Op>>(),
        rows,
        before: batch.before.as_ref().and_then(|b| filter_before(b, mask)),
        absent: batch
            .absent
            .as_ref()
            .map(|a| filter_absent(a, &kept))
            .filter(|a| !a.columns.is_empty()),
        origin: batch.origin.clone(),
        runs: filter_runs(&batch.runs, mask),
    })
}

fn filter_before(before: &BeforeImages, mask: &[bool]) -> Option<BeforeImages> {
    let bits: Vec<bool> = before.at.iter().map(|at| mask[*at as usize]).collect();
    let mut renumbered = vec![0u32; mask.len()];
    let mut next = 0;
    for (i, keep) in mask.iter().enumerate() {
        renumbered[i] = next;
        next += u32::from(*keep);
    }
    let at: Vec<u32> = before
        .at
        .iter()
        .filter(|at| mask[**at as usize])
        .map(|at| renumbered[*at as usize])
        .collect();
    let rows = filter_record_batch(&before.rows, &BooleanArray::from(bits)).ok()?;
    (!at.is_empty()).then_some(BeforeImages { at, rows, key_only: before.key_only })
}

fn filter_absent(absent: &AbsentCells, kept: &[usize]) -> AbsentCells {
    let columns = absent
        .columns
        .iter()
        .map(|c| AbsentColumn {
            column: c.column,
            missing: BooleanBuffer::collect_bool(kept.len(), |i| c.missing.value(kept[i])),
        })
        .filter(|c| c.missing.count_set_bits() > 0)
        .collect();
    AbsentCells { columns }
}

fn filter_runs(runs: &[Run], mask: &[bool]) -> Vec<Run> {
    let mut at = 0;
    let mut out = Vec::with_capacity(runs.len());
    for run in runs {
        let end = at + run.rows as usize;
        let rows = mask[at..end].iter().filter(|keep| **keep).count() as u32;
        if rows > 0 {
            out.push(Run { rows, transaction: std::sync::Arc::clone(&run.transaction) });
        }
        at = end;
    }
    out
}
