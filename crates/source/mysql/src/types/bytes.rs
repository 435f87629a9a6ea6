//! Values in the bytes that a column of text, bytes or UUIDs holds.
use std::fmt::Write as _;

use super::kind::{Kind, Text};
use super::value::Value;
use super::{BadValue, civil, inet, number};

const OTHER_TYPE: BadValue = BadValue::Malformed("a value of another type than its column");
const NO_LABEL: BadValue = BadValue::Malformed("an enum or set without such a label");
const LENGTH: BadValue = BadValue::Malformed("a value of the wrong length");
const NOT_UTF8: BadValue = BadValue::Malformed("text that is not UTF-8");

/// MariaDB stores a UUID with its parts in reverse, so that those made one after the other lie together; the newer
/// versions 6 to 8, which do so by themselves, are stored as they are written.
pub(super) fn uuid(value: Value<'_>) -> Result<[u8; 16], BadValue> {
    let Value::Bytes(stored) = value else {
        let Value::Text(text) = value else { return Err(OTHER_TYPE) };
        return number::uuid(text);
    };
    // Trailing zero bytes are not stored.
    let mut bytes = [0; 16];
    bytes.get_mut(..stored.len()).ok_or(LENGTH)?.copy_from_slice(stored);
    let reversed = bytes[6] & 0x80 != 0 && (1..0x60).contains(&bytes[8]);
    if !reversed {
        return Ok(bytes);
    }
    let mut written = [0; 16];
    for (to, from) in [(0..4, 12..16), (4..6, 10..12), (6..8, 8..10), (8..10, 6..8), (10..16, 0..6)]
    {
        written[to].copy_from_slice(&bytes[from]);
    }
    Ok(written)
}

fn utf8(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a value to a column of text. `scratch` holds what is written in pieces.
pub(super) fn text(
    kind: &Kind,
    value: Value<'_>,
    scratch: &mut String,
    out: &mut Vec<u8>,
) -> Result<(), BadValue> {
    match (kind, value) {
        (Kind::Decimal { .. }, Value::Text(text)) => plain_decimal(text, out),
        (_, Value::Text(text)) => utf8(text, out)?,
        (Kind::Text(_, charset), Value::Bytes(bytes)) => charset.decode(bytes, out)?,
        (Kind::Json, Value::Bytes(bytes)) => utf8(bytes, out)?,
        (Kind::Enum(labels), Value::Enum(index)) => {
            let label = usize::from(index).checked_sub(1).map(|at| labels.get(at));
            out.extend_from_slice(match label {
                None => b"",
                Some(label) => label.ok_or(NO_LABEL)?.as_bytes(),
            });
        }
        (Kind::Set(labels), Value::Set(bits)) => set(labels, bits, out)?,
        (kind, value) => {
            scratch.clear();
            rendered(kind, value, scratch)?;
            out.extend_from_slice(scratch.as_bytes());
        }
    }
    Ok(())
}

fn set(labels: &[String], bits: u64, out: &mut Vec<u8>) -> Result<(), BadValue> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return Err(NO_LABEL);
    }
    let chosen = labels.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    for (nth, (_, label)) in chosen.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(label.as_bytes());
    }
    Ok(())
}

/// ZEROFILL pads the text that a session gives, and nothing else.
fn plain_decimal(text: &[u8], out: &mut Vec<u8>) {
    let digits = match text.split_first() {
        Some((b'-', digits)) => {
            out.push(b'-');
            digits
        }
        _ => text,
    };
    let whole = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let zeros = digits.iter().take(whole.saturating_sub(1)).take_while(|b| **b == b'0').count();
    out.extend_from_slice(&digits[zeros..]);
}

/// The server's text of a value that is no text.
fn rendered(kind: &Kind, value: Value<'_>, out: &mut String) -> Result<(), BadValue> {
    let padded = |bytes: &[u8]| -> Result<[u8; 16], BadValue> {
        let mut whole = [0; 16];
        whole.get_mut(..bytes.len()).ok_or(LENGTH)?.copy_from_slice(bytes);
        Ok(whole)
    };
    match (kind, value) {
        (_, Value::Date { year, month, day }) => write_date(out, year, month, day),
        (
            Kind::DateTime(digits) | Kind::Timestamp(digits),
            Value::DateTime { year, month, day, hour, minute, second, micros },
        ) => {
            write_date(out, year, month, day);
            out.push(' ');
            write_time(out, u32::from(hour), minute, second, micros, *digits);
        }
        (Kind::Date, Value::DateTime { year, month, day, .. }) => write_date(out, year, month, day),
        (Kind::Timestamp(digits), Value::Timestamp { seconds, micros }) => {
            write_timestamp(out, seconds, micros, *digits);
        }
        (Kind::Time(digits), Value::Time { negative, hours, minutes, seconds, micros }) => {
            out.push_str(if negative { "-" } else { "" });
            write_time(out, hours, minutes, seconds, micros, *digits);
        }
        (Kind::Inet6, Value::Bytes(bytes)) => inet::inet6(padded(bytes)?, out),
        (Kind::Inet4, Value::Bytes(bytes)) => {
            let [a, b, c, d, ..] = padded(bytes)?;
            inet::inet4([a, b, c, d], out);
        }
        _ => return Err(OTHER_TYPE),
    }
    Ok(())
}

fn write_date(out: &mut String, year: u16, month: u8, day: u8) {
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

fn write_time(out: &mut String, hours: u32, minutes: u8, seconds: u8, micros: u32, digits: u8) {
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}");
    if digits > 0 {
        let digits = digits.min(6);
        let shown = micros / 10u32.pow(6 - u32::from(digits));
        let _ = write!(out, ".{shown:0width$}", width = usize::from(digits));
    }
}

fn write_timestamp(out: &mut String, seconds: i64, micros: u32, digits: u8) {
    if seconds == 0 && micros == 0 {
        write_date(out, 0, 0, 0);
        out.push(' ');
        return write_time(out, 0, 0, 0, 0, digits);
    }
    let (year, month, day) = civil::civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400) as u32;
    write_date(out, year as u16, month as u8, day as u8);
    out.push(' ');
    let (minutes, second) = ((of_day / 60 % 60) as u8, (of_day % 60) as u8);
    write_time(out, of_day / 3600, minutes, second, micros, digits);
}

/// Appends a value to a column of bytes.
pub(super) fn binary(kind: &Kind, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), BadValue> {
    let (Value::Bytes(bytes) | Value::Text(bytes)) = value else { return Err(OTHER_TYPE) };
    out.extend_from_slice(bytes);
    if let Kind::Binary(Text::Fixed(length)) = kind {
        // The log leaves trailing zero bytes out.
        let missing = (*length as usize).checked_sub(bytes.len()).ok_or(LENGTH)?;
        out.resize(out.len() + missing, 0);
    }
    Ok(())
}
