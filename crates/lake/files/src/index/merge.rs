//! Merging runs: which ones (pure), and how. Facts that are dead by then are left out.
//!
//! Facts have no age: they are about files that never change, so any runs may be merged in any order. Deliberately
//! absent: taking the outcome over.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lakeward_core::{Error, ErrorKind, Result};

use super::directory::Directory;
use super::gather::{Input, merge};
use super::home::{IndexHome, Unfinished};
use super::run::Run;
use super::write::RunWriter;

/// So many runs of about a size are merged.
const RUNS_AT_LEAST: usize = 4;
/// A run with at least this share of dead facts (in percent) is worth writing again alone.
const DEAD_PERCENT: u64 = 50;
/// Facts between two looks whether anybody still wants the outcome.
const FACTS_BETWEEN_LOOKS: u64 = 64 << 10;

/// A run as planning sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Facts, dead ones included.
    pub(crate) facts: u64,
    /// How many of them are live, about.
    pub(crate) live: u64,
}

/// Which runs to merge, by their place in `sizes`; empty: none is worth it.
///
/// Neighbours by size, as long as the next is no larger than those before together: a fact is written again only when
/// the run that it is in at least doubles.
pub(crate) fn plan(sizes: &[Size]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|at| sizes[*at].facts);
    for start in 0..order.len() {
        let chosen = neighbours(&order[start..], sizes);
        if chosen.len() >= RUNS_AT_LEAST {
            return chosen.to_vec();
        }
    }
    let is_worn = |at: &usize| {
        let Size { facts, live } = sizes[*at];
        facts.saturating_sub(live) * 100 >= facts.max(1) * DEAD_PERCENT
    };
    order.into_iter().filter(is_worn).collect()
}

/// The first of `order` and those behind it that are no larger than all before them together.
fn neighbours<'a>(order: &'a [usize], sizes: &[Size]) -> &'a [usize] {
    let mut together = 0;
    let fits = |at: &&usize| {
        let facts = sizes[**at].facts;
        let fits = together == 0 || facts <= together;
        together += facts;
        fits
    };
    let count = order.iter().take_while(fits).count();
    &order[..count]
}

/// A run to merge, and the new number of each of its files; `None`: its facts are dead.
pub(crate) struct Part {
    pub(crate) run: Arc<Run>,
    pub(crate) files: Vec<Option<u32>>,
}

/// A merge, detached from its table.
pub(crate) struct Merge {
    pub(crate) home: IndexHome,
    pub(crate) parts: Vec<Part>,
    /// Files of the outcome, with the rows whose facts are dead.
    pub(crate) directory: Directory,
    /// Set when nobody wants the outcome any more.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Merge {
    /// Writes the merged run; it has no name yet.
    ///
    /// # Errors
    /// `Conflict` when a run is damaged or nobody wants the outcome; those of the disk.
    pub(crate) fn run(self) -> Result<Unfinished> {
        let outcome = self.home.create()?;
        let facts = self.parts.iter().map(|part| part.run.facts()).sum();
        let mut writer = RunWriter::new(&outcome.file, facts);
        let inputs =
            self.parts.iter().map(|part| Input::Run(&part.run, part.run.cursor())).collect();
        let dead: Vec<_> = self.directory.files.iter().map(|file| &file.absent).collect();
        let mut seen = 0u64;
        merge(inputs, |at, mut fact| {
            seen += 1;
            if seen.is_multiple_of(FACTS_BETWEEN_LOOKS) && self.stop.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Conflict, "nobody wants the merged run"));
            }
            let Some(Some(file)) = self.parts[at].files.get(fact.file as usize).copied() else {
                return Ok(());
            };
            if dead[file as usize].contains(fact.row) {
                return Ok(());
            }
            fact.file = file;
            writer.push(fact)
        })?;
        writer.finish(&self.directory)?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(facts: &[u64]) -> Vec<Size> {
        facts.iter().map(|facts| Size { facts: *facts, live: *facts }).collect()
    }

    #[test]
    fn runs_of_a_size_are_merged_and_a_large_one_is_left_alone() {
        assert_eq!(plan(&sizes(&[5, 5, 5])), [0usize; 0]);
        assert_eq!(plan(&sizes(&[100, 5, 5, 5, 5])), [1, 2, 3, 4]);
        assert_eq!(plan(&sizes(&[20, 5, 5, 5, 5])), [1, 2, 3, 4, 0]);
        assert_eq!(plan(&sizes(&[1, 2, 4, 8])), [0usize; 0]);
        assert_eq!(plan(&sizes(&[1, 5, 5, 5, 5])), [1, 2, 3, 4]);
    }

    #[test]
    fn a_run_that_is_half_dead_is_written_again() {
        let worn = Size { facts: 10, live: 5 };
        assert_eq!(plan(&[worn, Size { facts: 10, live: 6 }]), [0]);
    }

    #[test]
    fn a_fact_is_written_again_about_once_each_time_the_index_doubles() {
        let (mut runs, mut written) = (Vec::new(), 0);
        for _ in 0..1024 {
            runs.push(1);
            written += 1;
            loop {
                let chosen = plan(&sizes(&runs));
                if chosen.is_empty() {
                    break;
                }
                let merged = chosen.iter().map(|at| runs[*at]).sum();
                runs = runs
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| !chosen.contains(at))
                    .map(|(_, facts)| *facts)
                    .collect();
                runs.push(merged);
                written += merged;
            }
            assert!(runs.len() <= 12, "{} runs", runs.len());
        }
        assert!(written <= 1024 * 10, "{written} written for 1024");
    }
}
