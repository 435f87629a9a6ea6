//! The least of PostgreSQL's protocol: login without a password, simple queries, and a walk over frames.

use std::io::{Read, Write};
use std::net::TcpStream;

use lakeward_testkit::Result;
use rustix::io::ioctl_fionread;
use socket2::SockRef;

/// What one read may bring.
const BUFFER: usize = 256 * 1024;

/// The bytes of a frame's head: a tag, then the length of length and body.
const HEAD: usize = 5;

/// A frame, as far as it was asked for: its tag and the first bytes of its body.
pub(crate) struct Frame<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
}

/// A connection between two commands.
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the present frame that are still to be thrown away.
    skip: usize,
    /// Bytes read since the connection began.
    pub(crate) bytes: u64,
}

impl Connection {
    /// Connects as `postgres`; with `replication` as a walsender.
    pub(crate) fn open(port: u16, database: &str, replication: bool) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let (start, end, skip, bytes) = (0, 0, 0, 0);
        let mut new = Self { socket, buffer: vec![0; BUFFER], start, end, skip, bytes };
        let mut body = 196_608u32.to_be_bytes().to_vec();
        let mut parameters = vec![("user", "postgres"), ("database", database)];
        if replication {
            parameters.push(("replication", "database"));
        }
        for (name, value) in parameters {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        let length = (body.len() as u32 + 4).to_be_bytes();
        new.socket.write_all(&[&length[..], &body].concat())?;
        new.until(b'Z')?;
        Ok(new)
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, tag: u8, body: &[u8]) -> Result<()> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        Ok(self.socket.write_all(&[&[tag][..], &length, body].concat())?)
    }

    /// Sends a simple query.
    pub(crate) fn query(&mut self, sql: &str) -> Result<()> {
        self.send(b'Q', &[sql.as_bytes(), b"\0"].concat())
    }

    /// Throws frames away up to one with this tag. An error of the server is an error.
    pub(crate) fn until(&mut self, tag: u8) -> Result<()> {
        loop {
            if self.need(tag)? {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn need(&mut self, tag: u8) -> Result<bool> {
        while let Some(frame) = self.next(0)? {
            if frame.tag == tag {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next frame of what was read, with at least `peek` bytes of its body, or all of it; `None`: read more.
    pub(crate) fn next(&mut self, peek: usize) -> Result<Option<Frame<'_>>> {
        let skipped = self.skip.min(self.end - self.start);
        self.start += skipped;
        self.skip -= skipped;
        let there = &self.buffer[self.start..self.end];
        let [tag, a, b, c, d, ..] = *there else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let size = length.checked_sub(4).ok_or("a frame without a length")?;
        if tag == b'E' {
            let whole = (HEAD + size).min(there.len());
            let said = String::from_utf8_lossy(&there[HEAD..whole]).replace('\0', " ");
            return Err(format!("the server says: {said}").into());
        }
        let peeked = peek.min(size);
        if there.len() < HEAD + peeked {
            return Ok(None);
        }
        let body = self.start + HEAD;
        let here = size.min(self.end - body);
        self.start = body + here;
        self.skip = size - here;
        Ok(Some(Frame { tag, body: &self.buffer[body..body + here] }))
    }

    /// Makes the receive window as small as this.
    pub(crate) fn narrow(&self, bytes: usize) -> Result<()> {
        Ok(SockRef::from(&self.socket).set_recv_buffer_size(bytes)?)
    }

    /// Bytes that can be read now.
    pub(crate) fn waiting(&self) -> Result<u64> {
        Ok(ioctl_fionread(&self.socket)?)
    }

    /// One read of the socket. What `next` left over is kept.
    pub(crate) fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = self.socket.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        self.end += read;
        self.bytes += read as u64;
        Ok(())
    }
}
