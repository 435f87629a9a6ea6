//! Checkpoints: a state as one Parquet file, so that a log need not be read from its beginning.
//!
//! Ours are classic ones, of one file; classic ones of several files are read too. Files that went stand in a checkpoint for as
//! long as others may clean up by them. Deliberately absent: when to write one.
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::Store;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::action::Action;
use crate::columns::{array, text_map, value};
use crate::log::Log;
use crate::state::{Gathering, State};

/// How long others may count on knowing which files went: the format's own default.
const TOMBSTONES_MS: i64 = 7 * 24 * 3600 * 1000;
/// Actions turned into columns at once.
const ROWS_AT_ONCE: usize = 4096;

/// Writes the state's checkpoint and points to it. One that is there already is left as it is.
///
/// # Errors
/// Those of the store.
pub(crate) async fn write(store: &Store, log: &Log, state: &State, now_ms: i64) -> Result<()> {
    let actions = actions(state, now_ms);
    let (size, files) = (actions.len(), state.files.len());
    let content = encode(&actions).map_err(|e| e.with("version", state.version))?;
    let bytes = content.len();
    if !store.create(&log.checkpoint_path(state.version), content.into()).await? {
        return Ok(());
    }
    let hint = json!({ "version": state.version, "size": size, "sizeInBytes": bytes, "numOfAddFiles": files });
    store.put(&log.hint_path(), hint.to_string().into()).await
}

fn actions(state: &State, now_ms: i64) -> Vec<Action> {
    let young = |at: Option<i64>| at.is_none_or(|at| at > now_ms - TOMBSTONES_MS);
    let gone = state.gone.values().filter(|remove| young(remove.deletion_timestamp));
    let mut actions = vec![state.protocol.clone().into(), state.metadata.as_ref().clone().into()];
    actions.extend(state.txns.values().cloned().map(Action::from));
    actions.extend(state.domains.values().cloned().map(Action::from));
    actions.extend(gone.map(|remove| Action::from(remove.as_ref().clone())));
    actions.extend(state.files.values().map(|add| {
        // A checkpoint tells what is, not what changed.
        Action::from(crate::action::Add { data_change: false, ..add.as_ref().clone() })
    }));
    actions
}

fn encode(actions: &[Action]) -> Result<Vec<u8>> {
    let schema = schema();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("lakeward".into())
        .build();
    let failed = |e: ParquetError| {
        Error::new(ErrorKind::Bug, "a checkpoint could not be encoded").caused_by(e)
    };
    let mut writer =
        ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties)).map_err(failed)?;
    for part in actions.chunks(ROWS_AT_ONCE) {
        writer.write(&rows(&schema, part)?).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

fn rows(schema: &SchemaRef, actions: &[Action]) -> Result<RecordBatch> {
    let bug = || Error::new(ErrorKind::Bug, "actions do not make a checkpoint");
    let values = actions.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>();
    let values = values.map_err(|e| bug().caused_by(e))?;
    let columns = schema.fields().iter().map(|field| {
        let of: Vec<&Value> = values.iter().map(|v| &v[field.name().as_str()]).collect();
        array(field.data_type(), &of)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| bug().caused_by(e))
}

fn schema() -> SchemaRef {
    let texts = || DataType::new_list(DataType::Utf8, true);
    let vector = || {
        group(&[
            ("storageType", DataType::Utf8),
            ("pathOrInlineDv", DataType::Utf8),
            ("offset", DataType::Int32),
            ("sizeInBytes", DataType::Int32),
            ("cardinality", DataType::Int64),
        ])
    };
    let format = group(&[("provider", DataType::Utf8), ("options", text_map())]);
    let kinds = [
        (
            "txn",
            group(&[
                ("appId", DataType::Utf8),
                ("version", DataType::Int64),
                ("lastUpdated", DataType::Int64),
            ]),
        ),
        (
            "add",
            group(&[
                ("path", DataType::Utf8),
                ("partitionValues", text_map()),
                ("size", DataType::Int64),
                ("modificationTime", DataType::Int64),
                ("dataChange", DataType::Boolean),
                ("stats", DataType::Utf8),
                ("tags", text_map()),
                ("deletionVector", vector()),
            ]),
        ),
        (
            "remove",
            group(&[
                ("path", DataType::Utf8),
                ("deletionTimestamp", DataType::Int64),
                ("dataChange", DataType::Boolean),
                ("extendedFileMetadata", DataType::Boolean),
                ("partitionValues", text_map()),
                ("size", DataType::Int64),
                ("deletionVector", vector()),
            ]),
        ),
        (
            "metaData",
            group(&[
                ("id", DataType::Utf8),
                ("name", DataType::Utf8),
                ("description", DataType::Utf8),
                ("format", format),
                ("schemaString", DataType::Utf8),
                ("partitionColumns", texts()),
                ("configuration", text_map()),
                ("createdTime", DataType::Int64),
            ]),
        ),
        (
            "protocol",
            group(&[
                ("minReaderVersion", DataType::Int32),
                ("minWriterVersion", DataType::Int32),
                ("readerFeatures", texts()),
                ("writerFeatures", texts()),
            ]),
        ),
        (
            "domainMetadata",
            group(&[
                ("domain", DataType::Utf8),
                ("configuration", DataType::Utf8),
                ("removed", DataType::Boolean),
            ]),
        ),
    ];
    let fields = kinds.into_iter().map(|(name, kind)| Field::new(name, kind, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn group(fields: &[(&str, DataType)]) -> DataType {
    let fields = fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
    DataType::Struct(fields.collect::<Fields>())
}

/// Reads the parts of a checkpoint.
///
/// # Errors
/// `Corrupt` naming the file.
pub(crate) async fn read(store: &Store, paths: &[String]) -> Result<Gathering> {
    let mut gathering = Gathering::default();
    for path in paths {
        let content = store.get(path).await?.ok_or_else(|| corrupt(path))?;
        decode(path, content, &mut gathering)?;
    }
    Ok(gathering)
}

fn decode(path: &str, content: Bytes, into: &mut Gathering) -> Result<()> {
    let failed = |e: ParquetError| corrupt(path).caused_by(e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(failed)?;
    let known = schema();
    let roots = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
    let roots = roots.filter(|(_, root)| known.field_with_name(root.name()).is_ok());
    let roots: Vec<usize> = roots.map(|(at, _)| at).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(ROWS_AT_ONCE).build();
    for batch in reader.map_err(failed)? {
        let rows = StructArray::from(batch.map_err(|e| corrupt(path).caused_by(e))?);
        for row in 0..arrow_array::Array::len(&rows) {
            // The parser's message may hold what stands there: it is not kept.
            into.take(
                serde_json::from_value(value(&rows, row))
                    .map_err(|_| corrupt(path).with("row", row))?,
            );
        }
    }
    Ok(())
}

fn corrupt(path: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "a checkpoint of the table's log cannot be read")
        .with("file", path)
        .remedied("delete that file and `_last_checkpoint` if the log is whole without it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Domain, Txn};

    #[test]
    fn actions_survive_a_checkpoint() {
        let add = r#"{"add":{"path":"data/a.parquet","partitionValues":{},"size":7,"modificationTime":1,"dataChange":false,
            "stats":"{\"numRecords\":1}","deletionVector":{"storageType":"u","pathOrInlineDv":"x","offset":1,"sizeInBytes":40,"cardinality":6}}}"#;
        let metadata = r#"{"metaData":{"id":"i","format":{"provider":"parquet","options":{}},"schemaString":"{}",
            "partitionColumns":[],"configuration":{"a":"b"},"createdTime":4}}"#;
        let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["x"],"writerFeatures":[]}}"#;
        let remove = r#"{"remove":{"path":"b","deletionTimestamp":9,"dataChange":true}}"#;
        let mut actions: Vec<Action> = [add, metadata, protocol, remove]
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        actions.push(Txn { app_id: "p/s".into(), version: 3, last_updated: None }.into());
        actions
            .push(Domain { domain: "d".into(), configuration: "{}".into(), removed: false }.into());
        let encoded = encode(&actions).unwrap();
        let mut gathering = Gathering::default();
        decode("x", encoded.clone().into(), &mut gathering).unwrap();
        let state = gathering.end(5).unwrap();
        let expected = State::first(5, actions).unwrap();
        assert_eq!(format!("{state:?}"), format!("{expected:?}"));

        for damaged in [Vec::new(), encoded[..encoded.len() / 2].to_vec(), vec![0; encoded.len()]] {
            let error = decode("x", damaged.into(), &mut Gathering::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
