//! Integers and decimals, many at once.
use super::{cell, cells_of};
use crate::binlog::layout::NOWHERE;
use crate::types::Cells;

/// Takes integers of `bytes` bytes. False: the column does not hold all of them.
pub(super) fn integers(
    images: &[u8],
    places: &[u32],
    bytes: u8,
    unsigned: bool,
    cells: &mut Cells,
) -> bool {
    let bits = 8 * u32::from(bytes) + u32::from(unsigned);
    let args = (images, places, bytes, unsigned);
    match cells {
        Cells::Int16(into) if bits <= 16 => extend(args, into, |number| number as i16),
        Cells::Int32(into) if bits <= 32 => extend(args, into, |number| number as i32),
        Cells::Int64(into) if bits <= 64 => extend(args, into, |number| number),
        Cells::Decimal { values, precision, scale: 0 } if bits == 65 && *precision >= 20 => {
            extend(args, values, |number| i128::from(number.cast_unsigned()))
        }
        _ => false,
    }
}

fn extend<T>(
    (images, places, bytes, unsigned): (&[u8], &[u32], u8, bool),
    into: &mut Vec<T>,
    of: impl Fn(i64) -> T,
) -> bool {
    match (bytes, unsigned) {
        (1, false) => into.extend(numbers::<1, false>(images, places).map(of)),
        (1, true) => into.extend(numbers::<1, true>(images, places).map(of)),
        (2, false) => into.extend(numbers::<2, false>(images, places).map(of)),
        (2, true) => into.extend(numbers::<2, true>(images, places).map(of)),
        (3, false) => into.extend(numbers::<3, false>(images, places).map(of)),
        (3, true) => into.extend(numbers::<3, true>(images, places).map(of)),
        (4, false) => into.extend(numbers::<4, false>(images, places).map(of)),
        (4, true) => into.extend(numbers::<4, true>(images, places).map(of)),
        (8, _) => into.extend(numbers::<8, false>(images, places).map(of)),
        _ => return false,
    }
    true
}

/// Little-endian numbers; those of eight bytes keep their bits.
fn numbers<'a, const N: usize, const UNSIGNED: bool>(
    images: &'a [u8],
    places: &'a [u32],
) -> impl Iterator<Item = i64> + 'a {
    let unused = 64 - 8 * N as u32;
    cells_of::<N>(images, places).map(move |bytes| {
        let mut whole = [0; 8];
        whole[..N].copy_from_slice(&bytes);
        let number = u64::from_le_bytes(whole) << unused;
        if UNSIGNED { (number >> unused).cast_signed() } else { number.cast_signed() >> unused }
    })
}

/// Some digits of a decimal.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// How many bits stand behind them.
    shift: u32,
    mask: u64,
    /// One more than the largest number that they make.
    limit: u64,
}

/// How decimals of at most eight bytes, which is at most 18 digits, are read.
#[derive(Debug)]
pub(in crate::batch) struct Decimal {
    precision: u8,
    scale: u8,
    bytes: u32,
    groups: Vec<Group>,
}

impl Decimal {
    /// `None`: longer ones, or none at all.
    pub(super) fn new(precision: u8, scale: u8) -> Option<Self> {
        const BYTES: [u32; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
        let whole = precision.checked_sub(scale).filter(|_| (1..=18).contains(&precision))?;
        let mut digits = vec![whole % 9];
        digits.extend(vec![9; usize::from(whole / 9 + scale / 9)]);
        digits.push(scale % 9);
        digits.retain(|digits| *digits > 0);
        let bytes_of = |digits: &u8| BYTES.get(usize::from(*digits)).copied().unwrap_or(4);
        let bytes: u32 = digits.iter().map(bytes_of).sum();
        let mut left = 8 * bytes;
        let group = |digits: &u8| {
            let bits = 8 * bytes_of(digits);
            left -= bits;
            Group { shift: left, mask: (1 << bits) - 1, limit: 10u64.pow(u32::from(*digits)) }
        };
        let groups = digits.iter().map(group).collect();
        (bytes <= 8).then_some(Self { precision, scale, bytes, groups })
    }

    /// Whether a column of this precision and scale holds all of them as they are.
    pub(super) fn fits(&self, precision: u8, scale: u8) -> bool {
        precision >= self.precision && scale == self.scale
    }

    pub(super) fn write(&self, images: &[u8], places: &[u32], into: &mut Vec<i128>) -> bool {
        for place in places {
            if *place == NOWHERE {
                into.push(0);
                continue;
            }
            match self.number(self.word(images, *place)) {
                Some(number) => into.push(i128::from(number)),
                None => return false,
            }
        }
        true
    }

    /// The cell as one big-endian number.
    #[inline]
    fn word(&self, images: &[u8], place: u32) -> u64 {
        let rest = images.get(place as usize..).unwrap_or_default();
        match rest.first_chunk::<8>() {
            Some(_) => u64::from_be_bytes(cell(images, place)) >> (64 - 8 * self.bytes),
            None => {
                let bytes = rest.iter().take(self.bytes as usize);
                bytes.fold(0, |word, byte| (word << 8) | u64::from(*byte))
            }
        }
    }

    /// The first bit is set for numbers that are not below zero; of the others all bits are turned.
    #[inline]
    fn number(&self, word: u64) -> Option<i64> {
        let (sign, all) = (1 << (8 * self.bytes - 1), u64::MAX >> (64 - 8 * self.bytes));
        let negative = word & sign == 0;
        let word = word ^ sign ^ if negative { all } else { 0 };
        let mut number = 0;
        for Group { shift, mask, limit } in &self.groups {
            let digits = word >> shift & mask;
            if digits >= *limit {
                return None;
            }
            number = number * limit + digits;
        }
        let number = number.cast_signed();
        Some(if negative { -number } else { number })
    }
}
