//! Avro files made smaller: the library writes manifests and their lists without compression, which names of files and
//! schemas take well. The same blocks, deflated.
//!
//! Deliberately absent: what stands in the blocks. A file that is not understood stays as it is.
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;

const MAGIC: &[u8; 4] = b"Obj\x01";
const CODEC: &[u8] = b"avro.codec";
const SYNC_BYTES: usize = 16;

/// The file with deflated blocks.
pub(crate) fn deflated(file: Bytes) -> Bytes {
    rewritten(&file).map_or(file, Bytes::from)
}

/// `None` when it is no whole uncompressed container, or would not become smaller.
fn rewritten(file: &[u8]) -> Option<Vec<u8>> {
    let mut rest = file.strip_prefix(MAGIC)?;
    let metadata = read_map(&mut rest)?;
    let sync = take(&mut rest, SYNC_BYTES)?;
    if metadata.iter().any(|(key, value)| *key == CODEC && *value != b"null") {
        return None;
    }
    let mut out = Vec::with_capacity(file.len());
    out.extend_from_slice(MAGIC);
    let kept = metadata.into_iter().filter(|(key, _)| *key != CODEC);
    write_map(&mut out, kept.chain([(CODEC, &b"deflate"[..])]).collect());
    out.extend_from_slice(sync);
    while !rest.is_empty() {
        let (count, size) = (read_long(&mut rest)?, read_long(&mut rest)?);
        let block = take(&mut rest, usize::try_from(size).ok()?)?;
        if take(&mut rest, SYNC_BYTES)? != sync {
            return None;
        }
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(block).ok()?;
        let block = encoder.finish().ok()?;
        write_long(&mut out, count);
        write_long(&mut out, i64::try_from(block.len()).ok()?);
        out.extend_from_slice(&block);
        out.extend_from_slice(sync);
    }
    (out.len() < file.len()).then_some(out)
}

/// A map of bytes by text: blocks of pairs up to an empty one.
fn read_map<'a>(rest: &mut &'a [u8]) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    let mut pairs = Vec::new();
    loop {
        let mut count = read_long(rest)?;
        if count == 0 {
            return Some(pairs);
        }
        if count < 0 {
            count = count.checked_neg()?;
            // The block's size, for readers that skip it.
            read_long(rest)?;
        }
        for _ in 0..count {
            pairs.push((read_bytes(rest)?, read_bytes(rest)?));
        }
    }
}

fn write_map(out: &mut Vec<u8>, pairs: Vec<(&[u8], &[u8])>) {
    write_long(out, pairs.len() as i64);
    for bytes in pairs.into_iter().flat_map(|(key, value)| [key, value]) {
        write_long(out, bytes.len() as i64);
        out.extend_from_slice(bytes);
    }
    write_long(out, 0);
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(read_long(rest)?).ok()?;
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// A zigzag number of seven bits a byte.
fn read_long(rest: &mut &[u8]) -> Option<i64> {
    let mut bits = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
        }
    }
    None
}

fn write_long(out: &mut Vec<u8>, number: i64) {
    let mut bits = ((number << 1) ^ (number >> 63)) as u64;
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(codec: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        write_map(&mut file, vec![(b"avro.schema", b"\"bytes\""), (CODEC, codec)]);
        file.extend_from_slice(&[7; SYNC_BYTES]);
        for block in blocks {
            write_long(&mut file, 1);
            write_long(&mut file, block.len() as i64);
            file.extend_from_slice(block);
            file.extend_from_slice(&[7; SYNC_BYTES]);
        }
        file
    }

    #[test]
    fn numbers_come_back() {
        for number in [0, -1, 1, 63, -64, 64, 1 << 40, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_long(&mut out, number);
            let mut rest = &out[..];
            assert_eq!((read_long(&mut rest), rest.len()), (Some(number), 0), "{number}");
        }
    }

    #[test]
    fn blocks_shrink_and_their_bytes_stay() {
        let block = b"file:///warehouse/table/data/part.parquet".repeat(40);
        let file = container(b"null", &[&block, &block]);
        let small = rewritten(&file).unwrap();
        assert!(small.len() < file.len() / 4, "{} {}", small.len(), file.len());
        let mut rest = small.strip_prefix(MAGIC).unwrap();
        assert!(read_map(&mut rest).unwrap().contains(&(CODEC, &b"deflate"[..])));
        assert_eq!(take(&mut rest, SYNC_BYTES).unwrap(), [7; SYNC_BYTES]);
        for _ in 0..2 {
            assert_eq!(read_long(&mut rest), Some(1));
            let mut plain = Vec::new();
            let deflated = read_bytes(&mut rest).unwrap();
            let mut decoder = flate2::write::DeflateDecoder::new(&mut plain);
            decoder.write_all(deflated).unwrap();
            decoder.finish().unwrap();
            assert_eq!(plain, block);
            take(&mut rest, SYNC_BYTES).unwrap();
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_not_understood_stays() {
        let file = container(b"null", &[&[0; 400]]);
        for damaged in [
            container(b"deflate", &[&[0; 400]]),
            container(b"null", &[]),
            file[..file.len() - 1].to_vec(),
            file[..30].to_vec(),
            b"PAR1".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(deflated(damaged.clone().into()), damaged);
        }
        assert_ne!(deflated(file.clone().into()), file);
    }
}
