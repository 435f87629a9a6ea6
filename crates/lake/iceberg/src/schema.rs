//! The shape of a lake table: which source column is which Iceberg field, and how that changes.
//!
//! Columns are followed by their stable ids only, so renames, swaps of names and dropped-and-added columns of one name
//! cannot be mixed up. Deliberately absent: defaults. Format version 2 cannot give old rows a value they never had.
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use iceberg::spec::{NestedField, NestedFieldRef, Schema, TableMetadata, Type};
use lakeward_core::{
    Column, ColumnId, Error, ErrorKind, Fill, Result, SchemaChange, TableIdentity, TableSchema,
};
use serde::{Deserialize, Serialize};

use crate::types::{arrow_type, iceberg_type, is_float, lake_type, widens};

/// Table property that says which source column each field is.
pub(crate) const COLUMNS_PROPERTY: &str = "lakeward.columns";

/// Metadata key under which an Arrow field carries its Iceberg field id into Parquet.
const FIELD_ID: &str = "PARQUET:field_id";

/// One column of the lake table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShapeField {
    pub(crate) column: ColumnId,
    pub(crate) id: i32,
    /// The list's element field.
    pub(crate) element: Option<i32>,
    pub(crate) name: String,
    /// The Arrow type in the files; one to one with the Iceberg type.
    pub(crate) data_type: DataType,
    pub(crate) required: bool,
}

/// What a lake table looks like, and where its columns come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) identity: TableIdentity,
    pub(crate) fields: Vec<ShapeField>,
    pub(crate) key: Vec<ColumnId>,
    /// The highest field id ever given out in this table.
    pub(crate) last_id: i32,
}

/// The shape that a table has.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) shape: Shape,
    /// Whether all columns that we gave it are still there.
    pub(crate) complete: bool,
}

/// What [`Shape::becoming`] found.
#[derive(Debug)]
pub(crate) struct Becoming {
    pub(crate) shape: Shape,
    /// Why rows that are already there would be wrong under the new shape.
    pub(crate) reload: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    identity: TableIdentity,
    columns: Vec<(ColumnId, i32)>,
    key: Vec<ColumnId>,
}

impl Shape {
    /// The shape of a table that does not exist yet.
    pub(crate) fn first(schema: &TableSchema) -> Result<Self> {
        let nothing =
            Self { identity: schema.identity.clone(), fields: vec![], key: vec![], last_id: 0 };
        Ok(nothing.becoming(schema, |_| None)?.shape)
    }

    /// The shape that a table's metadata describes; `None` when we did not make the table.
    pub(crate) fn of(metadata: &TableMetadata) -> Result<Option<Landed>> {
        let Some(text) = metadata.properties().get(COLUMNS_PROPERTY) else { return Ok(None) };
        let wire: Wire = serde_json::from_str(text).map_err(|error| {
            Error::new(ErrorKind::Corrupt, "a table property of ours cannot be read")
                .with("property", COLUMNS_PROPERTY)
                .caused_by(error)
        })?;
        let columns: HashMap<i32, ColumnId> =
            wire.columns.iter().map(|(c, id)| (*id, *c)).collect();
        // A column that another writer added is none of ours.
        let fields = metadata.current_schema().as_struct().fields().iter();
        let fields =
            fields.filter_map(|f| columns.get(&f.id).map(|column| ShapeField::of(f, *column)));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let complete = fields.len() == columns.len();
        let last_id = metadata.last_column_id();
        let shape = Self { identity: wire.identity, fields, key: wire.key, last_id };
        Ok(Some(Landed { shape, complete }))
    }

    /// The shape after the table has become `after`. `fill` tells what old rows hold in a column that is new to the source;
    /// `None`: the source knew the column before, the lake did not.
    pub(crate) fn becoming<'a>(
        &self,
        after: &TableSchema,
        fill: impl Fn(usize) -> Option<&'a Fill>,
    ) -> Result<Becoming> {
        let mut next = NextId(self.last_id);
        let mut reload = None;
        let mut fields = Vec::with_capacity(after.columns.len());
        for (index, column) in after.columns.iter().enumerate() {
            let wanted = lake_type(&column.data_type).map_err(|e| named(e, after, column))?;
            let in_key = after.key.contains(&(index as u32));
            // Files that are there already lack a new column: only the first columns can be required.
            let required = in_key && self.fields.is_empty();
            let old = self.field_for(after, column);
            let kept = old.filter(|old| widens(&old.data_type, &wanted));
            if kept.is_none() && reload.is_none() {
                reload = why_reload(column, old, fill(index));
            }
            fields.push(match kept {
                Some(old) => old.renewed(column, wanted, in_key),
                None => ShapeField::fresh(column, wanted, required, &mut next),
            });
        }
        let key = after.key_columns().map(|c| c.id).collect();
        let shape = Self { identity: after.identity.clone(), fields, key, last_id: next.0 };
        Ok(Becoming { shape, reload })
    }

    /// By id; by name when the lake's columns came from another table of the same name, whose ids mean nothing here.
    fn field_for(&self, after: &TableSchema, column: &Column) -> Option<&ShapeField> {
        let same_table = self.identity == after.identity;
        self.fields
            .iter()
            .find(|f| if same_table { f.column == column.id } else { f.name == column.name })
    }

    /// The Iceberg schema. Its id is given by the metadata builder.
    pub(crate) fn schema(&self) -> Result<Schema> {
        let key: Vec<&ShapeField> = self.key.iter().filter_map(|c| self.field(*c)).collect();
        let usable = !key.is_empty()
            && key.iter().all(|f| f.required && f.element.is_none() && !is_float(&f.data_type));
        let identifiers: Vec<i32> =
            if usable { key.iter().map(|f| f.id).collect() } else { vec![] };
        let fields =
            self.fields.iter().map(|f| Ok(Arc::new(f.nested()?))).collect::<Result<Vec<_>>>()?;
        Schema::builder()
            .with_fields(fields)
            .with_identifier_field_ids(identifiers)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Bug, "could not build the table's schema").caused_by(error)
            })
    }

    /// The value of [`COLUMNS_PROPERTY`].
    pub(crate) fn property(&self) -> Result<String> {
        let columns = self.fields.iter().map(|f| (f.column, f.id)).collect();
        let wire = Wire { identity: self.identity.clone(), columns, key: self.key.clone() };
        serde_json::to_string(&wire).map_err(|error| {
            Error::new(ErrorKind::Bug, "could not write a table property").caused_by(error)
        })
    }

    /// Arrow fields of the files, each with its Iceberg field id.
    pub(crate) fn arrow(&self) -> ArrowSchemaRef {
        Arc::new(ArrowSchema::new(self.fields.iter().map(ShapeField::arrow).collect::<Vec<_>>()))
    }

    /// The field that holds a source column.
    pub(crate) fn field(&self, column: ColumnId) -> Option<&ShapeField> {
        self.fields.iter().find(|f| f.column == column)
    }

    /// Indices of the key's fields, in key order.
    pub(crate) fn key_indices(&self) -> Vec<usize> {
        let index = |column: &ColumnId| self.fields.iter().position(|f| f.column == *column);
        self.key.iter().filter_map(index).collect()
    }
}

/// What a change says of old rows in a column; `None` when the source had the column before it.
pub(crate) fn fill_of(change: &SchemaChange, index: usize) -> Option<&Fill> {
    let column = change.after.columns.get(index)?;
    if change.before.column(column.id).is_some() { None } else { change.fill.get(index) }
}

struct NextId(i32);

impl NextId {
    fn take(&mut self) -> i32 {
        self.0 += 1;
        self.0
    }
}

impl ShapeField {
    fn fresh(column: &Column, data_type: DataType, required: bool, next: &mut NextId) -> Self {
        let id = next.take();
        let element = matches!(data_type, DataType::List(_)).then(|| next.take());
        Self { column: column.id, id, element, name: column.name.clone(), data_type, required }
    }

    /// A field once optional stays so: old files may hold NULL.
    fn renewed(&self, column: &Column, data_type: DataType, in_key: bool) -> Self {
        Self {
            column: column.id,
            name: column.name.clone(),
            data_type,
            required: self.required && in_key,
            ..self.clone()
        }
    }

    fn of(field: &NestedFieldRef, column: ColumnId) -> Result<Self> {
        let element = match field.field_type.as_ref() {
            Type::List(list) => Some(list.element_field.id),
            _ => None,
        };
        Ok(Self {
            column,
            id: field.id,
            element,
            name: field.name.clone(),
            data_type: arrow_type(&field.field_type).map_err(|e| e.with("column", &field.name))?,
            required: field.required,
        })
    }

    fn nested(&self) -> Result<NestedField> {
        let field_type = iceberg_type(&self.data_type, self.element)?;
        Ok(NestedField::new(self.id, &self.name, field_type, self.required))
    }

    fn arrow(&self) -> Field {
        let data_type = match (&self.data_type, self.element) {
            (DataType::List(element), Some(id)) => DataType::List(Arc::new(with_id(
                Field::new("element", element.data_type().clone(), true),
                id,
            ))),
            (other, _) => other.clone(),
        };
        with_id(Field::new(&self.name, data_type, !self.required), self.id)
    }
}

fn with_id(field: Field, id: i32) -> Field {
    field.with_metadata(HashMap::from([(FIELD_ID.to_owned(), id.to_string())]))
}

fn why_reload(column: &Column, old: Option<&ShapeField>, fill: Option<&Fill>) -> Option<String> {
    match (old, fill) {
        (Some(_), _) => {
            Some(format!("column {} changed to a type that its old values do not fit", column.name))
        }
        (None, Some(Fill::Null)) => None,
        (None, Some(Fill::Constant(value))) if value.len() == 1 && value.is_null(0) => None,
        (None, Some(Fill::Constant(_))) => {
            Some(format!("column {} came with a value for old rows", column.name))
        }
        (None, Some(Fill::Unknown)) => {
            Some(format!("column {} came with unknown values for old rows", column.name))
        }
        (None, None) => Some(format!("column {} is not in the lake yet", column.name)),
    }
}

fn named(error: Error, schema: &TableSchema, column: &Column) -> Error {
    error.with("table", &schema.table).with("column", &column.name)
}

#[cfg(test)]
mod tests {
    use lakeward_core::TableId;

    use super::*;

    fn schema(identity: &str, columns: &[(i32, &str, DataType)], key: &[u32]) -> TableSchema {
        let column = |(id, name, data_type): &(i32, &str, DataType)| Column {
            id: ColumnId(*id),
            name: (*name).into(),
            data_type: data_type.clone(),
            declared: String::new(),
            nullable: true,
        };
        TableSchema::new(
            TableId::new("public", "t"),
            TableIdentity(identity.into()),
            columns.iter().map(column).collect(),
            key.to_vec(),
            String::new(),
        )
    }

    fn ids(shape: &Shape) -> Vec<(&str, i32)> {
        shape.fields.iter().map(|f| (f.name.as_str(), f.id)).collect()
    }

    const NULL: Fill = Fill::Null;

    #[test]
    fn columns_are_followed_by_id_through_swaps_drops_and_widening() {
        let first = schema(
            "1",
            &[(1, "k", DataType::Int32), (2, "a", DataType::Utf8), (3, "b", DataType::Utf8)],
            &[0],
        );
        let shape = Shape::first(&first).unwrap();
        assert_eq!(ids(&shape), [("k", 1), ("a", 2), ("b", 3)]);

        let swapped = schema(
            "1",
            &[(1, "k", DataType::Int64), (2, "b", DataType::Utf8), (3, "a", DataType::Utf8)],
            &[0],
        );
        let next = shape.becoming(&swapped, |_| Some(&NULL)).unwrap();
        assert_eq!(ids(&next.shape), [("k", 1), ("b", 2), ("a", 3)]);
        assert_eq!((next.shape.fields[0].data_type.clone(), next.reload), (DataType::Int64, None));

        let readded = schema("1", &[(1, "k", DataType::Int64), (4, "b", DataType::Utf8)], &[0]);
        let last = next.shape.becoming(&readded, |_| Some(&NULL)).unwrap();
        assert_eq!((ids(&last.shape), last.reload), (vec![("k", 1), ("b", 4)], None));
    }

    #[test]
    fn a_type_that_old_values_do_not_fit_becomes_a_new_field_and_a_reload() {
        let before = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Utf8)], &[0]);
        let after = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Date32)], &[0]);
        let next = Shape::first(&before).unwrap().becoming(&after, |_| None).unwrap();
        assert_eq!(ids(&next.shape), [("k", 1), ("a", 3)]);
        assert!(next.reload.unwrap().contains("column a"));
    }

    #[test]
    fn only_null_fills_leave_old_rows_right() {
        let before = schema("1", &[(1, "k", DataType::Int32)], &[0]);
        let after = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Int32)], &[0]);
        let shape = Shape::first(&before).unwrap();
        let constant = Fill::Constant(Arc::new(arrow_array::Int32Array::from(vec![7])));
        let null = Fill::Constant(Arc::new(arrow_array::Int32Array::from(vec![None])));
        let reload = |fill: &Fill| shape.becoming(&after, |_| Some(fill)).unwrap().reload.is_some();
        assert_eq!(
            [&NULL, &null, &constant, &Fill::Unknown].map(reload),
            [false, false, true, true]
        );
    }

    #[test]
    fn another_table_of_the_same_name_keeps_fields_by_name() {
        let before = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Utf8)], &[0]);
        let after = schema("2", &[(1, "a", DataType::Utf8), (2, "k", DataType::Int32)], &[1]);
        let next = Shape::first(&before).unwrap().becoming(&after, |_| None).unwrap();
        assert_eq!((ids(&next.shape), next.reload), (vec![("a", 2), ("k", 1)], None));
    }

    #[test]
    fn lists_and_keys_have_ids_and_survive_the_iceberg_schema() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int16, true)));
        let shape =
            Shape::first(&schema("1", &[(1, "k", DataType::Int16), (2, "l", list)], &[0])).unwrap();
        let iceberg = shape.schema().unwrap();
        assert_eq!(iceberg.identifier_field_ids().collect::<Vec<_>>(), [1]);
        assert_eq!((shape.fields[1].element, shape.last_id), (Some(3), 3));
        for (ours, theirs) in shape.fields.iter().zip(iceberg.as_struct().fields()) {
            assert_eq!(*ours, ShapeField::of(theirs, ours.column).unwrap());
        }
    }
}
