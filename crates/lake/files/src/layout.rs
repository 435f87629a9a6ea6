//! The shape in which a table's rows lie in the lake, and the fitting of a batch to it.
//!
//! Deliberately absent: how a format names its types. A layout is an Arrow schema whose fields carry field ids.
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use lakeward_core::{Error, ErrorKind, KeyHash, Result, hash_keys};

/// The metadata key under which an Arrow field carries its field id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// What makes two rows the same row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The values of these columns (indices into the layout's schema, in key order, at least one).
    Key(Vec<usize>),
    /// All columns; equal rows are counted, and removed one for one.
    WholeRow,
    /// Nothing: every row is added, and nothing can be removed but by truncating.
    Append,
}

/// Columns of a table in the lake, with their field ids, and its identity.
#[derive(Debug, Clone)]
pub struct TableLayout {
    table: Arc<str>,
    schema: SchemaRef,
    nullable: SchemaRef,
    identity: Identity,
    ids: Vec<i32>,
}

impl TableLayout {
    /// A layout. `table` is used in errors only.
    ///
    /// # Errors
    /// `Bug` when a top-level field has no field id, or the key names a column that is not there.
    pub fn new(table: impl Into<Arc<str>>, schema: SchemaRef, identity: Identity) -> Result<Self> {
        let table = table.into();
        let ids = schema
            .fields()
            .iter()
            .map(|field| {
                field_id(field).ok_or_else(|| {
                    Error::new(ErrorKind::Bug, "a lake column has no field id")
                        .with("table", &table)
                        .with("column", field.name())
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if let Identity::Key(key) = &identity
            && (key.is_empty() || key.iter().any(|i| *i >= ids.len()))
        {
            return Err(Error::new(ErrorKind::Bug, "a key names no column").with("table", &table));
        }
        let nullable = Arc::new(Schema::new(
            schema
                .fields()
                .iter()
                .map(|f| Arc::new(f.as_ref().clone().with_nullable(true)))
                .collect::<Vec<_>>(),
        ));
        Ok(Self { table, schema, nullable, identity, ids })
    }

    /// The table's name, for errors.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The Arrow schema of the files, with field ids.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same columns, all of them nullable: what the log may bring (a deleted row knows only its key).
    pub fn nullable_schema(&self) -> &SchemaRef {
        &self.nullable
    }

    /// What makes two rows the same row.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The field ids of the columns, in order.
    pub fn field_ids(&self) -> &[i32] {
        &self.ids
    }

    /// Indices of the columns whose values identify a row; empty in append mode.
    pub fn identity_columns(&self) -> Vec<usize> {
        match &self.identity {
            Identity::Key(key) => key.clone(),
            Identity::WholeRow => (0..self.ids.len()).collect(),
            Identity::Append => Vec::new(),
        }
    }

    /// Whether rows have the same identity under both layouts: an index made under one serves the other.
    pub fn same_identity(&self, other: &Self) -> bool {
        let kind = std::mem::discriminant(&self.identity);
        let ids = |layout: &Self| -> Vec<i32> {
            layout.identity_columns().iter().map(|i| layout.ids[*i]).collect()
        };
        kind == std::mem::discriminant(&other.identity) && ids(self) == ids(other)
    }

    /// Names the identity of rows and how it is hashed: equal signatures, equal hashes. Widening a column within its
    /// kind changes nothing.
    pub(crate) fn signature(&self) -> String {
        let rule = match &self.identity {
            Identity::Key(_) => "key",
            Identity::WholeRow => "row",
            Identity::Append => "none",
        };
        let columns = self.identity_columns();
        let columns = columns.iter().map(|i| (self.ids[*i], self.schema.field(*i).data_type()));
        columns.fold(format!("1 {rule}"), |all, (id, data_type)| {
            format!("{all} {id}:{}", hashed_as(data_type))
        })
    }

    /// The columns that identify a row, all nullable, for reading them alone.
    ///
    /// # Errors
    /// None that a layout made by [`new`](Self::new) can give.
    pub(crate) fn identity_layout(&self) -> Result<Self> {
        let columns = self.identity_columns();
        let fields: Vec<_> = columns.iter().map(|i| self.nullable.fields()[*i].clone()).collect();
        let identity = match &self.identity {
            Identity::Key(key) => Identity::Key((0..key.len()).collect()),
            other => other.clone(),
        };
        Self::new(Arc::clone(&self.table), Arc::new(Schema::new(fields)), identity)
    }

    /// The identity of each row of `rows`, which has this layout's columns.
    ///
    /// # Errors
    /// `Unsupported` when a column's type has no canonical encoding.
    pub fn hash(&self, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        let columns: Vec<ArrayRef> =
            self.identity_columns().iter().map(|i| Arc::clone(rows.column(*i))).collect();
        hash_keys(&columns, rows.num_rows()).map_err(|e| e.with("table", &self.table))
    }

    /// Brings `rows` into this layout: lake column `i` takes column `columns[i]` of `rows`, cast to its type; `None`
    /// gives NULL.
    ///
    /// # Errors
    /// `BadData` naming table and column when a value does not fit.
    pub fn fit(&self, rows: &RecordBatch, columns: &[Option<usize>]) -> Result<RecordBatch> {
        if columns.len() != self.ids.len()
            || columns.iter().flatten().any(|c| *c >= rows.num_columns())
        {
            return Err(Error::new(ErrorKind::Bug, "a column mapping does not fit its batch")
                .with("table", &self.table));
        }
        let arrays = self
            .nullable
            .fields()
            .iter()
            .zip(columns)
            .map(|(field, column)| match column {
                Some(index) => self.cast(rows.column(*index), field),
                None => Ok(new_null_array(field.data_type(), rows.num_rows())),
            })
            .collect::<Result<Vec<_>>>()?;
        self.batch(&self.nullable, arrays, rows.num_rows())
    }

    fn cast(&self, array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        // The cast's own message may hold a value: it is not kept.
        cast(array, field.data_type()).map_err(|e| {
            e.with("table", &self.table)
                .with("column", field.name())
                .with("type", field.data_type())
        })
    }

    /// `rows` as the files declare them.
    ///
    /// # Errors
    /// `BadData` when a column that may not be NULL holds one.
    pub fn seal(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        for (field, column) in self.schema.fields().iter().zip(rows.columns()) {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(Error::new(ErrorKind::BadData, "a required column holds NULL")
                    .with("table", &self.table)
                    .with("column", field.name()));
            }
        }
        self.batch(&self.schema, rows.columns().to_vec(), rows.num_rows())
    }

    fn batch(&self, schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(|_| {
            Error::new(ErrorKind::Bug, "columns do not make a batch").with("table", &self.table)
        })
    }
}

/// The kind of a type: values of one kind hash alike, whatever their width. See [`lakeward_core::key`].
fn hashed_as(data_type: &DataType) -> String {
    use DataType::{
        Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64,
    };
    match data_type {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => "integer".into(),
        UInt64 | Decimal128(_, 0) => "number".into(),
        Decimal128(_, scale) => format!("number/{scale}"),
        Float32 | Float64 => "float".into(),
        DataType::List(element) => format!("list({})", hashed_as(element.data_type())),
        other => other.to_string(),
    }
}

/// The field id that a field carries.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID)?.parse().ok()
}

/// `array` as `data_type`, exactly or not at all. Types that differ only in nested names or ids are re-labelled.
pub(crate) fn cast(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, data_type, &options)
        .map_err(|_| Error::new(ErrorKind::BadData, "a value does not fit the lake's type"))
}

/// Bytes of a batch's own rows: a slice does not count what it shares and does not show.
pub(crate) fn slice_bytes(rows: &RecordBatch) -> u64 {
    rows.columns().iter().map(|column| column_bytes(column.as_ref())).sum()
}

fn column_bytes(column: &dyn Array) -> u64 {
    let content = |offsets: &[i32]| match offsets {
        [first, .., last] => (last - first).unsigned_abs() as usize + 4 * column.len(),
        _ => 0,
    };
    // The common types are counted without building their description.
    let bytes = match (column.data_type(), column.data_type().primitive_width()) {
        (_, Some(width)) => width * column.len(),
        (DataType::Boolean, _) => column.len().div_ceil(8),
        (DataType::Utf8, _) => content(column.as_string::<i32>().value_offsets()),
        (DataType::Binary, _) => content(column.as_binary::<i32>().value_offsets()),
        _ => {
            let data = column.to_data();
            data.get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        }
    };
    bytes as u64
}

/// How many rows of a batch make about so many bytes; at least one.
pub(crate) fn rows_within(rows: &RecordBatch, bytes: u64) -> usize {
    let each = (slice_bytes(rows) / rows.num_rows().max(1) as u64).max(1);
    usize::try_from(bytes / each).unwrap_or(usize::MAX).max(1)
}
