//! Writing a run: sorted facts in, pages, filter and directory out, in one pass and a bounded buffer.
//!
//! Deliberately absent: giving the file its name, see [`super::home`].
use std::fs::File;
use std::os::unix::fs::FileExt;

use lakeward_core::Result;

use super::directory::Directory;
use super::filter::{self, BLOCKS_PER_PAGE, Block};
use super::page::{self, FACTS_PER_PAGE, Fact, PAGE_BYTES, Page};
use super::{MAGIC, failed};

/// Pages written at once.
const PAGES_AT_ONCE: usize = 64;

/// Pages on their way to consecutive places of a file.
pub(crate) struct PageSink {
    buffer: Vec<u8>,
    /// Number of the first page in the buffer.
    first: u64,
}

impl PageSink {
    /// Begins at a page.
    pub(crate) fn at(first: u64) -> Self {
        Self { buffer: Vec::with_capacity(PAGES_AT_ONCE * PAGE_BYTES), first }
    }

    /// The number of the next page.
    pub(crate) fn next(&self) -> u64 {
        self.first + (self.buffer.len() / PAGE_BYTES) as u64
    }

    /// Seals a page and writes it, sooner or later.
    pub(crate) fn push(&mut self, file: &File, mut page: Page) -> Result<()> {
        page::seal(&mut page, self.next());
        self.buffer.extend_from_slice(&page);
        if self.buffer.len() < PAGES_AT_ONCE * PAGE_BYTES { Ok(()) } else { self.flush(file) }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, file: &File) -> Result<()> {
        file.write_all_at(&self.buffer, self.first * PAGE_BYTES as u64).map_err(failed)?;
        self.first = self.next();
        self.buffer.clear();
        Ok(())
    }
}

/// A run being written.
pub(crate) struct RunWriter<'a> {
    file: &'a File,
    /// Facts of the page that is not full yet.
    open: Vec<Fact>,
    last: Option<Fact>,
    facts: u64,
    duplicates: u64,
    data: PageSink,
    fences: Vec<u64>,
    blocks: u64,
    filter: PageSink,
    /// Blocks of the filter's page that is not full yet, and the number of the first of them.
    open_blocks: Vec<Block>,
    first_block: u64,
}

impl<'a> RunWriter<'a> {
    /// A run of at most so many facts in an empty file. Less than announced makes the filter larger than it must be.
    pub(crate) fn new(file: &'a File, facts_max: u64) -> Self {
        let blocks = filter::blocks(facts_max);
        Self {
            file,
            open: Vec::with_capacity(FACTS_PER_PAGE),
            last: None,
            facts: 0,
            duplicates: 0,
            data: PageSink::at(filter::pages(blocks)),
            fences: Vec::new(),
            blocks,
            filter: PageSink::at(0),
            open_blocks: vec![Block::default(); BLOCKS_PER_PAGE as usize],
            first_block: 0,
        }
    }

    /// Adds the next fact; one that equals the last is left out.
    pub(crate) fn push(&mut self, fact: Fact) -> Result<()> {
        if let Some(last) = self.last {
            if last == fact {
                return Ok(());
            }
            self.duplicates += u64::from((last.high, last.low) == (fact.high, fact.low));
        }
        self.last = Some(fact);
        self.facts += 1;
        self.add_to_filter(fact)?;
        if self.open.is_empty() {
            self.fences.push(fact.high);
        }
        self.open.push(fact);
        if self.open.len() < FACTS_PER_PAGE { Ok(()) } else { self.end_page() }
    }

    fn end_page(&mut self) -> Result<()> {
        self.data.push(self.file, page::encode(&self.open))?;
        self.open.clear();
        Ok(())
    }

    fn add_to_filter(&mut self, fact: Fact) -> Result<()> {
        let block = filter::block_of(fact.high, self.blocks);
        while block - self.first_block >= BLOCKS_PER_PAGE {
            self.end_filter_page()?;
        }
        self.open_blocks[(block - self.first_block) as usize].insert(fact.low);
        Ok(())
    }

    fn end_filter_page(&mut self) -> Result<()> {
        self.filter.push(self.file, filter::to_page(&self.open_blocks))?;
        self.open_blocks.fill(Block::default());
        self.first_block += BLOCKS_PER_PAGE;
        Ok(())
    }

    /// Writes the rest, and makes the whole durable.
    pub(crate) fn finish(mut self, directory: &Directory) -> Result<()> {
        if !self.open.is_empty() {
            self.end_page()?;
        }
        while self.first_block < self.blocks {
            self.end_filter_page()?;
        }
        self.filter.flush(self.file)?;
        self.data.flush(self.file)?;
        self.write_tail(directory)?;
        self.file.sync_data().map_err(failed)
    }

    /// Fences and directory, padded to whole pages; then the footer.
    fn write_tail(&self, directory: &Directory) -> Result<()> {
        let directory = directory.encode();
        let mut tail: Vec<u8> = self.fences.iter().flat_map(|fence| fence.to_le_bytes()).collect();
        tail.extend_from_slice(&directory);
        tail.resize(tail.len().next_multiple_of(PAGE_BYTES), 0);
        let at = self.data.next();
        self.file.write_all_at(&tail, at * PAGE_BYTES as u64).map_err(failed)?;
        let footer = Footer {
            facts: self.facts,
            duplicates: self.duplicates,
            blocks: self.blocks,
            data_pages: self.fences.len() as u64,
            directory_bytes: directory.len() as u64,
            tail_checksum: page::checksum(&tail, at),
        };
        let number = at + (tail.len() / PAGE_BYTES) as u64;
        let mut page = footer.encode();
        page::seal(&mut page, number);
        self.file.write_all_at(&page, number * PAGE_BYTES as u64).map_err(failed)
    }
}

/// What the last page of a run says of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) facts: u64,
    /// Facts whose key is the key of the fact before.
    pub(crate) duplicates: u64,
    /// Blocks of the filter.
    pub(crate) blocks: u64,
    pub(crate) data_pages: u64,
    pub(crate) directory_bytes: u64,
    pub(crate) tail_checksum: u32,
}

impl Footer {
    fn encode(&self) -> Page {
        let words = [
            MAGIC,
            self.facts,
            self.duplicates,
            self.blocks,
            self.data_pages,
            self.directory_bytes,
            u64::from(self.tail_checksum),
        ];
        let mut page = [0; PAGE_BYTES];
        for (word, out) in words.iter().zip(page.chunks_exact_mut(8)) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        page
    }

    /// `None`: no footer of this version.
    pub(crate) fn decode(page: &Page) -> Option<Self> {
        let word = |n: usize| page::word(page, 8 * n);
        (word(0) == MAGIC).then(|| Self {
            facts: word(1),
            duplicates: word(2),
            blocks: word(3),
            data_pages: word(4),
            directory_bytes: word(5),
            tail_checksum: word(6) as u32,
        })
    }

    /// Number of the first page behind the data, if the numbers fit together for a file of so many pages.
    pub(crate) fn tail(&self, pages: u64) -> Option<u64> {
        if self.facts.div_ceil(FACTS_PER_PAGE as u64) != self.data_pages || self.blocks == 0 {
            return None;
        }
        let tail = filter::pages(self.blocks).checked_add(self.data_pages)?;
        let bytes = self.data_pages.checked_mul(8)?.checked_add(self.directory_bytes)?;
        let end = tail.checked_add(bytes.div_ceil(PAGE_BYTES as u64))?;
        (end.checked_add(1)? == pages).then_some(tail)
    }
}
