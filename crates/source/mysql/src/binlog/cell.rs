//! One cell of a row image as a [`Value`].
use super::cursor::{Cursor, Malformed};
use super::table_map::{LogColumn, code};
use crate::types::Value;

/// How a column's cells are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    code: u8,
    low: u8,
    high: u8,
    unsigned: bool,
}

/// The largest number of digits that a decimal of the lake has.
const DECIMAL_DIGITS_MAX: u8 = 38;

impl Reader {
    /// Of a column.
    pub fn of(column: &LogColumn) -> Self {
        let [low, high] = column.meta.to_le_bytes();
        Self { code: column.code, low, high, unsigned: column.unsigned }
    }

    /// Reads a cell. `scratch` holds values that do not stand in the log as such.
    ///
    /// # Errors
    /// [`Malformed`].
    #[inline]
    pub fn value<'a>(
        &self,
        bytes: &'a [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Result<Value<'a>, Malformed> {
        let mut cursor = Cursor(bytes);
        Ok(match self.code {
            code::TINY | code::SHORT | code::INT24 | code::LONG | code::LONGLONG => {
                integer(bytes, self.unsigned)?
            }
            code::FLOAT => Value::Float(f32::from_le_bytes(cursor.array()?)),
            code::DOUBLE => Value::Double(f64::from_le_bytes(cursor.array()?)),
            code::NEWDECIMAL => decimal(bytes, self.low, self.high, scratch)?,
            code::YEAR => match cursor.u8()? {
                0 => Value::Year(0),
                year => Value::Year(1900 + u16::from(year)),
            },
            code::DATE | code::NEWDATE => date(&mut cursor)?,
            code::TIME2 => time(bytes, self.low)?,
            code::DATETIME2 => date_time(bytes, self.low)?,
            code::TIMESTAMP2 => {
                let (seconds, fraction) = cursor_split(bytes, 4)?;
                Value::Timestamp { seconds: seconds as i64, micros: micros(fraction, self.low) }
            }
            code::TIMESTAMP => Value::Timestamp { seconds: i64::from(cursor.u32()?), micros: 0 },
            code::TIME => old_time(&mut cursor)?,
            code::DATETIME => old_date_time(cursor.u64()?)?,
            code::ENUM => Value::Enum(cursor.number(bytes.len().min(2))? as u16),
            code::SET => Value::Set(cursor.number(bytes.len().min(8))?),
            code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED => {
                uncompressed(bytes, scratch)?;
                Value::Bytes(scratch)
            }
            code::NULL => Value::Null,
            _ => Value::Bytes(bytes),
        })
    }
}

#[inline]
fn integer(bytes: &[u8], unsigned: bool) -> Result<Value<'static>, Malformed> {
    let number = Cursor(bytes).number(bytes.len().min(8))?;
    if unsigned {
        return Ok(Value::UInt(number));
    }
    let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    Ok(Value::Int((number << unused).cast_signed() >> unused))
}

/// Big-endian whole part of `width` bytes, and the big-endian rest.
fn cursor_split(bytes: &[u8], width: usize) -> Result<(u64, u64), Malformed> {
    let mut cursor = Cursor(bytes);
    Ok((big_endian(cursor.bytes(width)?), big_endian(cursor.0)))
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// A stored fraction in microseconds: it has as many digits as fit into its bytes.
fn micros(fraction: u64, digits: u8) -> u32 {
    let factor = match digits.div_ceil(2) {
        1 => 10_000,
        2 => 100,
        _ => 1,
    };
    (fraction as u32).saturating_mul(factor)
}

fn date(cursor: &mut Cursor<'_>) -> Result<Value<'static>, Malformed> {
    let packed = cursor.number(3)?;
    Ok(Value::Date {
        year: (packed >> 9) as u16,
        month: (packed >> 5 & 15) as u8,
        day: (packed & 31) as u8,
    })
}

fn time(bytes: &[u8], digits: u8) -> Result<Value<'static>, Malformed> {
    // A damaged log may say more.
    let digits = digits.min(6);
    let fraction_bits = 8 * u32::from(digits.div_ceil(2));
    let bits = 8 * bytes.len().clamp(3, 6) as u32;
    let packed = big_endian(bytes).cast_signed().wrapping_sub(1 << (bits - 1));
    let absolute = packed.unsigned_abs();
    let (whole, fraction) = (absolute >> fraction_bits, absolute & ((1 << fraction_bits) - 1));
    Ok(Value::Time {
        negative: packed < 0,
        hours: (whole >> 12 & 0x3FF) as u32,
        minutes: (whole >> 6 & 63) as u8,
        seconds: (whole & 63) as u8,
        micros: micros(fraction, digits),
    })
}

fn date_time(bytes: &[u8], digits: u8) -> Result<Value<'static>, Malformed> {
    let (packed, fraction) = cursor_split(bytes, 5)?;
    let packed = packed.saturating_sub(1 << 39);
    let months = packed >> 22;
    Ok(Value::DateTime {
        year: (months / 13) as u16,
        month: (months % 13) as u8,
        day: (packed >> 17 & 31) as u8,
        hour: (packed >> 12 & 31) as u8,
        minute: (packed >> 6 & 63) as u8,
        second: (packed & 63) as u8,
        micros: micros(fraction, digits),
    })
}

fn old_time(cursor: &mut Cursor<'_>) -> Result<Value<'static>, Malformed> {
    let Value::Int(packed) = integer(cursor.bytes(3)?, false)? else { return Ok(Value::Null) };
    let digits = packed.unsigned_abs();
    Ok(Value::Time {
        negative: packed < 0,
        hours: (digits / 10_000) as u32,
        minutes: (digits / 100 % 100) as u8,
        seconds: (digits % 100) as u8,
        micros: 0,
    })
}

fn old_date_time(packed: u64) -> Result<Value<'static>, Malformed> {
    let (day, time) = (packed / 1_000_000, packed % 1_000_000);
    let year = u16::try_from(day / 10_000).map_err(|_| Malformed("a date is no date"))?;
    Ok(Value::DateTime {
        year,
        month: (day / 100 % 100) as u8,
        day: (day % 100) as u8,
        hour: (time / 10_000) as u8,
        minute: (time / 100 % 100) as u8,
        second: (time % 100) as u8,
        micros: 0,
    })
}

/// Digits in groups of nine, each in four bytes, the odd ones in fewer; the first bit is the sign, and negative
/// numbers have all bits turned.
struct Digits<'a> {
    bytes: Cursor<'a>,
    flip: u8,
    first: bool,
}

impl Digits<'_> {
    fn group(&mut self, digits: u32) -> Result<u32, Malformed> {
        const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
        let mut number = 0u32;
        for byte in self.bytes.bytes(BYTES[digits as usize % 10])? {
            let sign = if std::mem::take(&mut self.first) { 0x80 } else { 0 };
            number = (number << 8) | u32::from(byte ^ self.flip ^ sign);
        }
        if number >= 10u32.pow(digits) && number > 0 {
            return Err(Malformed("a decimal has too many digits"));
        }
        Ok(number)
    }
}

fn decimal<'a>(
    bytes: &[u8],
    precision: u8,
    scale: u8,
    scratch: &'a mut Vec<u8>,
) -> Result<Value<'a>, Malformed> {
    if scale > precision {
        return Err(Malformed("a decimal's digits are not known"));
    }
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 == 0);
    let flip = if negative { 0xFF } else { 0 };
    let mut digits = Digits { bytes: Cursor(bytes), flip, first: true };
    let whole = u32::from(precision - scale);
    let groups = whole_groups(whole).chain(fraction_groups(u32::from(scale)));
    if precision <= DECIMAL_DIGITS_MAX {
        let mut unscaled = 0i128;
        for group in groups {
            unscaled = unscaled * 10i128.pow(group) + i128::from(digits.group(group)?);
        }
        return Ok(Value::Decimal { unscaled: if negative { -unscaled } else { unscaled }, scale });
    }
    scratch.clear();
    for group in groups {
        push_digits(scratch, digits.group(group)?, group);
    }
    as_printed(scratch, scale, negative);
    Ok(Value::Text(scratch))
}

fn whole_groups(digits: u32) -> impl Iterator<Item = u32> {
    let odd = (!digits.is_multiple_of(9)).then_some(digits % 9);
    odd.into_iter().chain(std::iter::repeat_n(9, (digits / 9) as usize))
}

fn fraction_groups(digits: u32) -> impl Iterator<Item = u32> {
    let odd = (!digits.is_multiple_of(9)).then_some(digits % 9);
    std::iter::repeat_n(9, (digits / 9) as usize).chain(odd)
}

fn push_digits(text: &mut Vec<u8>, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        text.push(b'0' + (number / 10u32.pow(place) % 10) as u8);
    }
}

/// Makes of digits what the server prints: without leading zeros, but with one before the point.
fn as_printed(digits: &mut Vec<u8>, scale: u8, negative: bool) {
    let whole = digits.len() - usize::from(scale).min(digits.len());
    let zeros = digits[..whole].iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros.min(whole.saturating_sub(1)));
    if whole == 0 {
        digits.insert(0, b'0');
    }
    if scale > 0 {
        digits.insert(digits.len() - usize::from(scale), b'.');
    }
    if negative {
        digits.insert(0, b'-');
    }
}

/// A cell of a column that is declared `COMPRESSED`.
fn uncompressed(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    use std::io::Read as _;
    const DAMAGED: Malformed = Malformed("a compressed cell is damaged");
    into.clear();
    let Some((head, rest)) = bytes.split_first() else { return Ok(()) };
    if *head == 0 {
        into.extend_from_slice(rest);
        return Ok(());
    }
    let (method, raw, width) = (head >> 4, head & 8 != 0, usize::from(head & 7));
    let (length, packed) = rest.split_at_checked(width).ok_or(DAMAGED)?;
    let length = big_endian(length);
    if method != 8 || width > 4 {
        return Err(Malformed("a cell's compression is not known"));
    }
    let read = if raw {
        flate2::read::DeflateDecoder::new(packed).take(length + 1).read_to_end(into)
    } else {
        flate2::read::ZlibDecoder::new(packed).take(length + 1).read_to_end(into)
    };
    match read {
        Ok(read) if read as u64 == length => Ok(()),
        _ => Err(DAMAGED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(code: u8, low: u8, high: u8) -> Reader {
        Reader { code, low, high, unsigned: false }
    }

    fn shown(reader: Reader, bytes: &[u8]) -> String {
        format!("{:?}", reader.value(bytes, &mut Vec::new()).unwrap())
    }

    #[test]
    fn integers_keep_their_sign() {
        let int24 = reader(code::INT24, 0, 0);
        assert_eq!(shown(int24, &[0xFF, 0xFF, 0xFF]), "Int(-1)");
        assert_eq!(shown(int24, &[0, 0, 0x80]), "Int(-8388608)");
        assert_eq!(
            shown(Reader { unsigned: true, ..int24 }, &[0xFF, 0xFF, 0xFF]),
            "UInt(16777215)"
        );
        assert_eq!(shown(reader(code::LONGLONG, 0, 0), &[0xFF; 8]), "Int(-1)");
    }

    #[test]
    fn decimals_of_every_size() {
        let narrow = reader(code::NEWDECIMAL, 14, 4);
        // 1234567890.1234, as the manual shows it.
        let bytes = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        assert_eq!(shown(narrow, &bytes), "Decimal { unscaled: 12345678901234, scale: 4 }");
        let turned = bytes.map(|byte| !byte);
        assert_eq!(shown(narrow, &turned), "Decimal { unscaled: -12345678901234, scale: 4 }");
        let mut text = Vec::new();
        let cases = [
            ("000123", 2, true, "-1.23"),
            ("000003", 6, false, "0.000003"),
            ("000000", 0, false, "0"),
            ("100", 0, true, "-100"),
        ];
        for (digits, scale, negative, expected) in cases {
            let digits = if scale == 2 { format!("0{digits}") } else { digits.to_owned() };
            text.clear();
            text.extend_from_slice(digits.as_bytes());
            as_printed(&mut text, scale, negative);
            assert_eq!(str::from_utf8(&text).unwrap(), expected);
        }
    }

    #[test]
    fn times_of_both_signs() {
        // -00:00:01 and -00:00:00.1, in the forms without a fraction, with one digit, and with six.
        let zero = |digits| reader(code::TIME2, digits, 0);
        assert_eq!(
            shown(zero(0), &[0x7F, 0xFF, 0xFF]),
            "Time { negative: true, hours: 0, minutes: 0, seconds: 1, micros: 0 }"
        );
        assert_eq!(
            shown(zero(1), &[0x7F, 0xFF, 0xFF, 0xF6]),
            "Time { negative: true, hours: 0, minutes: 0, seconds: 0, micros: 100000 }"
        );
        assert_eq!(
            shown(zero(6), &[0x7F, 0xFF, 0xFF, 0xFE, 0x79, 0x60]),
            "Time { negative: true, hours: 0, minutes: 0, seconds: 0, micros: 100000 }"
        );
    }

    #[test]
    fn no_bytes_of_a_cell_can_cause_a_panic() {
        let mut seed = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..200_000 {
            let reader = reader(random() as u8, random() as u8, random() as u8);
            let bytes: Vec<u8> = (0..random() % 12).map(|_| random() as u8).collect();
            let _ = reader.value(&bytes, &mut Vec::new());
        }
    }
}
