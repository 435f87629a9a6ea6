//! The receive window of a connection to a server nearby, kept narrow so that bytes gather on the server's side.
//!
//! The walsender makes one `send` per change. While there is room in the window each goes through both ends of the
//! network on its own; while there is none the kernel only appends it to what waits, which costs the server a third, and
//! the window is filled again in one act when it is read. So a narrow window that is mostly full halves the server's CPU
//! for a backlog and doubles its speed. Over a long line a narrow window would cap the throughput, and there the line's own
//! delay lets bytes gather: it is left as it is. Deliberately absent: when to read, see [`super::frames`].
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use rustix::io::ioctl_fionread;
use socket2::SockRef;

/// A server that answers a small query within this time is near: 64 KiB in each such time are still 32 MB a second.
pub(super) const NEAR: Duration = Duration::from_millis(2);

/// The window of a server nearby. Smaller means more reads; larger takes longer to fill, and only a full one gains anything.
const NARROW: usize = 64 << 10;

/// With so many bytes waiting the window counts as full: the kernel's own bookkeeping takes some of it.
pub(super) const FULL: usize = 48 << 10;

/// A second handle of the connection's socket.
#[derive(Debug)]
pub(super) struct Window {
    socket: TcpStream,
    is_narrow: bool,
}

impl Window {
    /// The window of a connected socket, as wide as the system makes it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of(socket: SockRef<'_>) -> io::Result<Self> {
        Ok(Self { socket: socket.try_clone()?.into(), is_narrow: false })
    }

    /// Makes it narrow for as long as the connection lives.
    pub(super) fn narrow(&mut self) {
        // A system that does not want to leaves it wide: slower, not wrong.
        self.is_narrow = SockRef::from(&self.socket).set_recv_buffer_size(NARROW).is_ok();
    }

    pub(super) fn is_narrow(&self) -> bool {
        self.is_narrow
    }

    /// Whether a narrow window has no room left.
    pub(super) fn is_full(&self) -> bool {
        ioctl_fionread(&self.socket).is_ok_and(|waiting| waiting >= FULL as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_narrow_window_fills_up_and_is_read_empty() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut writer, _) = listener.accept().unwrap();
        let mut window = Window::of(SockRef::from(&reader)).unwrap();
        window.narrow();
        assert!(window.is_narrow() && !window.is_full());
        writer.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(more) = writer.write(&[7; 1000]) {
            written += more;
        }
        assert!(window.is_full());
        reader.set_nonblocking(true).unwrap();
        let mut room = vec![0; written];
        let mut read = 0;
        while read < written {
            read += reader.read(&mut room).unwrap_or(0);
        }
        assert!(!window.is_full());
    }
}
