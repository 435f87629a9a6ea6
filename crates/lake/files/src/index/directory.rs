//! The directory of a run: under which identity its keys were hashed, and which files it knows.
//!
//! A run *covers* a file when it has a fact for every row that is live in the file. The directory names the rows it has
//! no facts for; as long as the table lists all of them as deleted, nothing is missing. That one comparison tells every
//! case apart: a commit not known here, another writer's rewrite, a table set back, dropped, or made again.
//! Deliberately absent: facts.
use std::sync::Arc;

use lakeward_core::Result;
use roaring::RoaringBitmap;

use super::damaged;
use crate::head::LiveFile;

/// A file that a run knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Covered {
    /// Path in the store. Names carry a random part: another file never gets the same.
    pub path: Arc<str>,
    /// Rows in the file, deleted ones included.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Rows that the run has no fact for: they were deleted.
    pub absent: RoaringBitmap,
}

impl Covered {
    /// A file of which all live rows have a fact.
    pub fn of(file: &LiveFile) -> Self {
        Self {
            path: Arc::clone(&file.path),
            rows: file.rows,
            bytes: file.bytes,
            absent: file.deleted.clone(),
        }
    }

    /// Whether this run has a fact for every live row of `file`.
    pub(crate) fn covers(&self, file: &LiveFile) -> bool {
        self.path == file.path
            && self.rows == file.rows
            && self.bytes == file.bytes
            && self.absent.is_subset(&file.deleted)
    }
}

/// What a run knows. Facts name files by their place in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    /// The identity of rows under which keys were hashed, as their layout gives it.
    pub signature: String,
    /// Its files.
    pub files: Vec<Covered>,
}

impl Directory {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.signature.as_bytes());
        put(&mut out, self.files.len() as u64);
        for file in &self.files {
            put_bytes(&mut out, file.path.as_bytes());
            put(&mut out, file.rows);
            put(&mut out, file.bytes);
            put(&mut out, file.absent.serialized_size() as u64);
            // Writing into a vector cannot fail; a short write would be found as damage.
            let _ = file.absent.serialize_into(&mut out);
        }
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// `Conflict` when they are no directory.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self> {
        let signature = text(take_bytes(&mut bytes)?)?;
        let count = take(&mut bytes)?;
        let mut files = Vec::new();
        for _ in 0..count {
            let path = text(take_bytes(&mut bytes)?)?;
            let (rows, size) = (take(&mut bytes)?, take(&mut bytes)?);
            let absent = RoaringBitmap::deserialize_from(take_bytes(&mut bytes)?)
                .map_err(|e| damaged().caused_by(e))?;
            files.push(Covered { path: path.into(), rows, bytes: size, absent });
        }
        if bytes.is_empty() { Ok(Self { signature, files }) } else { Err(damaged()) }
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take(bytes: &mut &[u8]) -> Result<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*number))
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).map_err(|_| damaged())?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(taken)
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(absent: &[u32]) -> Covered {
        let absent = absent.iter().copied().collect();
        Covered { path: "t/data/a.parquet".into(), rows: 10, bytes: 99, absent }
    }

    #[test]
    fn a_directory_survives_its_bytes_and_none_of_its_prefixes_does() {
        let files = vec![covered(&[1, 2, 9]), covered(&[])];
        let directory = Directory { signature: "key 1".into(), files };
        let bytes = directory.encode();
        assert_eq!(Directory::decode(&bytes).unwrap(), directory);
        for length in 0..bytes.len() {
            assert!(Directory::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_file_is_covered_only_while_rows_without_a_fact_are_deleted() {
        let live = |deleted: &[u32], rows| LiveFile {
            path: "t/data/a.parquet".into(),
            rows,
            bytes: 99,
            deleted: deleted.iter().copied().collect(),
        };
        assert!(covered(&[3]).covers(&live(&[3, 4], 10)));
        assert!(!covered(&[3]).covers(&live(&[4], 10)), "set back before the delete of row 3");
        assert!(!covered(&[3]).covers(&live(&[3], 11)), "another file");
    }
}
