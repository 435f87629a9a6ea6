//! Actions as columns and back: JSON values against the Arrow types that a checkpoint is made of.
//!
//! Deliberately absent: any other type. A column of one reads as absent.
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, MapArray, StringArray,
    StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use lakeward_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// A row of an array as JSON; NULL fields of structs are left out.
pub(crate) fn value(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let present = columns.filter(|(_, column)| column.is_valid(row));
            let object = present.map(|(f, column)| (f.name().clone(), value(column.as_ref(), row)));
            Value::Object(object.filter(|(_, v)| !v.is_null()).collect())
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|at| value(items.as_ref(), at)).collect()
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pair = |at| {
                Some((value(keys.as_ref(), at).as_str()?.to_owned(), value(values.as_ref(), at)))
            };
            Value::Object((0..entries.len()).filter_map(pair).collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

/// Values as an array of a type; what is absent or of another kind becomes NULL.
///
/// # Errors
/// `Bug` for a type that no checkpoint has.
pub(crate) fn array(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Utf8 => Arc::new(values.iter().map(|v| v.as_str()).collect::<StringArray>()),
        DataType::Boolean => Arc::new(values.iter().map(|v| v.as_bool()).collect::<BooleanArray>()),
        DataType::Int64 => Arc::new(values.iter().map(|v| v.as_i64()).collect::<Int64Array>()),
        DataType::Int32 => {
            let small = |v: &&Value| v.as_i64().and_then(|n| i32::try_from(n).ok());
            Arc::new(values.iter().map(small).collect::<Int32Array>())
        }
        DataType::Struct(fields) => Arc::new(structs(fields, values)?),
        DataType::List(item) => Arc::new(lists(item, values)?),
        DataType::Map(entries, _) => Arc::new(maps(entries, values)?),
        other => return Err(bug().with("type", other)),
    })
}

fn structs(fields: &Fields, values: &[&Value]) -> Result<StructArray> {
    let column = |field: &FieldRef| {
        let inner: Vec<&Value> = values.iter().map(|v| &v[field.name().as_str()]).collect();
        array(field.data_type(), &inner)
    };
    let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
    let nulls = values.iter().map(|v| v.is_object()).collect::<NullBuffer>();
    StructArray::try_new(fields.clone(), columns, Some(nulls)).map_err(|e| bug().caused_by(e))
}

fn lists(item: &FieldRef, values: &[&Value]) -> Result<ListArray> {
    let of = |v: &&Value| v.as_array().map_or(0, Vec::len);
    let offsets = OffsetBuffer::from_lengths(values.iter().map(of));
    let items: Vec<&Value> = values.iter().filter_map(|v| v.as_array()).flatten().collect();
    let nulls = values.iter().map(|v| v.is_array()).collect::<NullBuffer>();
    let items = array(item.data_type(), &items)?;
    ListArray::try_new(Arc::clone(item), offsets, items, Some(nulls))
        .map_err(|e| bug().caused_by(e))
}

fn maps(entries: &FieldRef, values: &[&Value]) -> Result<MapArray> {
    let DataType::Struct(fields) = entries.data_type() else { return Err(bug()) };
    let [_, of_values] = fields.as_ref() else { return Err(bug()) };
    let offsets =
        OffsetBuffer::from_lengths(values.iter().map(|v| v.as_object().map_or(0, Map::len)));
    let pairs = || values.iter().filter_map(|v| v.as_object()).flatten();
    let keys: Vec<&str> = pairs().map(|(key, _)| key.as_str()).collect();
    let keys: ArrayRef = Arc::new(StringArray::from(keys));
    let items: Vec<&Value> = pairs().map(|(_, value)| value).collect();
    let items = array(of_values.data_type(), &items)?;
    let pairs = StructArray::try_new(fields.clone(), vec![keys, items], None);
    let pairs = pairs.map_err(|e| bug().caused_by(e))?;
    let nulls = values.iter().map(|v| v.is_object()).collect::<NullBuffer>();
    MapArray::try_new(Arc::clone(entries), offsets, pairs, Some(nulls), false)
        .map_err(|e| bug().caused_by(e))
}

/// The type of a map from text to text.
pub(crate) fn text_map() -> DataType {
    let fields =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    let entries = Field::new("key_value", DataType::Struct(fields.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn bug() -> Error {
    Error::new(ErrorKind::Bug, "actions do not make columns")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_survive_their_columns() {
        let kinds = [
            ("s", DataType::Utf8),
            ("b", DataType::Boolean),
            ("i", DataType::Int32),
            ("l", DataType::Int64),
            ("m", text_map()),
            ("a", DataType::new_list(DataType::Utf8, true)),
        ];
        let fields: Vec<Field> =
            kinds.iter().map(|(n, k)| Field::new(*n, k.clone(), true)).collect();
        let kind = DataType::Struct(fields.into());
        let rows = [
            json!({ "s": "x", "b": false, "i": -1, "l": 1i64 << 40, "m": { "k": "v", "n": null }, "a": ["p", "q"] }),
            Value::Null,
            json!({ "m": {}, "a": [] }),
            json!({}),
        ];
        let made = array(&kind, &rows.iter().collect::<Vec<_>>()).unwrap();
        for (row, expected) in rows.iter().enumerate() {
            assert_eq!(value(made.as_ref(), row), *expected);
        }
    }
}
