//! The least of MariaDB's protocol: login without a password, commands, and a walk over packets; and a table by a prepared
//! statement, whose binary rows are thrown away.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use lakeward_testkit::Result;

use super::Taken;

const BUFFER: usize = 256 * 1024;
const HEAD: usize = 4;
/// A packet of this length is followed by more of the same message.
const LONGEST: usize = 0xFF_FFFF;

/// Long passwords, protocol 4.1, transactions, secure connection, plug-in authentication.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;

pub(crate) const COM_QUERY: u8 = 3;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

/// The end of a list of packets, or an error of the server.
const END: u8 = 0xFE;
const ERROR: u8 = 0xFF;

/// A connection between two commands.
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    skip: usize,
    /// Bytes read since the connection began.
    pub(crate) bytes: u64,
}

/// The beginning of a packet, and its whole length.
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) length: usize,
}

impl Packet {
    /// Whether it ends a list: short, and with the sign.
    pub(crate) fn is_end(&self) -> bool {
        self.first == END && self.length < 9
    }
}

impl Connection {
    /// Connects as `root`, who has no password.
    pub(crate) fn open(port: u16) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let (start, end, skip, bytes) = (0, 0, 0, 0);
        let mut new = Self { socket, buffer: vec![0; BUFFER], start, end, skip, bytes };
        new.receive()?;
        let mut answer = CAPABILITIES.to_le_bytes().to_vec();
        answer.extend((LONGEST as u32).to_le_bytes());
        answer.push(45); // utf8mb4
        answer.extend([0; 23]);
        answer.extend(b"root\0\0mysql_native_password\0");
        new.send(1, &answer)?;
        let packet = new.receive()?;
        if packet.first == END {
            // another way to log in is wanted: with no password the answer is empty
            new.send(3, &[])?;
            new.receive()?;
        }
        Ok(new)
    }

    fn send(&mut self, sequence: u8, body: &[u8]) -> Result<()> {
        let [a, b, c, _] = (body.len() as u32).to_le_bytes();
        Ok(self.socket.write_all(&[&[a, b, c, sequence][..], body].concat())?)
    }

    /// Sends a command.
    pub(crate) fn command(&mut self, command: u8, body: &[u8]) -> Result<()> {
        self.send(0, &[&[command][..], body].concat())
    }

    /// Runs a statement without rows.
    pub(crate) fn execute(&mut self, sql: &str) -> Result<()> {
        self.command(COM_QUERY, sql.as_bytes())?;
        self.receive().map(|_| ())
    }

    /// The next packet.
    pub(crate) fn receive(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.next()? {
                return Ok(packet);
            }
            self.fill()?;
        }
    }

    /// The next packet of what was read; its body is thrown away.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>> {
        let skipped = self.skip.min(self.end - self.start);
        self.start += skipped;
        self.skip -= skipped;
        let there = &self.buffer[self.start..self.end];
        let [a, b, c, _, ..] = *there else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let first = if length == 0 { Some(0) } else { there.get(HEAD).copied() };
        let Some(first) = first else { return Ok(None) };
        if first == ERROR {
            let said = String::from_utf8_lossy(&there[HEAD..]).into_owned();
            return Err(format!("the server says: {said}").into());
        }
        let here = length.min(there.len() - HEAD);
        self.start += HEAD + here;
        self.skip = length - here;
        Ok(Some(Packet { first, length }))
    }

    /// A packet's body; for short answers only.
    fn receive_whole(&mut self) -> Result<Vec<u8>> {
        loop {
            let there = &self.buffer[self.start..self.end];
            if let [a, b, c, _, ..] = *there
                && let length = u32::from_le_bytes([a, b, c, 0]) as usize
                && let Some(body) = there.get(HEAD..HEAD + length)
            {
                let body = body.to_vec();
                self.next()?;
                return Ok(body);
            }
            self.fill()?;
        }
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

    fn until_end(&mut self) -> Result<u64> {
        let mut packets = 0;
        loop {
            while let Some(packet) = self.next()? {
                if packet.is_end() {
                    return Ok(packets);
                }
                packets += u64::from(packet.length < LONGEST);
            }
            self.fill()?;
        }
    }
}

/// Reads all of a table as binary rows.
pub(crate) fn read(port: u16, table: &str) -> Result<Taken> {
    let mut connection = Connection::open(port)?;
    let (start, before) = (Instant::now(), connection.bytes);
    connection.command(COM_STMT_PREPARE, format!("SELECT * FROM {table}").as_bytes())?;
    let made = connection.receive_whole()?;
    let statement = made.get(1..5).ok_or("the server prepared nothing")?.to_vec();
    connection.until_end()?; // the columns
    connection.command(COM_STMT_EXECUTE, &[&statement[..], &[0, 1, 0, 0, 0]].concat())?;
    connection.receive()?;
    connection.until_end()?; // the columns
    let rows = connection.until_end()?;
    Ok(Taken { rows, bytes: connection.bytes - before, wall: start.elapsed() })
}
