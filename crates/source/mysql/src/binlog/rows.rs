//! Rows as the log stores them: where each cell stands, and what it says.
//!
//! A row image holds only the columns that the event says are present; a cell that is not is absent, never NULL.
use super::compress::unpack;
use super::cursor::{Cursor, Malformed};
use super::event::{RowsEvent, RowsKind};
use super::table_map::{LogColumn, bit_from_low, code};

/// Where a cell stands in the rows of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// The log does not carry it.
    Absent,
    /// NULL.
    Null,
    /// From, and how many bytes, without its length.
    At(u32, u32),
}

/// How many bytes cells of a column take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Always as many.
    Fixed(u32),
    /// As the number before them says, which takes as many bytes.
    Counted(u8),
}

impl Width {
    /// Of a column.
    ///
    /// # Errors
    /// [`Malformed`] for types that are never logged.
    pub fn of(column: &LogColumn) -> Result<Self, Malformed> {
        let (low, high) = (u32::from(column.meta & 0xFF), u32::from(column.meta >> 8));
        Ok(match column.code {
            code::NULL => Self::Fixed(0),
            code::TINY | code::YEAR => Self::Fixed(1),
            code::SHORT => Self::Fixed(2),
            code::INT24 | code::DATE | code::NEWDATE | code::TIME => Self::Fixed(3),
            code::LONG | code::FLOAT | code::TIMESTAMP => Self::Fixed(4),
            code::LONGLONG | code::DOUBLE | code::DATETIME => Self::Fixed(8),
            code::TIMESTAMP2 => Self::Fixed(4 + fraction_bytes(low)?),
            code::DATETIME2 => Self::Fixed(5 + fraction_bytes(low)?),
            code::TIME2 => Self::Fixed(3 + fraction_bytes(low)?),
            code::NEWDECIMAL => Self::Fixed(decimal_bytes(low, high)?),
            code::ENUM | code::SET if (1..=8).contains(&low) => Self::Fixed(low),
            code::BIT if low < 8 && high <= 8 => Self::Fixed(high + u32::from(low > 0)),
            code::VARCHAR | code::VARCHAR_COMPRESSED => {
                Self::Counted(if column.meta > 255 { 2 } else { 1 })
            }
            code::STRING | code::VAR_STRING => {
                let length = high | (((low & 0x30) ^ 0x30) << 4);
                Self::Counted(if length > 255 { 2 } else { 1 })
            }
            code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::BLOB_COMPRESSED
            | code::GEOMETRY
            | code::JSON
            | code::VECTOR
                if (1..=4).contains(&low) =>
            {
                Self::Counted(low as u8)
            }
            _ => return Err(Malformed("a column's type is not known")),
        })
    }
}

fn fraction_bytes(digits: u32) -> Result<u32, Malformed> {
    if digits > 6 {
        return Err(Malformed("a fraction of a second has too many digits"));
    }
    Ok(digits.div_ceil(2))
}

/// Bytes that so many decimal digits take.
const DIGIT_BYTES: [u32; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn decimal_bytes(precision: u32, scale: u32) -> Result<u32, Malformed> {
    let whole = precision.checked_sub(scale).filter(|_| (1..=65).contains(&precision));
    let whole = whole.ok_or(Malformed("a decimal's digits are not known"))?;
    let bytes = |digits: u32| digits / 9 * 4 + DIGIT_BYTES[(digits % 9) as usize];
    Ok(bytes(whole) + bytes(scale))
}

/// The rows of one event.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// What happened to them.
    pub kind: RowsKind,
    /// The number of their table.
    pub table: u64,
    /// Which columns the first image of each row has, one bit each from the lowest.
    pub present: &'a [u8],
    /// Which columns the second image of an update has.
    pub present_after: &'a [u8],
    /// How many columns the table has.
    pub columns: usize,
    /// The images, one behind the other.
    pub images: &'a [u8],
}

/// The number of an event's table, without more.
///
/// # Errors
/// [`Malformed`].
pub fn table_of(event: &RowsEvent<'_>) -> Result<u64, Malformed> {
    Cursor(event.body).number(6)
}

impl<'a> Rows<'a> {
    /// Reads what stands before the rows, and unpacks them into `unpacked` where they are compressed.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(event: &RowsEvent<'a>, unpacked: &'a mut Vec<u8>) -> Result<Self, Malformed> {
        let mut cursor = Cursor(event.body);
        let table = cursor.number(6)?;
        cursor.u16()?;
        if event.second_version {
            let extra = usize::from(cursor.u16()?);
            cursor.bytes(extra.saturating_sub(2))?;
        }
        let columns = cursor.count()?;
        let present = cursor.bytes(columns.div_ceil(8))?;
        let present_after = match event.kind {
            RowsKind::Update => cursor.bytes(columns.div_ceil(8))?,
            RowsKind::Write | RowsKind::Delete => present,
        };
        let images = if event.compressed {
            unpack(cursor.0, unpacked)?;
            unpacked
        } else {
            cursor.0
        };
        if u32::try_from(images.len()).is_err() {
            return Err(Malformed("an event is too large"));
        }
        Ok(Self { kind: event.kind, table, present, present_after, columns, images })
    }
}

/// Finds the cells of one image that begins at `from` of `images`. Returns where the next one begins.
///
/// # Errors
/// [`Malformed`]; `cells` then holds nothing of use.
#[inline]
pub fn image(
    images: &[u8],
    from: usize,
    widths: &[Width],
    present: &[u8],
    cells: &mut Vec<Cell>,
) -> Result<usize, Malformed> {
    cells.clear();
    let mut cursor = Cursor(images.get(from..).ok_or(Malformed("it is cut off"))?);
    let count = (0..widths.len()).filter(|at| bit_from_low(present, *at)).count();
    let nulls = cursor.bytes(count.div_ceil(8))?;
    let mut seen = 0;
    for (at, width) in widths.iter().enumerate() {
        if !bit_from_low(present, at) {
            cells.push(Cell::Absent);
            continue;
        }
        let is_null = bit_from_low(nulls, seen);
        seen += 1;
        if is_null {
            cells.push(Cell::Null);
            continue;
        }
        let length = match width {
            Width::Fixed(bytes) => *bytes,
            Width::Counted(1) => u32::from(cursor.u8()?),
            Width::Counted(2) => u32::from(cursor.u16()?),
            Width::Counted(bytes) => cursor.number(usize::from(*bytes))? as u32,
        };
        let start = images.len() - cursor.0.len();
        cursor.bytes(length as usize)?;
        cells.push(Cell::At(start as u32, length));
    }
    Ok(images.len() - cursor.0.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(code: u8, meta: u16) -> LogColumn {
        LogColumn {
            name: None,
            code,
            meta,
            nullable: true,
            unsigned: false,
            collation: 0,
            labels: None,
            in_key: None,
        }
    }

    #[test]
    fn widths_follow_the_metadata() {
        let decimal = |precision: u16, scale: u16| column(code::NEWDECIMAL, precision | scale << 8);
        let cases = [
            (decimal(12, 2), Width::Fixed(6)),
            (decimal(65, 30), Width::Fixed(30)),
            (decimal(1, 0), Width::Fixed(1)),
            (column(code::TIME2, 6), Width::Fixed(6)),
            (column(code::DATETIME2, 0), Width::Fixed(5)),
            (column(code::TIMESTAMP2, 3), Width::Fixed(6)),
            (column(code::BIT, 1 | 8 << 8), Width::Fixed(9)),
            (column(code::VARCHAR, 255), Width::Counted(1)),
            (column(code::VARCHAR, 256), Width::Counted(2)),
            (column(code::STRING, 0xFE | 40 << 8), Width::Counted(1)),
            // char(255) in a character set of four bytes: 1020 bytes, two bits of them in the type.
            (column(code::STRING, 0xCE | 0xFC << 8), Width::Counted(2)),
            (column(code::BLOB, 4), Width::Counted(4)),
            (column(code::SET, 8), Width::Fixed(8)),
        ];
        for (column, expected) in cases {
            assert_eq!(Width::of(&column), Ok(expected), "{column:?}");
        }
        for bad in
            [decimal(0, 0), decimal(3, 5), decimal(66, 0), column(code::BLOB, 5), column(99, 0)]
        {
            assert!(Width::of(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_image_tells_absent_from_null() {
        let widths = [Width::Fixed(4), Width::Counted(1), Width::Fixed(1), Width::Fixed(1)];
        let images = [0b0000_0010, 7, 0, 0, 0, 9, 0xFF];
        let mut cells = Vec::new();
        let next = image(&images, 0, &widths, &[0b1011], &mut cells).unwrap();
        assert_eq!(next, 6);
        assert_eq!(cells, [Cell::At(1, 4), Cell::Null, Cell::Absent, Cell::At(5, 1)]);
        for cut in 0..next {
            assert!(image(&images[..cut], 0, &widths, &[0b1011], &mut cells).is_err(), "{cut}");
        }
    }
}
