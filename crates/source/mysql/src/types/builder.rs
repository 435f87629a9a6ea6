//! Arrow columns that grow by values, without an allocation per cell.
use std::mem;

use arrow_array::ArrayRef;
use arrow_buffer::NullBufferBuilder;
use arrow_schema::DataType;
use lakeward_core::{Error, ErrorKind, Result};

use super::BadValue;
use super::cells::Cells;
use super::kind::Kind;
use super::value::Value;

/// One column of a batch that is being filled. After [`finish`](ColumnBuilder::finish) it is empty and may be used again.
#[derive(Debug)]
pub struct ColumnBuilder {
    kind: Kind,
    cells: Cells,
    validity: NullBufferBuilder,
    /// Whether an unrepresentable value becomes NULL.
    lenient: bool,
    nulled: u64,
    scratch: String,
}

impl ColumnBuilder {
    /// An empty column of `data_type` for values of `kind`; the type may be wider than the kind's own. With `lenient`,
    /// values that the type cannot hold become NULL and are counted.
    ///
    /// # Errors
    /// `Bug` for a type that [`Kind::data_type`] never gives.
    pub fn new(kind: &Kind, data_type: &DataType, lenient: bool) -> Result<Self> {
        Ok(Self {
            kind: kind.clone(),
            cells: Cells::new(data_type)?,
            validity: NullBufferBuilder::new(0),
            lenient,
            nulled: 0,
            scratch: String::new(),
        })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.validity.len()
    }

    /// Whether it has no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the cells take so far.
    pub fn memory(&self) -> usize {
        self.cells.bytes() + self.len() / 8
    }

    /// How many values became NULL by policy since the last call.
    pub fn take_nulled(&mut self) -> u64 {
        mem::take(&mut self.nulled)
    }

    /// Adds a cell.
    ///
    /// # Errors
    /// [`BadValue`]; the column is then as it was.
    #[inline]
    pub fn push(&mut self, value: Value<'_>) -> Result<(), BadValue> {
        if value == Value::Null {
            self.push_null();
            return Ok(());
        }
        match self.cells.push(&self.kind, value, &mut self.scratch) {
            Ok(()) => self.validity.append_non_null(),
            Err(BadValue::Unrepresentable(_)) if self.lenient => {
                self.nulled += 1;
                self.push_null();
            }
            Err(bad) => return Err(bad),
        }
        Ok(())
    }

    /// Adds `count` cells that `write` puts in at once. `nulls`: which of them are NULL, if any are. False: `write` did
    /// not want to, or put in another number; the column is then as it was.
    pub(crate) fn push_many(
        &mut self,
        count: usize,
        nulls: Option<&[bool]>,
        write: impl FnOnce(&Kind, &mut Cells) -> bool,
    ) -> bool {
        let before = self.len();
        if !write(&self.kind, &mut self.cells) || self.cells.len() != before + count {
            self.cells.truncate(before);
            return false;
        }
        match nulls {
            None => self.validity.append_n_non_nulls(count),
            Some(nulls) => nulls.iter().for_each(|is_null| self.validity.append(!is_null)),
        }
        true
    }

    /// Adds NULL.
    pub fn push_null(&mut self) {
        self.cells.push_null();
        self.validity.append_null();
    }

    /// Forgets all cells from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.cells.truncate(len);
            self.validity.truncate(len);
        }
    }

    /// The column so far; the builder is empty afterwards.
    ///
    /// # Errors
    /// `Bug` when buffers contradict each other.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.validity.finish();
        self.cells.finish(nulls).map_err(|error| {
            Error::new(ErrorKind::Bug, "a column's buffers contradict each other").caused_by(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Decimal128Type, Int64Type};

    use super::super::Unrepresentable;
    use super::*;

    fn column(declared: &str, policy: Unrepresentable, lenient: bool) -> ColumnBuilder {
        let kind = Kind::of_declared(declared).unwrap();
        let data_type = kind.data_type(policy);
        ColumnBuilder::new(&kind, &data_type, lenient).unwrap()
    }

    fn texts(declared: &str, values: &[Value<'_>]) -> Vec<String> {
        let mut column = column(declared, Unrepresentable::Text, false);
        values.iter().for_each(|value| column.push(*value).unwrap());
        let array = column.finish().unwrap();
        array.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    const ZERO_DATE: Value<'_> = Value::Date { year: 0, month: 0, day: 0 };

    #[test]
    fn a_refused_value_leaves_no_trace() {
        let mut column = column("varchar(9)", Unrepresentable::Fail, false);
        column.push(Value::Bytes(b"a")).unwrap();
        assert!(column.push(Value::Bytes(b"b\xff")).is_err());
        column.push(Value::Text("ü".as_bytes())).unwrap();
        let array = column.finish().unwrap();
        let values: Vec<_> = array.as_string::<i32>().iter().collect();
        assert_eq!(values, [Some("a"), Some("ü")]);
    }

    #[test]
    fn the_policy_decides_about_zero_dates() {
        let mut strict = column("date", Unrepresentable::Fail, false);
        assert!(matches!(strict.push(ZERO_DATE), Err(BadValue::Unrepresentable(_))));
        let mut lenient = column("date", Unrepresentable::Null, true);
        lenient.push(ZERO_DATE).unwrap();
        assert_eq!((lenient.take_nulled(), lenient.take_nulled()), (1, 0));
        assert!(lenient.finish().unwrap().is_null(0));
        assert_eq!(texts("date", &[ZERO_DATE]), ["0000-00-00"]);
    }

    #[test]
    fn text_is_the_servers() {
        let time =
            Value::Time { negative: true, hours: 838, minutes: 5, seconds: 9, micros: 120_000 };
        assert_eq!(texts("time(2)", &[time]), ["-838:05:09.12"]);
        let stamp = [
            Value::Timestamp { seconds: 0, micros: 0 },
            Value::Timestamp { seconds: 86_399, micros: 5 },
        ];
        let expected = ["0000-00-00 00:00:00.000000", "1970-01-01 23:59:59.000005"];
        assert_eq!(texts("timestamp(6)", &stamp), expected);
        let wide = [Value::Text(b"-000.50"), Value::Text(b"0012")];
        assert_eq!(texts("decimal(60,2)", &wide), ["-0.50", "12"]);
        let labels = [Value::Enum(0), Value::Enum(2), Value::Text(b"a")];
        assert_eq!(texts("enum('a','b')", &labels), ["", "b", "a"]);
        assert_eq!(texts("set('a','b','c')", &[Value::Set(5), Value::Set(0)]), ["a,c", ""]);
    }

    #[test]
    fn labels_that_are_not_there_are_refused() {
        let mut labels = column("enum('a')", Unrepresentable::Fail, false);
        assert!(labels.push(Value::Enum(2)).is_err());
        let mut set = column("set('a')", Unrepresentable::Fail, false);
        assert!(set.push(Value::Set(2)).is_err());
        assert!(set.is_empty());
    }

    #[test]
    fn binary_gets_its_zero_bytes_back() {
        let mut column = column("binary(3)", Unrepresentable::Fail, false);
        column.push(Value::Bytes(b"a")).unwrap();
        assert!(column.push(Value::Bytes(b"abcd")).is_err());
        assert_eq!(column.finish().unwrap().as_binary::<i32>().value(0), b"a\0\0");
    }

    #[test]
    fn a_narrow_value_goes_into_a_wider_column() {
        let kind = Kind::of_declared("smallint").unwrap();
        let mut column = ColumnBuilder::new(&kind, &DataType::Int64, false).unwrap();
        column.push(Value::Int(-7)).unwrap();
        let array = column.finish().unwrap();
        assert_eq!(array.as_primitive::<Int64Type>().value(0), -7);
        let unsigned = Kind::of_declared("bigint unsigned").unwrap();
        let mut column =
            ColumnBuilder::new(&unsigned, &DataType::Decimal128(20, 0), false).unwrap();
        column.push(Value::UInt(u64::MAX)).unwrap();
        let array = column.finish().unwrap();
        assert_eq!(array.as_primitive::<Decimal128Type>().value(0), i128::from(u64::MAX));
    }
}
