//! Arrow values back as the server's own text, for keys that go into queries and marks.
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

/// Appends the server's output text of one value; a NULL appends nothing.
///
/// # Errors
/// `Bug` for a type that no column of this source has.
pub fn render(array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
    if array.is_null(row) {
        return Ok(());
    }
    match array.data_type() {
        DataType::Boolean => out.push(if array.as_boolean().value(row) { 't' } else { 'f' }),
        DataType::Int16 => display(out, array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => display(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => display(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float(out, f64::from(value), &format!("{value:e}"), 6);
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            float(out, value, &format!("{value:e}"), 15);
        }
        DataType::Decimal128(_, scale) => {
            decimal(out, array.as_primitive::<Decimal128Type>().value(row), *scale);
        }
        DataType::Date32 => date(out, i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Time64(TimeUnit::Microsecond) => {
            time(out, array.as_primitive::<Time64MicrosecondType>().value(row));
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            date(out, micros.div_euclid(civil::DAY));
            out.push(' ');
            time(out, micros.rem_euclid(civil::DAY));
            out.push_str(if zone.is_some() { "+00" } else { "" });
        }
        DataType::FixedSizeBinary(16) => uuid(out, array.as_fixed_size_binary().value(row)),
        DataType::Binary => {
            out.push_str("\\x");
            hex(out, array.as_binary::<i32>().value(row));
        }
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::List(_) => list(out, &array.as_list::<i32>().value(row))?,
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

fn uuid(out: &mut String, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        let _ = write!(out, "{byte:02x}");
    }
}

/// The server writes the shortest digits, and an exponent from `plain_digits` digits on.
fn float(out: &mut String, value: f64, scientific: &str, plain_digits: i32) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..plain_digits).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
        return;
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    out.push_str(sign);
    place_point(out, &digits, exponent);
}

fn place_point(out: &mut String, digits: &str, exponent: i32) {
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize - 1));
        return out.push_str(digits);
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', whole - digits.len()));
    } else {
        let _ = write!(out, "{}.{}", &digits[..whole], &digits[whole..]);
    }
}

fn decimal(out: &mut String, value: i128, scale: i8) {
    let sign = if value < 0 { "-" } else { "" };
    let scale = usize::from(scale.max(0).cast_unsigned());
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
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
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

fn list(out: &mut String, elements: &ArrayRef) -> Result<()> {
    out.push('{');
    for at in 0..elements.len() {
        if at > 0 {
            out.push(',');
        }
        if elements.is_null(at) {
            out.push_str("NULL");
            continue;
        }
        let mut text = String::new();
        render(elements, at, &mut text)?;
        quote(out, &text);
    }
    out.push('}');
    Ok(())
}

fn quote(out: &mut String, text: &str) {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || is_space(c);
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        return out.push_str(text);
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}
