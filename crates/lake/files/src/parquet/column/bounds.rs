//! The smallest and the largest value of a column in one row group, in the order that readers compare by.
//!
//! Deliberately absent: NULLs (the column counts them) and NaN, which is in no bound.
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::schema::types::ColumnDescriptor;

use crate::parquet::encoding::BOUND_BYTES;
use crate::parquet::metrics::{big_endian, raise_bytes, raise_text};

/// What is kept of a value that will be cut: enough to see that there was more, and where its last character ends.
const KEPT_MAX: usize = BOUND_BYTES + 8;

/// A column's bounds so far.
#[derive(Debug)]
pub(super) enum Bounds {
    Boolean {
        no: bool,
        yes: bool,
    },
    Number(Option<(i64, i64)>),
    Float(Option<(f64, f64)>),
    /// Decimals that no 64-bit integer holds.
    Decimal(Option<(i128, i128)>),
    Bytes(BytesBounds),
}

impl Bounds {
    /// `whole`: text and bytes are not cut.
    pub(super) fn new(column: &ColumnDescriptor, whole: bool) -> Self {
        match column.physical_type() {
            Physical::BOOLEAN => Self::Boolean { no: false, yes: false },
            Physical::FLOAT | Physical::DOUBLE => Self::Float(None),
            Physical::FIXED_LEN_BYTE_ARRAY if is_decimal(column) => Self::Decimal(None),
            Physical::FIXED_LEN_BYTE_ARRAY => Self::Bytes(BytesBounds::new(true)),
            Physical::BYTE_ARRAY => Self::Bytes(BytesBounds::new(whole)),
            _ => Self::Number(None),
        }
    }

    pub(super) fn booleans(&mut self, some_no: bool, some_yes: bool) {
        if let Self::Boolean { no, yes } = self {
            *no |= some_no;
            *yes |= some_yes;
        }
    }

    /// All numbers from `least` to `most`.
    pub(super) fn numbers(&mut self, least: i64, most: i64) {
        if let Self::Number(range) = self {
            let (low, high) = range.unwrap_or((least, most));
            *range = Some((low.min(least), high.max(most)));
        }
    }

    pub(super) fn floats(&mut self, values: impl Iterator<Item = f64>) {
        let Self::Float(range) = self else { return };
        for value in values.filter(|value| !value.is_nan()) {
            let (low, high) = range.unwrap_or((value, value));
            *range = Some((low.min(value), high.max(value)));
        }
    }

    pub(super) fn decimal(&mut self, value: i128) {
        if let Self::Decimal(range) = self {
            let (low, high) = range.unwrap_or((value, value));
            *range = Some((low.min(value), high.max(value)));
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        if let Self::Bytes(bounds) = self {
            bounds.see(value);
        }
    }

    /// A value in its plain form.
    pub(super) fn plain(&mut self, value: &[u8]) {
        match (&self, value) {
            (Self::Number(_), [a, b, c, d]) => {
                let number = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
                self.numbers(number, number);
            }
            (Self::Number(_), _) => {
                if let Ok(bytes) = value.try_into() {
                    let number = i64::from_le_bytes(bytes);
                    self.numbers(number, number);
                }
            }
            (Self::Float(_), [a, b, c, d]) => {
                let value = f32::from_le_bytes([*a, *b, *c, *d]);
                self.floats(std::iter::once(f64::from(value)));
            }
            (Self::Float(_), _) => {
                if let Ok(bytes) = value.try_into() {
                    self.floats(std::iter::once(f64::from_le_bytes(bytes)));
                }
            }
            (Self::Decimal(_), _) => {
                if let Some(value) = big_endian(value) {
                    self.decimal(value);
                }
            }
            (Self::Bytes(_), _) => self.bytes(value),
            (Self::Boolean { .. }, _) => {}
        }
    }

    /// What the footer says; the bounds are empty afterwards.
    pub(super) fn take(&mut self, column: &ColumnDescriptor, nulls: u64) -> Statistics {
        let nulls = Some(nulls);
        // Readers from before the format had orders may trust bounds of signed values only.
        let signed = column.sort_order().is_signed();
        match self {
            Self::Boolean { no, yes } => {
                let some = *no || *yes;
                let (least, most) = (some.then_some(!*no), some.then_some(*yes));
                (*no, *yes) = (false, false);
                Statistics::boolean(least, most, None, nulls, false)
            }
            Self::Number(range) => {
                let (least, most) = range.take().unzip();
                if column.physical_type() == Physical::INT32 {
                    let narrow = |n: i64| n as i32;
                    Statistics::int32(least.map(narrow), most.map(narrow), None, nulls, false)
                } else {
                    Statistics::int64(least, most, None, nulls, false)
                }
            }
            Self::Float(range) => {
                let (least, most) = range.take().map(|(a, b)| signed_zeros(a, b)).unzip();
                if column.physical_type() == Physical::FLOAT {
                    let narrow = |n: f64| n as f32;
                    Statistics::float(least.map(narrow), most.map(narrow), None, nulls, false)
                } else {
                    Statistics::double(least, most, None, nulls, false)
                }
            }
            Self::Decimal(range) => {
                let length = usize::try_from(column.type_length()).unwrap_or(16).min(16);
                let bytes = |n: i128| fixed(n.to_be_bytes()[16 - length..].to_vec());
                let (least, most) = range.take().unzip();
                Statistics::fixed_len_byte_array(
                    least.map(bytes),
                    most.map(bytes),
                    None,
                    nulls,
                    false,
                )
            }
            Self::Bytes(bounds) => {
                let (least, most) = bounds.take(is_text(column)).unzip();
                let (cut_least, cut_most) =
                    (least.as_ref().is_some_and(|b| b.cut), most.as_ref().is_some_and(|b| b.cut));
                let (least, most) = (least.and_then(|b| b.bytes), most.and_then(|b| b.bytes));
                if column.physical_type() == Physical::BYTE_ARRAY {
                    let bytes = |b: Vec<u8>| ByteArray::from(b);
                    Statistics::ByteArray(
                        ValueStatistics::new(least.map(bytes), most.map(bytes), None, nulls, false)
                            .with_backwards_compatible_min_max(signed)
                            .with_min_is_exact(!cut_least)
                            .with_max_is_exact(!cut_most),
                    )
                } else {
                    Statistics::FixedLenByteArray(
                        ValueStatistics::new(least.map(fixed), most.map(fixed), None, nulls, false)
                            .with_backwards_compatible_min_max(signed),
                    )
                }
            }
        }
    }
}

fn fixed(bytes: Vec<u8>) -> FixedLenByteArray {
    FixedLenByteArray::from(bytes)
}

pub(super) fn is_decimal(column: &ColumnDescriptor) -> bool {
    column.converted_type() == ConvertedType::DECIMAL
        || matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. }))
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.converted_type() == ConvertedType::UTF8
        || matches!(column.logical_type_ref(), Some(LogicalType::String))
}

/// Zeros are equal, and readers order them: the bound must hold for both.
fn signed_zeros(least: f64, most: f64) -> (f64, f64) {
    (if least == 0.0 { -0.0 } else { least }, if most == 0.0 { 0.0 } else { most })
}

/// Bounds of byte strings, in their own order.
#[derive(Debug)]
pub(super) struct BytesBounds {
    whole: bool,
    any: bool,
    least: Vec<u8>,
    most: Vec<u8>,
    /// The first eight bytes of both: almost every value is told apart by them.
    heads: (u64, u64),
}

/// One bound; `None` when no shorter text is above the largest value.
struct Cut {
    bytes: Option<Vec<u8>>,
    cut: bool,
}

impl BytesBounds {
    fn new(whole: bool) -> Self {
        Self { whole, any: false, least: Vec::new(), most: Vec::new(), heads: (0, 0) }
    }

    fn see(&mut self, value: &[u8]) {
        let head = head(value);
        if self.any && head > self.heads.0 && head < self.heads.1 {
            return;
        }
        let kept = if self.whole { value } else { &value[..value.len().min(KEPT_MAX)] };
        if !self.any || kept < self.least.as_slice() {
            self.least.clear();
            self.least.extend_from_slice(kept);
            self.heads.0 = head;
        }
        if !self.any || kept > self.most.as_slice() {
            self.most.clear();
            self.most.extend_from_slice(kept);
            self.heads.1 = head;
        }
        self.any = true;
    }

    fn take(&mut self, text: bool) -> Option<(Cut, Cut)> {
        if !std::mem::take(&mut self.any) {
            return None;
        }
        let (least, most) = (self.least.clone(), self.most.clone());
        let is_short = |bytes: &Vec<u8>| self.whole || bytes.len() <= BOUND_BYTES;
        let least = if is_short(&least) {
            Cut { bytes: Some(least), cut: false }
        } else {
            Cut { bytes: Some(least[..cut_at(&least, text)].to_vec()), cut: true }
        };
        let most = if is_short(&most) {
            Cut { bytes: Some(most), cut: false }
        } else {
            let kept = &most[..cut_at(&most, text)];
            let raised = if text {
                std::str::from_utf8(kept)
                    .ok()
                    .and_then(|text| raise_text(text.to_owned()))
                    .map(String::into_bytes)
            } else {
                raise_bytes(kept.to_vec())
            };
            Cut { bytes: raised, cut: true }
        };
        Some((least, most))
    }
}

/// Where a value of more than [`BOUND_BYTES`] bytes is cut: text between two characters.
fn cut_at(bytes: &[u8], text: bool) -> usize {
    let begins = |at: &usize| bytes[*at] & 0xC0 != 0x80;
    if text { (1..=BOUND_BYTES).rev().find(begins).unwrap_or(BOUND_BYTES) } else { BOUND_BYTES }
}

fn head(value: &[u8]) -> u64 {
    match value.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..value.len()].copy_from_slice(value);
            u64::from_be_bytes(head)
        }
    }
}
