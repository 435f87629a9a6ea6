//! The shape of a lake table: which source column is which Delta field, and how that changes.
//!
//! Columns are followed by their stable ids only, and found in the files by a physical name that never changes, so renames,
//! swaps of names and dropped-and-added columns of one name cannot be mixed up. Deliberately absent: defaults. Delta cannot
//! give old rows a value they never had.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use lakeward_core::{
    Column, ColumnId, Error, ErrorKind, Fill, Result, SchemaChange, TableIdentity, TableSchema,
};
use lakeward_files::FIELD_ID;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::action::{Format, Metadata};
use crate::types::{arrow_type, delta_type, lake_type, widens};

/// Table property that says which source column each field is.
pub(crate) const COLUMNS_PROPERTY: &str = "lakeward.columns";
/// Table property that names the pipeline and sink that made the table.
pub(crate) const OWNER_PROPERTY: &str = "lakeward.pipeline";
/// Table property that is `true` while the table's initial load runs.
pub(crate) const LOADING_PROPERTY: &str = "lakeward.loading";

const ID: &str = "delta.columnMapping.id";
const PHYSICAL: &str = "delta.columnMapping.physicalName";
const MAX_ID: &str = "delta.columnMapping.maxColumnId";
const WIDENED: &str = "delta.typeChanges";
const WIDENING: &str = "delta.enableTypeWidening";

/// One column of the lake table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShapeField {
    pub(crate) column: ColumnId,
    pub(crate) id: i32,
    pub(crate) name: String,
    /// The column's name in the files.
    pub(crate) physical: String,
    /// The Arrow type in the files; one to one with the Delta type.
    pub(crate) data_type: DataType,
    /// The types that it had before, as the format notes them.
    pub(crate) widened: Vec<Value>,
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

/// What may happen to a column whose type grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// It keeps its field and its rows; readers must know how to widen.
    InPlace,
    /// It becomes a new field, and the table is loaded again.
    Reload,
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

#[derive(Deserialize)]
struct Struct {
    fields: Vec<StructField>,
}

#[derive(Deserialize)]
struct StructField {
    name: String,
    #[serde(rename = "type")]
    data_type: Value,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
}

impl Shape {
    /// The shape of a table that does not exist yet.
    pub(crate) fn first(schema: &TableSchema) -> Result<Self> {
        let growth = Growth::Reload;
        let nothing =
            Self { identity: schema.identity.clone(), fields: vec![], key: vec![], last_id: 0 };
        Ok(nothing.becoming(schema, growth, |_| None)?.shape)
    }

    /// The shape that a table's metadata describes; `None` when we did not make the table.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Landed>> {
        let Some(text) = metadata.configuration.get(COLUMNS_PROPERTY) else { return Ok(None) };
        let wire: Wire = parse(text, COLUMNS_PROPERTY)?;
        let columns: HashMap<i32, ColumnId> =
            wire.columns.iter().map(|(c, id)| (*id, *c)).collect();
        let schema: Struct = parse(&metadata.schema_string, "schemaString")?;
        // A column that another writer added is none of ours.
        let mut fields = Vec::with_capacity(columns.len());
        let mut last_id = 0;
        for field in &schema.fields {
            let Some(id) = field.id() else { continue };
            last_id = last_id.max(id);
            if let Some(column) = columns.get(&id) {
                fields.push(ShapeField::of(field, *column, id)?);
            }
        }
        let complete = fields.len() == columns.len();
        let last_id = last_id.max(noted_last_id(&metadata.configuration));
        let shape = Self { identity: wire.identity, fields, key: wire.key, last_id };
        Ok(Some(Landed { shape, complete }))
    }

    /// The shape after the table has become `after`. `fill` tells what old rows hold in a column that is new to the source;
    /// `None`: the source knew the column before, the lake did not.
    pub(crate) fn becoming<'a>(
        &self,
        after: &TableSchema,
        growth: Growth,
        fill: impl Fn(usize) -> Option<&'a Fill>,
    ) -> Result<Becoming> {
        let mut last_id = self.last_id;
        let mut reload = None;
        let mut fields = Vec::with_capacity(after.columns.len());
        for (index, column) in after.columns.iter().enumerate() {
            let wanted = lake_type(&column.data_type)
                .map_err(|e| e.with("table", &after.table).with("column", &column.name))?;
            let old = self.field_for(after, column);
            let fits = |old: &&ShapeField| {
                old.data_type == wanted
                    || (growth == Growth::InPlace && widens(&old.data_type, &wanted))
            };
            let kept = old.filter(fits);
            if kept.is_none() && reload.is_none() {
                reload = why_reload(column, old, fill(index));
            }
            fields.push(match kept {
                Some(old) => old.renewed(column, wanted)?,
                None => {
                    last_id += 1;
                    ShapeField::fresh(column, wanted, last_id)
                }
            });
        }
        let key = after.key_columns().map(|c| c.id).collect();
        let shape = Self { identity: after.identity.clone(), fields, key, last_id };
        Ok(Becoming { shape, reload })
    }

    /// By id; by name when the lake's columns came from another table of the same name, whose ids mean nothing here.
    fn field_for(&self, after: &TableSchema, column: &Column) -> Option<&ShapeField> {
        let same_table = self.identity == after.identity;
        self.fields
            .iter()
            .find(|f| if same_table { f.column == column.id } else { f.name == column.name })
    }

    /// The table's metadata in this shape: made new, or `before` with another schema and our properties.
    pub(crate) fn metadata(
        &self,
        before: Option<&Metadata>,
        properties: BTreeMap<String, String>,
        name: String,
        now_ms: i64,
    ) -> Result<Metadata> {
        let mut configuration = before.map(|b| b.configuration.clone()).unwrap_or_default();
        configuration.extend(properties);
        configuration.insert(COLUMNS_PROPERTY.into(), self.property()?);
        let last_id = self.last_id.max(noted_last_id(&configuration));
        configuration.insert(MAX_ID.into(), last_id.to_string());
        if self.is_widened() {
            configuration.insert(WIDENING.into(), "true".into());
        }
        Ok(Metadata {
            id: before.map_or_else(|| uuid::Uuid::new_v4().to_string(), |b| b.id.clone()),
            name: Some(name),
            description: before.and_then(|b| b.description.clone()),
            format: Format { provider: "parquet".into(), options: BTreeMap::new() },
            schema_string: self.schema_string()?,
            partition_columns: Vec::new(),
            configuration,
            created_time: before.map_or(Some(now_ms), |b| b.created_time),
        })
    }

    /// Whether a column's type ever grew.
    pub(crate) fn is_widened(&self) -> bool {
        self.fields.iter().any(|f| !f.widened.is_empty())
    }

    fn schema_string(&self) -> Result<String> {
        let fields = self.fields.iter().map(ShapeField::json).collect::<Result<Vec<_>>>()?;
        Ok(json!({ "type": "struct", "fields": fields }).to_string())
    }

    fn property(&self) -> Result<String> {
        let columns = self.fields.iter().map(|f| (f.column, f.id)).collect();
        let wire = Wire { identity: self.identity.clone(), columns, key: self.key.clone() };
        serde_json::to_string(&wire).map_err(|error| {
            Error::new(ErrorKind::Bug, "could not write a table property").caused_by(error)
        })
    }

    /// Arrow fields of the files: physical names and field ids.
    pub(crate) fn arrow(&self) -> ArrowSchemaRef {
        Arc::new(ArrowSchema::new(self.fields.iter().map(ShapeField::arrow).collect::<Vec<_>>()))
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

impl StructField {
    fn id(&self) -> Option<i32> {
        self.metadata.get(ID)?.as_i64()?.try_into().ok()
    }
}

impl ShapeField {
    fn fresh(column: &Column, data_type: DataType, id: i32) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let readable: String = column.name.chars().map(plain).take(40).collect();
        Self {
            column: column.id,
            id,
            name: column.name.clone(),
            physical: format!("{readable}_{id}"),
            data_type,
            widened: Vec::new(),
        }
    }

    fn renewed(&self, column: &Column, data_type: DataType) -> Result<Self> {
        let mut widened = self.widened.clone();
        if data_type != self.data_type {
            let (from, to) = (delta_type(&self.data_type)?, delta_type(&data_type)?);
            widened.push(json!({ "fromType": from, "toType": to }));
        }
        let (column, name) = (column.id, column.name.clone());
        Ok(Self { column, name, data_type, widened, ..self.clone() })
    }

    fn of(field: &StructField, column: ColumnId, id: i32) -> Result<Self> {
        let physical = field.metadata.get(PHYSICAL).and_then(Value::as_str);
        Ok(Self {
            column,
            id,
            name: field.name.clone(),
            physical: physical.unwrap_or(&field.name).to_owned(),
            data_type: arrow_type(&field.data_type).map_err(|e| e.with("column", &field.name))?,
            widened: field
                .metadata
                .get(WIDENED)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
        })
    }

    fn json(&self) -> Result<Value> {
        let mut metadata = json!({ ID: self.id, PHYSICAL: self.physical });
        if !self.widened.is_empty() {
            metadata[WIDENED] = self.widened.clone().into();
        }
        Ok(json!({
            "name": self.name,
            "type": delta_type(&self.data_type)?,
            "nullable": true,
            "metadata": metadata,
        }))
    }

    fn arrow(&self) -> Field {
        let id = HashMap::from([(FIELD_ID.to_owned(), self.id.to_string())]);
        Field::new(&self.physical, self.data_type.clone(), true).with_metadata(id)
    }
}

/// The highest field id ever given out, as the table notes it.
fn noted_last_id(configuration: &BTreeMap<String, String>) -> i32 {
    configuration.get(MAX_ID).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, property: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "the table's metadata cannot be read")
            .with("property", property)
            .caused_by(error)
    })
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

    fn ids(shape: &Shape) -> Vec<(&str, &str)> {
        shape.fields.iter().map(|f| (f.name.as_str(), f.physical.as_str())).collect()
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
        assert_eq!(ids(&shape), [("k", "k_1"), ("a", "a_2"), ("b", "b_3")]);

        let swapped = schema(
            "1",
            &[(1, "k", DataType::Int64), (2, "b", DataType::Utf8), (3, "a", DataType::Utf8)],
            &[0],
        );
        let next = shape.becoming(&swapped, Growth::InPlace, |_| Some(&NULL)).unwrap();
        assert_eq!(ids(&next.shape), [("k", "k_1"), ("b", "a_2"), ("a", "b_3")]);
        assert_eq!((next.shape.fields[0].data_type.clone(), next.reload), (DataType::Int64, None));
        assert_eq!(
            next.shape.fields[0].widened,
            [json!({ "fromType": "integer", "toType": "long" })]
        );

        let readded = schema("1", &[(1, "k", DataType::Int64), (4, "b", DataType::Utf8)], &[0]);
        let last = next.shape.becoming(&readded, Growth::InPlace, |_| Some(&NULL)).unwrap();
        assert_eq!((ids(&last.shape), last.reload), (vec![("k", "k_1"), ("b", "b_4")], None));
    }

    #[test]
    fn a_shape_survives_the_metadata() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int16, true)));
        let first = schema("1", &[(1, "K \"x\"", DataType::Int16), (2, "l", list)], &[0]);
        let shape = Shape::first(&first).unwrap();
        let wide = schema("1", &[(1, "K \"x\"", DataType::Int64)], &[0]);
        let shape = shape.becoming(&wide, Growth::InPlace, |_| None).unwrap().shape;
        let metadata = shape.metadata(None, BTreeMap::new(), "public.t".into(), 5).unwrap();
        let landed = Shape::of(&metadata).unwrap().unwrap();
        assert!(landed.complete);
        assert_eq!(landed.shape, shape);
        assert_eq!((landed.shape.last_id, landed.shape.is_widened()), (2, true));
        assert_eq!(metadata.configuration[WIDENING], "true");
    }

    #[test]
    fn a_type_that_old_values_do_not_fit_becomes_a_new_field_and_a_reload() {
        let before = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Utf8)], &[0]);
        let after = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Date32)], &[0]);
        let next =
            Shape::first(&before).unwrap().becoming(&after, Growth::InPlace, |_| None).unwrap();
        assert_eq!(ids(&next.shape), [("k", "k_1"), ("a", "a_3")]);
        assert!(next.reload.unwrap().contains("column a"));

        let grown = schema("1", &[(1, "k", DataType::Int64), (2, "a", DataType::Utf8)], &[0]);
        let next =
            Shape::first(&before).unwrap().becoming(&grown, Growth::Reload, |_| None).unwrap();
        assert_eq!(ids(&next.shape), [("k", "k_3"), ("a", "a_2")]);
        assert!(next.reload.unwrap().contains("column k") && !next.shape.is_widened());
    }

    #[test]
    fn only_null_fills_leave_old_rows_right() {
        let before = schema("1", &[(1, "k", DataType::Int32)], &[0]);
        let after = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Int32)], &[0]);
        let shape = Shape::first(&before).unwrap();
        let constant = Fill::Constant(Arc::new(arrow_array::Int32Array::from(vec![7])));
        let null = Fill::Constant(Arc::new(arrow_array::Int32Array::from(vec![None])));
        let reload = |fill: &Fill| {
            shape.becoming(&after, Growth::InPlace, |_| Some(fill)).unwrap().reload.is_some()
        };
        assert_eq!(
            [&NULL, &null, &constant, &Fill::Unknown].map(reload),
            [false, false, true, true]
        );
    }

    #[test]
    fn another_table_of_the_same_name_keeps_fields_by_name() {
        let before = schema("1", &[(1, "k", DataType::Int32), (2, "a", DataType::Utf8)], &[0]);
        let after = schema("2", &[(1, "a", DataType::Utf8), (2, "k", DataType::Int32)], &[1]);
        let next =
            Shape::first(&before).unwrap().becoming(&after, Growth::InPlace, |_| None).unwrap();
        assert_eq!((ids(&next.shape), next.reload), (vec![("a", "a_2"), ("k", "k_1")], None));
    }
}
