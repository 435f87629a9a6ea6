//! Rows in the binary protocol, which is exact where text is not; read where they stand.
use super::conn::Conn;
use super::{Failure, is_end};
use crate::binlog::table_map::code;
use crate::binlog::{Cursor, Malformed};
use crate::types::{Kind, Value};

const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const CLOSE: u8 = 0x19;

const UNSIGNED: u16 = 0x20;

/// A column of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerColumn {
    /// Its type, by the log's numbers.
    code: u8,
    unsigned: bool,
}

impl AnswerColumn {
    fn parse(packet: &[u8]) -> Result<Self, Failure> {
        let mut cursor = Cursor(packet);
        for _ in 0..6 {
            cursor.counted()?;
        }
        cursor.bytes(1 + 2 + 4)?;
        let code = cursor.u8()?;
        Ok(Self { code, unsigned: cursor.u16()? & UNSIGNED != 0 })
    }
}

/// A statement whose rows are being read. Every row must be read, or the connection be dropped.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    conn: &'a mut Conn,
    statement: u32,
    columns: Vec<AnswerColumn>,
}

impl Conn {
    /// Runs a statement without parameters.
    pub(crate) async fn binary(&mut self, sql: &str) -> Result<Answer<'_>, Failure> {
        self.command(PREPARE, sql.as_bytes()).await?;
        let mut head = Cursor(self.answer().await?);
        head.u8()?;
        let statement = head.u32()?;
        let (columns, parameters) = (head.u16()?, head.u16()?);
        for count in [parameters, columns] {
            for _ in 0..count {
                self.answer().await?;
            }
            if count > 0 {
                self.end().await?;
            }
        }
        // No cursor; once.
        self.command(EXECUTE, &[&statement.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat()).await?;
        let count = Cursor(self.answer().await?).count()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(AnswerColumn::parse(self.answer().await?)?);
        }
        self.end().await?;
        self.expect_many();
        Ok(Answer { conn: self, statement, columns })
    }
}

impl Answer<'_> {
    /// The next row; `None`: there are no more, and the connection is free again.
    pub(crate) async fn next(&mut self) -> Result<Option<BinaryRow<'_>>, Failure> {
        let place = self.conn.place().await?;
        // Looked at twice, because a packet that is given away cannot be kept.
        let packet = self.conn.inbox.at(place.clone());
        match packet.first() {
            Some(0) => {}
            Some(&super::REFUSED) => return Err(Failure::Refused(super::Refusal::parse(packet))),
            _ if is_end(packet) => {
                self.conn.command(CLOSE, &self.statement.to_le_bytes()).await?;
                return Ok(None);
            }
            _ => return Err(Failure::NotUnderstood),
        }
        BinaryRow::new(self.conn.inbox.at(place), &self.columns).map(Some)
    }
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BinaryRow<'a> {
    columns: &'a [AnswerColumn],
    nulls: &'a [u8],
    cells: &'a [u8],
}

impl<'a> BinaryRow<'a> {
    fn new(packet: &'a [u8], columns: &'a [AnswerColumn]) -> Result<Self, Failure> {
        let mut cursor = Cursor(packet);
        cursor.u8()?;
        let nulls = cursor.bytes((columns.len() + 9) / 8)?;
        Ok(Self { columns, nulls, cells: cursor.0 })
    }

    /// Bytes that its cells take.
    pub(crate) fn bytes(&self) -> usize {
        self.cells.len()
    }

    /// Gives each cell as what it means for a column of its kind.
    ///
    /// # Errors
    /// What `take` says, and `E` of a row that is damaged.
    pub(crate) fn each<E: From<Malformed>>(
        &self,
        kinds: &[Kind],
        mut take: impl FnMut(usize, Value<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = Cursor(self.cells);
        for (at, (column, kind)) in self.columns.iter().zip(kinds).enumerate() {
            // The first two bits belong to no column.
            let byte = self.nulls.get((at + 2) / 8).copied().unwrap_or_default();
            let is_null = byte >> ((at + 2) % 8) & 1 == 1;
            let value = if is_null { Value::Null } else { value(*column, kind, &mut cursor)? };
            take(at, value)?;
        }
        Ok(())
    }
}

#[inline]
fn value<'a>(
    column: AnswerColumn,
    kind: &Kind,
    cursor: &mut Cursor<'a>,
) -> Result<Value<'a>, Malformed> {
    Ok(match column.code {
        code::TINY => integer(cursor.number(1)?, 1, column.unsigned),
        code::SHORT | code::YEAR => integer(cursor.number(2)?, 2, column.unsigned),
        code::INT24 | code::LONG => integer(cursor.number(4)?, 4, column.unsigned),
        code::LONGLONG => integer(cursor.u64()?, 8, column.unsigned),
        code::FLOAT => Value::Float(f32::from_le_bytes(cursor.array()?)),
        code::DOUBLE => Value::Double(f64::from_le_bytes(cursor.array()?)),
        code::DATE | code::DATETIME | code::TIMESTAMP => date_time(kind, cursor.short()?)?,
        code::TIME => time(cursor.short()?)?,
        code::NULL => Value::Null,
        _ => match (cursor.counted()?, kind) {
            (bytes, Kind::Binary(_) | Kind::Bit(_) | Kind::Geometry) => Value::Bytes(bytes),
            (text, _) => Value::Text(text),
        },
    })
}

#[inline]
fn integer(number: u64, bytes: u32, unsigned: bool) -> Value<'static> {
    let unused = 64 - 8 * bytes;
    if unsigned {
        Value::UInt(number)
    } else {
        Value::Int((number << unused).cast_signed() >> unused)
    }
}

/// Parts that are zero at the end are left out.
fn date_time(kind: &Kind, bytes: &[u8]) -> Result<Value<'static>, Malformed> {
    let mut parts = [0; 11];
    parts.get_mut(..bytes.len()).ok_or(Malformed("a date is too long"))?.copy_from_slice(bytes);
    let [y, z, month, day, hour, minute, second, a, b, c, d] = parts;
    let year = u16::from_le_bytes([y, z]);
    let micros = u32::from_le_bytes([a, b, c, d]);
    Ok(match kind {
        Kind::Date => Value::Date { year, month, day },
        _ => Value::DateTime { year, month, day, hour, minute, second, micros },
    })
}

fn time(bytes: &[u8]) -> Result<Value<'static>, Malformed> {
    let mut parts = [0; 12];
    parts.get_mut(..bytes.len()).ok_or(Malformed("a time is too long"))?.copy_from_slice(bytes);
    let [negative, days @ .., _, _, _, _, _, _, _] = parts;
    let [.., hours, minutes, seconds, a, b, c, d] = parts;
    let days = u32::from_le_bytes(days);
    Ok(Value::Time {
        negative: negative != 0,
        hours: days.saturating_mul(24).saturating_add(u32::from(hours)),
        minutes,
        seconds,
        micros: u32::from_le_bytes([a, b, c, d]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(columns: &[AnswerColumn], kinds: &[Kind], packet: &[u8]) -> Vec<String> {
        let mut values = Vec::new();
        let row = BinaryRow::new(packet, columns).unwrap();
        row.each(kinds, |_, value| {
            values.push(format!("{value:?}"));
            Ok::<_, Malformed>(())
        })
        .unwrap();
        values
    }

    #[test]
    fn a_row_is_read_cell_by_cell() {
        let column = |code, unsigned| AnswerColumn { code, unsigned };
        let columns = [
            column(code::TINY, false),
            column(code::LONG, true),
            column(code::VAR_STRING, false),
            column(code::LONGLONG, false),
            column(code::DATETIME, false),
            column(code::TIME, false),
            column(code::DATE, false),
        ];
        let declared = ["tinyint", "int unsigned", "text", "bigint", "datetime", "time", "date"];
        let kinds = declared.map(|declared| Kind::of_declared(declared).unwrap());
        let mut packet = vec![0, 0b10_0000, 0, 0xFF, 1, 0, 0, 0x80, 2, b'h', b'i'];
        packet.extend([7, 0xE8, 7, 2, 29, 23, 59, 58]);
        packet.extend([12, 1, 1, 0, 0, 0, 2, 3, 4, 5, 0, 0, 0]);
        packet.push(0);
        let expected = [
            "Int(-1)",
            "UInt(2147483649)",
            "Text([104, 105])",
            "Null",
            "DateTime { year: 2024, month: 2, day: 29, hour: 23, minute: 59, second: 58, micros: 0 }",
            "Time { negative: true, hours: 26, minutes: 3, seconds: 4, micros: 5 }",
            "Date { year: 0, month: 0, day: 0 }",
        ];
        assert_eq!(values(&columns, &kinds, &packet), expected);
        for cut in 0..packet.len() {
            let row = BinaryRow::new(&packet[..cut], &columns);
            let read = row.map(|row| row.each(&kinds, |_, _| Ok::<_, Malformed>(())));
            assert!(!matches!(read, Ok(Ok(()))), "{cut}");
        }
    }
}
