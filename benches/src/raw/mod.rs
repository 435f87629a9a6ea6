//! Raw readers: what a server gives to a client that throws every byte away. They are the physical limits beside which the
//! product is measured. Blocking sockets, one large buffer, no decoding beyond the frames that tell where the end is.

pub(crate) mod binlog;
pub(crate) mod copy;
pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod walsender;

use std::time::Duration;

use crate::report::figure;

/// What a raw reader took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Rows or changes.
    pub(crate) rows: u64,
    /// Bytes from the socket.
    pub(crate) bytes: u64,
    /// From the command to the last byte.
    pub(crate) wall: Duration,
}

impl Taken {
    /// Rows or changes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rows as f64 / self.wall.as_secs_f64().max(1e-6)
    }

    /// What it gave, for people.
    pub(crate) fn describe(&self) -> String {
        let bytes = self.bytes as f64 / self.wall.as_secs_f64().max(1e-6);
        format!("{}/s, {}/s", figure(self.rate(), ""), figure(bytes, "bytes"))
    }
}
