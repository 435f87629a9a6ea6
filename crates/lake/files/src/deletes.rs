//! The two ways of writing down which rows of a file are deleted: position delete files and deletion vectors.
//!
//! Deliberately absent: Puffin and other containers, manifests, and who decides what is deleted.
use std::collections::BTreeMap;

use bytes::Bytes;
use lakeward_core::Result;
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::parquet::DataFile;
use crate::store::Store;

/// Field id of a position delete file's column `file_path`.
pub const FILE_PATH_ID: i32 = 2_147_483_546;
/// Field id of a position delete file's column `pos`.
pub const POS_ID: i32 = 2_147_483_545;

/// Position delete files: Parquet, one data file's deletes each.
pub struct PositionDeletes;

impl PositionDeletes {
    /// Writes the deleted `rows` of ONE data file, named by the URL that the table uses for it. The bounds of
    /// `file_path` in the answer are that URL, whole: readers bind the deletes to their file by them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write(store: &Store, path: String, data_file_url: &str, rows: &RoaringBitmap) -> Result<DataFile> { todo!() }

    /// Reads a delete file of any writer: deleted rows by the URL of their data file.
    ///
    /// # Errors
    /// `Corrupt` when it is no position delete file; those of the store.
    pub async fn read(store: &Store, path: &str) -> Result<BTreeMap<String, RoaringBitmap>> { todo!() }
}

/// The 64-bit roaring deletion vector: length, magic, bitmap, CRC-32. Iceberg v3 and Delta share these bytes.
pub struct DeletionVector;

impl DeletionVector {
    /// The blob from its length field to its checksum.
    pub fn encode(rows: &RoaringTreemap) -> Bytes { todo!() }

    /// Reads a blob back.
    ///
    /// # Errors
    /// `Corrupt` when length, magic, bitmap or checksum are wrong.
    pub fn decode(blob: &[u8]) -> Result<RoaringTreemap> { todo!() }
}
