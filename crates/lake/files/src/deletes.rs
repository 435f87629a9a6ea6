//! The two ways of writing down which rows of a file are deleted: position delete files and deletion vectors.
//!
//! Deliberately absent: Puffin and other containers, manifests, and who decides what is deleted.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use futures::TryStreamExt;
use lakeward_core::{Error, ErrorKind, Result};
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::layout::FIELD_ID;
use crate::parquet::{DataFile, FileWriter, WriterOptions};
use crate::read::{DataFileReader, RowChoice};
use crate::store::Store;

/// Field id of a position delete file's column `file_path`.
pub const FILE_PATH_ID: i32 = 2_147_483_546;
/// Field id of a position delete file's column `pos`.
pub const POS_ID: i32 = 2_147_483_545;

const ROWS_AT_ONCE: usize = 8 * 1024;

/// Position delete files: Parquet, one data file's deletes each.
#[derive(Debug)]
pub struct PositionDeletes;

impl PositionDeletes {
    /// Writes the deleted `rows` of ONE data file, named by the URL that the table uses for it. The bounds of
    /// `file_path` in the answer are that URL, whole: readers bind the deletes to their file by them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write(
        store: &Store,
        path: String,
        data_file_url: &str,
        rows: &RoaringBitmap,
    ) -> Result<DataFile> {
        let schema = schema();
        let options = WriterOptions { whole_bounds: true, ..WriterOptions::default() };
        let mut writer = FileWriter::create(store, path, schema.clone(), options).await?;
        let mut rows = rows.iter().map(i64::from);
        loop {
            let positions: Vec<i64> = rows.by_ref().take(ROWS_AT_ONCE).collect();
            if positions.is_empty() {
                return writer.finish().await;
            }
            let urls =
                StringArray::from_iter_values(std::iter::repeat_n(data_file_url, positions.len()));
            let columns: Vec<ArrayRef> =
                vec![Arc::new(urls), Arc::new(Int64Array::from(positions))];
            let batch = RecordBatch::try_new(schema.clone(), columns)
                .map_err(|e| Error::new(ErrorKind::Bug, "deletes make no batch").caused_by(e))?;
            writer.write(&batch).await?;
        }
    }

    /// Reads a delete file of any writer: deleted rows by the URL of their data file.
    ///
    /// # Errors
    /// `Corrupt` when it is no position delete file; those of the store.
    pub async fn read(store: &Store, path: &str) -> Result<BTreeMap<String, RoaringBitmap>> {
        let reader = DataFileReader::open(store, path).await?;
        let mut batches = reader.stream(&schema(), &RowChoice::All)?;
        let mut deletes: HashMap<String, RoaringBitmap> = HashMap::new();
        while let Some(batch) = batches.try_next().await? {
            let (urls, positions) =
                (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            for (url, position) in urls.iter().flatten().zip(positions.values()) {
                let row = u32::try_from(*position).map_err(|_| {
                    Error::new(ErrorKind::Corrupt, "a delete's position is out of range")
                        .with("path", path)
                })?;
                match deletes.get_mut(url) {
                    Some(rows) => rows.insert(row),
                    None => deletes.entry(url.to_owned()).or_default().insert(row),
                };
            }
        }
        Ok(deletes.into_iter().collect())
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, id: i32| {
        let id = HashMap::from([(FIELD_ID.to_owned(), id.to_string())]);
        Field::new(name, data_type, false).with_metadata(id)
    };
    Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8, FILE_PATH_ID),
        field("pos", DataType::Int64, POS_ID),
    ]))
}

/// The 64-bit roaring deletion vector: length, magic, bitmap, CRC-32. Iceberg v3 and Delta share these bytes.
#[derive(Debug)]
pub struct DeletionVector;

impl DeletionVector {
    const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];

    /// The blob from its length field to its checksum. Runs of neighbours are written as runs.
    pub fn encode(rows: &RoaringBitmap) -> Bytes {
        let mut rows = rows.clone();
        rows.optimize();
        let rows = RoaringTreemap::from_bitmaps([(0, rows)]);
        let mut blob = Vec::with_capacity(rows.serialized_size() + 12);
        blob.extend_from_slice(&[0; 4]);
        blob.extend_from_slice(&Self::MAGIC);
        // Writing to memory does not fail.
        let _ = rows.serialize_into(&mut blob);
        let length = (blob.len() - 4) as u32;
        blob[..4].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32fast::hash(&blob[4..]);
        blob.extend_from_slice(&checksum.to_be_bytes());
        blob.into()
    }

    /// Reads a blob back.
    ///
    /// # Errors
    /// `Corrupt` when length, magic, bitmap or checksum are wrong, or a row's number leaves 32 bits.
    pub fn decode(blob: &[u8]) -> Result<RoaringBitmap> {
        Self::parse(blob)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a deletion vector cannot be read"))
    }

    fn parse(blob: &[u8]) -> Option<RoaringBitmap> {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let (body, checksum) = rest.split_last_chunk::<4>()?;
        let sound = u32::from_be_bytes(*length) as usize == body.len()
            && u32::from_be_bytes(*checksum) == crc32fast::hash(body);
        let mut bitmap = body.strip_prefix(&Self::MAGIC)?;
        let rows = RoaringTreemap::deserialize_from(&mut bitmap).ok()?;
        let narrow = rows.bitmaps().all(|(high, rows)| high == 0 || rows.is_empty());
        let low = rows.bitmaps().find(|(high, _)| *high == 0).map(|(_, rows)| rows.clone());
        (sound && bitmap.is_empty() && narrow).then(|| low.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_the_bytes_of_the_specification() {
        let blob = DeletionVector::encode(&[1, 5].into_iter().collect());
        // One 64-bit high part, one 32-bit bitmap: cookie 12346, one array container of two values.
        let body: Vec<u8> = [
            &[0xD1, 0xD3, 0x39, 0x64][..],
            &1u64.to_le_bytes(),
            &0u32.to_le_bytes(),
            &12346u32.to_le_bytes(),
            &1u32.to_le_bytes(),
            &[0, 0, 1, 0],
            &16u32.to_le_bytes(),
            &[1, 0, 5, 0],
        ]
        .concat();
        let expected =
            [&(body.len() as u32).to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()]
                .concat();
        assert_eq!(&blob[..], &expected[..]);
    }

    #[test]
    fn a_vector_comes_back_and_a_damaged_one_does_not() {
        let rows: RoaringBitmap =
            (0..70_000).step_by(3).chain(80_000..90_000).chain([1 << 31]).collect();
        let blob = DeletionVector::encode(&rows);
        assert_eq!(DeletionVector::decode(&blob).unwrap(), rows);
        for at in (0..blob.len()).step_by(97).chain([0, 4, blob.len() - 1]) {
            let mut damaged = blob.to_vec();
            damaged[at] ^= 0x10;
            assert!(DeletionVector::decode(&damaged).is_err(), "byte {at}");
        }
        for length in [0, 3, 8, blob.len() - 1] {
            assert!(DeletionVector::decode(&blob[..length]).is_err());
        }
    }

    #[test]
    fn a_row_beyond_32_bits_is_no_row_of_ours() {
        let rows: RoaringTreemap = [3, 1 << 40].into_iter().collect();
        let mut body = DeletionVector::MAGIC.to_vec();
        rows.serialize_into(&mut body).unwrap();
        let checksum = crc32fast::hash(&body).to_be_bytes();
        let blob = [&(body.len() as u32).to_be_bytes()[..], &body, &checksum].concat();
        assert!(DeletionVector::decode(&blob).is_err());
    }

    #[tokio::test]
    async fn a_delete_file_comes_back_with_whole_bounds() {
        use crate::parquet::Bound;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        let url = format!("file:///{}/data.parquet", "very-long-folder-name/".repeat(9));
        let rows: RoaringBitmap = (0..20_000).filter(|n| n % 7 != 0).collect();
        let file = PositionDeletes::write(&store, "t/d.parquet".into(), &url, &rows).await.unwrap();
        assert_eq!(file.rows, rows.len());
        let path = &file.columns[0];
        assert_eq!(path.field_id, FILE_PATH_ID);
        assert_eq!(path.lower, Some(Bound::Text(url.clone())));
        assert_eq!(path.upper, Some(Bound::Text(url.clone())));
        assert_eq!(file.columns[1].upper, Some(Bound::Long(19_998)));
        let read = PositionDeletes::read(&store, "t/d.parquet").await.unwrap();
        assert_eq!(read, BTreeMap::from([(url, rows)]));
    }
}
