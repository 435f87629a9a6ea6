//! Places in PostgreSQL's log, and the one comparison that decides what a restart brings.
//!
//! A place is `system identifier, LSN` and means: *every transaction whose commit record STARTS before this LSN*.
//! That is exactly the server's own rule for what it skips when a slot is opened at an LSN, so the same number serves for
//! comparing and for reopening:
//!
//! | place of | LSN in `at` |
//! |---|---|
//! | a transaction | start of its commit record + 1 (`Begin` says it, so rows know it before their `Commit` comes) |
//! | a keepalive, a slot's consistent point | the LSN itself: a commit record that starts there comes after |
//!
//! `resume` is an LSN behind the commit record (or its start + 1 where the end is not known yet): both reopen the log at
//! the same transaction. Deliberately absent: timelines. A promoted standby keeps the system identifier.
use lakeward_core::{Coverage, Error, ErrorKind, Position, Result};

/// A place in the log of one database cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The cluster's system identifier.
    pub system: u64,
    /// All commit records that start before this LSN.
    pub lsn: u64,
}

impl Place {
    /// The position of everything whose commit record starts before `lsn`.
    pub fn before(system: u64, lsn: u64) -> Position {
        encode(system, lsn, lsn)
    }

    /// The position right behind a transaction. `end` is the end of its commit record where that is known.
    pub fn behind(system: u64, commit_start: u64, end: Option<u64>) -> Position {
        let at = commit_start.saturating_add(1);
        encode(system, at, end.unwrap_or(at))
    }

    /// Reads a position that this module made.
    ///
    /// # Errors
    /// `Corrupt` when it was made by something else.
    pub fn parse(position: &Position) -> Result<Self> {
        let (system, lsn) = position.at.split_at_checked(8).ok_or_else(foreign)?;
        Ok(Self { system: number(system)?, lsn: number(lsn)? })
    }
}

/// The LSN at which the log must be reopened.
///
/// # Errors
/// `Corrupt` when the position was made by something else.
pub fn resume_lsn(position: &Position) -> Result<u64> {
    number(&position.resume)
}

/// Whether `transaction` is part of everything that ends at `through`.
pub fn covers(through: &Position, transaction: &Position) -> Coverage {
    match (Place::parse(through), Place::parse(transaction)) {
        (Ok(a), Ok(b)) if a.system == b.system && b.lsn <= a.lsn => Coverage::Covered,
        (Ok(a), Ok(b)) if a.system == b.system => Coverage::After,
        _ => Coverage::OtherIncarnation,
    }
}

/// Bytes of log from `from` to `to`; `None` in another cluster.
pub fn distance_bytes(from: &Position, to: &Position) -> Option<u64> {
    let (a, b) = (Place::parse(from).ok()?, Place::parse(to).ok()?);
    (a.system == b.system).then(|| b.lsn.saturating_sub(a.lsn))
}

/// An LSN as PostgreSQL prints it: `16/B374D848`.
pub fn print_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Reads an LSN as PostgreSQL prints it.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
    Some((u64::from(high) << 32) | u64::from(low))
}

fn encode(system: u64, at: u64, resume: u64) -> Position {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&system.to_be_bytes());
    bytes[8..].copy_from_slice(&at.to_be_bytes());
    Position { at: bytes.into(), resume: resume.to_be_bytes().into() }
}

fn number(bytes: &[u8]) -> Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| foreign())
}

fn foreign() -> Error {
    Error::new(ErrorKind::Corrupt, "this position was not made by the postgres source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_follows_the_servers_own_rule() {
        let commit = |start| Place::behind(7, start, Some(start + 48));
        let early = |start| Place::behind(7, start, None);
        let keepalive = |lsn| Place::before(7, lsn);
        let table = [
            (commit(100), commit(100), Coverage::Covered),
            (commit(100), early(100), Coverage::Covered),
            (early(100), commit(100), Coverage::Covered),
            (commit(100), commit(148), Coverage::After),
            (keepalive(148), commit(100), Coverage::Covered),
            (keepalive(148), commit(148), Coverage::After),
            (commit(148), keepalive(148), Coverage::Covered),
            (commit(100), keepalive(148), Coverage::After),
            (Place::before(8, 999), commit(100), Coverage::OtherIncarnation),
        ];
        for (through, transaction, expected) in table {
            assert_eq!(covers(&through, &transaction), expected, "{through:?} {transaction:?}");
        }
    }

    #[test]
    fn lsns_read_as_printed() {
        for lsn in [0, 1, 0x1634_5678, 0xFFFF_FFFF, 0x16_B374_D848, u64::MAX] {
            assert_eq!(parse_lsn(&print_lsn(lsn)), Some(lsn));
        }
        assert_eq!(parse_lsn("16-7"), None);
        assert_eq!(parse_lsn("16/zz"), None);
    }

    #[test]
    fn a_foreign_position_is_refused() {
        let foreign = Position { at: [1, 2, 3].into(), resume: [].into() };
        assert_eq!(Place::parse(&foreign).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(resume_lsn(&foreign).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(covers(&foreign, &Place::before(1, 1)), Coverage::OtherIncarnation);
    }
}
