//! How much of what a workload did: rows by kind, transactions by fate.

use std::fmt;

/// What a statement does to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// New rows.
    Insert,
    /// Changed cells, the key untouched.
    Update,
    /// Changed cells beside a large value that the log does not repeat.
    UpdateBesideToast,
    /// Changed large values.
    UpdateToast,
    /// A changed key.
    KeyChange,
    /// Rows gone.
    Delete,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Insert, "inserts"),
    (Kind::Update, "updates"),
    (Kind::UpdateBesideToast, "updates beside toast"),
    (Kind::UpdateToast, "toast updates"),
    (Kind::KeyChange, "key changes"),
    (Kind::Delete, "deletes"),
];

/// What was done. Rows of rolled-back work are counted apart.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    rows: [u64; KINDS.len()],
    /// Rows whose transaction or savepoint was rolled back.
    pub rolled_back_rows: u64,
    /// Committed transactions.
    pub commits: u64,
    /// Rolled-back transactions.
    pub aborts: u64,
    /// Savepoints rolled back inside a committed transaction.
    pub partial_aborts: u64,
    /// Committed transactions of more than a thousand rows.
    pub large: u64,
    /// TRUNCATEs.
    pub truncates: u64,
    /// Changes of a table's definition.
    pub ddls: u64,
    /// Transactions that lost to a deadlock or a lock's time limit.
    pub conflicts: u64,
}

impl Counts {
    /// Adds rows of a kind.
    pub fn add(&mut self, kind: Kind, rows: u64) {
        if let Some(place) = KINDS.iter().position(|(each, _)| *each == kind) {
            self.rows[place] += rows;
        }
    }

    /// Rows of a kind.
    pub fn of(&self, kind: Kind) -> u64 {
        KINDS.iter().position(|(each, _)| *each == kind).map_or(0, |place| self.rows[place])
    }

    /// Committed row changes of all kinds.
    pub fn changes(&self) -> u64 {
        self.rows.iter().sum()
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Counts) {
        for (mine, theirs) in self.rows.iter_mut().zip(other.rows) {
            *mine += theirs;
        }
        self.rolled_back_rows += other.rolled_back_rows;
        self.commits += other.commits;
        self.aborts += other.aborts;
        self.partial_aborts += other.partial_aborts;
        self.large += other.large;
        self.truncates += other.truncates;
        self.ddls += other.ddls;
        self.conflicts += other.conflicts;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes (", self.changes())?;
        for (place, (_, name)) in KINDS.iter().enumerate() {
            write!(f, "{}{} {name}", if place == 0 { "" } else { ", " }, self.rows[place])?;
        }
        write!(
            f,
            "), {} commits ({} large), {} aborts, {} savepoints rolled back, {} truncates, {} ddls, {} conflicts",
            self.commits,
            self.large,
            self.aborts,
            self.partial_aborts,
            self.truncates,
            self.ddls,
            self.conflicts
        )
    }
}
