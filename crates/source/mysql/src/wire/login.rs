//! How a connection begins: the server's greeting, our answer, and proofs of a password.
//!
//! Pure: bytes in, bytes out. Known ways to log in: `mysql_native_password`, and `caching_sha2_password` where the
//! connection is encrypted or the server remembers the password.
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::Failure;
use crate::binlog::Cursor;

const LONG_PASSWORD: u32 = 1;
const LONG_FLAG: u32 = 1 << 2;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;

/// UTF-8 of four bytes; each session says so once more by itself.
const UTF8MB4: u8 = 45;
/// The largest packet of the protocol.
const PACKET_BYTES_MAX: u32 = 1 << 30;

/// What the server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    capabilities: u32,
    salt: Vec<u8>,
    plugin: String,
}

impl Greeting {
    /// Reads it.
    ///
    /// # Errors
    /// `NotUnderstood`.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Failure> {
        let mut cursor = Cursor(packet);
        if cursor.u8()? != 10 {
            return Err(Failure::NotUnderstood);
        }
        until_zero(&mut cursor)?;
        cursor.u32()?;
        let mut salt = cursor.bytes(8)?.to_vec();
        cursor.u8()?;
        let low = u32::from(cursor.u16()?);
        cursor.bytes(3)?;
        let capabilities = u32::from(cursor.u16()?) << 16 | low;
        let salt_bytes = usize::from(cursor.u8()?);
        cursor.bytes(10)?;
        let rest = cursor.bytes(salt_bytes.saturating_sub(8).max(13).min(cursor.0.len()))?;
        salt.extend(rest.iter().take(12));
        let plugin = until_zero(&mut cursor).unwrap_or(cursor.0);
        Ok(Self { capabilities, salt, plugin: String::from_utf8_lossy(plugin).into_owned() })
    }

    /// Whether connections may be encrypted.
    pub(super) fn offers_tls(&self) -> bool {
        self.capabilities & SSL != 0
    }

    fn head(&self, tls: bool) -> Vec<u8> {
        let wanted = LONG_PASSWORD
            | LONG_FLAG
            | PROTOCOL_41
            | TRANSACTIONS
            | SECURE_CONNECTION
            | PLUGIN_AUTH
            | if tls { SSL } else { 0 };
        let mut packet = (wanted & self.capabilities | SSL & wanted).to_le_bytes().to_vec();
        packet.extend(PACKET_BYTES_MAX.to_le_bytes());
        packet.push(UTF8MB4);
        packet.extend([0; 23]);
        packet
    }

    /// Asks for encryption.
    pub(super) fn tls_request(&self) -> Vec<u8> {
        self.head(true)
    }

    /// Who we are, and a proof of the password by the way that the server named, if that is known.
    pub(super) fn response(&self, user: &str, password: &[u8], tls: bool) -> Vec<u8> {
        let proof = proof(&self.plugin, &self.salt, password).unwrap_or_default();
        let mut packet = self.head(tls);
        packet.extend(user.as_bytes());
        packet.push(0);
        packet.push(proof.len() as u8);
        packet.extend(proof);
        packet.extend(self.plugin.as_bytes());
        packet.push(0);
        packet
    }

    /// The way to log in that is under way.
    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }
}

/// The server wants another way to log in. Returns that, and our proof.
///
/// # Errors
/// `UnknownLogin`, `NotUnderstood`.
pub(super) fn switched(packet: &[u8], password: &[u8]) -> Result<(String, Vec<u8>), Failure> {
    let mut cursor = Cursor(packet);
    cursor.u8()?;
    let plugin = String::from_utf8_lossy(until_zero(&mut cursor)?).into_owned();
    let salt = cursor.0.strip_suffix(&[0]).unwrap_or(cursor.0);
    let proof = proof(&plugin, salt, password).ok_or(Failure::UnknownLogin)?;
    Ok((plugin, proof))
}

fn until_zero<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Failure> {
    let length = cursor.0.iter().position(|byte| *byte == 0).ok_or(Failure::NotUnderstood)?;
    let text = cursor.bytes(length)?;
    cursor.u8()?;
    Ok(text)
}

/// `None`: this way is not known.
fn proof(plugin: &str, salt: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    match plugin {
        "mysql_native_password" | "caching_sha2_password" if password.is_empty() => {
            Some(Vec::new())
        }
        "mysql_native_password" => Some(native(salt, password)),
        "caching_sha2_password" => Some(sha2(salt, password)),
        _ => None,
    }
}

fn xored(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// `SHA1(password) XOR SHA1(salt + SHA1(SHA1(password)))`.
fn native(salt: &[u8], password: &[u8]) -> Vec<u8> {
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    let mut salted = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    salted.update(salt);
    salted.update(twice.as_ref());
    xored(once.as_ref(), salted.finish().as_ref())
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + salt)`.
fn sha2(salt: &[u8], password: &[u8]) -> Vec<u8> {
    let once = digest(&SHA256, password);
    let twice = digest(&SHA256, once.as_ref());
    let mut salted = Context::new(&SHA256);
    salted.update(twice.as_ref());
    salted.update(salt);
    xored(once.as_ref(), salted.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a MariaDB 11.8 says, its version shortened.
    fn greeting() -> Vec<u8> {
        let mut packet = vec![10];
        packet.extend(b"11.8-MariaDB\0");
        packet.extend(7u32.to_le_bytes());
        packet.extend(b"abcdefgh\0");
        packet.extend([0xFE, 0xF7, 45, 2, 0, 0xFF, 0x81, 21]);
        packet.extend([0; 6]);
        packet.extend([0x1D, 0, 0, 0]);
        packet.extend(b"ijklmnopqrst\0mysql_native_password\0");
        packet
    }

    #[test]
    fn a_greeting_is_read() {
        let read = Greeting::parse(&greeting()).unwrap();
        assert_eq!(read.salt, b"abcdefghijklmnopqrst");
        assert_eq!(read.plugin, "mysql_native_password");
        assert!(!read.offers_tls() || read.capabilities & SSL != 0);
        for cut in 0..greeting().len() - 22 {
            let _ = Greeting::parse(&greeting()[..cut]);
        }
        assert!(Greeting::parse(&[9]).is_err() && Greeting::parse(&[]).is_err());
    }

    #[test]
    fn proofs_are_those_of_the_protocol() {
        // The server checks: SHA1(proof XOR SHA1(salt + stored)) = stored, where stored = SHA1(SHA1(password)).
        let (salt, password) = (b"abcdefghijklmnopqrst", b"secret");
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let stored = sha1(&sha1(password));
        let once = xored(&native(salt, password), &sha1(&[&salt[..], &stored].concat()));
        assert_eq!(sha1(&once), stored);
        assert_eq!(proof("mysql_native_password", salt, b""), Some(vec![]));
        assert_eq!(proof("mysql_clear_password", salt, password), None);
    }
}
