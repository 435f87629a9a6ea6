//! What the server refuses, and what can be done about it: one table from its error code to ours.
//!
//! Only code and message are kept: a detail could hold a row's values.
use lakeward_core::{Error, ErrorKind};

use crate::connect;

/// What was being done when the server refused. The same code means different things at different steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Logging in.
    Login,
    /// A command without a meaning of its own.
    Command,
    /// Making a slot.
    CreateSlot,
    /// Opening or reading the stream.
    Stream,
    /// Reading a table.
    Read,
}

/// An error message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
}

impl Refusal {
    /// Reads the body of an `ErrorResponse`.
    pub fn parse(body: &[u8]) -> Self {
        let field = |kind: u8| {
            body.split(|byte| *byte == 0)
                .find(|field| field.first() == Some(&kind))
                .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
        };
        Self {
            code: field(b'C').unwrap_or_else(|| "?????".to_owned()),
            message: field(b'M').unwrap_or_default(),
        }
    }

    /// Our error for it.
    pub fn into_error(self, step: Step) -> Error {
        if step == Step::Read {
            return connect::refused(&self.code, &self.message);
        }
        let (kind, what, remedy) = meaning(&self.code, step);
        let error = Error::new(kind, what).with("sqlstate", &self.code).caused_by(self.message);
        match remedy {
            Some(remedy) => error.remedied(remedy),
            None => error,
        }
    }
}

type Meaning = (ErrorKind, &'static str, Option<&'static str>);

fn meaning(code: &str, step: Step) -> Meaning {
    match (code, step) {
        ("28P01" | "28000", _) => (ErrorKind::Auth, "the server refused the login", Some(LOGIN)),
        ("42501", _) => (ErrorKind::Auth, "the role lacks a right", Some(RIGHT)),
        ("3D000", _) => (ErrorKind::Config, "the database does not exist", None),
        ("53300", _) => {
            (ErrorKind::Unreachable, "the server has no free connection", Some(SENDERS))
        }
        ("53400", Step::CreateSlot) => {
            (ErrorKind::Config, "the server has no free replication slot", Some(SLOTS))
        }
        ("42710", Step::CreateSlot) => (ErrorKind::Conflict, "the slot exists already", None),
        ("55000", Step::CreateSlot) => {
            (ErrorKind::Config, "the server cannot make the slot", Some(LEVEL))
        }
        ("55006", _) => (ErrorKind::Conflict, "another connection uses the slot", Some(IN_USE)),
        ("42704", Step::Stream) => (ErrorKind::LogGone, "slot or publication is gone", Some(GONE)),
        ("55000" | "58P01", Step::Stream) => {
            (ErrorKind::LogGone, "the server no longer keeps the log of this slot", Some(LOST))
        }
        _ if code.starts_with("42") || code.starts_with("0A") || code.starts_with("22") => {
            (ErrorKind::Config, "the server refused a command", None)
        }
        _ => (ErrorKind::Unreachable, "the server ended the work", None),
    }
}

const LOGIN: &str = "correct user and password; pg_hba.conf must let this user connect to the \
                     database, for replication too";
const RIGHT: &str = "grant it: `ALTER ROLE … REPLICATION`";
const SENDERS: &str =
    "raise max_wal_senders or max_connections on the server, or close connections";
const SLOTS: &str = "raise max_replication_slots on the server, or drop a slot that nobody uses";
const LEVEL: &str = "`ALTER SYSTEM SET wal_level = logical`, then restart the server";
const IN_USE: &str = "stop the other reader of this slot; a dead one is let go by the server \
                      after wal_sender_timeout";
const GONE: &str = "what it held cannot be had back: `lakeward resync`";
const LOST: &str =
    "raise max_slot_wal_keep_size on the server, drop the slot, then `lakeward resync`";

/// `wal_level` is not `logical`.
pub(super) fn wal_level() -> Error {
    Error::new(ErrorKind::Config, "the server's wal_level is not logical").remedied(LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_step_says() {
        let table = [
            ("28P01", Step::Login, ErrorKind::Auth),
            ("42501", Step::CreateSlot, ErrorKind::Auth),
            ("3D000", Step::Login, ErrorKind::Config),
            ("42704", Step::Stream, ErrorKind::LogGone),
            ("42704", Step::Command, ErrorKind::Config),
            ("55000", Step::Stream, ErrorKind::LogGone),
            ("55000", Step::CreateSlot, ErrorKind::Config),
            ("55006", Step::Stream, ErrorKind::Conflict),
            ("57P01", Step::Stream, ErrorKind::Unreachable),
            ("57P03", Step::Login, ErrorKind::Unreachable),
            ("XX000", Step::Stream, ErrorKind::Unreachable),
        ];
        for (code, step, kind) in table {
            let refusal = Refusal { code: code.to_owned(), message: "m".to_owned() };
            assert_eq!(refusal.into_error(step).kind(), kind, "{code} {step:?}");
        }
    }

    #[test]
    fn only_code_and_message_are_kept() {
        let refusal = Refusal::parse(b"SERROR\0C42704\0Mno slot\0DKey (a)=(secret)\0\0");
        assert_eq!(refusal, Refusal { code: "42704".into(), message: "no slot".into() });
        let error = refusal.into_error(Step::Stream);
        assert!(!error.to_string().contains("secret"));
        assert_eq!(Refusal::parse(b"").code, "?????");
    }
}
