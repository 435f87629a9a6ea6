//! Places in the binary log: sets of global transaction ids, and the one comparison that decides what a restart brings.
//!
//! A place is the set of all transactions that ended before it. `at` is that set behind a transaction, `resume` the set
//! from which the log must be reopened (before the oldest XA transaction that is still prepared, else the same).
//!
//! | flavour | one id | a set |
//! |---|---|---|
//! | MariaDB | domain, server, sequence | per domain the last id; lower sequences of the domain are contained |
//! | MySQL | server uuid (and tag), number | per uuid the intervals of numbers |
//!
//! Deliberately absent: file names and offsets. They differ between servers, the ids do not.
use std::collections::BTreeMap;
use std::fmt;

use lakeward_core::{Coverage, Error, ErrorKind, Position, Result, TransactionId};

const MARIADB: u8 = b'M';
const MYSQL: u8 = b'U';
/// More domains or intervals than this is no server's set.
const ENTRIES_MAX: usize = 1 << 20;

/// One transaction's global id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gtid {
    /// MariaDB: replication domain, originating server, sequence number.
    MariaDb {
        /// Replication domain.
        domain: u32,
        /// Server on which the transaction ran.
        server: u32,
        /// Sequence number within the domain.
        sequence: u64,
    },
    /// MySQL: the originating server's uuid with an optional tag, and a number.
    MySql {
        /// Uuid and tag.
        source: Source,
        /// Number within the source.
        number: u64,
    },
}

/// Who numbers a MySQL transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The server's uuid.
    pub uuid: [u8; 16],
    /// The tag; empty: none.
    pub tag: String,
}

impl Gtid {
    /// A number that no other transaction of this server has, for any practical purpose.
    pub fn transaction_id(&self) -> TransactionId {
        let mut hash = Fnv::new();
        match self {
            Self::MariaDb { domain, server, sequence } => {
                hash.write(&domain.to_be_bytes());
                hash.write(&server.to_be_bytes());
                hash.write(&sequence.to_be_bytes());
            }
            Self::MySql { source, number } => {
                hash.write(&source.uuid);
                hash.write(source.tag.as_bytes());
                hash.write(&number.to_be_bytes());
            }
        }
        TransactionId(hash.finish())
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb { domain, server, sequence } => {
                write!(f, "{domain}-{server}-{sequence}")
            }
            Self::MySql { source, number } => write!(f, "{source}:{number}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.uuid.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        if self.tag.is_empty() { Ok(()) } else { write!(f, ":{}", self.tag) }
    }
}

/// A hash that is the same in every process: 64-bit FNV-1a with a final mix.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// All transactions before a place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GtidSet {
    /// Per domain the last transaction: server and sequence.
    MariaDb(BTreeMap<u32, (u32, u64)>),
    /// Per source the intervals of numbers, first and last inclusive, ascending and apart.
    MySql(BTreeMap<Source, Vec<(u64, u64)>>),
}

impl GtidSet {
    /// The empty set of MariaDB.
    pub fn mariadb() -> Self {
        Self::MariaDb(BTreeMap::new())
    }

    /// The empty set of MySQL.
    pub fn mysql() -> Self {
        Self::MySql(BTreeMap::new())
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MariaDb(domains) => domains.is_empty(),
            Self::MySql(sources) => sources.is_empty(),
        }
    }

    /// Reads what [`Display`](fmt::Display) wrote, of either flavour; `None` for an empty text.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            _ if text.contains(':') => Self::parse_mysql(text),
            _ => Self::parse_mariadb(text),
        }
    }

    /// Reads MariaDB's notation `0-1-15,1-2-3`; spaces are allowed.
    pub fn parse_mariadb(text: &str) -> Option<Self> {
        let mut domains = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut numbers = part.splitn(3, '-');
            let domain = numbers.next()?.parse().ok()?;
            let server = numbers.next()?.parse().ok()?;
            let sequence = numbers.next()?.parse().ok()?;
            domains.insert(domain, (server, sequence));
        }
        Some(Self::MariaDb(domains))
    }

    /// Reads MySQL's notation `uuid:1-17:20,uuid:tag:5`; white space is allowed.
    pub fn parse_mysql(text: &str) -> Option<Self> {
        let mut set = Self::mysql();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let mut source = Source { uuid: parse_uuid(pieces.next()?)?, tag: String::new() };
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_digit()) {
                    let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
                    set.add_interval(&source, first.parse().ok()?, last.parse().ok()?);
                } else {
                    source.tag = piece.to_owned();
                }
            }
        }
        Some(set)
    }

    /// Adds a transaction. In MariaDB its domain then stands at it, whatever stood there before.
    pub fn add(&mut self, gtid: &Gtid) {
        match (self, gtid) {
            (Self::MariaDb(domains), Gtid::MariaDb { domain, server, sequence }) => {
                domains.insert(*domain, (*server, *sequence));
            }
            (set @ Self::MySql(_), Gtid::MySql { source, number }) => {
                set.add_interval(source, *number, *number);
            }
            _ => {}
        }
    }

    /// Adds the numbers `first ..= last`.
    pub fn add_interval(&mut self, source: &Source, first: u64, last: u64) {
        let Self::MySql(sources) = self else { return };
        if first == 0 || last < first {
            return;
        }
        let intervals = match sources.get_mut(source) {
            Some(intervals) => intervals,
            None => sources.entry(source.clone()).or_default(),
        };
        let from = intervals.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = intervals.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let merged = intervals[from..to]
            .iter()
            .fold((first, last), |(a, b), (start, end)| (a.min(*start), b.max(*end)));
        intervals.splice(from..to, [merged]);
    }

    /// Whether a transaction is in it.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::MariaDb(domains), Gtid::MariaDb { domain, sequence, .. }) => {
                domains.get(domain).is_some_and(|(_, last)| sequence <= last)
            }
            (Self::MySql(sources), Gtid::MySql { source, number }) => {
                sources.get(source).is_some_and(|intervals| holds(intervals, *number, *number))
            }
            _ => false,
        }
    }

    /// Whether every transaction of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MariaDb(domains), Self::MariaDb(others)) => others
                .iter()
                .all(|(domain, (_, last))| domains.get(domain).is_some_and(|(_, own)| last <= own)),
            (Self::MySql(sources), Self::MySql(others)) => others.iter().all(|(source, wanted)| {
                sources
                    .get(source)
                    .is_some_and(|own| wanted.iter().all(|(first, last)| holds(own, *first, *last)))
            }),
            _ => false,
        }
    }

    /// Number of transactions in it that are not in `other`, as far as numbers tell.
    pub fn distance(&self, other: &Self) -> Option<u64> {
        match (self, other) {
            (Self::MariaDb(own), Self::MariaDb(others)) => Some(
                own.iter()
                    .map(|(domain, (_, last))| {
                        last.saturating_sub(others.get(domain).map_or(0, |(_, other)| *other))
                    })
                    .fold(0, u64::saturating_add),
            ),
            (Self::MySql(_), Self::MySql(_)) => Some(self.count().saturating_sub(other.count())),
            _ => None,
        }
    }

    fn count(&self) -> u64 {
        match self {
            Self::MariaDb(domains) => domains.values().map(|(_, last)| *last).sum(),
            Self::MySql(sources) => sources
                .values()
                .flatten()
                .fold(0, |sum, (first, last)| sum.saturating_add(last - first + 1)),
        }
    }

    fn encode(&self) -> Box<[u8]> {
        let mut bytes = Vec::new();
        match self {
            Self::MariaDb(domains) => {
                bytes.reserve_exact(1 + domains.len() * 16);
                bytes.push(MARIADB);
                for (domain, (server, sequence)) in domains {
                    bytes.extend_from_slice(&domain.to_be_bytes());
                    bytes.extend_from_slice(&server.to_be_bytes());
                    bytes.extend_from_slice(&sequence.to_be_bytes());
                }
            }
            Self::MySql(sources) => {
                bytes.push(MYSQL);
                for (source, intervals) in sources {
                    bytes.extend_from_slice(&source.uuid);
                    bytes.push(source.tag.len() as u8);
                    bytes.extend_from_slice(source.tag.as_bytes());
                    bytes.extend_from_slice(&(intervals.len() as u32).to_be_bytes());
                    for (first, last) in intervals {
                        bytes.extend_from_slice(&first.to_be_bytes());
                        bytes.extend_from_slice(&last.to_be_bytes());
                    }
                }
            }
        }
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (flavour, mut rest) = bytes.split_first()?;
        match *flavour {
            MARIADB => {
                let mut domains = BTreeMap::new();
                while !rest.is_empty() {
                    let domain = u32::from_be_bytes(take(&mut rest)?);
                    let server = u32::from_be_bytes(take(&mut rest)?);
                    domains.insert(domain, (server, u64::from_be_bytes(take(&mut rest)?)));
                }
                Some(Self::MariaDb(domains))
            }
            MYSQL => {
                let mut set = Self::mysql();
                while !rest.is_empty() {
                    let uuid = take(&mut rest)?;
                    let [tag_bytes] = take(&mut rest)?;
                    let (tag, behind) = rest.split_at_checked(usize::from(tag_bytes))?;
                    let source = Source { uuid, tag: String::from_utf8(tag.into()).ok()? };
                    rest = behind;
                    let count = u32::from_be_bytes(take(&mut rest)?) as usize;
                    for _ in 0..count.min(ENTRIES_MAX) {
                        let first = u64::from_be_bytes(take(&mut rest)?);
                        set.add_interval(&source, first, u64::from_be_bytes(take(&mut rest)?));
                    }
                }
                Some(set)
            }
            _ => None,
        }
    }
}

impl fmt::Display for GtidSet {
    /// As the server writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb(domains) => {
                for (at, (domain, (server, sequence))) in domains.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{domain}-{server}-{sequence}")?;
                }
            }
            Self::MySql(sources) => {
                for (at, (source, intervals)) in sources.iter().enumerate() {
                    write!(f, "{}{source}", if at == 0 { "" } else { "," })?;
                    for (first, last) in intervals {
                        write!(f, ":{first}-{last}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn holds(intervals: &[(u64, u64)], first: u64, last: u64) -> bool {
    let at = intervals.partition_point(|(_, end)| *end < first);
    intervals.get(at).is_some_and(|(start, end)| *start <= first && last <= *end)
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(uuid)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// The position behind everything in `at`; the log is reopened behind `resume`.
pub fn position(at: &GtidSet, resume: &GtidSet) -> Position {
    Position { at: at.encode(), resume: resume.encode() }
}

/// Everything before a position.
///
/// # Errors
/// `Corrupt` when the position was made by something else.
pub fn at(position: &Position) -> Result<GtidSet> {
    GtidSet::decode(&position.at).ok_or_else(foreign)
}

/// Where the log must be reopened for a position.
///
/// # Errors
/// `Corrupt` when the position was made by something else.
pub fn resume(position: &Position) -> Result<GtidSet> {
    GtidSet::decode(&position.resume).ok_or_else(foreign)
}

/// Whether `transaction` is part of everything that ends at `through`.
pub fn covers(through: &Position, transaction: &Position) -> Coverage {
    match (GtidSet::decode(&through.at), GtidSet::decode(&transaction.at)) {
        (Some(a @ GtidSet::MariaDb(_)), Some(b @ GtidSet::MariaDb(_)))
        | (Some(a @ GtidSet::MySql(_)), Some(b @ GtidSet::MySql(_))) => {
            if a.covers(&b) {
                Coverage::Covered
            } else {
                Coverage::After
            }
        }
        _ => Coverage::OtherIncarnation,
    }
}

fn foreign() -> Error {
    Error::new(ErrorKind::Corrupt, "this position was not made by the mysql source")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> GtidSet {
        if text.contains(':') {
            GtidSet::parse_mysql(text).unwrap()
        } else {
            GtidSet::parse_mariadb(text).unwrap()
        }
    }

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sets_read_and_print_as_the_server_writes_them() {
        for text in ["", "0-1-15", "0-1-15,1-22-3", "4294967295-4294967295-18446744073709551615"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set(" 1-2-3, 0-1-15 ").to_string(), "0-1-15,1-2-3");
        for bad in ["x", "0-1", "0-1-", "-1-1-1", "0-1-2-3", "4294967296-1-1"] {
            assert_eq!(GtidSet::parse_mariadb(bad), None, "{bad}");
        }
        let text = format!("{UUID}:1-17:19-19,{UUID}:tag:4-5");
        assert_eq!(set(&text).to_string(), text);
    }

    #[test]
    fn intervals_merge() {
        let of = |parts: &str| set(&format!("{UUID}:{parts}")).to_string();
        let expected = |parts: &str| format!("{UUID}:{parts}");
        assert_eq!(of("5:4:6"), expected("4-6"));
        assert_eq!(of("1-3:7-9:4-6"), expected("1-9"));
        assert_eq!(of("10-20:1-2:15-30"), expected("1-2:10-30"));
        assert_eq!(of("1-5:3"), expected("1-5"));
        assert_eq!(of("7:3:5"), expected("3-3:5-5:7-7"));
    }

    #[test]
    fn covers_compares_domain_by_domain() {
        let mysql = |parts: &str| format!("{UUID}:{parts}");
        let (m1, m2, m3) = (mysql("1-9"), mysql("1-4:6-7"), mysql("9-10"));
        let table = [
            ("0-1-5", "0-1-5", Coverage::Covered),
            ("0-1-5", "0-2-4", Coverage::Covered),
            ("0-1-5", "0-1-6", Coverage::After),
            ("0-1-5,1-1-3", "0-1-5", Coverage::Covered),
            ("0-1-5", "0-1-5,1-1-1", Coverage::After),
            ("0-1-5", "", Coverage::Covered),
            (&m1, &m2, Coverage::Covered),
            (&m2, &m1, Coverage::After),
            (&m1, &m3, Coverage::After),
            ("0-1-5", &m1, Coverage::OtherIncarnation),
        ];
        for (through, transaction, expected) in table {
            let of = |text| position(&set(text), &set(text));
            assert_eq!(covers(&of(through), &of(transaction)), expected, "{through} {transaction}");
        }
    }

    #[test]
    fn a_position_keeps_both_sets() {
        let tagged = format!("{UUID}:1-3,{UUID}:t:1-1");
        for text in ["", "0-1-5", "0-1-5,7-8-9", tagged.as_str()] {
            let position = position(&set(text), &set(""));
            assert_eq!(at(&position).unwrap(), set(text));
        }
        let foreign = Position { at: [0, 1, 2].into(), resume: [].into() };
        assert_eq!(at(&foreign).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(covers(&foreign, &foreign), Coverage::OtherIncarnation);
    }

    #[test]
    fn transactions_have_their_own_ids() {
        let id = |sequence| Gtid::MariaDb { domain: 0, server: 1, sequence }.transaction_id();
        let ids: std::collections::HashSet<_> = (0..100_000).map(id).collect();
        assert_eq!(ids.len(), 100_000);
        assert_eq!(id(7), id(7));
    }
}
