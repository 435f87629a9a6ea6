//! Places in a source's log. Opaque outside their source; never ordered by anyone else.
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place in one source's log.
///
/// `at` names one transaction end; marks carry it. `resume` is where the log must be reopened so that nothing
/// after `at` is missed: at or before the start of the oldest transaction that is still open at `at`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// One transaction end, in the source's own encoding.
    pub at: Box<[u8]>,
    /// Where to reopen the log, in the source's own encoding.
    pub resume: Box<[u8]>,
}

/// Whether a transaction is contained in all that ends at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// It is part of what ends there.
    Covered,
    /// It comes after.
    After,
    /// It belongs to another history of the server: the two cannot be compared.
    OtherIncarnation,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.at))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Box<[u8]>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[derive(Serialize, Deserialize)]
struct Wire {
    at: String,
    resume: String,
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire { at: hex(&self.at), resume: hex(&self.resume) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        match (unhex(&wire.at), unhex(&wire.resume)) {
            (Some(at), Some(resume)) => Ok(Self { at, resume }),
            _ => Err(serde::de::Error::custom("a position is two strings of hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_json() {
        let position = Position { at: [0, 255, 16].into(), resume: [1].into() };
        let json = serde_json::to_string(&position).unwrap();
        assert_eq!(json, r#"{"at":"00ff10","resume":"01"}"#);
        assert_eq!(serde_json::from_str::<Position>(&json).unwrap(), position);
        assert!(serde_json::from_str::<Position>(r#"{"at":"0g","resume":""}"#).is_err());
    }
}
