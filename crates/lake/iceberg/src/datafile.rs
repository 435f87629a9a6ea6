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
use lakeward_files::lineage::{LAST_UPDATED_ID, ROW_ID};
use lakeward_files::{Bound, ColumnMetrics, DataFile, Store};

use crate::puffin::Slice;

/// A data file.
pub(crate) fn data(store: &Store, file: &DataFile, schema: &Schema, spec: i32) -> Result<Entry> {
    let kind = |id: i32| match schema.field_by_id(id).map(|f| f.field_type.as_ref()) {
        Some(Type::Primitive(primitive)) => Some(primitive.clone()),
        _ => None,
    };
    // The columns of row lineage are none of the table's: nobody prunes by them.
    let own = file.columns.iter().filter(|c| ![ROW_ID, LAST_UPDATED_ID].contains(&c.field_id));
    let mut builder = common(store, file, spec);
    metrics(&mut builder, own, kind);
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
    let mut builder = common(store, file, spec);
    metrics(&mut builder, file.columns.iter(), kind);
    builder
        .content(DataContentType::PositionDeletes)
        .referenced_data_file(Some(referenced.to_owned()));
    finish(builder)
}

/// One deletion vector of a file of such.
pub(crate) fn vector(
    location: &str,
    file_bytes: u64,
    slice: Slice,
    referenced: &str,
    rows: u64,
    spec: i32,
) -> Result<Entry> {
    let range = |number: u64| i64::try_from(number).ok();
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::PositionDeletes)
        .file_path(location.to_owned())
        .file_format(DataFileFormat::Puffin)
        .record_count(rows)
        .file_size_in_bytes(file_bytes)
        .partition_spec_id(spec)
        .referenced_data_file(Some(referenced.to_owned()))
        .content_offset(range(slice.offset))
        .content_size_in_bytes(range(slice.bytes));
    finish(builder)
}

fn common(store: &Store, file: &DataFile, spec: i32) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .file_path(store.url(&file.path))
        .file_format(DataFileFormat::Parquet)
        .record_count(file.rows)
        .file_size_in_bytes(file.bytes)
        .partition_spec_id(spec);
    builder
}

/// Counts and bounds of columns; those of a type that `kind` does not know have no bounds.
fn metrics<'a>(
    builder: &mut DataFileBuilder,
    columns: impl Iterator<Item = &'a ColumnMetrics> + Clone,
    kind: impl Fn(i32) -> Option<PrimitiveType>,
) {
    let columns = || columns.clone();
    let bound = |id: i32, bound: Option<&Bound>| {
        Datum::try_from_bytes(&encode(bound?), kind(id)?).ok().map(|datum| (id, datum))
    };
    builder
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
