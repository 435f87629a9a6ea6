//! Types: what a source sends, what the files hold, what Iceberg calls it.
//!
//! Deliberately absent: structs, maps and nested lists. A source sends those as text.
use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};
use iceberg::spec::{ListType, NestedField, PrimitiveType, Type};
use lakeward_core::{Error, ErrorKind, Result};

/// Floats cannot identify a row.
pub(crate) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// Whether values of `old` can be read as `new` by every Iceberg reader.
pub(crate) fn widens(old: &DataType, new: &DataType) -> bool {
    match (old, new) {
        (DataType::Int32, DataType::Int64) | (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => s == t && p <= q,
        (DataType::List(old), DataType::List(new)) => widens(old.data_type(), new.data_type()),
        (old, new) => old == new,
    }
}

/// The Arrow type that the files hold for a source's type.
pub(crate) fn lake_type(data_type: &DataType) -> Result<DataType> {
    Ok(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int32,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => utc(),
        DataType::Decimal128(_, scale) if *scale < 0 => return Err(unsupported(data_type)),
        DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Boolean
        | DataType::Decimal128(_, _)
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, None)
        | DataType::FixedSizeBinary(16) => data_type.clone(),
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
    Error::new(ErrorKind::Unsupported, "Iceberg tables cannot hold this type")
        .with("type", what)
        .remedied("exclude the column, or let the source send it as text")
}

/// The Iceberg type of a type that [`lake_type`] gave; `element` is a list's element field.
pub(crate) fn iceberg_type(data_type: &DataType, element: Option<i32>) -> Result<Type> {
    let primitive = match data_type {
        DataType::List(field) => {
            let element_type = iceberg_type(field.data_type(), None)?;
            let field = NestedField::list_element(element.unwrap_or_default(), element_type, false);
            return Ok(Type::List(ListType::new(Arc::new(field))));
        }
        DataType::Int32 => PrimitiveType::Int,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Decimal128(precision, scale) => PrimitiveType::Decimal {
            precision: u32::from(*precision),
            scale: u32::try_from(*scale).map_err(|_| unsupported(data_type))?,
        },
        DataType::Utf8 => PrimitiveType::String,
        DataType::Binary => PrimitiveType::Binary,
        DataType::Date32 => PrimitiveType::Date,
        DataType::Time64(_) => PrimitiveType::Time,
        DataType::Timestamp(_, None) => PrimitiveType::Timestamp,
        DataType::Timestamp(_, Some(_)) => PrimitiveType::Timestamptz,
        DataType::FixedSizeBinary(16) => PrimitiveType::Uuid,
        other => return Err(unsupported(other)),
    };
    Ok(Type::Primitive(primitive))
}

/// The Arrow type of an Iceberg type that we wrote.
pub(crate) fn arrow_type(field_type: &Type) -> Result<DataType> {
    Ok(match field_type {
        Type::List(list) => list_of(arrow_type(&list.element_field.field_type)?),
        Type::Primitive(primitive) => match primitive {
            PrimitiveType::Int => DataType::Int32,
            PrimitiveType::Long => DataType::Int64,
            PrimitiveType::Float => DataType::Float32,
            PrimitiveType::Double => DataType::Float64,
            PrimitiveType::Boolean => DataType::Boolean,
            PrimitiveType::Decimal { precision, scale } => {
                match ((*precision).try_into(), (*scale).try_into()) {
                    (Ok(precision), Ok(scale)) => DataType::Decimal128(precision, scale),
                    _ => return Err(unsupported(primitive)),
                }
            }
            PrimitiveType::String => DataType::Utf8,
            PrimitiveType::Binary => DataType::Binary,
            PrimitiveType::Date => DataType::Date32,
            PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
            PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            PrimitiveType::Timestamptz => utc(),
            PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
            other => return Err(unsupported(other)),
        },
        other => return Err(unsupported(other)),
    })
}
