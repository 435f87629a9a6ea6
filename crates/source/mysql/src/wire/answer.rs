//! Rows in text: answers to questions about the server, a few rows at a time.
use super::Failure;
use crate::binlog::Cursor;

/// The byte that stands for NULL where a length would.
const NULL: u8 = 0xFB;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<Vec<u8>>>);

/// Reads a row of so many columns.
pub(super) fn text_row(packet: &[u8], columns: usize) -> Result<Row, Failure> {
    let mut cursor = Cursor(packet);
    let mut cells = Vec::with_capacity(columns.min(packet.len()));
    for _ in 0..columns {
        cells.push(match cursor.0.split_first() {
            Some((&NULL, rest)) => {
                cursor.0 = rest;
                None
            }
            _ => Some(cursor.counted()?.to_vec()),
        });
    }
    Ok(Row(cells))
}

impl Row {
    /// A cell by its place; the outer `None`: there is none, or it is not of this type.
    pub(crate) fn cell<T: FromCell>(&self, at: usize) -> Option<T> {
        T::from_cell(self.0.get(at)?.as_deref())
    }
}

/// What a cell can be read as.
pub(crate) trait FromCell: Sized {
    /// `None`: the cell is something else. `cell`: its text; `None` for NULL.
    fn from_cell(cell: Option<&[u8]>) -> Option<Self>;
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Option<&[u8]>) -> Option<Self> {
        cell.map(<[u8]>::to_vec)
    }
}

impl FromCell for String {
    fn from_cell(cell: Option<&[u8]>) -> Option<Self> {
        str::from_utf8(cell?).ok().map(str::to_owned)
    }
}

impl FromCell for u64 {
    fn from_cell(cell: Option<&[u8]>) -> Option<Self> {
        str::from_utf8(cell?).ok()?.parse().ok()
    }
}

impl FromCell for bool {
    fn from_cell(cell: Option<&[u8]>) -> Option<Self> {
        cell.map(|text| text != b"0")
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Option<&[u8]>) -> Option<Self> {
        match cell {
            None => Some(None),
            given => T::from_cell(given).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_what_they_are() {
        let row = text_row(b"\x03abc\xfb\x0242\x011\x00", 5).unwrap();
        assert_eq!(row.cell::<String>(0), Some("abc".into()));
        assert_eq!(row.cell::<Option<String>>(1), Some(None));
        assert_eq!(row.cell::<String>(1), None);
        assert_eq!(row.cell::<u64>(2), Some(42));
        assert_eq!(row.cell::<bool>(3), Some(true));
        assert_eq!(row.cell::<Vec<u8>>(4), Some(vec![]));
        assert_eq!(row.cell::<u64>(5), None);
        assert!(text_row(b"\x03ab", 1).is_err() && text_row(b"\x01a", 2).is_err());
    }
}
