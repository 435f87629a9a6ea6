//! A change batch as bytes, for the spill files of one process run. Not a format for keeping: no version, no promise.
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use lakeward_core::{
    AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Error, ErrorKind, Op, OriginId, PartId,
    Position, Result, Run, TableSchema, TransactionEnd, TransactionId, TransactionInfo,
    TransactionRef,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Head {
    ops: Vec<u8>,
    runs: Vec<RunHead>,
    before: Option<BeforeHead>,
    absent: Vec<u32>,
    origin: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct BeforeHead {
    at: Vec<u32>,
    key_only: bool,
}

#[derive(Serialize, Deserialize)]
struct RunHead {
    rows: u32,
    id: u64,
    part: Option<u64>,
    end: Option<(Position, u64)>,
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Corrupt, "a spill file cannot be written or read").caused_by(error)
}

/// Writes a batch; its schema is kept by the caller.
pub(super) fn encode(batch: &ChangeBatch, out: &mut impl Write) -> Result<()> {
    let head = serde_json::to_vec(&head_of(batch)).map_err(broken)?;
    out.write_all(&(head.len() as u64).to_le_bytes()).map_err(broken)?;
    out.write_all(&head).map_err(broken)?;
    encode_rows(&batch.rows, out)?;
    if let Some(before) = &batch.before {
        encode_rows(&before.rows, out)?;
    }
    if let Some(absent) = &batch.absent {
        encode_rows(&absent_rows(absent)?, out)?;
    }
    Ok(())
}

fn encode_rows(rows: &RecordBatch, out: &mut impl Write) -> Result<()> {
    let mut writer = StreamWriter::try_new(out, rows.schema_ref()).map_err(broken)?;
    writer.write(rows).map_err(broken)?;
    writer.finish().map_err(broken)
}

fn absent_rows(absent: &AbsentCells) -> Result<RecordBatch> {
    let fields: Vec<_> = absent
        .columns
        .iter()
        .map(|c| Field::new(c.column.to_string(), DataType::Boolean, false))
        .collect();
    let columns = absent
        .columns
        .iter()
        .map(|c| Arc::new(BooleanArray::new(c.missing.clone(), None)) as _)
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)
}

fn head_of(batch: &ChangeBatch) -> Head {
    let columns = batch.absent.as_ref().map_or(&[][..], |a| &a.columns);
    Head {
        ops: batch.ops.iter().map(|op| *op as u8).collect(),
        runs: batch.runs.iter().map(run_head).collect(),
        before: batch
            .before
            .as_ref()
            .map(|b| BeforeHead { at: b.at.clone(), key_only: b.key_only }),
        absent: columns.iter().map(|c| c.column).collect(),
        origin: batch.origin.as_ref().map(|o| o.0.clone()),
    }
}

fn run_head(run: &Run) -> RunHead {
    let info = &run.transaction;
    let millis = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    RunHead {
        rows: run.rows,
        id: info.transaction.id.0,
        part: info.transaction.part.map(|p| p.0),
        end: info.end.as_ref().map(|e| (e.position.clone(), millis(e.committed_at))),
    }
}

fn run_of(head: RunHead) -> Run {
    let transaction = TransactionRef { id: TransactionId(head.id), part: head.part.map(PartId) };
    let end = head.end.map(|(position, ms)| TransactionEnd {
        position,
        committed_at: UNIX_EPOCH + Duration::from_millis(ms),
    });
    Run { rows: head.rows, transaction: Arc::new(TransactionInfo { transaction, end }) }
}

/// Reads a batch that [`encode`] wrote.
pub(super) fn decode(input: &mut impl Read, schema: &Arc<TableSchema>) -> Result<ChangeBatch> {
    let mut length = [0u8; 8];
    input.read_exact(&mut length).map_err(broken)?;
    let mut head = vec![0u8; u64::from_le_bytes(length) as usize];
    input.read_exact(&mut head).map_err(broken)?;
    let head: Head = serde_json::from_slice(&head).map_err(broken)?;
    let rows = decode_rows(input)?;
    let before = match head.before {
        Some(b) => Some(BeforeImages { at: b.at, rows: decode_rows(input)?, key_only: b.key_only }),
        None => None,
    };
    let absent = match head.absent.is_empty() {
        true => None,
        false => Some(absent_of(&head.absent, &decode_rows(input)?)?),
    };
    Ok(ChangeBatch {
        schema: Arc::clone(schema),
        ops: head.ops.into_iter().map(op_of).collect::<Result<_>>()?,
        rows,
        before,
        absent,
        origin: head.origin.map(OriginId),
        runs: head.runs.into_iter().map(run_of).collect(),
    })
}

fn decode_rows(input: &mut impl Read) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(input, None).map_err(broken)?;
    let batch = reader.next().ok_or_else(|| broken("the file ends early"))?.map_err(broken)?;
    match reader.next() {
        None => Ok(batch),
        Some(_) => Err(broken("more rows than were written")),
    }
}

fn absent_of(columns: &[u32], rows: &RecordBatch) -> Result<AbsentCells> {
    let columns = columns
        .iter()
        .zip(rows.columns())
        .map(|(column, array)| {
            let bits = array.as_any().downcast_ref::<BooleanArray>();
            let missing: BooleanBuffer =
                bits.ok_or_else(|| broken("a bitmap of another type"))?.values().clone();
            Ok(AbsentColumn { column: *column, missing })
        })
        .collect::<Result<_>>()?;
    Ok(AbsentCells { columns })
}

fn op_of(byte: u8) -> Result<Op> {
    [Op::Read, Op::ReadFirst, Op::Insert, Op::Update, Op::Delete]
        .into_iter()
        .find(|op| *op as u8 == byte)
        .ok_or_else(|| broken("an unknown operation"))
}
