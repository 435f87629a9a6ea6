//! COPY in binary form, from the server's messages into Arrow columns.
//!
//! Messages may be cut anywhere. Nothing of the server's bytes is kept but the rest of an unfinished row.
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::BytesMut;
use lakeward_core::{Error, ErrorKind, Result, TableSchema};

use crate::config::Unrepresentable;
use crate::types::{self, ColumnBuilder, Transfer};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Rows in a batch at most: columns of a batch stay within the processor's caches.
const BATCH_ROWS_MAX: usize = 8192;
/// Bytes from the server in a batch at most, so that wide rows do not eat the pipeline's memory.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Gathers rows into batches.
pub struct Rows {
    schema: Arc<TableSchema>,
    arrow: SchemaRef,
    transfers: Vec<Transfer>,
    columns: Vec<ColumnBuilder>,
    rest: BytesMut,
    started: bool,
    ended: bool,
    nulled: u64,
    /// What the server sent for the rows of the batch.
    bytes: usize,
}

/// What stands at the front of the bytes.
enum Parsed {
    /// A row of so many bytes.
    Row(usize),
    End,
    Incomplete,
}

impl Rows {
    /// For rows whose fields come as `transfers` says, one per column of `schema`.
    ///
    /// # Errors
    /// `Bug` for a schema whose types have no builder.
    pub fn new(
        schema: Arc<TableSchema>,
        transfers: Vec<Transfer>,
        policy: Unrepresentable,
    ) -> Result<Self> {
        Ok(Self {
            arrow: schema.arrow(),
            columns: types::builders(&schema, policy)?,
            schema,
            transfers,
            rest: BytesMut::new(),
            started: false,
            ended: false,
            nulled: 0,
            bytes: 0,
        })
    }

    /// Takes one message of the server.
    ///
    /// # Errors
    /// `Corrupt`; `BadData` naming table and column.
    pub fn feed(&mut self, message: &[u8]) -> Result<()> {
        self.bytes += message.len();
        if self.rest.is_empty() {
            let used = self.parse(message)?;
            self.rest.extend_from_slice(&message[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(message);
        let whole = self.rest.split();
        let used = self.parse(&whole)?;
        self.rest.extend_from_slice(&whole[used..]);
        Ok(())
    }

    /// Takes all whole rows; returns how many bytes they were.
    fn parse(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut used = 0;
        if !self.started {
            match header(bytes)? {
                Some(length) => used = length,
                None => return Ok(0),
            }
            self.started = true;
        }
        loop {
            match self.row(&bytes[used..])? {
                Parsed::Row(length) => used += length,
                Parsed::Incomplete => return Ok(used),
                Parsed::End => {
                    self.ended = true;
                    return Ok(used + 2);
                }
            }
        }
    }

    /// Takes the row at the front, if it is all there.
    fn row(&mut self, bytes: &[u8]) -> Result<Parsed> {
        let Some((count, mut rest)) = take::<2>(bytes) else { return Ok(Parsed::Incomplete) };
        match i16::from_be_bytes(count) {
            -1 => return Ok(Parsed::End),
            _ if self.ended => return Err(broken("rows behind the end")),
            count if usize::try_from(count).is_ok_and(|count| count == self.columns.len()) => {}
            _ => return Err(broken("the number of fields")),
        }
        let before = self.len();
        for (index, transfer) in self.transfers.iter().enumerate() {
            let Some((field, behind)) = field(rest) else {
                // The fields that are here come again, with those that are not.
                self.columns.iter_mut().for_each(|column| column.truncate(before));
                return Ok(Parsed::Incomplete);
            };
            rest = behind;
            let column = &mut self.columns[index];
            let pushed = match (field, transfer) {
                (None, _) => {
                    column.push_null();
                    Ok(())
                }
                (Some(field), Transfer::Binary) => column.push_binary(field),
                (Some(field), Transfer::Text) => column.push_text(field),
            };
            if let Err(bad) = pushed {
                let name = self.schema.columns.get(index).map_or("", |c| c.name.as_str());
                return Err(bad.in_column(&self.schema.table, name));
            }
        }
        Ok(Parsed::Row(bytes.len() - rest.len()))
    }

    /// Whether a batch is worth handing out.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.len() >= BATCH_ROWS_MAX
    }

    fn len(&self) -> usize {
        self.columns.first().map_or(0, ColumnBuilder::len)
    }

    /// The rows so far; `None` when there are none.
    ///
    /// # Errors
    /// `Bug`.
    pub fn take(&mut self) -> Result<Option<RecordBatch>> {
        self.bytes = 0;
        if self.len() == 0 {
            return Ok(None);
        }
        self.nulled += self.columns.iter_mut().map(ColumnBuilder::take_nulled).sum::<u64>();
        let columns = self.columns.iter_mut().map(ColumnBuilder::finish).collect::<Result<_>>()?;
        RecordBatch::try_new(Arc::clone(&self.arrow), columns).map(Some).map_err(|error| {
            Error::new(ErrorKind::Bug, "columns and schema of a chunk differ").caused_by(error)
        })
    }

    /// How many values became NULL by policy.
    pub fn nulled(&self) -> u64 {
        self.nulled
    }

    /// To be asked when the server says that it sent everything.
    ///
    /// # Errors
    /// `Corrupt` when the end is missing.
    pub fn finish(&self) -> Result<()> {
        if self.ended && self.rest.is_empty() { Ok(()) } else { Err(broken("the end is missing")) }
    }
}

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "the server's binary COPY is malformed").with("at", what)
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
}

/// Length of the signature, flags and extension.
fn header(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((fixed, rest)) = take::<19>(bytes) else { return Ok(None) };
    if &fixed[..11] != SIGNATURE {
        return Err(broken("the signature"));
    }
    let extension = u32::from_be_bytes([fixed[15], fixed[16], fixed[17], fixed[18]]) as usize;
    Ok((rest.len() >= extension).then_some(19 + extension))
}

/// A field and what stands behind it; `None` when it is not all there.
#[inline]
fn field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = take::<4>(bytes)?;
    match usize::try_from(i32::from_be_bytes(length)) {
        Ok(length) => rest.split_at_checked(length).map(|(field, behind)| (Some(field), behind)),
        Err(_) => Some((None, rest)),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int32Type;
    use arrow_schema::DataType;
    use lakeward_core::{Column, ColumnId, TableId, TableIdentity};

    use super::*;

    fn schema() -> Arc<TableSchema> {
        let column = |id, name: &str, data_type| Column {
            id: ColumnId(id),
            name: name.into(),
            data_type,
            declared: String::new(),
            nullable: true,
        };
        let columns = vec![column(1, "a", DataType::Int32), column(2, "b", DataType::Utf8)];
        let table = TableId::new("public", "t");
        Arc::new(TableSchema::new(table, TableIdentity("1".into()), columns, vec![], String::new()))
    }

    fn rows() -> Rows {
        let transfers = vec![Transfer::Binary, Transfer::Text];
        Rows::new(schema(), transfers, Unrepresentable::Fail).unwrap()
    }

    fn message() -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([0; 8]);
        for (number, text) in [(7i32, Some("x")), (8, None), (9, Some("long enough"))] {
            out.extend(2i16.to_be_bytes());
            out.extend(4i32.to_be_bytes());
            out.extend(number.to_be_bytes());
            out.extend(text.map_or(-1, |t| t.len() as i32).to_be_bytes());
            out.extend(text.unwrap_or_default().as_bytes());
        }
        out.extend((-1i16).to_be_bytes());
        out
    }

    #[test]
    fn messages_may_be_cut_anywhere() {
        let message = message();
        for cut in 0..message.len() {
            let mut rows = rows();
            rows.feed(&message[..cut]).unwrap();
            assert!(rows.finish().is_err());
            rows.feed(&message[cut..]).unwrap();
            rows.finish().unwrap();
            let batch = rows.take().unwrap().unwrap();
            assert_eq!(batch.column(0).as_primitive::<Int32Type>().values().to_vec(), [7, 8, 9]);
            assert_eq!(batch.column(1).as_string::<i32>().value(2), "long enough");
            assert_eq!(batch.column(1).null_count(), 1);
            assert!(rows.take().unwrap().is_none());
        }
    }

    #[test]
    fn damaged_messages_are_errors_not_panics() {
        let message = message();
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut damaged = message.clone();
                damaged[at] ^= 1 << bit;
                let mut rows = rows();
                let _ = rows.feed(&damaged).and_then(|()| rows.finish());
            }
        }
    }

    #[test]
    fn a_bad_value_names_table_and_column() {
        let mut message = message();
        let at = message.iter().position(|b| *b == b'x').unwrap();
        message[at] = 0xff;
        let error = rows().feed(&message).unwrap_err();
        assert_eq!(
            (error.context("table"), error.context("column")),
            (Some("public.t"), Some("b"))
        );
    }
}
