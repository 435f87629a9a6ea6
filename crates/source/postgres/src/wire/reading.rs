//! An ordinary session that reads tables: the rows of a COPY are used where they lie in the socket's buffer.
//!
//! Deliberately absent: statements with parameters, and what the rows mean.
use std::fmt;
use std::sync::Arc;

use lakeward_core::{Error, ErrorKind, Result};

use super::{Frames, Refusal, ReplicationConnection, Step, broken, closed, unexpected};
use crate::config::Settings;
use crate::connect::SESSION_OPTIONS;
use crate::pool::Connection;

/// Room for one read: a server that copies sends about this much in a nap.
const ROOM: usize = 512 << 10;

/// A session. After an error, and after a COPY that was not read to its end, it can only be dropped, which cuts the line.
pub(crate) struct ReadingConnection {
    line: ReplicationConnection,
}

/// How far a COPY has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// The taker has enough, or nothing more has been read.
    Some,
    /// All rows were taken.
    All,
}

impl fmt::Debug for ReadingConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadingConnection").finish_non_exhaustive()
    }
}

impl Connection for ReadingConnection {
    async fn open(settings: &Arc<Settings>) -> Result<Self> {
        let frames = Frames::with_room(ROOM);
        let options = [("options", SESSION_OPTIONS)];
        let line = ReplicationConnection::connect_with(settings, frames, &options).await?;
        let mut connection = Self { line };
        // 17 and later can end long transactions; older servers refuse the name at startup.
        connection
            .run(
                "SELECT set_config(name, '0', false) FROM pg_settings \
                 WHERE name = 'transaction_timeout'",
            )
            .await?;
        Ok(connection)
    }

    /// A server that ends an idle session says so before it closes the line.
    async fn is_idle(&mut self) -> bool {
        let ReplicationConnection { socket, frames, .. } = &mut self.line;
        matches!(frames.try_fill(socket).await, Ok(None))
    }
}

impl ReadingConnection {
    /// Runs statements by the simple protocol and drops what they answer.
    ///
    /// # Errors
    /// As [`crate::connect::refused`]; `Unreachable`.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        self.line.query(sql, Step::Read).await.map(drop)
    }

    /// The only cell that statements answer, by the simple protocol: nothing else can take a snapshot on its way.
    ///
    /// # Errors
    /// As [`run`](Self::run); `Corrupt` without an answer.
    pub(crate) async fn text(&mut self, sql: &str) -> Result<String> {
        let rows = self.line.query(sql, Step::Read).await?;
        let cell = rows.into_iter().flatten().flatten().next();
        cell.ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the server answered nothing to a question about itself")
        })
    }

    /// Begins a COPY to us.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) async fn copy(&mut self, sql: &str) -> Result<()> {
        self.line.send_query(sql).await?;
        match self.line.receive(Step::Read).await? {
            (b'H', _) => Ok(()),
            _ => Err(unexpected("COPY")),
        }
    }

    /// Gives the rows that were read to `take`, in the server's pieces, until it answers `false`.
    ///
    /// # Errors
    /// As [`run`](Self::run); those of `take`.
    pub(crate) fn copied(&mut self, mut take: impl FnMut(&[u8]) -> Result<bool>) -> Result<Copied> {
        let mut all = false;
        self.line.frames.walk(|frame| match frame.tag {
            b'd' => take(frame.body),
            b'E' => Err(Refusal::parse(frame.body).into_error(Step::Read)),
            b'Z' => {
                all = true;
                Ok(false)
            }
            b'c' | b'C' | b'N' | b'S' | b'A' => Ok(true),
            _ => Err(unexpected("COPY")),
        })?;
        Ok(if all { Copied::All } else { Copied::Some })
    }

    /// Waits for more rows: bytes gather before they are read.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(crate) async fn read(&mut self) -> Result<()> {
        let ReplicationConnection { socket, frames, .. } = &mut self.line;
        frames.gather().await;
        match frames.fill(socket).await.map_err(broken)? {
            0 => Err(closed()),
            _ => Ok(()),
        }
    }
}
