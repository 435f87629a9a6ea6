//! Many cells of one column at once, from row images into the column.
//!
//! How that is done is decided once per column of a plan. A fill takes only what it takes exactly as the way cell by cell
//! ([`Reader`](crate::binlog::cell::Reader), [`ColumnBuilder::push`]) would; for anything else it leaves the column as it was, and that way decides:
//! about values that have no place, damaged ones, and types without a fill.
mod number;
mod temporal;

use crate::binlog::layout::content;
use crate::binlog::rows::Width;
use crate::binlog::table_map::{LogColumn, code};
use crate::types::{Bytes, Cells, Charset, ColumnBuilder, Kind, Text};

use number::Decimal;
use temporal::Fraction;

/// How a column's cells are taken.
#[derive(Debug)]
pub(super) enum Fill {
    /// Integers of so many bytes.
    Integer { bytes: u8, unsigned: bool },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DECIMAL of at most 8 bytes.
    Decimal(Decimal),
    /// DATE.
    Date,
    /// DATETIME.
    DateTime(Fraction),
    /// TIMESTAMP.
    Timestamp(Fraction),
    /// Text behind a length of so many bytes.
    Text { counted: u8, charset: Charset },
    /// Bytes behind a length of so many bytes.
    Bytes { counted: u8 },
    /// ENUM.
    Label { bytes: u8 },
    /// Cell by cell.
    Single,
}

impl Fill {
    /// For a column of the log whose values are of this kind.
    pub(super) fn of(column: &LogColumn, width: Width, kind: &Kind) -> Self {
        let [low, high] = column.meta.to_le_bytes();
        match (column.code, width, kind) {
            (
                code::TINY | code::SHORT | code::INT24 | code::LONG | code::LONGLONG,
                Width::Fixed(bytes),
                Kind::Integer { .. },
            ) => Self::Integer { bytes: bytes as u8, unsigned: column.unsigned },
            (code::FLOAT, _, Kind::Float) => Self::Float,
            (code::DOUBLE, _, Kind::Double) => Self::Double,
            (code::NEWDECIMAL, _, Kind::Decimal { .. }) => {
                Decimal::new(low, high).map_or(Self::Single, Self::Decimal)
            }
            (code::DATE | code::NEWDATE, _, Kind::Date) => Self::Date,
            (code::DATETIME2, _, Kind::DateTime(_)) => Self::DateTime(Fraction::new(low)),
            (code::TIMESTAMP2, _, Kind::Timestamp(_)) => Self::Timestamp(Fraction::new(low)),
            (code::ENUM, Width::Fixed(bytes @ 1..=2), Kind::Enum(_)) => {
                Self::Label { bytes: bytes as u8 }
            }
            (code::VARCHAR_COMPRESSED | code::BLOB_COMPRESSED, ..) => Self::Single,
            (_, Width::Counted(counted), Kind::Text(_, charset)) => {
                Self::Text { counted, charset: *charset }
            }
            (_, Width::Counted(counted), Kind::Json) => {
                Self::Text { counted, charset: Charset::Utf8mb4 }
            }
            (_, Width::Counted(counted), Kind::Binary(Text::Variable(_) | Text::Large(_))) => {
                Self::Bytes { counted }
            }
            _ => Self::Single,
        }
    }

    /// Adds the cells at `places` to the column. False: the column is as it was.
    pub(super) fn fill(
        &self,
        images: &[u8],
        places: &[u32],
        nulls: Option<&[bool]>,
        column: &mut ColumnBuilder,
    ) -> bool {
        column.push_many(places.len(), nulls, |kind, cells| self.write(images, places, kind, cells))
    }

    fn write(&self, images: &[u8], places: &[u32], kind: &Kind, cells: &mut Cells) -> bool {
        match (self, cells) {
            (Self::Integer { bytes, unsigned }, cells) => {
                number::integers(images, places, *bytes, *unsigned, cells)
            }
            (Self::Float, Cells::Float32(into)) => {
                into.extend(cells_of(images, places).map(f32::from_le_bytes));
                true
            }
            (Self::Double, Cells::Float64(into)) => {
                into.extend(cells_of(images, places).map(f64::from_le_bytes));
                true
            }
            (Self::Decimal(decimal), Cells::Decimal { values, precision, scale }) => {
                decimal.fits(*precision, *scale) && decimal.write(images, places, values)
            }
            (Self::Date, Cells::Date(into)) => temporal::dates(images, places, into),
            (Self::DateTime(fraction), Cells::Timestamp(into, _)) => {
                temporal::date_times(images, places, *fraction, into)
            }
            (Self::Timestamp(fraction), Cells::Timestamp(into, _)) => {
                temporal::timestamps(images, places, *fraction, into)
            }
            (Self::Text { counted, charset }, Cells::Text(into)) => {
                let from = into.data.len();
                append(images, places, *counted, into)
                    && is_text(into, from, places.len(), *charset)
            }
            (Self::Bytes { counted }, Cells::Binary(into)) => {
                append(images, places, *counted, into)
            }
            (Self::Label { bytes }, Cells::Text(into)) => match kind {
                Kind::Enum(labels) => append_labels(images, places, *bytes, labels, into),
                _ => false,
            },
            _ => false,
        }
    }
}

/// The bytes of cells of a fixed width; zeros for NULLs. The walk has seen that all others are there.
fn cells_of<'a, const N: usize>(
    images: &'a [u8],
    places: &'a [u32],
) -> impl Iterator<Item = [u8; N]> + 'a {
    places.iter().map(|place| cell(images, *place))
}

#[inline]
fn cell<const N: usize>(images: &[u8], place: u32) -> [u8; N] {
    let rest = images.get(place as usize..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or([0; N])
}

fn append(images: &[u8], places: &[u32], counted: u8, into: &mut Bytes) -> bool {
    for place in places {
        into.data.extend_from_slice(content(images, *place, counted).unwrap_or_default());
        into.offsets.push(into.data.len() as i32);
    }
    i32::try_from(into.data.len()).is_ok()
}

/// Whether the last `count` texts, which begin at `from`, stand as they are in UTF-8.
fn is_text(texts: &Bytes, from: usize, count: usize, charset: Charset) -> bool {
    let added = texts.data.get(from..).unwrap_or_default();
    if added.is_ascii() {
        return true;
    }
    let (Charset::Utf8mb4 | Charset::Utf8mb3) = charset else { return false };
    let Ok(added) = std::str::from_utf8(added) else { return false };
    let ends = texts.offsets.iter().rev().take(count);
    ends.into_iter().all(|end| added.is_char_boundary((*end as usize).wrapping_sub(from)))
}

fn append_labels(
    images: &[u8],
    places: &[u32],
    bytes: u8,
    labels: &[String],
    into: &mut Bytes,
) -> bool {
    for place in places {
        let index = match bytes {
            1 => u16::from(cell::<1>(images, *place)[0]),
            _ => u16::from_le_bytes(cell(images, *place)),
        };
        if let Some(at) = usize::from(index).checked_sub(1) {
            let Some(label) = labels.get(at) else { return false };
            into.data.extend_from_slice(label.as_bytes());
        }
        into.offsets.push(into.data.len() as i32);
    }
    i32::try_from(into.data.len()).is_ok()
}
