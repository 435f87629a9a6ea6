//! A run: an immutable file of facts sorted by key. One page read answers a look-up.
//!
//! ```text
//!  filter pages │ pages of facts │ fences: the first key of each page │ directory │ footer
//! ```
//! Fences stay in memory (half a bit a key), the filter does while there is room. Deliberately absent: writing, and
//! which of the files are live.
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use lakeward_core::{KeyHash, Result};

use super::budget::{self, Share};
use super::directory::Directory;
use super::filter::{self, BLOCKS_PER_PAGE, Block};
use super::home::IndexHome;
use super::page::{self, FACT_BYTES, FACTS_PER_PAGE, Fact, PAGE_BYTES, Page};
use super::write::Footer;
use super::{damaged, failed};

/// Pages read at once when a run is read from end to end.
const PAGES_AT_ONCE: usize = 8;

/// An open run.
#[derive(Debug)]
pub(crate) struct Run {
    file: File,
    home: IndexHome,
    name: String,
    footer: Footer,
    filter_pages: u64,
    /// Upper half of the first key of each page.
    fences: Vec<u64>,
    /// The filter, once it was loaded.
    filter: OnceLock<(Vec<Block>, Share)>,
    damaged: AtomicBool,
}

impl Run {
    /// Opens a run and checks what holds it together; pages are checked when they are read.
    ///
    /// # Errors
    /// `Conflict` when it is not a whole run of this version; those of the disk.
    pub(crate) fn open(home: &IndexHome, name: &str) -> Result<(Self, Directory)> {
        let file = File::open(home.path(name)?).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let pages = bytes / PAGE_BYTES as u64;
        if pages < 2 || !bytes.is_multiple_of(PAGE_BYTES as u64) {
            return Err(damaged());
        }
        let mut last = [0; PAGE_BYTES];
        page::read(&file, pages - 1, &mut last)?;
        let footer = Footer::decode(&last).ok_or_else(damaged)?;
        let tail_at = footer.tail(pages).ok_or_else(damaged)?;
        let mut tail = vec![0; (pages - 1 - tail_at) as usize * PAGE_BYTES];
        file.read_exact_at(&mut tail, tail_at * PAGE_BYTES as u64)
            .map_err(|e| damaged().caused_by(e))?;
        if page::checksum(&tail, tail_at) != footer.tail_checksum {
            return Err(damaged());
        }
        let (fences, rest) =
            tail.split_at_checked(8 * footer.data_pages as usize).ok_or_else(damaged)?;
        let directory = rest.get(..footer.directory_bytes as usize).ok_or_else(damaged)?;
        let directory = Directory::decode(directory)?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b));
        let run = Self {
            fences: fences.chunks_exact(8).map(number).collect(),
            filter_pages: filter::pages(footer.blocks),
            file,
            home: home.clone(),
            name: name.to_owned(),
            footer,
            filter: OnceLock::new(),
            damaged: AtomicBool::new(false),
        };
        Ok((run, directory))
    }

    /// Deletes its file. Whoever still reads it can go on.
    pub(crate) fn remove(&self) {
        self.home.remove_file(&self.name);
    }

    /// Number of facts, dead ones included.
    pub(crate) fn facts(&self) -> u64 {
        self.footer.facts
    }

    /// Facts whose key has another fact before.
    pub(crate) fn duplicates(&self) -> u64 {
        self.footer.duplicates
    }

    /// Whether a page was found not to be what was written.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let filter = self.filter.get().map_or(0, |(blocks, _)| size_of_val(blocks.as_slice()));
        (size_of_val(self.fences.as_slice()) + filter) as u64
    }

    /// Whether the filter is not in memory.
    pub(crate) fn wants_filter(&self) -> bool {
        self.filter.get().is_none() && !self.is_damaged()
    }

    /// Loads the filter if there is room for it.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) fn load_filter(&self) -> Result<()> {
        if self.filter.get().is_some() {
            return Ok(());
        }
        let bytes = self.footer.blocks * size_of::<Block>() as u64;
        let Some(share) = budget::filter(bytes) else { return Ok(()) };
        let mut blocks = Vec::with_capacity((self.filter_pages * BLOCKS_PER_PAGE) as usize);
        let mut at = 0;
        let mut buffer = vec![0; PAGES_AT_ONCE * PAGE_BYTES];
        while at < self.filter_pages {
            let count = (self.filter_pages - at).min(PAGES_AT_ONCE as u64) as usize;
            let bytes = &mut buffer[..count * PAGE_BYTES];
            self.noting(page::read_many(&self.file, at, bytes))?;
            for page in bytes.chunks_exact(PAGE_BYTES) {
                let Ok(page) = <&Page>::try_from(page) else { continue };
                blocks.extend((0..BLOCKS_PER_PAGE as usize).map(|n| filter::from_page(page, n)));
            }
            at += count as u64;
        }
        blocks.truncate(self.footer.blocks as usize);
        // Another caller may have been faster; its filter is the same.
        let _ = self.filter.set((blocks, share));
        Ok(())
    }

    /// Tells the facts of keys, which must be sorted: the key's place in `keys`, the run's number of the file, the row.
    ///
    /// # Errors
    /// `Conflict` when a page is not what was written: the run must be dropped.
    pub(crate) fn find(&self, keys: &[KeyHash], found: impl FnMut(usize, u32, u32)) -> Result<()> {
        if self.is_damaged() {
            return Err(damaged());
        }
        self.noting(self.search(keys, found))
    }

    fn search(&self, keys: &[KeyHash], mut found: impl FnMut(usize, u32, u32)) -> Result<()> {
        let (mut filter, mut data) = (Window::new(1), Window::new(self.pages_ahead(keys)));
        for (at, key) in keys.iter().enumerate() {
            let wanted = ((key.0 >> 64) as u64, key.0 as u64);
            if !self.may_hold(wanted, &mut filter)? {
                continue;
            }
            let mut page = page_of(&self.fences, wanted.0);
            while page < self.fences.len() {
                let count = self.facts_in(page);
                let bytes = data.page(&self.file, self.filter_pages + page as u64)?;
                let mut row = first_not_below(bytes, count, wanted);
                while row < count {
                    let fact = page::fact(bytes, row);
                    if (fact.high, fact.low) != wanted {
                        break;
                    }
                    found(at, fact.file, fact.row);
                    row += 1;
                }
                // Facts of one key may go on in the next page.
                page += 1;
                if row < count || self.fences.get(page).is_none_or(|fence| *fence > wanted.0) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// How many pages to read at once so that most of them are wanted: keys of hashes spread evenly over the pages.
    fn pages_ahead(&self, keys: &[KeyHash]) -> usize {
        let page = |key: Option<&KeyHash>| {
            key.map_or(0, |key| page_of(&self.fences, (key.0 >> 64) as u64))
        };
        let span = page(keys.last()) - page(keys.first()).min(page(keys.last())) + 1;
        if keys.len() * 2 > span { PAGES_AT_ONCE } else { 1 }
    }

    fn may_hold(&self, (high, low): (u64, u64), window: &mut Window) -> Result<bool> {
        let block = filter::block_of(high, self.footer.blocks);
        if let Some((blocks, _)) = self.filter.get() {
            return Ok(blocks.get(block as usize).is_none_or(|block| block.may_hold(low)));
        }
        let page = window.page(&self.file, block / BLOCKS_PER_PAGE)?;
        Ok(filter::from_page(page, (block % BLOCKS_PER_PAGE) as usize).may_hold(low))
    }

    fn facts_in(&self, page: usize) -> usize {
        let before = page as u64 * FACTS_PER_PAGE as u64;
        (self.footer.facts - before).min(FACTS_PER_PAGE as u64) as usize
    }

    /// All facts, in order.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor::new(&self.file, self.filter_pages, self.footer.facts)
    }

    /// Remembers damage, and takes the file away: at the next start its files are read again.
    pub(crate) fn noting<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() && !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::warn!(run = %self.name, "a run of the key index is damaged; it will be made anew");
            self.remove();
        }
        outcome
    }
}

/// The first page that may hold a key: the last that begins below it, or the first of all.
fn page_of(fences: &[u64], high: u64) -> usize {
    let guess = ((u128::from(high) * fences.len() as u128) >> 64) as usize;
    let mut reach = 32;
    // Keys are hashes and spread evenly: the guess is close. Where they are not, the window grows.
    loop {
        let (from, to) = (guess.saturating_sub(reach), (guess + reach).min(fences.len()));
        let starts_below = from == 0 || fences[from - 1] < high;
        let ends_above = to == fences.len() || fences[to] >= high;
        if starts_below && ends_above {
            let within = fences[from..to].partition_point(|fence| *fence < high);
            return (from + within).saturating_sub(1);
        }
        reach *= 4;
    }
}

/// The first of the page's facts whose key is not below `wanted`.
fn first_not_below(page: &Page, count: usize, wanted: (u64, u64)) -> usize {
    let (mut from, mut length) = (0, count);
    while length > 0 {
        let half = length / 2;
        let at = (from + half) * FACT_BYTES;
        let high = page::word(page, at);
        let below = high < wanted.0 || (high == wanted.0 && page::word(page, at + 8) < wanted.1);
        if below {
            from += half + 1;
            length -= half + 1;
        } else {
            length = half;
        }
    }
    from
}

/// The pages that were read last.
struct Window {
    /// Pages read at once.
    ahead: usize,
    bytes: Vec<u8>,
    first: u64,
    /// How many of them are there.
    count: u64,
    /// The page whose checksum was looked at last.
    sound: Option<u64>,
}

impl Window {
    fn new(ahead: usize) -> Self {
        Self { ahead, bytes: Vec::new(), first: 0, count: 0, sound: None }
    }

    fn page(&mut self, file: &File, number: u64) -> Result<&Page> {
        if !(self.first..self.first + self.count).contains(&number) {
            self.fill(file, number)?;
        }
        let at = (number - self.first) as usize * PAGE_BYTES;
        let page = self.bytes.get(at..at + PAGE_BYTES).and_then(|page| page.try_into().ok());
        let page: &Page = page.ok_or_else(damaged)?;
        if self.sound != Some(number) {
            self.sound = page::is_sound(page, number).then_some(number);
            if self.sound.is_none() {
                return Err(damaged());
            }
        }
        Ok(page)
    }

    /// Reads from `number` on, as far as the file goes.
    fn fill(&mut self, file: &File, number: u64) -> Result<()> {
        self.count = 0;
        self.bytes.resize(self.ahead * PAGE_BYTES, 0);
        let (mut read, from) = (0, number * PAGE_BYTES as u64);
        while read < self.bytes.len() {
            match file.read_at(&mut self.bytes[read..], from + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(damaged().caused_by(error)),
            }
        }
        (self.first, self.count) = (number, (read / PAGE_BYTES) as u64);
        if self.count == 0 { Err(damaged()) } else { Ok(()) }
    }
}

/// Reads pages of facts from end to end.
pub(crate) struct Cursor<'a> {
    file: &'a File,
    next_page: u64,
    /// Facts that are not in the buffer yet.
    left: u64,
    buffer: Vec<u8>,
    /// Facts in the buffer, and how many of them were given out.
    count: usize,
    given: usize,
}

impl<'a> Cursor<'a> {
    /// Reads so many facts from a page on.
    pub(crate) fn new(file: &'a File, first_page: u64, facts: u64) -> Self {
        let buffer = vec![0; PAGES_AT_ONCE * PAGE_BYTES];
        Self { file, next_page: first_page, left: facts, buffer, count: 0, given: 0 }
    }

    /// The next fact.
    ///
    /// # Errors
    /// `Conflict` when a page is not what was written.
    pub(crate) fn next(&mut self) -> Result<Option<Fact>> {
        if self.given == self.count {
            if self.left == 0 {
                return Ok(None);
            }
            self.fill()?;
        }
        let (page, at) = (self.given / FACTS_PER_PAGE, self.given % FACTS_PER_PAGE);
        self.given += 1;
        let bytes = &self.buffer[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
        Ok(<&Page>::try_from(bytes).ok().map(|page| page::fact(page, at)))
    }

    fn fill(&mut self) -> Result<()> {
        let facts = self.left.min((PAGES_AT_ONCE * FACTS_PER_PAGE) as u64) as usize;
        let pages = facts.div_ceil(FACTS_PER_PAGE);
        page::read_many(self.file, self.next_page, &mut self.buffer[..pages * PAGE_BYTES])?;
        self.next_page += pages as u64;
        self.left -= facts as u64;
        (self.count, self.given) = (facts, 0);
        Ok(())
    }
}
