//! Character sets that land as UTF-8.
use std::collections::HashMap;

use super::BadValue;

const NOT_UTF8: BadValue = BadValue::Malformed("text that is not UTF-8");
const NOT_ASCII: BadValue = BadValue::Malformed("text that is not ASCII");

/// A character set whose text can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charset {
    /// UTF-8 of up to four bytes.
    Utf8mb4,
    /// UTF-8 of up to three bytes.
    Utf8mb3,
    /// Seven bits.
    Ascii,
    /// What the server calls latin1: Windows code page 1252.
    Latin1,
}

impl Charset {
    /// By the server's name; `None`: not supported.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "utf8mb4" => Self::Utf8mb4,
            "utf8mb3" | "utf8" => Self::Utf8mb3,
            "ascii" => Self::Ascii,
            "latin1" => Self::Latin1,
            _ => return None,
        })
    }

    /// The server's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8mb4 => "utf8mb4",
            Self::Utf8mb3 => "utf8mb3",
            Self::Ascii => "ascii",
            Self::Latin1 => "latin1",
        }
    }

    /// Most bytes of one character.
    pub fn bytes_max(self) -> u32 {
        match self {
            Self::Utf8mb4 => 4,
            Self::Utf8mb3 => 3,
            Self::Ascii | Self::Latin1 => 1,
        }
    }

    /// Appends text as UTF-8.
    ///
    /// # Errors
    /// `Malformed`; `out` is then as it was.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadValue> {
        match self {
            Self::Utf8mb4 | Self::Utf8mb3 => {
                std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?;
                out.extend_from_slice(bytes);
            }
            Self::Ascii if bytes.is_ascii() => out.extend_from_slice(bytes),
            Self::Ascii => return Err(NOT_ASCII),
            Self::Latin1 if bytes.is_ascii() => out.extend_from_slice(bytes),
            Self::Latin1 => latin1(bytes, out),
        }
        Ok(())
    }
}

fn latin1(bytes: &[u8], out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for byte in bytes {
        let character = match byte {
            0x80..=0x9f => HIGH_CONTROLS[usize::from(byte - 0x80)],
            _ => char::from(*byte),
        };
        out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
    }
}

/// 0x80 to 0x9F of code page 1252; its five holes are control characters of the same number.
const HIGH_CONTROLS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Which character set a collation belongs to, by the number that the log gives. Asked of the server, because
/// newer ones have thousands.
#[derive(Debug, Clone, Default)]
pub struct Charsets {
    by_collation: HashMap<u16, String>,
}

/// The collation of binary strings.
const BINARY: u16 = 63;

impl Charsets {
    /// From pairs of a collation's number and its character set's name.
    pub fn new(pairs: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self { by_collation: pairs.into_iter().collect() }
    }

    /// The character set's name; `binary` for binary strings.
    pub fn name(&self, collation: u16) -> &str {
        match self.by_collation.get(&collation) {
            _ if collation == BINARY => "binary",
            Some(name) => name,
            None => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_is_code_page_1252() {
        let mut out = Vec::new();
        Charset::Latin1.decode(b"caf\xe9 \x80\x9f\x81", &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "café €Ÿ\u{81}");
    }

    #[test]
    fn text_that_is_not_what_it_says_is_refused() {
        let mut out = b"x".to_vec();
        assert!(Charset::Utf8mb4.decode(b"\xff", &mut out).is_err());
        assert!(Charset::Ascii.decode(b"\xe9", &mut out).is_err());
        assert_eq!(out, b"x");
    }
}
