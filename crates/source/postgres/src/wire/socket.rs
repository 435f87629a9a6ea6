//! A socket that stays out of the event loop's way while bytes gather.
//!
//! A tokio socket is registered for as long as it lives, and every `send` of the server then wakes the event loop,
//! whether or not anybody reads: the nap in [`super::Frames`] would gain nothing. This one is registered only from the
//! moment somebody waits for it until it is ready.
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// While set, a read that finds nothing says so and is not woken later: for looking without waiting.
pub(super) type Glance = Arc<AtomicBool>;

/// A connected socket, not blocking.
#[derive(Debug)]
enum Raw {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Raw {
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => (&*socket).read(room),
            Self::Unix(socket) => (&*socket).read(room),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => (&*socket).write(bytes),
            Self::Unix(socket) => (&*socket).write(bytes),
        }
    }

    fn end_writing(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }
}

/// A second handle of a socket, registered with the event loop for as long as it lives.
#[derive(Debug)]
enum Registered {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Registered {
    fn new(raw: &Raw) -> io::Result<Self> {
        Ok(match raw {
            Raw::Tcp(socket) => Self::Tcp(TcpStream::from_std(socket.try_clone()?)?),
            Raw::Unix(socket) => Self::Unix(UnixStream::from_std(socket.try_clone()?)?),
        })
    }

    fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match (self, direction) {
            (Self::Tcp(socket), Direction::Read) => socket.poll_read_ready(cx),
            (Self::Tcp(socket), Direction::Write) => socket.poll_write_ready(cx),
            (Self::Unix(socket), Direction::Read) => socket.poll_read_ready(cx),
            (Self::Unix(socket), Direction::Write) => socket.poll_write_ready(cx),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// The socket.
#[derive(Debug)]
pub(super) struct QuietSocket {
    raw: Raw,
    glance: Glance,
    readable: Option<Registered>,
    writable: Option<Registered>,
}

impl QuietSocket {
    /// Takes over a connected socket.
    pub(super) fn tcp(socket: TcpStream, glance: Glance) -> io::Result<Self> {
        Ok(Self::new(Raw::Tcp(socket.into_std()?), glance))
    }

    /// Takes over a connected socket.
    pub(super) fn unix(socket: UnixStream, glance: Glance) -> io::Result<Self> {
        Ok(Self::new(Raw::Unix(socket.into_std()?), glance))
    }

    fn new(raw: Raw, glance: Glance) -> Self {
        Self { raw, glance, readable: None, writable: None }
    }
}

/// Waits with a second handle until the socket is ready, then lets go of it.
fn poll_ready(
    waiting: &mut Option<Registered>,
    raw: &Raw,
    direction: Direction,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let registered = match waiting {
        Some(registered) => registered,
        None => waiting.insert(Registered::new(raw)?),
    };
    let ready = registered.poll_ready(direction, cx);
    if ready.is_ready() {
        *waiting = None;
    }
    ready
}

impl AsyncRead for QuietSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { raw, glance, readable, .. } = &mut *self;
        loop {
            match raw.read(room.initialize_unfilled()) {
                Ok(read) => {
                    *readable = None;
                    room.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if glance.load(Ordering::Relaxed) {
                        return Poll::Pending;
                    }
                    match poll_ready(readable, raw, Direction::Read, cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for QuietSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { raw, writable, .. } = &mut *self;
        loop {
            match raw.write(bytes) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match poll_ready(writable, raw, Direction::Write, cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.raw.end_writing())
    }
}
