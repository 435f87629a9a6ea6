//! MariaDB's compressed parts of events: a head that says how long the content is, then zlib.
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::cursor::{Cursor, Malformed};

/// No event is larger: the server's own limit of a packet is 1 GiB.
const CONTENT_MAX: u64 = 1 << 30;

/// Unpacks `packed` into `into`, which is emptied first.
pub(super) fn unpack(packed: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut cursor = Cursor(packed);
    let head = cursor.u8()?;
    let (is_compressed, algorithm, width) = (head & 0x80 != 0, (head >> 4) & 7, head & 7);
    if !is_compressed || algorithm != 0 || !(1..=4).contains(&width) {
        return Err(Malformed("its compression is not known"));
    }
    let length = cursor.bytes(usize::from(width))?;
    let length = length.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    if length > CONTENT_MAX {
        return Err(Malformed("its compressed part is too large"));
    }
    into.clear();
    let unpacked = ZlibDecoder::new(cursor.0).take(length + 1).read_to_end(into);
    match unpacked {
        Ok(read) if read as u64 == length => Ok(()),
        _ => Err(Malformed("its compressed part is damaged")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(content: &[u8], length: u32) -> Vec<u8> {
        let mut bytes = vec![0x80 | 4];
        bytes.extend_from_slice(&length.to_be_bytes());
        let mut zlib = flate2::write::ZlibEncoder::new(bytes, flate2::Compression::default());
        zlib.write_all(content).unwrap();
        zlib.finish().unwrap()
    }

    #[test]
    fn content_comes_back_whole_or_not_at_all() {
        let mut into = vec![7];
        assert_eq!(unpack(&packed(b"some content", 12), &mut into), Ok(()));
        assert_eq!(into, b"some content");
        assert!(unpack(&packed(b"some content", 11), &mut into).is_err());
        assert!(unpack(&packed(b"some content", 13), &mut into).is_err());
        assert!(unpack(&packed(b"some content", u32::MAX), &mut into).is_err());
        for cut in 0..10 {
            assert!(unpack(&packed(b"some content", 12)[..cut], &mut into).is_err());
        }
        assert!(unpack(&[0x04, 0, 0, 0, 1, 2], &mut into).is_err());
    }
}
