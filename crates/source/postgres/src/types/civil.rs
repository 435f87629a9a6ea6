//! Dates and times of day as numbers, in the proleptic Gregorian calendar that PostgreSQL uses.
//!
//! Knows no time zones: text must be in UTC.
use super::BadValue;

/// Microseconds in a day.
pub(super) const DAY: i64 = 86_400_000_000;
/// Days between 1970-01-01 and 2000-01-01, PostgreSQL's epoch.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// 0001-01-01 as days since 1970-01-01. What is earlier is BC.
const FIRST_DAY: i64 = -719_162;

const INFINITE: BadValue = BadValue::Unrepresentable("an infinite date or timestamp");
const BEFORE_CHRIST: BadValue = BadValue::Unrepresentable("a date or timestamp before the year 1");
const TOO_LATE: BadValue = BadValue::Unrepresentable("a timestamp after the year 294246");
const END_OF_DAY: BadValue = BadValue::Unrepresentable("the time of day 24:00:00");
const NOT_A_DATE: BadValue = BadValue::Malformed("not a date or time in ISO form and UTC");

/// Days since 1970-01-01 of a civil date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of days since 1970-01-01.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted - era * 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Reads digits at the front; at most nine.
#[inline]
fn digits(text: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0i64;
    let mut at = 0;
    while let Some(digit) = text.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value * 10 + i64::from(digit);
        at += 1;
    }
    (at > 0 && at < 10).then(|| (value, &text[at..]))
}

fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    text.split_first().filter(|(first, _)| **first == byte).map(|(_, rest)| rest)
}

/// Two digits; 100 for what is none.
#[inline]
fn two(tens: u8, ones: u8) -> i64 {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { 100 } else { i64::from(tens) * 10 + i64::from(ones) }
}

/// A date of a year of four digits; `None` for all else.
#[inline]
fn plain_date(text: &[u8; 10]) -> Option<i64> {
    let [c, d, y, z, b'-', m, n, b'-', a, b] = *text else { return None };
    let (century, year, month, day) = (two(c, d), two(y, z), two(m, n), two(a, b));
    let valid = century < 100 && year < 100 && (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| days(century * 100 + year, month, day))
}

/// A time of day without a fraction, in seconds; `None` for what is none.
#[inline]
fn plain_time(text: &[u8; 8]) -> Option<i64> {
    let [h, i, b':', m, n, b':', s, t] = *text else { return None };
    let (hour, minute, second) = (two(h, i), two(m, n), two(s, t));
    let valid = hour <= 24 && minute <= 59 && second <= 60;
    valid.then_some((hour * 60 + minute) * 60 + second)
}

#[inline]
fn date_part(text: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((date, rest)) = text.split_first_chunk()
        && let Some(days) = plain_date(date)
    {
        return Some((days, rest));
    }
    let (year, rest) = digits(text)?;
    let (month, rest) = digits(after(rest, b'-')?)?;
    let (day, rest) = digits(after(rest, b'-')?)?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| (days(year, month, day), rest))
}

#[inline]
fn time_part(text: &[u8]) -> Option<(i64, &[u8])> {
    /// Microseconds in the last of so many places behind the point, less one.
    const PLACES: [i64; 6] = [100_000, 10_000, 1_000, 100, 10, 1];
    let (time, rest) = text.split_first_chunk()?;
    let whole = plain_time(time)? * 1_000_000;
    let Some(fraction) = after(rest, b'.') else { return Some((whole, rest)) };
    let (value, rest) = digits(fraction)?;
    let place = PLACES.get(fraction.len() - rest.len() - 1)?;
    Some((whole + value * place, rest))
}

fn special(text: &[u8]) -> Option<BadValue> {
    matches!(text, b"infinity" | b"-infinity")
        .then_some(INFINITE)
        .or_else(|| text.ends_with(b" BC").then_some(BEFORE_CHRIST))
}

/// A date in the server's text, as days since 1970-01-01.
pub(super) fn date_text(text: &[u8]) -> Result<i32, BadValue> {
    match date_part(text) {
        Some((days, b"")) => i32::try_from(days).map_err(|_| NOT_A_DATE),
        _ => Err(special(text).unwrap_or(NOT_A_DATE)),
    }
}

/// A date in the server's binary form, as days since 1970-01-01.
pub(super) fn date_binary(days: i32) -> Result<i32, BadValue> {
    if days == i32::MAX || days == i32::MIN {
        return Err(INFINITE);
    }
    let since = days.checked_add(EPOCH_DAYS).ok_or(NOT_A_DATE)?;
    if i64::from(since) < FIRST_DAY { Err(BEFORE_CHRIST) } else { Ok(since) }
}

/// A time of day in the server's text, in microseconds.
pub(super) fn time_text(text: &[u8]) -> Result<i64, BadValue> {
    match time_part(text) {
        Some((micros, b"")) => time_binary(micros),
        _ => Err(NOT_A_DATE),
    }
}

/// A time of day in the server's binary form, in microseconds.
pub(super) fn time_binary(micros: i64) -> Result<i64, BadValue> {
    match micros {
        0..DAY => Ok(micros),
        DAY => Err(END_OF_DAY),
        _ => Err(NOT_A_DATE),
    }
}

/// A timestamp in the server's text, in microseconds since 1970-01-01; with `zoned` it must end in `+00`.
pub(super) fn timestamp_text(text: &[u8], zoned: bool) -> Result<i64, BadValue> {
    timestamp_parts(text, zoned).ok_or_else(|| special(text).unwrap_or(NOT_A_DATE)).and_then(
        |(days, micros)| {
            days.checked_mul(DAY).and_then(|day| day.checked_add(micros)).ok_or(TOO_LATE)
        },
    )
}

fn timestamp_parts(text: &[u8], zoned: bool) -> Option<(i64, i64)> {
    let (days, rest) = date_part(text)?;
    let (micros, rest) = time_part(after(rest, b' ')?)?;
    let end: &[u8] = if zoned { b"+00" } else { b"" };
    (rest == end).then_some((days, micros))
}

/// A timestamp in the server's binary form, in microseconds since 1970-01-01.
pub(super) fn timestamp_binary(micros: i64) -> Result<i64, BadValue> {
    if micros == i64::MAX || micros == i64::MIN {
        return Err(INFINITE);
    }
    let since = micros.checked_add(i64::from(EPOCH_DAYS) * DAY).ok_or(TOO_LATE)?;
    if since < FIRST_DAY * DAY { Err(BEFORE_CHRIST) } else { Ok(since) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        for day in FIRST_DAY..2_932_896 + 400 {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day, "{year}-{month}-{date}");
        }
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(FIRST_DAY), (1, 1, 1));
    }

    #[test]
    fn dates_read_as_the_server_writes_them() {
        assert_eq!(date_text(b"1970-01-02"), Ok(1));
        assert_eq!(date_text(b"2000-01-01"), Ok(EPOCH_DAYS));
        assert_eq!(date_text(b"5874897-12-31"), date_binary(2_145_031_948));
        assert_eq!(date_text(b"0044-03-15 BC"), Err(BEFORE_CHRIST));
        assert_eq!(date_text(b"-infinity"), Err(INFINITE));
        assert_eq!(date_text(b"1970-13-02"), Err(NOT_A_DATE));
        assert_eq!(date_text(b""), Err(NOT_A_DATE));
    }

    #[test]
    fn timestamps_read_as_the_server_writes_them() {
        assert_eq!(timestamp_text(b"1970-01-01 00:00:01.5", false), Ok(1_500_000));
        assert_eq!(timestamp_text(b"1969-12-31 23:59:59.999999+00", true), Ok(-1));
        assert_eq!(timestamp_text(b"1970-01-01 00:00:00+01", true), Err(NOT_A_DATE));
        assert_eq!(timestamp_text(b"1970-01-01 00:00:00+00", false), Err(NOT_A_DATE));
        assert_eq!(timestamp_text(b"294276-12-31 23:59:59.999999", false), Err(TOO_LATE));
        assert_eq!(timestamp_text(b"infinity", true), Err(INFINITE));
        assert_eq!(time_text(b"24:00:00"), Err(END_OF_DAY));
        assert_eq!(time_text(b"23:59:59.999999"), Ok(DAY - 1));
        assert_eq!(time_text(b"00:00:00.1234567"), Err(NOT_A_DATE));
    }
}
