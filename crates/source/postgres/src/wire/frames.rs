//! The bytes that were read and not yet used, cut into protocol messages.
//!
//! The walsender makes one `send` per change and each wakes an eager reader: the usual read loop costs both sides a
//! multiple. So a read does not begin sooner than [`GATHER`] after the one before unless that one brought much: bytes
//! gather while there is a backlog, and the first byte after a pause is still read at once. From a server nearby they
//! gather in a window that is kept full: see [`super::window`].
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use lakeward_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::socket::Glance;
use super::window::{FULL, Window};

/// How long bytes gather. Longer gains little; shorter loses the gain (a tokio timer has no finer grain).
const GATHER: Duration = Duration::from_millis(1);
/// A read that brought this much shows that the socket fills faster than naps empty it.
const MUCH: usize = 64 << 10;
/// How long a narrow window is left alone after it was found not full: it fills in a fourth of this, and from then on the server
/// runs ahead of its reader. Twice as long gains nothing; half as long leaves it never full.
const FILL: Duration = Duration::from_millis(10);
/// A read that brought less shows that there is no backlog to run ahead of.
const BUSY: usize = 8 << 10;
/// Room for one read: more than gathers in a nap at the fastest rate a walsender was seen to send.
const ROOM: usize = 256 << 10;
/// A message larger than this is no message: a row cannot pass 1 GiB, an update carries two.
const MESSAGE_MAX: usize = (2 << 30) - 1;

/// Bytes between the socket and the decoder.
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    last_read: Option<Instant>,
    last_bytes: usize,
    glance: Glance,
    window: Option<Window>,
    room: usize,
}

/// One protocol message, in place.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its kind.
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::with_room(ROOM)
    }

    /// Nothing read yet; a read takes so many bytes at most.
    pub fn with_room(room: usize) -> Self {
        Self {
            room,
            buffer: vec![0; room],
            start: 0,
            end: 0,
            last_read: None,
            last_bytes: 0,
            glance: Glance::default(),
            window: None,
        }
    }

    /// Told when the socket is connected.
    pub(super) fn watch(&mut self, window: Window) {
        self.window = Some(window);
    }

    /// Bytes shall gather on the server's side from now on.
    pub(super) fn narrow(&mut self) {
        if let Some(window) = &mut self.window {
            window.narrow();
        }
    }

    fn narrow_window(&self) -> Option<&Window> {
        self.window.as_ref().filter(|window| window.is_narrow())
    }

    /// Set while [`try_fill`](Frames::try_fill) looks: a socket that knows it does not ask to be woken.
    pub(super) fn glance(&self) -> Glance {
        Arc::clone(&self.glance)
    }

    /// The first message, if it is whole. It stays until [`consume`](Frames::consume).
    ///
    /// # Errors
    /// `Corrupt` for a length that cannot be.
    #[inline]
    pub fn peek(&self) -> Result<Option<Frame<'_>>> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(([tag, length @ ..], rest)) = bytes.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        match length.checked_sub(4) {
            Some(body) if body < MESSAGE_MAX => {
                Ok(rest.get(..body).map(|body| Frame { tag: *tag, body }))
            }
            _ => Err(Error::new(ErrorKind::Corrupt, "a message's length cannot be")
                .with("message", char::from(*tag).escape_default())
                .with("length", length)),
        }
    }

    /// Drops the first message, if there is one.
    pub fn consume(&mut self) {
        if let Ok(Some(frame)) = self.peek() {
            let body = frame.body.len();
            self.skip(body);
        }
    }

    /// Drops the first message, whose body has so many bytes: [`peek`](Frames::peek) showed it.
    #[inline]
    pub fn skip(&mut self, body: usize) {
        self.start = (self.start + body + 5).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the whole messages to `take`, one after the other, and drops them, until it answers `false` or there is none.
    /// The one that it refuses with an error stays.
    ///
    /// # Errors
    /// Those of [`peek`](Frames::peek) and of `take`.
    #[inline]
    pub fn walk(&mut self, mut take: impl FnMut(Frame<'_>) -> Result<bool>) -> Result<()> {
        while let Some(frame) = self.peek()? {
            let length = frame.body.len() + 5;
            let goes_on = take(frame)?;
            self.start += length;
            if !goes_on {
                break;
            }
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(())
    }

    /// Waits until bytes had time to gather. Cancel safe.
    pub async fn gather(&self) {
        if let (Some(last), Some(nap)) = (self.last_read, self.nap()) {
            let until = last + nap;
            if until > Instant::now() {
                sleep_until(until).await;
            }
        }
    }

    /// How long bytes gather after the read before; `None`: enough have come.
    fn nap(&self) -> Option<Duration> {
        match self.narrow_window() {
            Some(window) if window.is_full() => None,
            Some(_) if self.last_bytes >= BUSY => Some(FILL),
            None if self.last_bytes >= MUCH => None,
            _ => Some(GATHER),
        }
    }

    /// Reads what is there; 0 when the other side has closed. Cancel safe.
    ///
    /// # Errors
    /// The socket's.
    pub async fn fill<S: AsyncRead + Unpin>(&mut self, socket: &mut S) -> std::io::Result<usize> {
        self.make_room();
        poll_fn(|cx| self.poll_read(socket, cx)).await
    }

    /// Reads what is there now; `None` when there is nothing.
    ///
    /// # Errors
    /// The socket's.
    pub async fn try_fill<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
    ) -> std::io::Result<Option<usize>> {
        self.make_room();
        self.glance.store(true, Ordering::Relaxed);
        let read = poll_fn(|cx| match self.poll_all(socket, cx) {
            Poll::Ready(read) => Poll::Ready(read.map(Some)),
            Poll::Pending => Poll::Ready(Ok(None)),
        })
        .await;
        self.glance.store(false, Ordering::Relaxed);
        read
    }

    /// Reads until the socket is empty or the buffer full: an encrypted socket gives little at a time. A narrow window is not read
    /// empty, so that it is full again at once.
    fn poll_all<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let mut sum = match self.poll_read(socket, cx) {
            Poll::Ready(Ok(read)) if read > 0 => read,
            other => return other,
        };
        let enough = self.narrow_window().map_or(usize::MAX, |_| FULL);
        while self.end < self.buffer.len() && sum < enough {
            match self.poll_read(socket, cx) {
                Poll::Ready(Ok(read)) if read > 0 => sum += read,
                // An end or an error comes again with the next read.
                _ => break,
            }
        }
        self.last_bytes = sum;
        Poll::Ready(Ok(sum))
    }

    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        match Pin::new(socket).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) => {
                let read = room.filled().len();
                self.end += read;
                self.last_bytes = read;
                self.last_read = Some(Instant::now());
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Moves what is left to the front; grows for a message that is larger than the buffer, by doubling, so that a
    /// false length costs no memory before its bytes come.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        } else if self.end == 0 && self.buffer.len() > self.room {
            self.buffer = vec![0; self.room];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let mut bytes: &[u8] = b"A\0\0\0\x06hiB\0\0\0\x04C\0\0\0\x05";
        let mut frames = Frames::new();
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let (mut one, rest) = bytes.split_at(1);
            bytes = rest;
            assert_eq!(frames.fill(&mut one).await.unwrap(), 1);
            while let Some(frame) = frames.peek().unwrap() {
                seen.push((frame.tag, frame.body.to_vec()));
                frames.consume();
            }
        }
        assert_eq!(seen, vec![(b'A', b"hi".to_vec()), (b'B', vec![])]);
    }

    #[tokio::test]
    async fn a_message_larger_than_the_buffer_is_read() {
        let body = vec![7u8; 3 * ROOM];
        let mut bytes = vec![b'd'];
        bytes.extend_from_slice(&((body.len() + 4) as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        let mut socket = bytes.as_slice();
        let mut frames = Frames::new();
        while frames.peek().unwrap().is_none() {
            assert!(frames.fill(&mut socket).await.unwrap() > 0);
        }
        assert_eq!(frames.peek().unwrap().unwrap().body, body);
        frames.consume();
        assert_eq!(frames.fill(&mut socket).await.unwrap(), 0);
        assert_eq!(frames.buffer.len(), ROOM);
    }

    #[tokio::test]
    async fn a_length_that_cannot_be_is_an_error() {
        let mut frames = Frames::new();
        frames.fill(&mut b"A\0\0\0\x03".as_slice()).await.unwrap();
        assert_eq!(frames.peek().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
