//! Numbers in the server's text.
use super::BadValue;

const NOT_A_NUMBER: BadValue = BadValue::Malformed("not a number");
const TOO_LONG: BadValue = BadValue::Malformed("a decimal with more digits than its column has");

/// A decimal in text, unscaled at `scale`.
pub(super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, BadValue> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(NOT_A_NUMBER);
    }
    let places = usize::from(scale);
    if fraction.get(places..).is_some_and(|rest| rest.iter().any(|b| *b != b'0')) {
        return Err(TOO_LONG);
    }
    let kept = &fraction[..fraction.len().min(places)];
    let mut value = 0i128;
    for digit in whole.iter().chain(kept) {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NOT_A_NUMBER);
        }
        value =
            value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit))).ok_or(TOO_LONG)?;
    }
    fits(rescale(value, kept.len() as u8, scale)?, precision).map(|v| if negative { -v } else { v })
}

/// The same number with more places behind the point.
pub(super) fn rescale(unscaled: i128, from: u8, to: u8) -> Result<i128, BadValue> {
    let places = to.checked_sub(from).ok_or(TOO_LONG)?;
    10i128.checked_pow(u32::from(places)).and_then(|f| unscaled.checked_mul(f)).ok_or(TOO_LONG)
}

/// A number that has at most `precision` digits.
pub(super) fn fits(unscaled: i128, precision: u8) -> Result<i128, BadValue> {
    let most = 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if unscaled.unsigned_abs() < most.unsigned_abs() { Ok(unscaled) } else { Err(TOO_LONG) }
}

/// Any number that `FromStr` reads.
pub(super) fn parse<T: std::str::FromStr>(text: &[u8]) -> Result<T, BadValue> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NOT_A_NUMBER)
}

/// Hexadecimal digits, with or without dashes, as 16 bytes.
pub(super) fn uuid(text: &[u8]) -> Result<[u8; 16], BadValue> {
    const NOT_UUID: BadValue = BadValue::Malformed("not a uuid");
    let mut bytes = [0; 16];
    let mut nibbles = 0;
    for digit in text.iter().filter(|b| **b != b'-') {
        let value = char::from(*digit).to_digit(16).ok_or(NOT_UUID)? as u8;
        let byte = bytes.get_mut(nibbles / 2).ok_or(NOT_UUID)?;
        *byte = *byte << 4 | value;
        nibbles += 1;
    }
    if nibbles == 32 { Ok(bytes) } else { Err(NOT_UUID) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal(b"-12.3", 5, 2), Ok(-1230));
        assert_eq!(decimal(b"0.10", 5, 1), Ok(1));
        assert_eq!(decimal(b".5", 5, 1), Ok(5));
        assert_eq!(decimal(b"0007", 5, 0), Ok(7));
        assert_eq!(decimal(b"0.11", 5, 1), Err(TOO_LONG));
        assert_eq!(decimal(b"100", 2, 0), Err(TOO_LONG));
        assert_eq!(decimal(b"", 2, 0), Err(NOT_A_NUMBER));
        assert_eq!(decimal(b"1e5", 9, 0), Err(NOT_A_NUMBER));
        let longest = [b'9'; 38];
        assert_eq!(decimal(&longest, 38, 0), Ok(10i128.pow(38) - 1));
    }

    #[test]
    fn a_uuid_is_32_digits() {
        assert_eq!(uuid(b"00112233-4455-6677-8899-aabbccddeeff").unwrap()[..3], [0, 0x11, 0x22]);
        assert!(uuid(b"0011").is_err());
        assert!(uuid(&[b'0'; 33]).is_err());
    }
}
