//! Deletion vectors in files: several vectors in one object, named by the UUID that the log spells in base 85.
//!
//! The UUID is of version 8 and holds what a data file's name holds: the first epoch that the file can belong to and the
//! generation, so that whoever finds it can tell whether somebody may still be about to commit it. Deliberately absent: the vector's own bytes (`lakeward-files`).
use bytes::{BufMut as _, Bytes, BytesMut};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::{DeletionVector, Origin, Stem, Store};
use roaring::RoaringBitmap;
use uuid::{Builder, Uuid};

use crate::action::Vector;

/// The first byte of a file of deletion vectors.
const FORMAT: u8 = 1;
/// Length field and checksum around a vector.
const FRAME: u64 = 8;
const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Writes one file with a vector for each set of rows, in their order. Answers its name below the table's folder too.
///
/// # Errors
/// Those of the store.
pub(crate) async fn write(
    store: &Store,
    folder: &str,
    stem: &Stem,
    rows: &[RoaringBitmap],
) -> Result<(String, Vec<Vector>)> {
    let id = new_id(stem);
    let mut content = BytesMut::new();
    content.put_u8(FORMAT);
    let mut vectors = Vec::with_capacity(rows.len());
    for rows in rows {
        let offset = content.len();
        let blob = DeletionVector::encode(rows);
        content.extend_from_slice(&blob);
        vectors.push(Vector {
            storage_type: "u".into(),
            path_or_inline_dv: encode(id.as_bytes()),
            offset: Some(i32::try_from(offset).map_err(|_| too_large())?),
            size_in_bytes: i32::try_from(blob.len() as u64 - FRAME).map_err(|_| too_large())?,
            cardinality: i64::try_from(rows.len()).map_err(|_| too_large())?,
        });
    }
    let name = file_name("", id);
    if !store.create(&format!("{folder}/{name}"), content.freeze()).await? {
        return Err(
            Error::new(ErrorKind::Bug, "a deletion vector's name was taken").with("file", name)
        );
    }
    Ok((name, vectors))
}

/// The rows that a vector deletes.
///
/// # Errors
/// `Corrupt` naming the file; `Unsupported` when it lies outside the table.
pub(crate) async fn read(store: &Store, folder: &str, vector: &Vector) -> Result<RoaringBitmap> {
    match path(vector)? {
        None => inline(vector),
        Some(name) => {
            let path = format!("{folder}/{name}");
            let from = u64::try_from(vector.offset.unwrap_or(0)).map_err(|_| corrupt(&path))?;
            let size = u64::try_from(vector.size_in_bytes).map_err(|_| corrupt(&path))?;
            let end = from + size + FRAME;
            if store.size(&path).await?.is_none_or(|bytes| bytes < end) {
                return Err(corrupt(&path));
            }
            let blobs = store.get_ranges(&path, std::slice::from_ref(&(from..end))).await?;
            let blob = blobs.first().map(Bytes::as_ref).unwrap_or_default();
            DeletionVector::decode(blob).map_err(|e| e.with("file", &path))
        }
    }
}

/// The vector's file below the table's folder; `None` when its bytes stand in the log.
///
/// # Errors
/// `Unsupported` when it lies outside the table, `Corrupt` when its name cannot be read.
pub(crate) fn path(vector: &Vector) -> Result<Option<String>> {
    let text = vector.path_or_inline_dv.as_str();
    match vector.storage_type.as_str() {
        "i" => Ok(None),
        "u" => {
            let split = text.len().checked_sub(20).filter(|at| text.is_char_boundary(*at));
            let (prefix, id) = text.split_at(split.ok_or_else(|| corrupt(text))?);
            let id = decode(id).and_then(|bytes| Uuid::from_slice(&bytes).ok());
            Ok(Some(file_name(prefix, id.ok_or_else(|| corrupt(text))?)))
        }
        _ => Err(Error::new(ErrorKind::Unsupported, "a deletion vector lies outside the table")
            .with("file", text)
            .remedied("purge the table's deletion vectors with the engine that wrote them")),
    }
}

/// A vector whose bytes stand in the log: as in a file, without length and checksum, filled up to whole words.
fn inline(vector: &Vector) -> Result<RoaringBitmap> {
    let broken = || corrupt("inline");
    let mut body = decode(&vector.path_or_inline_dv).ok_or_else(broken)?;
    body.truncate(usize::try_from(vector.size_in_bytes).map_err(|_| broken())?);
    let mut blob = BytesMut::new();
    blob.put_u32(body.len() as u32);
    blob.extend_from_slice(&body);
    blob.put_u32(crc32fast::hash(&body));
    DeletionVector::decode(&blob)
}

/// 48 bits of epoch, 12 of the writer's fingerprint, 30 of generation, the rest random.
fn new_id(stem: &Stem) -> Uuid {
    let random = Uuid::new_v4().as_u128() as u32;
    let print = stem
        .writer
        .bytes()
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let bits = u128::from(stem.epoch) << 80
        | u128::from(print & 0xfff) << 64
        | u128::from(stem.generation & 0x3fff_ffff) << 32
        | u128::from(random);
    Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid()
}

/// What the name of a vector file of ours tells, but for its writer; `None` when it is none of ours.
pub(crate) fn origin(path: &str) -> Option<Origin<'static>> {
    let name = path.rsplit('/').next()?;
    let id = name.strip_prefix("deletion_vector_")?.strip_suffix(".bin")?;
    let id = Uuid::parse_str(id).ok().filter(|id| id.get_version_num() == 8)?;
    let bits = id.as_u128();
    Some(Origin {
        writer: "",
        generation: (bits >> 32) as u32 & 0x3fff_ffff,
        epoch: (bits >> 80) as u64,
        compacted: false,
    })
}

fn file_name(prefix: &str, id: Uuid) -> String {
    let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    format!("{folder}deletion_vector_{id}.bin")
}

fn corrupt(file: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "a deletion vector cannot be read").with("file", file)
}

fn too_large() -> Error {
    Error::new(ErrorKind::Unsupported, "the deletion vectors of one commit are larger than 2 GiB")
}

/// Z85: five digits for each four bytes.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 4 * 5);
    for word in bytes.chunks_exact(4) {
        let word = word.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        for place in [52_200_625u32, 614_125, 7225, 85, 1] {
            text.push(char::from(DIGITS[(word / place % 85) as usize]));
        }
    }
    text
}

/// `None` when the text is no whole number of words of known digits.
fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(5) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4);
    for word in text.as_bytes().chunks_exact(5) {
        let digit = |c: &u8| DIGITS.iter().position(|d| d == c).map(|at| at as u64);
        let value = word.iter().try_fold(0u64, |sum, c| Some(sum * 85 + digit(c)?))?;
        bytes.extend_from_slice(&u32::try_from(value).ok()?.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_85_is_the_specifications() {
        let hello = [0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B];
        assert_eq!(encode(&hello), "HelloWorld");
        assert_eq!(decode("HelloWorld").unwrap(), hello);
        for text in ["Hell", "~ello", "#####"] {
            assert_eq!(decode(text), None, "{text}");
        }
        // The example of the protocol's own text.
        let id = decode("ab^-aqEH.-t@S}K{vb[*k^").map(|b| b.len());
        assert_eq!(id, None);
        let vector = |text: &str| Vector {
            storage_type: "u".into(),
            path_or_inline_dv: text.into(),
            offset: Some(4),
            size_in_bytes: 40,
            cardinality: 6,
        };
        assert_eq!(
            path(&vector("ab^-aqEH.-t@S}K{vb[*k^")).unwrap().unwrap(),
            "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
        );
        assert!(path(&vector("short")).is_err());
    }

    #[test]
    fn a_name_tells_epoch_and_generation() {
        let stem = Stem { writer: "w".into(), generation: 70_000, epoch: 1 << 40 };
        let name = format!("ab/{}", file_name("", new_id(&stem)));
        let found = origin(&name).unwrap();
        assert_eq!((found.generation, found.epoch), (70_000, 1 << 40));
        assert_ne!(new_id(&stem), new_id(&stem));
        let foreign = file_name("", Uuid::new_v4());
        assert_eq!([origin(&foreign), origin("x.parquet"), origin("")], [None; 3]);
    }

    #[tokio::test]
    async fn vectors_of_one_file_come_back_and_so_do_inline_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let stem = Stem { writer: "w".into(), generation: 1, epoch: 7 };
        let sets: [RoaringBitmap; 2] = [(0..9).collect(), [5, 70_000].into_iter().collect()];
        let (name, vectors) = write(&store, "t", &stem, &sets).await.unwrap();
        for (set, vector) in sets.iter().zip(&vectors) {
            assert_eq!(path(vector).unwrap().unwrap(), name);
            assert_eq!(read(&store, "t", vector).await.unwrap(), *set);
            assert_eq!(vector.cardinality as u64, set.len());
        }
        let blob = DeletionVector::encode(&[1, 3].into_iter().collect());
        let mut body = blob[4..blob.len() - 4].to_vec();
        let size_in_bytes = body.len() as i32;
        body.resize(body.len().next_multiple_of(4), 0);
        let inline = Vector {
            storage_type: "i".into(),
            path_or_inline_dv: encode(&body),
            offset: None,
            size_in_bytes,
            cardinality: 2,
        };
        assert_eq!(read(&store, "t", &inline).await.unwrap(), [1, 3].into_iter().collect());
    }
}
