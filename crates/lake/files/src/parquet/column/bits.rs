//! The bit-level forms that pages share: variable-length integers, packed integers, runs.
//!
//! [The format's page on encodings](https://parquet.apache.org/docs/file-format/data-pages/encodings/) defines them.
//! Deliberately absent: reading them.
use std::ops::Range;

/// Appends an unsigned LEB128 integer.
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Signed as unsigned, small magnitudes first.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bits that `value` takes.
pub(super) fn width(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Appends integers below `2^width`, least significant bits first; ends at a full byte.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut word, mut used) = (0u64, 0);
    for value in values {
        word |= value << used;
        used += width;
        if used >= u64::BITS {
            out.extend_from_slice(&word.to_le_bytes());
            used -= u64::BITS;
            word = value.checked_shr(width - used).unwrap_or(0);
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..used.div_ceil(8) as usize]);
}

/// Appends `length` definition levels of 0 or 1 as runs.
pub(super) fn levels(bits: &[u8], length: usize, out: &mut Vec<u8>) {
    let uniform = |group: usize| match bits[group] {
        0 => Some(0),
        0xFF => Some(1),
        // Bits behind the end may be anything.
        last if group == length / 8 => {
            let mask = (1u8 << (length % 8)) - 1;
            match last & mask {
                0 => Some(0),
                ones if ones == mask => Some(1),
                _ => None,
            }
        }
        _ => None,
    };
    let literal = |groups: Range<usize>, out: &mut Vec<u8>| out.extend_from_slice(&bits[groups]);
    hybrid(length, 1, uniform, literal, out);
}

/// Appends integers below `2^width` as runs.
pub(super) fn indices(values: &[u32], width: u32, out: &mut Vec<u8>) {
    let group = |group: usize| &values[group * 8..values.len().min(group * 8 + 8)];
    let uniform = |number: usize| {
        let (first, rest) = group(number).split_first()?;
        rest.iter().all(|v| v == first).then_some(*first)
    };
    let literal = |groups: Range<usize>, out: &mut Vec<u8>| {
        let range = groups.start * 8..values.len().min(groups.end * 8);
        let padding = groups.len() * 8 - range.len();
        let numbers = values[range].iter().map(|v| u64::from(*v));
        pack(numbers.chain(std::iter::repeat_n(0, padding)), width, out);
    };
    hybrid(values.len(), width, uniform, literal, out);
}

/// Repeated groups of eight become a run when at least so many follow each other: below, its header costs more.
const GROUPS_REPEATED_MIN: usize = 2;

/// Runs of repeated values and packed stretches, by groups of eight values. `uniform` tells the one value of a group,
/// `literal` packs groups.
fn hybrid(
    length: usize,
    width: u32,
    uniform: impl Fn(usize) -> Option<u32>,
    literal: impl Fn(Range<usize>, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let groups = length.div_ceil(8);
    let packed = |range: Range<usize>, out: &mut Vec<u8>| {
        if !range.is_empty() {
            varint((range.len() as u64) << 1 | 1, out);
            literal(range, out);
        }
    };
    let (mut at, mut waiting) = (0, 0);
    while at < groups {
        let Some(value) = uniform(at) else {
            at += 1;
            continue;
        };
        let end = (at + 1..groups).find(|g| uniform(*g) != Some(value)).unwrap_or(groups);
        if end - at >= GROUPS_REPEATED_MIN || groups == 1 {
            packed(waiting..at, out);
            varint((length.min(end * 8) - at * 8) as u64 * 2, out);
            out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
            waiting = end;
        }
        at = end;
    }
    packed(waiting..groups, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads runs back.
    fn read(mut bytes: &[u8], width: u32, length: usize) -> Vec<u32> {
        let mut values = Vec::new();
        while values.len() < length {
            let (mut header, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= u64::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if header & 1 == 0 {
                let size = width.div_ceil(8) as usize;
                let mut value = [0; 4];
                value[..size].copy_from_slice(&bytes[..size]);
                bytes = &bytes[size..];
                let run = std::iter::repeat_n(u32::from_le_bytes(value), (header >> 1) as usize);
                values.extend(run);
            } else {
                let count = (header >> 1) as usize * 8;
                for index in 0..count {
                    let bit = |b: usize| u32::from(bytes[b / 8] >> (b % 8) & 1);
                    let from = index * width as usize;
                    values.push((0..width as usize).map(|b| bit(from + b) << b).sum());
                }
                bytes = &bytes[count * width as usize / 8..];
            }
        }
        assert!(bytes.is_empty());
        values.truncate(length);
        values
    }

    fn scrambled(n: u32) -> u32 {
        n.wrapping_mul(0x9E37_79B9).rotate_left(13)
    }

    #[test]
    fn runs_come_back_at_every_width_and_length() {
        for width in 0..=20 {
            for length in [1, 7, 8, 9, 15, 16, 17, 64, 1000, 1003] {
                let mask = (1u32 << width) - 1;
                let value = |n: u32| {
                    if scrambled(n / 40).is_multiple_of(3) { scrambled(n) } else { n / 40 }
                };
                let values: Vec<u32> = (0..length).map(|n| value(n) & mask).collect();
                let mut out = Vec::new();
                indices(&values, width, &mut out);
                assert_eq!(read(&out, width, values.len()), values, "{width} {length}");
            }
        }
    }

    #[test]
    fn levels_come_back_whatever_lies_behind_their_end() {
        for length in 1..200usize {
            for pattern in [0u8, 0xFF, 0xAA, 0x0F] {
                let bits: Vec<u8> = (0..length.div_ceil(8))
                    .map(|b| if b % 7 < 4 { pattern } else { scrambled(b as u32) as u8 })
                    .collect();
                let mut out = Vec::new();
                levels(&bits, length, &mut out);
                let expected: Vec<u32> =
                    (0..length).map(|n| u32::from(bits[n / 8] >> (n % 8) & 1)).collect();
                assert_eq!(read(&out, 1, length), expected, "{length} {pattern}");
            }
        }
    }

    #[test]
    fn equal_levels_take_three_bytes_at_most() {
        let mut out = Vec::new();
        levels(&[0xFF; 1000], 7993, &mut out);
        assert_eq!(out.len(), 3);
    }
}
