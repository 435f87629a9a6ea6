//! A logical slot's backlog, thrown away. A walsender sends every change by itself: the cheapest is to append it to what waits
//! already, so the reader's window is small and a nap lets the server run ahead whenever it was not full. This is the fastest
//! way that was found. It confirms nothing, so the same backlog can be read again.

use std::time::{Duration, Instant};

use lakeward_testkit::Result;

use super::Taken;
use super::postgres::Connection;

/// The receive window, and from how many waiting bytes on it counts as full.
const WINDOW: usize = 64 << 10;
const FULL: u64 = 48 << 10;

/// How long the server runs ahead.
const NAP: Duration = Duration::from_millis(10);

/// How often the server is told that the reader lives.
const FEEDBACK_EVERY: Duration = Duration::from_secs(5);

/// The head of a message with log in it: a letter, start, end, time.
const HEAD: usize = 25;

/// Whose backlog is read, and how far.
pub(crate) struct Backlog<'a> {
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) slot: &'a str,
    pub(crate) publication: &'a str,
    /// The LSN at which the reader stops.
    pub(crate) until: u64,
}

/// Reads it all.
pub(crate) fn read(backlog: &Backlog<'_>) -> Result<Taken> {
    let mut connection = Connection::open(backlog.port, backlog.database, true)?;
    connection.narrow(WINDOW)?;
    let (start, before) = (Instant::now(), connection.bytes);
    connection.query(&format!(
        "START_REPLICATION SLOT \"{}\" LOGICAL 0/0 (proto_version '2', streaming 'on', \
         publication_names '{}')",
        backlog.slot, backlog.publication
    ))?;
    connection.until(b'W')?;
    let (mut rows, mut seen, mut told) = (0, 0, Instant::now());
    loop {
        while let Some(frame) = connection.next(HEAD + 1)? {
            if frame.tag != b'd' {
                continue;
            }
            let message = Message::of(frame.body);
            rows += u64::from(message.is_change);
            seen = seen.max(message.place);
            if message.place >= backlog.until {
                return Ok(Taken { rows, bytes: connection.bytes - before, wall: start.elapsed() });
            }
        }
        if told.elapsed() > FEEDBACK_EVERY {
            connection.send(b'd', &feedback(seen))?;
            told = Instant::now();
        }
        if connection.waiting()? < FULL {
            std::thread::sleep(NAP);
        }
        connection.fill()?;
    }
}

/// What a message of the stream tells a reader that does not decode.
struct Message {
    is_change: bool,
    place: u64,
}

impl Message {
    fn of(body: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        let is_change = matches!(body.get(HEAD), Some(b'I' | b'U' | b'D'));
        match body.first() {
            Some(b'w') => Self { is_change, place: number(1) },
            Some(b'k') => Self { is_change: false, place: number(1) },
            _ => Self { is_change: false, place: 0 },
        }
    }
}

/// A status update: all of it received, nothing of it durable.
fn feedback(received: u64) -> Vec<u8> {
    let mut body = vec![b'r'];
    for place in [received, 0, 0, 0] {
        body.extend(place.to_be_bytes());
    }
    body.push(0);
    body
}

/// `16/B374D848` as a number.
pub(crate) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_are_changes() {
        let mut body = vec![b'w'];
        body.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        body.extend([0; 16]);
        body.push(b'U');
        let message = Message::of(&body);
        assert!(message.is_change);
        assert_eq!(message.place, (1 << 32) | 2);
        body[HEAD] = b'C';
        assert!(!Message::of(&body).is_change);
        body[0] = b'k';
        assert_eq!(Message::of(&body).place, (1 << 32) | 2);
        assert_eq!(Message::of(&[]).place, 0);
    }

    #[test]
    fn a_place_is_read_as_the_server_prints_it() {
        assert_eq!(parse_lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(parse_lsn("x"), None);
        assert_eq!(feedback(1).len(), 34);
    }
}
