//! Types: what a source sends, what the files hold, what Delta calls it, and which of them may widen.
//!
//! Delta has no time of day and no UUID: both are text. Deliberately absent: structs, maps and nested lists. A source sends
//! those as text.
use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};
use lakeward_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

/// The Arrow type that the files hold for a source's type.
pub(crate) fn lake_type(data_type: &DataType) -> Result<DataType> {
    Ok(match data_type {
        DataType::Int8 => DataType::Int16,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => utc(),
        DataType::Time64(TimeUnit::Microsecond) | DataType::FixedSizeBinary(16) => DataType::Utf8,
        DataType::Decimal128(_, scale) if *scale < 0 => return Err(unsupported(data_type)),
        DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Boolean
        | DataType::Decimal128(_, _)
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, None) => data_type.clone(),
        DataType::List(element) if !matches!(element.data_type(), DataType::List(_)) => {
            list_of(lake_type(element.data_type())?)
        }
        other => return Err(unsupported(other)),
    })
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

fn unsupported(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, "Delta tables cannot hold this type")
        .with("type", what)
        .remedied("exclude the column, or let the source send it as text")
}

/// Delta's name of a type that [`lake_type`] gave.
pub(crate) fn delta_type(data_type: &DataType) -> Result<Value> {
    Ok(match data_type {
        DataType::List(element) => json!({
            "type": "array",
            "elementType": delta_type(element.data_type())?,
            "containsNull": true,
        }),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})").into(),
        other => plain_name(other).ok_or_else(|| unsupported(other))?.into(),
    })
}

fn plain_name(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Int16 => "short",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Boolean => "boolean",
        DataType::Utf8 => "string",
        DataType::Binary => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(_, None) => "timestamp_ntz",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        _ => return None,
    })
}

/// The Arrow type of a Delta type that we wrote.
pub(crate) fn arrow_type(value: &Value) -> Result<DataType> {
    if let Some(name) = value.as_str() {
        return arrow_of(name).ok_or_else(|| unsupported(name));
    }
    match value["type"].as_str() {
        Some("array") => Ok(list_of(arrow_type(&value["elementType"])?)),
        _ => Err(unsupported(value["type"].as_str().unwrap_or("unknown"))),
    }
}

fn arrow_of(name: &str) -> Option<DataType> {
    Some(match name {
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp" => utc(),
        other => {
            let inner = other.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = inner.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// Whether values of `old` can be read as `new` by every reader that knows type widening.
pub(crate) fn widens(old: &DataType, new: &DataType) -> bool {
    match (old, new) {
        (DataType::Int16, DataType::Int32 | DataType::Int64)
        | (DataType::Int32, DataType::Int64)
        | (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => s == t && p <= q,
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_survives_its_name() {
        let time = DataType::Time64(TimeUnit::Microsecond);
        let all = [
            DataType::Int8,
            DataType::Int64,
            DataType::Decimal128(38, 9),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            time.clone(),
            DataType::new_list(DataType::FixedSizeBinary(16), true),
        ];
        for kind in all.iter().map(|kind| lake_type(kind).unwrap()) {
            assert_eq!(arrow_type(&delta_type(&kind).unwrap()).unwrap(), kind);
        }
        assert_eq!(lake_type(&time).unwrap(), DataType::Utf8);
        assert!(lake_type(&DataType::Decimal256(40, 2)).is_err());
        assert!(
            widens(&DataType::Int16, &DataType::Int64)
                && !widens(&DataType::Int64, &DataType::Int16)
        );
    }
}
