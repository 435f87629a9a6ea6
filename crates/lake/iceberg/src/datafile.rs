//! Written files as manifest entries: metrics and bounds in the format's own encoding.
//!
//! Deliberately absent: reading them back. The library does that.
use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile as Entry, DataFileBuilder, DataFileFormat, Datum, PrimitiveType,
    Schema, Type,
};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::deletes::{FILE_PATH_ID, POS_ID};
use lakeward_files::{Bound, DataFile, Store};

/// A data file.
pub(crate) fn data(store: &Store, file: &DataFile, schema: &Schema, spec: i32) -> Result<Entry> {
    let kind = |id: i32| match schema.field_by_id(id).map(|f| f.field_type.as_ref()) {
        Some(Type::Primitive(primitive)) => Some(primitive.clone()),
        _ => None,
    };
    let mut builder = common(store, file, spec, kind);
    let split: Vec<i64> = file.split_offsets.clone();
    builder.content(DataContentType::Data).split_offsets((!split.is_empty()).then_some(split));
    finish(builder)
}

/// A position delete file that is about one data file.
pub(crate) fn deletes(
    store: &Store,
    file: &DataFile,
    referenced: &str,
    spec: i32,
) -> Result<Entry> {
    let kind = |id: i32| match id {
        FILE_PATH_ID => Some(PrimitiveType::String),
        POS_ID => Some(PrimitiveType::Long),
        _ => None,
    };
    let mut builder = common(store, file, spec, kind);
    builder
        .content(DataContentType::PositionDeletes)
        .referenced_data_file(Some(referenced.to_owned()));
    finish(builder)
}

fn common(
    store: &Store,
    file: &DataFile,
    spec: i32,
    kind: impl Fn(i32) -> Option<PrimitiveType>,
) -> DataFileBuilder {
    let columns = || file.columns.iter();
    let bound = |id: i32, bound: Option<&Bound>| {
        Datum::try_from_bytes(&encode(bound?), kind(id)?).ok().map(|datum| (id, datum))
    };
    let mut builder = DataFileBuilder::default();
    builder
        .file_path(store.url(&file.path))
        .file_format(DataFileFormat::Parquet)
        .record_count(file.rows)
        .file_size_in_bytes(file.bytes)
        .partition_spec_id(spec)
        .column_sizes(columns().map(|c| (c.field_id, c.bytes)).collect())
        .value_counts(columns().map(|c| (c.field_id, c.values)).collect())
        .null_value_counts(columns().filter_map(|c| Some((c.field_id, c.nulls?))).collect())
        .nan_value_counts(columns().filter_map(|c| Some((c.field_id, c.nans?))).collect())
        .lower_bounds(
            columns()
                .filter_map(|c| bound(c.field_id, c.lower.as_ref()))
                .collect::<HashMap<_, _>>(),
        )
        .upper_bounds(
            columns()
                .filter_map(|c| bound(c.field_id, c.upper.as_ref()))
                .collect::<HashMap<_, _>>(),
        );
    builder
}

fn finish(builder: DataFileBuilder) -> Result<Entry> {
    builder.build().map_err(|error| {
        Error::new(ErrorKind::Bug, "a data file's entry is incomplete").caused_by(error)
    })
}

/// The format's single-value serialization.
fn encode(bound: &Bound) -> Vec<u8> {
    match bound {
        Bound::Boolean(value) => vec![u8::from(*value)],
        Bound::Int(value) => value.to_le_bytes().into(),
        Bound::Long(value) => value.to_le_bytes().into(),
        Bound::Float(value) => value.to_le_bytes().into(),
        Bound::Double(value) => value.to_le_bytes().into(),
        Bound::Decimal(value) => shortest(*value),
        Bound::Text(value) => value.as_bytes().into(),
        Bound::Bytes(value) => value.clone(),
    }
}

/// Big-endian two's complement without leading bytes that only repeat the sign.
fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0x00 };
    let redundant = |at: &usize| bytes[*at] == sign && (bytes[*at + 1] ^ sign) & 0x80 == 0;
    let start = (0..bytes.len() - 1).take_while(redundant).count();
    bytes[start..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_as_short_as_their_sign_allows() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0, 128]),
            (-1, vec![255]),
            (-128, vec![128]),
            (-129, vec![255, 127]),
            (i128::MAX, i128::MAX.to_be_bytes().to_vec()),
            (i128::MIN, i128::MIN.to_be_bytes().to_vec()),
        ] {
            assert_eq!(shortest(value), bytes, "{value}");
        }
    }
}
