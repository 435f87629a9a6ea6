//! Puffin files of deletion vectors: one file for all vectors of a commit, each found by offset and size.
//!
//! Deliberately absent: other kinds of blobs, compression, and reading by the footer: the manifest entry says where a
//! vector stands.
use bytes::{BufMut as _, Bytes, BytesMut};
use lakeward_core::{Error, ErrorKind, Result};
use lakeward_files::{DeletionVector, Store};
use roaring::RoaringBitmap;
use serde_json::{Value, json};

const MAGIC: &[u8; 4] = b"PFA1";
/// No flag is set: the footer is not compressed.
const FLAGS: [u8; 4] = [0; 4];
/// Field id of a row's position in its file, which a vector is about.
const POSITION_FIELD: i32 = 2_147_483_645;

/// Where a vector stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// One file with a vector for each data file's deleted rows; where each vector stands, in their order.
pub(crate) fn encode(vectors: &[(String, RoaringBitmap)]) -> (Bytes, Vec<Slice>) {
    let mut content = BytesMut::new();
    content.put_slice(MAGIC);
    let mut slices = Vec::with_capacity(vectors.len());
    let mut blobs = Vec::with_capacity(vectors.len());
    for (data_file, rows) in vectors {
        let blob = DeletionVector::encode(rows);
        let slice = Slice { offset: content.len() as u64, bytes: blob.len() as u64 };
        content.put_slice(&blob);
        blobs.push(described(data_file, rows.len(), slice));
        slices.push(slice);
    }
    let properties = json!({ "created-by": concat!("lakeward ", env!("CARGO_PKG_VERSION")) });
    let footer = json!({ "blobs": blobs, "properties": properties }).to_string();
    content.put_slice(MAGIC);
    content.put_slice(footer.as_bytes());
    content.put_u32_le(footer.len() as u32);
    content.put_slice(&FLAGS);
    content.put_slice(MAGIC);
    (content.freeze(), slices)
}

/// A vector as the footer tells of it. Snapshot and sequence number are those of the entry that names it.
fn described(data_file: &str, rows: u64, slice: Slice) -> Value {
    json!({
        "type": "deletion-vector-v1",
        "fields": [POSITION_FIELD],
        "snapshot-id": -1,
        "sequence-number": -1,
        "offset": slice.offset,
        "length": slice.bytes,
        "properties": { "referenced-data-file": data_file, "cardinality": rows.to_string() },
    })
}

/// The vectors that stand at these places of a file, in their order.
///
/// # Errors
/// `Corrupt` when one cannot be read; those of the store.
pub(crate) async fn read(
    store: &Store,
    path: &str,
    slices: &[Slice],
) -> Result<Vec<RoaringBitmap>> {
    let corrupt =
        || Error::new(ErrorKind::Corrupt, "a deletion vector cannot be read").with("file", path);
    let size = store.size(path).await?.ok_or_else(corrupt)?;
    let end = |slice: &Slice| slice.offset.checked_add(slice.bytes).filter(|end| *end <= size);
    let ranges = slices.iter().map(|slice| Some(slice.offset..end(slice)?));
    let ranges = ranges.collect::<Option<Vec<_>>>().ok_or_else(corrupt)?;
    let blobs = store.get_ranges(path, &ranges).await?;
    blobs
        .iter()
        .map(|blob| DeletionVector::decode(blob).map_err(|e| e.with("file", path)))
        .collect()
}

#[cfg(test)]
mod tests {
    use iceberg::io::FileIO;
    use iceberg::puffin::PuffinReader;

    use super::*;

    #[tokio::test]
    async fn another_reader_finds_every_vector_by_the_footer() {
        let vectors: Vec<(String, RoaringBitmap)> = vec![
            ("file:///a.parquet".into(), (0..9).collect()),
            ("file:///b.parquet".into(), [5, 70_000].into_iter().collect()),
        ];
        let (content, slices) = encode(&vectors);
        let io = FileIO::new_with_memory();
        io.new_output("memory:///x.puffin").unwrap().write(content.clone()).await.unwrap();
        let reader = PuffinReader::new(io.new_input("memory:///x.puffin").unwrap());
        let blobs = reader.file_metadata().await.unwrap().blobs().to_vec();
        assert_eq!(blobs.len(), 2);
        for ((blob, slice), (data_file, rows)) in blobs.iter().zip(&slices).zip(&vectors) {
            assert_eq!((blob.offset(), blob.length()), (slice.offset, slice.bytes));
            assert_eq!(blob.blob_type(), iceberg::puffin::DELETION_VECTOR_V1);
            assert_eq!(&blob.properties()["referenced-data-file"], data_file);
            assert_eq!(blob.properties()["cardinality"], rows.len().to_string());
            let found = reader.blob(blob).await.unwrap();
            assert_eq!(DeletionVector::decode(found.data()).unwrap(), *rows);
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        store.put("x.puffin", content.clone()).await.unwrap();
        let found = read(&store, "x.puffin", &[slices[1], slices[0]]).await.unwrap();
        assert_eq!(found, [vectors[1].1.clone(), vectors[0].1.clone()]);
        for slice in [
            Slice { offset: slices[0].offset + 1, ..slices[0] },
            Slice { bytes: content.len() as u64, ..slices[0] },
            Slice { offset: u64::MAX, bytes: 2 },
        ] {
            let error = read(&store, "x.puffin", &[slice]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{slice:?}");
        }
    }
}
