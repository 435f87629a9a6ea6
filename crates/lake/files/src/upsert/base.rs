//! Missing cells: reading base rows, and putting their cells into the rows that lack them.
//!
//! Deliberately absent: which row is the base (the pure plan's business).
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave;
use futures::TryStreamExt;
use lakeward_core::{AbsentCells, Error, ErrorKind, Op, Result};
use roaring::RoaringBitmap;

use super::state::{Base, BufferPlace, Own};
use crate::index::{FileId, Place};
use crate::layout::TableLayout;
use crate::read::{DataFileReader, RowChoice};

/// The missing cells of a batch, in the lake's columns.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Index of the lake column, and one bit per row: set where the cell is missing.
    columns: Vec<(usize, BooleanBuffer)>,
}

impl Missing {
    /// Follows the mapping of the batch's columns to the lake's. Deletes lack nothing.
    pub(crate) fn new(absent: Option<&AbsentCells>, columns: &[Option<usize>], ops: &[Op]) -> Self {
        let is_set = BooleanBuffer::collect_bool(ops.len(), |row| ops[row] != Op::Delete);
        let mask = |column: usize| {
            let absent = absent?.columns.iter().find(|a| a.column as usize == column)?;
            Some(&absent.missing & &is_set)
        };
        let columns = columns.iter().enumerate();
        let columns = columns
            .filter_map(|(lake, column)| Some((lake, column.and_then(mask)?)))
            .filter(|(_, missing)| missing.count_set_bits() > 0)
            .collect();
        Self { columns }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether each row lacks a cell.
    pub(crate) fn incomplete(&self, rows: usize) -> Vec<bool> {
        (0..rows).map(|row| self.columns.iter().any(|(_, missing)| missing.value(row))).collect()
    }

    /// The columns in which any cell is missing, for reading them alone.
    pub(crate) fn schema(&self, layout: &TableLayout) -> SchemaRef {
        let fields = layout.nullable_schema().fields();
        Arc::new(Schema::new(
            self.columns.iter().map(|(lake, _)| fields[*lake].clone()).collect::<Vec<_>>(),
        ))
    }
}

/// Base rows that were read from one file: only the columns in which cells are missing.
#[derive(Debug)]
pub(crate) struct Fetched {
    rows: RecordBatch,
    numbers: RoaringBitmap,
}

impl Fetched {
    /// Reads rows of a file.
    pub(crate) async fn read(
        reader: &DataFileReader,
        schema: &SchemaRef,
        numbers: RoaringBitmap,
    ) -> Result<Self> {
        let batches: Vec<_> =
            reader.stream(schema, &RowChoice::Only(numbers.clone()))?.try_collect().await?;
        let rows = concat_batches(schema, &batches).map_err(|e| bug().caused_by(e))?;
        if rows.num_rows() as u64 != numbers.len() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "a data file has fewer rows than its places say",
            ));
        }
        Ok(Self { rows, numbers })
    }

    fn position(&self, row: u32) -> Option<usize> {
        self.numbers.contains(row).then(|| self.numbers.rank(row) as usize - 1)
    }
}

/// Rows by file.
pub(crate) fn group<F: Ord>(rows: impl Iterator<Item = (F, u32)>) -> BTreeMap<F, RoaringBitmap> {
    let mut groups = BTreeMap::new();
    for (file, row) in rows {
        groups.entry(file).or_insert_with(RoaringBitmap::new).insert(row);
    }
    groups
}

/// All that a batch's missing cells can be taken from.
pub(crate) struct Bases<'a> {
    /// The number of the batch itself.
    pub(crate) batch: u32,
    /// Each incomplete row with its base, ascending.
    pub(crate) rows: &'a [(usize, Base)],
    /// The before images: their place by row, and themselves.
    pub(crate) before: Option<(&'a HashMap<usize, usize>, &'a RecordBatch)>,
    /// Batches of the buffer that are bases.
    pub(crate) buffered: BTreeMap<u32, &'a RecordBatch>,
    /// Rows of this epoch's files.
    pub(crate) own: &'a BTreeMap<u32, Fetched>,
    /// Rows of the lake.
    pub(crate) lake: &'a BTreeMap<FileId, Fetched>,
}

impl Bases<'_> {
    /// `rows` with all missing cells filled in, but for those of rows without a base.
    pub(crate) fn complete(&self, rows: &RecordBatch, missing: &Missing) -> Result<RecordBatch> {
        let mut columns = rows.columns().to_vec();
        for (at, (lake, mask)) in missing.columns.iter().enumerate() {
            columns[*lake] = self.column(rows.column(*lake), *lake, at, mask)?;
        }
        RecordBatch::try_new(rows.schema(), columns).map_err(|e| bug().caused_by(e))
    }

    /// One column: `lake` is its index in whole rows, `at` in fetched ones.
    fn column(
        &self,
        column: &ArrayRef,
        lake: usize,
        at: usize,
        mask: &BooleanBuffer,
    ) -> Result<ArrayRef> {
        let mut sources = Sources { arrays: vec![column.as_ref()], numbers: HashMap::new() };
        let mut cells: Vec<(usize, usize)> = (0..column.len()).map(|row| (0, row)).collect();
        for (row, base) in self.rows.iter().filter(|(row, _)| mask.value(*row)) {
            let cell = match base {
                Base::Own(Own::Buffer(place)) if place.batch == self.batch => {
                    // An earlier row of the same batch, whose own cell is settled already.
                    cells.get(place.row as usize).copied()
                }
                other => self.cell(*row, *other, lake, at, &mut sources),
            };
            cells[*row] = cell.ok_or_else(bug)?;
        }
        interleave(&sources.arrays, &cells).map_err(|e| bug().caused_by(e))
    }

    fn cell<'s>(
        &'s self,
        row: usize,
        base: Base,
        lake: usize,
        at: usize,
        sources: &mut Sources<'s>,
    ) -> Option<(usize, usize)> {
        match base {
            Base::Before => {
                let (places, before) = self.before?;
                Some((sources.number(From::Before, before.column(lake)), *places.get(&row)?))
            }
            Base::Own(Own::Buffer(BufferPlace { batch, row })) => {
                let rows = self.buffered.get(&batch)?;
                Some((sources.number(From::Buffer(batch), rows.column(lake)), row as usize))
            }
            Base::Own(Own::File(place)) => {
                let file = self.own.get(&place.file)?;
                let number = sources.number(From::Own(place.file), file.rows.column(at));
                Some((number, file.position(place.row)?))
            }
            Base::Lake(Place { file, row }) => {
                let fetched = self.lake.get(&file)?;
                let number = sources.number(From::Lake(file), fetched.rows.column(at));
                Some((number, fetched.position(row)?))
            }
        }
    }
}

/// The arrays that cells are taken from, numbered as they come.
struct Sources<'a> {
    arrays: Vec<&'a dyn Array>,
    numbers: HashMap<From, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum From {
    Before,
    Buffer(u32),
    Own(u32),
    Lake(FileId),
}

impl<'a> Sources<'a> {
    fn number(&mut self, from: From, array: &'a ArrayRef) -> usize {
        *self.numbers.entry(from).or_insert_with(|| {
            self.arrays.push(array.as_ref());
            self.arrays.len() - 1
        })
    }
}

fn bug() -> Error {
    Error::new(ErrorKind::Bug, "missing cells could not be filled in")
}
