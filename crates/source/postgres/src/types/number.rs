//! Integers, decimals and hexadecimal digits, exactly, without allocation.
//!
//! Floats are left to the standard library, which is exact.
use super::BadValue;

const NOT_A_NUMBER: BadValue = BadValue::Malformed("not a number in the server's form");
const OUT_OF_RANGE: BadValue = BadValue::Malformed("a number out of its type's range");
const NOT_FINITE: BadValue = BadValue::Unrepresentable("a numeric that is NaN or infinite");
const NOT_HEX: BadValue = BadValue::Malformed("not hexadecimal digits");

/// So many decimal digits fit 64 bits whatever they are: they need no check each.
const SAFE_DIGITS: usize = 18;

/// Powers of ten, from 10^0.
const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// The same as far as 64 bits hold them.
const SMALL_POWERS: [i64; SAFE_DIGITS + 1] = {
    let mut powers = [1; SAFE_DIGITS + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// The value of no more than [`SAFE_DIGITS`] digits; `None` for what is no digit.
#[inline]
fn small(digits: &[u8]) -> Option<i64> {
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// An integer in decimal digits that fits `T`.
#[inline]
pub(super) fn integer<T: TryFrom<i64>>(text: &[u8]) -> Result<T, BadValue> {
    let (negative, digits) = sign(text);
    if digits.is_empty() || digits.len() > 19 {
        return Err(NOT_A_NUMBER);
    }
    if digits.len() <= SAFE_DIGITS {
        let value = small(digits).ok_or(NOT_A_NUMBER)?;
        return T::try_from(if negative { -value } else { value }).map_err(|_| OUT_OF_RANGE);
    }
    // Counted downwards: the smallest integer has no positive twin.
    let mut value = 0i64;
    for byte in digits {
        let digit = digit(*byte)?;
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(i64::from(digit)))
            .ok_or(OUT_OF_RANGE)?;
    }
    let value = if negative { Some(value) } else { value.checked_neg() };
    value.and_then(|v| T::try_from(v).ok()).ok_or(OUT_OF_RANGE)
}

#[inline]
fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    }
}

fn digit(byte: u8) -> Result<u8, BadValue> {
    let digit = byte.wrapping_sub(b'0');
    if digit < 10 { Ok(digit) } else { Err(NOT_A_NUMBER) }
}

/// Precision and scale of an Arrow decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    /// Digits, 1 to 38.
    pub(super) precision: u8,
    /// Digits behind the point, 0 to `precision`.
    pub(super) scale: u8,
}

impl Decimal {
    #[inline]
    fn check(self, value: i128) -> Result<i128, BadValue> {
        let limit = POWERS.get(usize::from(self.precision)).copied().unwrap_or(i128::MAX);
        if -limit < value && value < limit { Ok(value) } else { Err(OUT_OF_RANGE) }
    }

    /// As `check`, for what fits 64 bits.
    #[inline]
    fn check_small(self, value: i64) -> Result<i128, BadValue> {
        // Where the table ends, no such value is too large.
        let limit = SMALL_POWERS.get(usize::from(self.precision)).copied().unwrap_or(i64::MAX);
        let fits = -limit < value && value < limit;
        if fits { Ok(i128::from(value)) } else { self.check(i128::from(value)) }
    }

    /// A numeric in the server's text as an unscaled integer.
    #[inline]
    pub(super) fn text(self, text: &[u8]) -> Result<i128, BadValue> {
        let (negative, digits) = sign(text);
        match self.small_text(digits) {
            Some(value) => self.check_small(if negative { -value } else { value }),
            None => self.any_text(text),
        }
    }

    /// Digits with or without a point as an unscaled integer, if 64 bits hold it; `None` for all else, errors too.
    #[inline]
    fn small_text(self, digits: &[u8]) -> Option<i64> {
        if digits.len() > SAFE_DIGITS {
            return None;
        }
        let (mut value, mut point) = (0i64, digits.len());
        for (at, byte) in digits.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                value = value * 10 + i64::from(digit);
            } else if *byte == b'.' && point == digits.len() {
                point = at;
            } else {
                return None;
            }
        }
        if point == 0 {
            return None;
        }
        let places = digits.len().saturating_sub(point + 1);
        let missing = usize::from(self.scale).checked_sub(places)?;
        value.checked_mul(*SMALL_POWERS.get(missing)?)
    }

    fn any_text(self, text: &[u8]) -> Result<i128, BadValue> {
        if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
            return Err(NOT_FINITE);
        }
        let (negative, digits) = sign(text);
        let (whole, fraction) = match memchr::memchr(b'.', digits) {
            Some(point) => (&digits[..point], &digits[point + 1..]),
            None => (digits, &digits[..0]),
        };
        if whole.is_empty() {
            return Err(NOT_A_NUMBER);
        }
        let mut value = 0i128;
        for byte in whole {
            value = shift_in(value, *byte)?;
        }
        let value = self.fraction(value, fraction)?;
        self.check(if negative { -value } else { value })
    }

    fn fraction(self, mut value: i128, fraction: &[u8]) -> Result<i128, BadValue> {
        let scale = usize::from(self.scale);
        for at in 0..scale {
            value = shift_in(value, fraction.get(at).copied().unwrap_or(b'0'))?;
        }
        let rest = fraction.get(scale..).unwrap_or_default();
        if rest.iter().all(|b| *b == b'0') { Ok(value) } else { Err(OUT_OF_RANGE) }
    }

    /// A numeric in the server's binary form (digits of base 10,000) as an unscaled integer.
    pub(super) fn binary(self, bytes: &[u8]) -> Result<i128, BadValue> {
        let (header, digits) = bytes.split_first_chunk::<8>().ok_or(NOT_A_NUMBER)?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (count, weight, sign) = (field(0), field(2).cast_signed(), field(4));
        let negative = match sign {
            0x0000 => false,
            0x4000 => true,
            0xC000 | 0xD000 | 0xF000 => return Err(NOT_FINITE),
            _ => return Err(NOT_A_NUMBER),
        };
        if digits.len() != usize::from(count) * 2 {
            return Err(NOT_A_NUMBER);
        }
        if let Some(value) = self.small_base_10000(digits, i32::from(weight)) {
            return self.check_small(if negative { -value } else { value });
        }
        let value = self.base_10000(digits, i32::from(weight))?;
        self.check(if negative { -value } else { value })
    }

    /// As `base_10000`, for what fits 64 bits; `None` for all else, errors too.
    #[inline]
    fn small_base_10000(self, digits: &[u8], weight: i32) -> Option<i64> {
        /// So many digits are below 10^16.
        const COUNT_MAX: usize = 4;
        let pairs = digits.as_chunks::<2>().0;
        if pairs.len() > COUNT_MAX {
            return None;
        }
        let whole = pairs.iter().try_fold(0i64, |value, pair| {
            let digit = i64::from(u16::from_be_bytes(*pair));
            (digit < 10_000).then_some(value * 10_000 + digit)
        })?;
        // The last digit counts 10,000^(weight - (count - 1)).
        let exponent = (weight + 1 - pairs.len() as i32) * 4 + i32::from(self.scale);
        match exponent {
            0 => Some(whole),
            1..=18 => whole.checked_mul(SMALL_POWERS[exponent as usize]),
            -3..0 => {
                let power = SMALL_POWERS[exponent.unsigned_abs() as usize];
                (whole % power == 0).then_some(whole / power)
            }
            _ => None,
        }
    }

    fn base_10000(self, digits: &[u8], weight: i32) -> Result<i128, BadValue> {
        let mut value = 0i128;
        let mut exponent = weight * 4 + i32::from(self.scale);
        for pair in digits.chunks_exact(2) {
            let digit = i128::from(u16::from_be_bytes([pair[0], pair[1]]));
            value = value.checked_add(scaled(digit, exponent)?).ok_or(OUT_OF_RANGE)?;
            exponent -= 4;
        }
        Ok(value)
    }
}

fn shift_in(value: i128, byte: u8) -> Result<i128, BadValue> {
    let digit = i128::from(digit(byte)?);
    value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(OUT_OF_RANGE)
}

/// `digit * 10^exponent`, which must be whole.
fn scaled(digit: i128, exponent: i32) -> Result<i128, BadValue> {
    if digit == 0 {
        return Ok(0);
    }
    let power = 10i128.checked_pow(exponent.unsigned_abs()).ok_or(OUT_OF_RANGE)?;
    if exponent >= 0 {
        return digit.checked_mul(power).ok_or(OUT_OF_RANGE);
    }
    if digit % power == 0 { Ok(digit / power) } else { Err(OUT_OF_RANGE) }
}

fn nibble(byte: u8) -> Result<u8, BadValue> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(NOT_HEX),
    }
}

/// Appends the bytes of `\x…`. After an error `out` is as it was.
pub(super) fn bytea(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
    let digits = text.strip_prefix(b"\\x").ok_or(NOT_HEX)?;
    if !digits.len().is_multiple_of(2) {
        return Err(NOT_HEX);
    }
    let before = out.len();
    out.reserve(digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        match (nibble(pair[0]), nibble(pair[1])) {
            (Ok(high), Ok(low)) => out.push(high << 4 | low),
            _ => {
                out.truncate(before);
                return Err(NOT_HEX);
            }
        }
    }
    Ok(())
}

/// The sixteen bytes of a uuid written with its four hyphens.
pub(super) fn uuid(text: &[u8]) -> Result<[u8; 16], BadValue> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || HYPHENS.iter().any(|at| text[*at] != b'-') {
        return Err(NOT_HEX);
    }
    let mut out = [0u8; 16];
    let mut at = 0;
    for byte in &mut out {
        at += usize::from(HYPHENS.contains(&at));
        *byte = nibble(text[at])? << 4 | nibble(text[at + 1])?;
        at += 2;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_to_their_limits() {
        assert_eq!(integer::<i64>(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer::<i64>(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(integer::<i64>(b"9223372036854775808"), Err(OUT_OF_RANGE));
        assert_eq!(integer::<i16>(b"-32768"), Ok(i16::MIN));
        assert_eq!(integer::<i16>(b"32768"), Err(OUT_OF_RANGE));
        for bad in [&b""[..], b"-", b"1a", b"+1", b" 1"] {
            assert_eq!(integer::<i32>(bad), Err(NOT_A_NUMBER));
        }
    }

    #[test]
    fn decimals_are_exact() {
        let money = Decimal { precision: 12, scale: 2 };
        assert_eq!(money.text(b"-1.05"), Ok(-105));
        assert_eq!(money.text(b"7"), Ok(700));
        assert_eq!(money.text(b"0.001"), Err(OUT_OF_RANGE));
        assert_eq!(money.text(b"9999999999.99"), Ok(999_999_999_999));
        assert_eq!(money.text(b"10000000000.00"), Err(OUT_OF_RANGE));
        assert_eq!(money.text(b"NaN"), Err(NOT_FINITE));
        assert_eq!(money.text(b"."), Err(NOT_A_NUMBER));
        let widest = Decimal { precision: 38, scale: 0 };
        assert_eq!(widest.text(&[b'9'; 38]), Ok(10i128.pow(38) - 1));
        assert_eq!(widest.text(&[b'9'; 39]), Err(OUT_OF_RANGE));
    }

    #[test]
    fn base_ten_thousand_is_exact() {
        let binary = |weight: i16, sign: u16, digits: &[u16]| {
            let mut bytes = (digits.len() as u16).to_be_bytes().to_vec();
            bytes.extend(weight.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(0u16.to_be_bytes());
            digits.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
            bytes
        };
        let money = Decimal { precision: 12, scale: 2 };
        assert_eq!(money.binary(&binary(0, 0x4000, &[1, 500])), Ok(-105));
        assert_eq!(money.binary(&binary(1, 0, &[3])), Ok(3_000_000));
        assert_eq!(money.binary(&binary(-1, 0, &[100])), Ok(1));
        assert_eq!(money.binary(&binary(-1, 0, &[10])), Err(OUT_OF_RANGE));
        assert_eq!(money.binary(&binary(0, 0xC000, &[])), Err(NOT_FINITE));
        assert_eq!(money.binary(&binary(0, 0, &[])), Ok(0));
        assert_eq!(money.binary(&[0, 1]), Err(NOT_A_NUMBER));
        assert_eq!(money.binary(&binary(32_000, 0, &[9])), Err(OUT_OF_RANGE));
    }

    #[test]
    fn hexadecimal_digits() {
        let mut out = vec![7];
        assert_eq!(bytea(b"\\x00ffA0", &mut out), Ok(()));
        assert_eq!(bytea(b"\\x0g", &mut out), Err(NOT_HEX));
        assert_eq!(bytea(b"abc", &mut out), Err(NOT_HEX));
        assert_eq!(out, [7, 0, 255, 160]);
        let id = uuid(b"00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(id[..3], [0, 0x11, 0x22]);
        assert_eq!(id[15], 0xff);
        assert!(uuid(b"00112233-4455-6677-8899+aabbccddeeff").is_err());
    }
}
