//! Reads numbers and lengths from bytes, never past their end.
use lakeward_core::{Error, ErrorKind};

/// Bytes that are no event: too short, or contradicting themselves. Says what was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl From<Malformed> for Error {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        Error::new(ErrorKind::Corrupt, format!("the binary log cannot be read: {}", malformed.0))
    }
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed("it is cut off"))?;
        self.0 = tail;
        Ok(head)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed("it is cut off"))?;
        self.0 = tail;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A little-endian number of up to 8 bytes.
    #[inline]
    pub(crate) fn number(&mut self, width: usize) -> Result<u64, Malformed> {
        let bytes = self.bytes(width)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// A number that says itself how long it is.
    #[inline]
    pub(crate) fn packed(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            byte @ 0..=250 => Ok(u64::from(byte)),
            252 => self.number(2),
            253 => self.number(3),
            254 => self.number(8),
            _ => Err(Malformed("a length is no length")),
        }
    }

    /// A packed number that counts things in memory.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.packed()?).map_err(|_| Malformed("a length is too large"))
    }

    /// Bytes behind their packed length.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count()?;
        self.bytes(count)
    }

    /// Bytes behind their length of one byte.
    pub(crate) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u8()?;
        self.bytes(usize::from(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_numbers_of_every_width() {
        let cases: [(&[u8], Option<u64>); 7] = [
            (&[250], Some(250)),
            (&[252, 1, 2], Some(0x0201)),
            (&[253, 1, 2, 3], Some(0x03_0201)),
            (&[254, 1, 0, 0, 0, 0, 0, 0, 128], Some(0x8000_0000_0000_0001)),
            (&[251], None),
            (&[255], None),
            (&[252, 1], None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Cursor(bytes).packed().ok(), expected, "{bytes:?}");
        }
        assert!(Cursor(&[9, 1]).counted().is_err());
        assert_eq!(Cursor(&[1, 2, 3]).number(3), Ok(0x03_0201));
    }
}
