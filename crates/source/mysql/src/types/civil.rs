//! Dates and times as numbers, in the proleptic Gregorian calendar that the server uses, and back.
//!
//! Knows no time zones: everything is UTC or has none.
use super::BadValue;

/// Microseconds in a day.
pub(crate) const DAY: i64 = 86_400_000_000;
const SECOND: i64 = 1_000_000;

const ZERO: BadValue = BadValue::Unrepresentable("a zero date, or a date with a zero month or day");
const NO_SUCH_DAY: BadValue = BadValue::Unrepresentable("a day that the calendar does not have");
const BEFORE_ONE: BadValue = BadValue::Unrepresentable("a date in the year 0");
const NOT_OF_A_DAY: BadValue =
    BadValue::Unrepresentable("a time below zero or of 24 hours and more");
const MALFORMED: BadValue = BadValue::Malformed("not a date or time");

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
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01.
pub(crate) fn date(year: u16, month: u8, day: u8) -> Result<i32, BadValue> {
    if month > 12 || day > 31 || year > 9999 {
        return Err(MALFORMED);
    }
    if month == 0 || day == 0 {
        return Err(ZERO);
    }
    if year == 0 {
        return Err(BEFORE_ONE);
    }
    if day > days_in(year, month) {
        return Err(NO_SUCH_DAY);
    }
    Ok(days(i64::from(year), i64::from(month), i64::from(day)) as i32)
}

/// Microseconds since midnight.
pub(crate) fn time_of_day(
    negative: bool,
    hours: u32,
    minutes: u8,
    seconds: u8,
    micros: u32,
) -> Result<i64, BadValue> {
    if minutes > 59 || seconds > 59 || micros > 999_999 || hours > 838 {
        return Err(MALFORMED);
    }
    let value = ((i64::from(hours) * 60 + i64::from(minutes)) * 60 + i64::from(seconds)) * SECOND
        + i64::from(micros);
    if hours > 23 || (negative && value > 0) { Err(NOT_OF_A_DAY) } else { Ok(value) }
}

/// Microseconds since 1970-01-01.
pub(crate) fn timestamp(seconds: i64, micros: u32) -> Result<i64, BadValue> {
    if seconds == 0 && micros == 0 {
        return Err(ZERO);
    }
    if micros > 999_999 {
        return Err(MALFORMED);
    }
    seconds.checked_mul(SECOND).map(|whole| whole + i64::from(micros)).ok_or(MALFORMED)
}

/// Reads digits at the front; at most nine.
fn digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = text.get(..count).filter(|_| (1..10).contains(&count))?;
    let value = number.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((value, &text[count..]))
}

fn after(text: &[u8], byte: u8) -> Option<&[u8]> {
    text.split_first().filter(|(first, _)| **first == byte).map(|(_, rest)| rest)
}

type DateParts = (u16, u8, u8);

fn date_parts(text: &[u8]) -> Option<(DateParts, &[u8])> {
    let (year, rest) = digits(text)?;
    let (month, rest) = digits(after(rest, b'-')?)?;
    let (day, rest) = digits(after(rest, b'-')?)?;
    Some(((year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?), rest))
}

type TimeParts = (u32, u8, u8, u32);

fn time_parts(text: &[u8]) -> Option<(TimeParts, &[u8])> {
    let (hours, rest) = digits(text)?;
    let (minutes, rest) = digits(after(rest, b':')?)?;
    let (seconds, rest) = digits(after(rest, b':')?)?;
    let (micros, rest) = match after(rest, b'.') {
        None => (0, rest),
        Some(fraction) => {
            let (value, rest) = digits(fraction)?;
            let places = (fraction.len() - rest.len()) as u32;
            (value * 10u32.checked_pow(6u32.checked_sub(places)?)?, rest)
        }
    };
    Some(((hours, minutes.try_into().ok()?, seconds.try_into().ok()?, micros), rest))
}

/// A date in the server's text.
pub(super) fn date_text(text: &[u8]) -> Result<i32, BadValue> {
    match date_parts(text) {
        Some(((year, month, day), b"")) => date(year, month, day),
        _ => Err(MALFORMED),
    }
}

/// A time in the server's text.
pub(super) fn time_text(text: &[u8]) -> Result<i64, BadValue> {
    let (negative, rest) = after(text, b'-').map_or((false, text), |rest| (true, rest));
    match time_parts(rest) {
        Some(((hours, minutes, seconds, micros), b"")) => {
            time_of_day(negative, hours, minutes, seconds, micros)
        }
        _ => Err(MALFORMED),
    }
}

/// A datetime or timestamp in the server's text.
pub(super) fn datetime_text(text: &[u8]) -> Result<i64, BadValue> {
    let ((year, month, day), rest) = date_parts(text).ok_or(MALFORMED)?;
    let days = date(year, month, day)?;
    let time = match after(rest, b' ') {
        None if rest.is_empty() => 0,
        None => return Err(MALFORMED),
        Some(rest) => time_text(rest)?,
    };
    Ok(i64::from(days) * DAY + time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        for day in -719_162..2_932_896 {
            let (year, month, date_) = civil(day);
            let (year, month, date_) = (year as u16, month as u8, date_ as u8);
            assert_eq!(date(year, month, date_), Ok(day as i32), "{year}-{month}-{date_}");
        }
        assert_eq!(civil(0), (1970, 1, 1));
    }

    #[test]
    fn days_that_no_calendar_has_are_said() {
        assert_eq!(date(0, 0, 0), Err(ZERO));
        assert_eq!(date(2024, 0, 15), Err(ZERO));
        assert_eq!(date(2023, 2, 29), Err(NO_SUCH_DAY));
        assert_eq!(date(0, 1, 1), Err(BEFORE_ONE));
        assert_eq!(date(2024, 13, 1), Err(MALFORMED));
        assert_eq!(timestamp(0, 0), Err(ZERO));
        assert_eq!(time_of_day(true, 0, 0, 0, 1), Err(NOT_OF_A_DAY));
        assert_eq!(time_of_day(false, 24, 0, 0, 0), Err(NOT_OF_A_DAY));
        assert_eq!(time_of_day(false, 23, 59, 59, 999_999), Ok(DAY - 1));
    }

    #[test]
    fn text_reads_as_the_server_writes_it() {
        assert_eq!(date_text(b"1970-01-02"), Ok(1));
        assert_eq!(datetime_text(b"1970-01-01 00:00:01.5"), Ok(1_500_000));
        assert_eq!(datetime_text(b"1970-01-02"), Ok(DAY));
        assert_eq!(datetime_text(b"0000-00-00 00:00:00"), Err(ZERO));
        assert_eq!(time_text(b"-00:00:01"), Err(NOT_OF_A_DAY));
        assert_eq!(time_text(b"12:00"), Err(MALFORMED));
    }
}
