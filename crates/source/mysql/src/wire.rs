//! Our own connection to the server: packets, logging in, statements, rows, and the log.
//!
//! ```text
//!  socket ─▶ inbox ─▶ conn ─┬─▶ answer: rows in text, for questions about the server
//!    tls    (packets)       ├─▶ binary: rows of a chunk, read where they stand
//!           login           └─▶ dump:   events of the log
//! ```
//!
//! Packets are read where the socket wrote them: nothing is allocated per packet, row or cell. Deliberately absent: what
//! statements mean, pooling, retries, compression.
pub(crate) mod answer;
pub(crate) mod binary;
pub(crate) mod conn;
pub mod dump;
mod inbox;
mod login;
mod socket;
mod tls;

pub(crate) use answer::Row;
pub(crate) use conn::Conn;

use crate::binlog::Malformed;

/// What keeps a connection or a statement from going on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused.
    Refused(Refusal),
    /// The connection broke.
    Broken(std::io::Error),
    /// The server does not encrypt connections.
    NoTls,
    /// The server wants a proof of identity that is not known here.
    UnknownLogin,
    /// Encrypting failed, with the error that says it.
    Tls(lakeward_core::Error),
    /// What the server sent is not the protocol.
    NotUnderstood,
}

/// An error as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its number.
    pub(crate) code: u16,
    /// SQLSTATE.
    pub(crate) state: String,
    /// Its text, which may quote values.
    pub(crate) message: String,
}

impl Refusal {
    /// Reads an error packet.
    fn parse(packet: &[u8]) -> Self {
        let code = packet.get(1..3).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
        let rest = packet.get(3..).unwrap_or_default();
        let (state, message) = match rest.strip_prefix(b"#").and_then(|r| r.split_at_checked(5)) {
            Some((state, message)) => (state, message),
            None => (&b"HY000"[..], rest),
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { code: code.unwrap_or(0), state: text(state), message: text(message) }
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::NotUnderstood
    }
}

impl From<inbox::TooLong> for Failure {
    fn from(_: inbox::TooLong) -> Self {
        Self::NotUnderstood
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error)
    }
}

impl std::fmt::Display for Failure {
    /// Never carries what was sent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "the server refused: {}", refusal.code),
            Self::Broken(error) => error.fmt(f),
            Self::NoTls => f.write_str("the server does not offer TLS"),
            Self::UnknownLogin => f.write_str("the user's way to log in is not supported"),
            Self::Tls(error) => error.fmt(f),
            Self::NotUnderstood => f.write_str("the server's answer is not understood"),
        }
    }
}

/// The first byte of an error packet.
const REFUSED: u8 = 0xFF;
/// The first byte of a short packet that ends rows.
const END: u8 = 0xFE;

/// Whether a packet ends rows.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() < 9
}
