//! Arrow values back as text, for keys that go into queries and marks.
use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use lakeward_core::{Error, ErrorKind, Result};

use super::civil;

/// Appends one value: numbers and times as the server writes them, a float as the double that it equals, bytes in
/// hexadecimal digits. A NULL appends nothing.
///
/// # Errors
/// `Bug` for a type that no column of this source has.
pub fn render(array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
    if array.is_null(row) {
        return Ok(());
    }
    match array.data_type() {
        DataType::Int16 => display(out, array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => display(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => display(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => {
            let value = f64::from(array.as_primitive::<Float32Type>().value(row));
            display(out, format_args!("{value:e}"));
        }
        DataType::Float64 => {
            display(out, format_args!("{:e}", array.as_primitive::<Float64Type>().value(row)));
        }
        DataType::Decimal128(_, scale) => {
            decimal(out, array.as_primitive::<Decimal128Type>().value(row), *scale);
        }
        DataType::Date32 => date(out, i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Time64(TimeUnit::Microsecond) => {
            time(out, array.as_primitive::<Time64MicrosecondType>().value(row));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            date(out, micros.div_euclid(civil::DAY));
            out.push(' ');
            time(out, micros.rem_euclid(civil::DAY));
        }
        DataType::FixedSizeBinary(16) => hex(out, array.as_fixed_size_binary().value(row)),
        DataType::Binary => hex(out, array.as_binary::<i32>().value(row)),
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        other => {
            return Err(Error::new(ErrorKind::Bug, "no text for this type").with("type", other));
        }
    }
    Ok(())
}

fn display(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

fn decimal(out: &mut String, value: i128, scale: i8) {
    let sign = if value < 0 { "-" } else { "" };
    let scale = usize::from(scale.max(0).cast_unsigned());
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    let _ = write!(out, "{sign}{whole}{point}{fraction}");
}

fn date(out: &mut String, days: i64) {
    let (year, month, day) = civil::civil(days);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

fn time(out: &mut String, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let _ = write!(out, "{hours:02}:{minutes:02}:{:02}.{fraction:06}", seconds % 60);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Decimal128Array, Float32Array, TimestampMicrosecondArray};

    use super::*;

    fn text(array: ArrayRef) -> String {
        let mut out = String::new();
        render(&array, 0, &mut out).unwrap();
        out
    }

    #[test]
    fn keys_are_exact() {
        let decimal = Decimal128Array::from(vec![-5]).with_precision_and_scale(9, 2).unwrap();
        assert_eq!(text(Arc::new(decimal)), "-0.05");
        assert_eq!(text(Arc::new(Float32Array::from(vec![0.1]))), "1.0000000149011612e-1");
        let stamp = TimestampMicrosecondArray::from(vec![-1]);
        assert_eq!(text(Arc::new(stamp)), "1969-12-31 23:59:59.999999");
    }
}
