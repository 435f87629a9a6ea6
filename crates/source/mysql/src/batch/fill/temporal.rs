//! Dates, datetimes and timestamps, many at once.
use super::cell;
use crate::binlog::layout::NOWHERE;
use crate::types::civil;

/// The fraction of a second behind a time.
#[derive(Debug, Clone, Copy)]
pub(in crate::batch) struct Fraction {
    bytes: u8,
    /// Microseconds of one.
    unit: u32,
}

impl Fraction {
    /// Of so many digits.
    pub(super) fn new(digits: u8) -> Self {
        let bytes = digits.div_ceil(2);
        Self { bytes, unit: [0, 10_000, 100].get(usize::from(bytes)).copied().unwrap_or(1) }
    }

    #[inline]
    fn micros(self, images: &[u8], place: u32) -> u32 {
        let [a, b, c] = match self.bytes {
            0 => return 0,
            1 => [0, 0, cell::<1>(images, place)[0]],
            2 => {
                let [b, c] = cell::<2>(images, place);
                [0, b, c]
            }
            _ => cell::<3>(images, place),
        };
        u32::from_be_bytes([0, a, b, c]) * self.unit
    }
}

/// The last day that was asked for: neighbours often share it.
struct Day {
    packed: u32,
    days: i32,
}

impl Day {
    /// Packed as in a DATETIME: `(year * 13 + month) << 5 | day`. `None`: there is no such day.
    #[inline]
    fn of(&mut self, packed: u32) -> Option<i32> {
        if packed != self.packed {
            let (months, day) = (packed >> 5, (packed & 31) as u8);
            self.days = civil::date((months / 13) as u16, (months % 13) as u8, day).ok()?;
            self.packed = packed;
        }
        Some(self.days)
    }

    fn none() -> Self {
        Self { packed: u32::MAX, days: 0 }
    }
}

/// False: one of them is no day.
pub(super) fn dates(images: &[u8], places: &[u32], into: &mut Vec<i32>) -> bool {
    let mut last = Day::none();
    for place in places {
        let [a, b, c] = cell(images, *place);
        let packed = u32::from_le_bytes([a, b, c, 0]);
        let months = (packed >> 9) * 13 + (packed >> 5 & 15);
        // A month above twelve would be taken for one of the next year.
        let known = packed >> 5 & 15 <= 12;
        match last.of(months << 5 | packed & 31).filter(|_| known) {
            _ if *place == NOWHERE => into.push(0),
            Some(days) => into.push(days),
            None => return false,
        }
    }
    true
}

/// False: one of them has no place.
pub(super) fn date_times(
    images: &[u8],
    places: &[u32],
    fraction: Fraction,
    into: &mut Vec<i64>,
) -> bool {
    let mut last = Day::none();
    for place in places {
        if *place == NOWHERE {
            into.push(0);
            continue;
        }
        let [a, b, c, d, e] = cell(images, *place);
        let packed = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]).wrapping_sub(1 << 39);
        let (hour, minute) = (packed >> 12 & 31, packed >> 6 & 63);
        let second = packed & 63;
        let micros = fraction.micros(images, place + 5);
        let is_time = hour < 24 && minute < 60 && second < 60 && micros < 1_000_000;
        // What stands before 0 is not a date.
        let Some(days) = last.of((packed >> 17) as u32).filter(|_| is_time && packed < 1 << 39)
        else {
            return false;
        };
        let seconds = ((hour * 60 + minute) * 60 + second).cast_signed();
        into.push(i64::from(days) * civil::DAY + seconds * 1_000_000 + i64::from(micros));
    }
    true
}

/// False: one of them has no place.
pub(super) fn timestamps(
    images: &[u8],
    places: &[u32],
    fraction: Fraction,
    into: &mut Vec<i64>,
) -> bool {
    for place in places {
        if *place == NOWHERE {
            into.push(0);
            continue;
        }
        let seconds = u32::from_be_bytes(cell(images, *place));
        let micros = fraction.micros(images, place + 4);
        if (seconds == 0 && micros == 0) || micros > 999_999 {
            return false;
        }
        into.push(i64::from(seconds) * 1_000_000 + i64::from(micros));
    }
    true
}
