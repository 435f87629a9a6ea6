//! Row lineage: the two columns in which rows that move to another file keep who they are and when they changed last.
//!
//! A row that carries neither has them from its file. Deliberately absent: where a file has them from.
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use lakeward_core::{Error, ErrorKind, Result};

use crate::layout::{FIELD_ID, TableLayout};

/// Field id of the column of row ids.
pub const ROW_ID: i32 = 2_147_483_540;
/// Field id of the column of the sequence numbers with which rows changed last.
pub const LAST_UPDATED_ID: i32 = 2_147_483_539;

/// What rows of a file have that do not carry their lineage themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The id of the file's first row; the others follow by their place. `None`: not given yet.
    pub first_row: Option<i64>,
    /// The sequence number with which the rows came.
    pub sequence: Option<i64>,
}

/// The layout with the two columns behind the table's own.
pub(crate) fn carrying(layout: &TableLayout) -> Result<TableLayout> {
    let field = |name: &str, id: i32| {
        let id = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Arc::new(Field::new(name, DataType::Int64, true).with_metadata(id))
    };
    let lineage =
        [field("_row_id", ROW_ID), field("_last_updated_sequence_number", LAST_UPDATED_ID)];
    let fields: Vec<_> = layout.schema().fields().iter().cloned().chain(lineage).collect();
    TableLayout::new(layout.table(), Arc::new(Schema::new(fields)), layout.identity().clone())
}

/// `rows` of a [`carrying`] layout with both columns filled. `numbers` are the rows' places in their file.
pub(crate) fn filled(
    rows: RecordBatch,
    numbers: &mut impl Iterator<Item = u32>,
    lineage: Lineage,
) -> Result<RecordBatch> {
    let schema = rows.schema();
    let mut columns = rows.columns().to_vec();
    let [.., ids, updated] = columns.as_mut_slice() else { return Err(bug()) };
    let given = ids.as_primitive_opt::<Int64Type>().ok_or_else(bug)?;
    let numbered = given
        .iter()
        .zip(numbers)
        .map(|(own, number)| own.or_else(|| lineage.first_row?.checked_add(i64::from(number))));
    let numbered: Int64Array = numbered.collect();
    let given = updated.as_primitive_opt::<Int64Type>().ok_or_else(bug)?;
    let dated: Int64Array = given.iter().map(|own| own.or(lineage.sequence)).collect();
    (*ids, *updated) = (Arc::new(numbered) as ArrayRef, Arc::new(dated) as ArrayRef);
    RecordBatch::try_new(schema, columns).map_err(|error| bug().caused_by(error))
}

fn bug() -> Error {
    Error::new(ErrorKind::Bug, "rows have no place for their lineage")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Identity;

    #[test]
    fn rows_keep_their_own_lineage_and_take_the_files_else() {
        let id = HashMap::from([(FIELD_ID.to_owned(), "1".to_owned())]);
        let own = Field::new("a", DataType::Int64, false).with_metadata(id);
        let schema = Arc::new(Schema::new(vec![own]));
        let layout =
            carrying(&TableLayout::new("t", schema, Identity::Key(vec![0])).unwrap()).unwrap();
        assert_eq!(layout.field_ids(), [1, ROW_ID, LAST_UPDATED_ID]);
        let column = |cells: &[Option<i64>]| {
            Arc::new(cells.iter().copied().collect::<Int64Array>()) as ArrayRef
        };
        let rows = RecordBatch::try_new(
            Arc::clone(layout.nullable_schema()),
            vec![
                column(&[Some(7), Some(8), Some(9)]),
                column(&[None, Some(5), None]),
                column(&[None, Some(2), None]),
            ],
        )
        .unwrap();
        let of = |first_row, sequence| {
            let numbers = &mut [0u32, 3, 4].into_iter();
            let rows = filled(rows.clone(), numbers, Lineage { first_row, sequence }).unwrap();
            [rows.column(1), rows.column(2)]
                .map(|c| c.as_primitive::<Int64Type>().iter().collect::<Vec<Option<i64>>>())
        };
        assert_eq!(
            of(Some(100), Some(6)),
            [vec![Some(100), Some(5), Some(104)], vec![Some(6), Some(2), Some(6)]]
        );
        assert_eq!(of(None, None), [vec![None, Some(5), None], vec![None, Some(2), None]]);
    }
}
