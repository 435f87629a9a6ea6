//! Where the cells of whole row images stand: images in which no column is left out.
//!
//! Columns of fixed width make runs, each ended by a column that says its own length. In an image without NULLs a cell
//! stands at a fixed distance from its run's beginning, so that only the runs' beginnings are looked for. An image with
//! NULLs is walked column by column. Deliberately absent: what the cells say.
use super::cursor::Malformed;
use super::rows::Width;

const CUT: Malformed = Malformed("it is cut off");

/// The place of a cell that is NULL: behind the end of any event.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Columns of fixed width, and the one behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunLayout {
    /// Bytes of the columns of fixed width.
    fixed: u32,
    /// Bytes of the length of the column behind them; 0: there is none.
    counted: u8,
}

/// How a table's whole images are laid out.
#[derive(Debug)]
pub(crate) struct Layout {
    widths: Vec<Width>,
    runs: Vec<RunLayout>,
    /// Per column its run, and how far from the run's beginning it stands.
    at: Vec<(usize, u32)>,
    /// The bits of the last byte of a bitmap that belong to columns.
    last_bits: u8,
}

impl Layout {
    /// For columns of these widths.
    pub(crate) fn new(widths: &[Width]) -> Self {
        let mut run = RunLayout { fixed: 0, counted: 0 };
        let (mut runs, mut at) = (Vec::new(), Vec::with_capacity(widths.len()));
        for width in widths {
            at.push((runs.len(), run.fixed));
            match width {
                Width::Fixed(bytes) => run.fixed += bytes,
                Width::Counted(bytes) => {
                    runs.push(RunLayout { counted: *bytes, ..run });
                    run.fixed = 0;
                }
            }
        }
        if run.fixed > 0 || runs.is_empty() || at.last().is_some_and(|(of, _)| *of == runs.len()) {
            runs.push(run);
        }
        let odd = widths.len() % 8;
        let last_bits = if odd == 0 { 0xFF } else { (1 << odd) - 1 };
        Self { widths: widths.to_vec(), runs, at, last_bits }
    }

    /// The width of a column.
    pub(crate) fn width(&self, column: usize) -> Width {
        self.widths.get(column).copied().unwrap_or(Width::Fixed(0))
    }

    fn bitmap_bytes(&self) -> usize {
        self.widths.len().div_ceil(8)
    }

    /// Whether a bitmap names all columns.
    pub(crate) fn is_whole(&self, present: &[u8]) -> bool {
        present.len() == self.bitmap_bytes()
            && present.split_last().is_some_and(|(last, others)| {
                last & self.last_bits == self.last_bits && others.iter().all(|byte| *byte == 0xFF)
            })
    }

    fn has_null(&self, nulls: &[u8]) -> bool {
        nulls.split_last().is_some_and(|(last, others)| {
            last & self.last_bits != 0 || others.iter().any(|byte| *byte != 0)
        })
    }

    /// Finds the cells of the image that begins at `from`. Returns where the next one begins.
    ///
    /// # Errors
    /// [`Malformed`]; `into` then holds nothing of use.
    #[inline]
    pub(crate) fn walk(
        &self,
        images: &[u8],
        from: usize,
        into: &mut Places,
    ) -> Result<usize, Malformed> {
        let begin = from + self.bitmap_bytes();
        let nulls = images.get(from..begin).ok_or(CUT)?;
        let end = if self.has_null(nulls) || into.uneven {
            self.walk_uneven(images, begin, nulls, into)?
        } else {
            self.walk_even(images, begin, into)?
        };
        into.rows += 1;
        if end > images.len() { Err(CUT) } else { Ok(end) }
    }

    #[inline]
    fn walk_even(
        &self,
        images: &[u8],
        begin: usize,
        into: &mut Places,
    ) -> Result<usize, Malformed> {
        let mut at = begin;
        for run in &self.runs {
            into.bases.push(at as u32);
            at += run.fixed as usize;
            at += counted(images, at, run.counted)?;
        }
        Ok(at)
    }

    fn walk_uneven(
        &self,
        images: &[u8],
        begin: usize,
        nulls: &[u8],
        into: &mut Places,
    ) -> Result<usize, Malformed> {
        self.spread(into);
        let mut at = begin;
        for (column, width) in self.widths.iter().enumerate() {
            let byte = nulls.get(column / 8).copied().unwrap_or_default();
            if byte >> (column % 8) & 1 == 1 {
                into.cells.push(NOWHERE);
                continue;
            }
            into.cells.push(at as u32);
            at += match width {
                Width::Fixed(bytes) => *bytes as usize,
                Width::Counted(bytes) => counted(images, at, *bytes)?,
            };
        }
        Ok(at)
    }

    /// From now on every cell's place is kept, those of the images so far included.
    fn spread(&self, places: &mut Places) {
        if places.uneven {
            return;
        }
        places.uneven = true;
        for bases in places.bases.chunks_exact(self.runs.len()) {
            let place = |(run, far): &(usize, u32)| bases.get(*run).map_or(NOWHERE, |b| b + far);
            places.cells.extend(self.at.iter().map(place));
        }
    }

    /// The places of a column's cells, one for each image; cells that say their length begin with it.
    pub(crate) fn column(&self, places: &Places, column: usize, into: &mut Vec<u32>) {
        into.clear();
        let Some((run, far)) = self.at.get(column).copied() else { return };
        if places.uneven {
            let images = places.cells.chunks_exact(self.at.len());
            into.extend(images.map(|cells| cells.get(column).copied().unwrap_or(NOWHERE)));
        } else if self.runs.len() == 1 {
            into.extend(places.bases.iter().map(|base| base + far));
        } else {
            let images = places.bases.chunks_exact(self.runs.len());
            into.extend(images.map(|bases| bases.get(run).map_or(NOWHERE, |base| base + far)));
        }
    }
}

/// Bytes that a cell takes which begins with its length.
#[inline]
fn counted(images: &[u8], at: usize, width: u8) -> Result<usize, Malformed> {
    let rest = images.get(at..).ok_or(CUT)?;
    Ok(match width {
        0 => 0,
        1 => 1 + usize::from(*rest.first().ok_or(CUT)?),
        2 => 2 + usize::from(u16::from_le_bytes(*rest.first_chunk().ok_or(CUT)?)),
        _ => {
            let length = rest.get(..usize::from(width)).ok_or(CUT)?;
            length.iter().rev().fold(0, |n, byte| (n << 8) | usize::from(*byte)) + length.len()
        }
    })
}

/// The content of a cell that begins with its length; `None`: NULL.
#[inline]
pub(crate) fn content(images: &[u8], at: u32, width: u8) -> Option<&[u8]> {
    let end = at as usize + counted(images, at as usize, width).ok()?;
    images.get(at as usize + usize::from(width)..end)
}

/// Where the cells of some images stand. Kept between uses, so that nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Places {
    rows: usize,
    /// Per image the beginnings of its runs.
    bases: Vec<u32>,
    /// Per image all its cells, when one of them has a NULL.
    cells: Vec<u32>,
    uneven: bool,
}

impl Places {
    /// Of no image.
    pub(crate) fn clear(&mut self) {
        self.rows = 0;
        self.bases.clear();
        self.cells.clear();
        self.uneven = false;
    }

    /// Number of images.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether any cell may be NULL.
    pub(crate) fn has_nulls(&self) -> bool {
        self.uneven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(layout: &Layout, images: &[u8]) -> (Places, usize) {
        let (mut places, mut at) = (Places::default(), 0);
        while at < images.len() {
            at = layout.walk(images, at, &mut places).unwrap();
        }
        (places, at)
    }

    fn column(layout: &Layout, places: &Places, column: usize) -> Vec<u32> {
        let mut into = Vec::new();
        layout.column(places, column, &mut into);
        into
    }

    #[test]
    fn cells_stand_at_a_distance_from_their_runs_beginning() {
        let widths = [Width::Fixed(2), Width::Counted(1), Width::Fixed(1), Width::Counted(2)];
        let layout = Layout::new(&widths);
        let images = [0xF0, 1, 1, 1, b'x', 9, 2, 0, b'y', b'z', 0xF0, 2, 2, 0, 8, 0, 0];
        let (places, end) = places(&layout, &images);
        assert_eq!((end, places.rows(), places.has_nulls()), (images.len(), 2, false));
        assert_eq!(column(&layout, &places, 0), [1, 11]);
        assert_eq!(column(&layout, &places, 1), [3, 13]);
        assert_eq!(column(&layout, &places, 2), [5, 14]);
        assert_eq!(column(&layout, &places, 3), [6, 15]);
        assert_eq!(content(&images, 3, 1), Some(&b"x"[..]));
        assert_eq!(content(&images, 6, 2), Some(&b"yz"[..]));
        assert_eq!(content(&images, NOWHERE, 2), None);
    }

    #[test]
    fn a_null_changes_the_places_of_its_own_image_only() {
        let layout = Layout::new(&[Width::Fixed(1), Width::Counted(1), Width::Fixed(1)]);
        let images = [0xF8, 7, 1, b'x', 8, 0xFA, 7, 8, 0xF8, 7, 0, 8];
        let (places, _) = places(&layout, &images);
        assert!(places.has_nulls());
        assert_eq!(column(&layout, &places, 0), [1, 6, 9]);
        assert_eq!(column(&layout, &places, 1), [2, NOWHERE, 10]);
        assert_eq!(column(&layout, &places, 2), [4, 7, 11]);
    }

    #[test]
    fn every_cut_is_an_error() {
        let layout = Layout::new(&[Width::Fixed(2), Width::Counted(2), Width::Fixed(3)]);
        let image = [0, 1, 1, 1, 0, b'x', 9, 9, 9];
        for cut in 0..image.len() {
            let walked = layout.walk(&image[..cut], 0, &mut Places::default());
            assert!(walked.is_err(), "{cut}");
        }
    }

    #[test]
    fn a_bitmap_is_whole_when_it_names_every_column() {
        let nine = Layout::new(&[Width::Fixed(1); 9]);
        assert!(nine.is_whole(&[0xFF, 0x01]) && nine.is_whole(&[0xFF, 0xFF]));
        assert!(!nine.is_whole(&[0xFF, 0xFE]) && !nine.is_whole(&[0xFF]));
        assert!(!nine.is_whole(&[0x7F, 0x01]) && !nine.is_whole(&[]));
    }
}
