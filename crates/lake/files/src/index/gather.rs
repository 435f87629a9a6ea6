//! Gathering facts in any order and in bounded memory: full buffers are sorted and set down, then merged into one run.
//!
//! Deliberately absent: which files the facts are about, until the end.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use lakeward_core::{Error, ErrorKind, KeyHash, Result};
use tokio::task::{JoinHandle, spawn_blocking};

use super::directory::Directory;
use super::home::{IndexHome, Unfinished};
use super::page::{self, FACTS_PER_PAGE, Fact};
use super::run::{Cursor, Run};
use super::write::{PageSink, RunWriter};
use super::{FileId, Place};

/// Facts on their way into the index.
pub struct Gathering {
    home: IndexHome,
    buffer: Vec<Fact>,
    /// The buffer before, being sorted and written.
    writing: Option<JoinHandle<Written>>,
    chunks: Vec<Chunk>,
    /// The disk did not take a buffer: what comes now stays in memory.
    disk_failed: bool,
}

type Written = std::result::Result<Chunk, (Error, Vec<Fact>)>;

/// What was gathered.
#[derive(Debug)]
pub struct Gathered(pub(crate) Outcome);

/// Where it is.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Few facts, or there is no disk for them.
    Facts(Vec<Fact>),
    /// A whole, durable run that has no name yet.
    Run(Unfinished),
}

impl Gathered {
    /// Appends the places of keys, where the facts are in memory; `ids` are the files by their numbers in the facts.
    pub(crate) fn lookup_all(
        &self,
        keys: &[KeyHash],
        ids: &[FileId],
        found: &mut Vec<(usize, Place)>,
    ) {
        let Outcome::Facts(facts) = &self.0 else { return };
        for fact in facts {
            let at = keys.partition_point(|key| *key < fact.key());
            if keys.get(at) == Some(&fact.key())
                && let Some(file) = ids.get(fact.file as usize)
            {
                found.push((at, Place { file: *file, row: fact.row }));
            }
        }
    }
}

impl Gathering {
    /// Nothing yet.
    pub fn new(home: IndexHome) -> Self {
        Self {
            disk_failed: !home.is_some(),
            home,
            buffer: Vec::new(),
            writing: None,
            chunks: Vec::new(),
        }
    }

    /// Takes facts: key, number of the file, row.
    ///
    /// # Errors
    /// `Conflict` when facts that were set down cannot be read back.
    pub async fn extend(&mut self, facts: impl Iterator<Item = (KeyHash, u32, u32)>) -> Result<()> {
        for (key, file, row) in facts {
            self.buffer.push(Fact::new(key, file, row));
            if self.buffer.len() >= self.home.limits().buffer_facts && !self.disk_failed {
                self.set_down().await?;
            }
        }
        Ok(())
    }

    /// Sorts and writes the buffer beside whatever comes next.
    async fn set_down(&mut self) -> Result<()> {
        self.written().await?;
        if self.disk_failed {
            return Ok(());
        }
        let facts = std::mem::take(&mut self.buffer);
        let home = self.home.clone();
        self.writing = Some(spawn_blocking(move || Chunk::write(&home, facts)));
        Ok(())
    }

    async fn written(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        match writing.await.map_err(ended)? {
            Ok(chunk) => self.chunks.push(chunk),
            Err((error, facts)) => {
                tracing::warn!(%error, "the key index stays in memory: its folder takes no more");
                self.disk_failed = true;
                self.buffer.extend(facts);
            }
        }
        Ok(())
    }

    /// Ends it; `directory` names the files by the numbers that the facts have.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub async fn finish(mut self, directory: Directory) -> Result<Gathered> {
        self.written().await?;
        let few = self.buffer.len() <= self.home.limits().few_facts;
        if self.chunks.is_empty() && (self.disk_failed || few) {
            return Ok(Gathered(Outcome::Facts(self.buffer)));
        }
        let Self { home, mut buffer, chunks, .. } = self;
        let merged = spawn_blocking(move || {
            buffer.sort_unstable();
            match write_run(&home, &chunks, &buffer, &directory) {
                Ok(run) => Ok(Gathered(Outcome::Run(run))),
                Err(error) => {
                    tracing::warn!(%error, "the key index stays in memory: its folder takes no more");
                    read_back(&chunks, buffer).map(|facts| Gathered(Outcome::Facts(facts)))
                }
            }
        });
        merged.await.map_err(ended)?
    }
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Bug, "work on the key index ended early").caused_by(error)
}

fn write_run(
    home: &IndexHome,
    chunks: &[Chunk],
    buffer: &[Fact],
    directory: &Directory,
) -> Result<Unfinished> {
    let run = home.create()?;
    let facts = buffer.len() as u64 + chunks.iter().map(|chunk| chunk.facts).sum::<u64>();
    let mut writer = RunWriter::new(&run.file, facts);
    let chunks = chunks.iter().map(|chunk| Input::Chunk(chunk.cursor()));
    let inputs = chunks.chain([Input::Memory(buffer.iter())]).collect();
    merge(inputs, |_, fact| writer.push(fact))?;
    writer.finish(directory)?;
    Ok(run)
}

fn read_back(chunks: &[Chunk], mut facts: Vec<Fact>) -> Result<Vec<Fact>> {
    for chunk in chunks {
        let mut cursor = chunk.cursor();
        while let Some(fact) = cursor.next()? {
            facts.push(fact);
        }
    }
    Ok(facts)
}

/// Sorted facts set down for a while: pages without filter and directory.
struct Chunk {
    file: Unfinished,
    facts: u64,
}

impl Chunk {
    fn write(home: &IndexHome, mut facts: Vec<Fact>) -> Written {
        facts.sort_unstable();
        match Self::write_sorted(home, &facts) {
            Ok(chunk) => Ok(chunk),
            Err(error) => Err((error, facts)),
        }
    }

    fn write_sorted(home: &IndexHome, facts: &[Fact]) -> Result<Self> {
        let file = home.create()?;
        let mut sink = PageSink::at(0);
        for facts in facts.chunks(FACTS_PER_PAGE) {
            sink.push(&file.file, page::encode(facts))?;
        }
        sink.flush(&file.file)?;
        Ok(Self { file, facts: facts.len() as u64 })
    }

    fn cursor(&self) -> Cursor<'_> {
        Cursor::new(&self.file.file, 0, self.facts)
    }
}

/// Sorted facts from somewhere.
pub(crate) enum Input<'a> {
    /// Pages set down for a while.
    Chunk(Cursor<'a>),
    /// A run, which notes damage.
    Run(&'a Run, Cursor<'a>),
    /// Memory.
    Memory(std::slice::Iter<'a, Fact>),
}

impl Input<'_> {
    fn next(&mut self) -> Result<Option<Fact>> {
        match self {
            Self::Chunk(cursor) => cursor.next(),
            Self::Run(run, cursor) => run.noting(cursor.next()),
            Self::Memory(facts) => Ok(facts.next().copied()),
        }
    }
}

/// Gives out the facts of all inputs in order, each with the number of its input.
pub(crate) fn merge(
    mut inputs: Vec<Input<'_>>,
    mut out: impl FnMut(usize, Fact) -> Result<()>,
) -> Result<()> {
    let mut heads = BinaryHeap::with_capacity(inputs.len());
    for (at, input) in inputs.iter_mut().enumerate() {
        heads.extend(input.next()?.map(|fact| Reverse((fact, at))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((fact, at)) = *head;
        out(at, fact)?;
        match inputs[at].next()? {
            Some(next) => *head = Reverse((next, at)),
            None => drop(PeekMut::pop(head)),
        }
    }
    Ok(())
}
