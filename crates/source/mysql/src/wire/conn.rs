//! One connection: logging in, statements, and packets as they come.
//!
//! A statement's answer must be read to its end before the next one; a connection of which that is not sure is dropped.
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::answer::{Row, text_row};
use super::inbox::Inbox;
use super::login::{Greeting, switched};
use super::socket::Socket;
use super::{Failure, REFUSED, Refusal, is_end, tls};
use crate::binlog::Cursor;
use crate::config::{Settings, TlsMode};

/// Room for the answers of ordinary statements.
const ROOM: usize = 16 << 10;
/// Room for what comes without end. One read takes what the kernel has gathered.
const ROOM_OF_STREAMS: usize = 256 << 10;
/// A statement longer than this would have to be sent in parts.
const STATEMENT_BYTES_MAX: usize = 0xFF_FFFF - 1;
/// A line that is dead in silence is found within minutes; the system's own default is two hours.
const KEEPALIVE: Duration = Duration::from_secs(60);

const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const PING: u8 = 0x0E;

/// A connection on which somebody is logged in.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: Socket,
    pub(super) inbox: Inbox,
    /// The number of the next packet, of either side.
    sequence: u8,
}

impl Drop for Conn {
    /// Says good-bye: the server otherwise notes a broken connection.
    fn drop(&mut self) {
        self.socket.send_last(&[1, 0, 0, 0, QUIT]);
    }
}

impl Conn {
    /// Connects and logs in; `tls`: only if the connection is encrypted.
    pub(crate) async fn open(settings: &Settings, tls: bool) -> Result<Self, Failure> {
        let socket = match settings.host.starts_with('/') {
            true => Socket::Unix(UnixStream::connect(&settings.host).await?),
            false => Socket::Tcp(tcp(&settings.host, settings.port).await?),
        };
        let mut conn = Self { socket, inbox: Inbox::new(ROOM), sequence: 0 };
        let greeting = Greeting::parse(conn.answer().await?)?;
        if tls {
            conn.encrypt(settings, &greeting).await?;
        }
        conn.log_in(settings, &greeting, tls).await?;
        Ok(conn)
    }

    async fn encrypt(&mut self, settings: &Settings, greeting: &Greeting) -> Result<(), Failure> {
        if !greeting.offers_tls() || settings.tls.mode == TlsMode::Disable {
            return Err(Failure::NoTls);
        }
        self.send(&greeting.tls_request()).await?;
        let Socket::Tcp(plain) = std::mem::replace(&mut self.socket, Socket::None) else {
            return Err(Failure::NoTls);
        };
        let encrypted = tls::encrypted(plain, &settings.host, &settings.tls).await;
        self.socket = Socket::Tls(Box::new(encrypted.map_err(Failure::Tls)?));
        Ok(())
    }

    async fn log_in(
        &mut self,
        settings: &Settings,
        greeting: &Greeting,
        tls: bool,
    ) -> Result<(), Failure> {
        let password = settings.password.as_ref().map_or("", |password| password.expose());
        let password = password.as_bytes();
        self.send(&greeting.response(&settings.user, password, tls)).await?;
        let mut plugin = greeting.plugin().to_owned();
        loop {
            let packet = self.answer().await?;
            match packet {
                [0, ..] => return Ok(()),
                [0xFE, _, ..] => {
                    let (next, proof) = switched(packet, password)?;
                    plugin = next;
                    self.send(&proof).await?;
                }
                // The server remembers the password.
                [1, 3] if plugin == "caching_sha2_password" => {}
                [1, 4] if plugin == "caching_sha2_password" && tls => {
                    self.send(&[password, &[0]].concat()).await?;
                }
                _ => return Err(Failure::UnknownLogin),
            }
        }
    }

    /// Sends the next packet of an exchange.
    async fn send(&mut self, content: &[u8]) -> Result<(), Failure> {
        if content.len() > STATEMENT_BYTES_MAX {
            return Err(Failure::Broken(std::io::ErrorKind::InvalidInput.into()));
        }
        let mut packet = Vec::with_capacity(4 + content.len());
        packet.extend(&(content.len() as u32).to_le_bytes()[..3]);
        packet.push(self.sequence);
        packet.extend(content);
        self.socket.write_all(&packet).await?;
        self.socket.flush().await?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// Begins a new exchange.
    pub(super) async fn command(&mut self, code: u8, content: &[u8]) -> Result<(), Failure> {
        self.sequence = 0;
        self.send(&[&[code], content].concat()).await
    }

    /// Where the next packet stands. Cancel safe: what came is kept.
    pub(super) async fn place(&mut self) -> Result<Range<usize>, Failure> {
        loop {
            if let Some(place) = self.place_of_next()? {
                return Ok(place);
            }
            self.read().await?;
        }
    }

    /// The same, of a packet that has come already.
    pub(super) fn place_of_next(&mut self) -> Result<Option<Range<usize>>, Failure> {
        let Some((place, number)) = self.inbox.packet()? else { return Ok(None) };
        self.sequence = number.wrapping_add(1);
        Ok(Some(place))
    }

    /// Reads what is there, at least a byte.
    async fn read(&mut self) -> Result<(), Failure> {
        let free = self.inbox.free();
        let count = self.socket.read(free).await?;
        if count == 0 {
            return Err(Failure::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.inbox.came(count);
        Ok(())
    }

    /// The next packet.
    pub(super) async fn packet(&mut self) -> Result<&[u8], Failure> {
        let place = self.place().await?;
        Ok(self.inbox.at(place))
    }

    /// The next packet, unless it is a refusal.
    pub(super) async fn answer(&mut self) -> Result<&[u8], Failure> {
        let packet = self.packet().await?;
        match packet.first() {
            None => Err(Failure::NotUnderstood),
            Some(&REFUSED) => Err(Failure::Refused(Refusal::parse(packet))),
            Some(_) => Ok(packet),
        }
    }

    /// From now on packets come in quantity.
    pub(super) fn expect_many(&mut self) {
        self.inbox.widen(ROOM_OF_STREAMS);
    }

    /// The rows of a statement, in text. A statement that gives none has none.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        self.command(QUERY, sql.as_bytes()).await?;
        let columns = match self.answer().await? {
            [0, ..] => return Ok(Vec::new()),
            head => Cursor(head).count()?,
        };
        for _ in 0..columns {
            self.answer().await?;
        }
        self.end().await?;
        let mut rows = Vec::new();
        loop {
            let packet = self.answer().await?;
            if is_end(packet) {
                return Ok(rows);
            }
            rows.push(text_row(packet, columns)?);
        }
    }

    /// Runs a statement; rows that it gives are thrown away.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        self.rows(sql).await.map(drop)
    }

    /// The packet that ends a list.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        if is_end(self.answer().await?) { Ok(()) } else { Err(Failure::NotUnderstood) }
    }

    /// Whether the server is still there.
    pub(crate) async fn ping(&mut self) -> Result<(), Failure> {
        self.command(PING, &[]).await?;
        self.answer().await.map(drop)
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}
