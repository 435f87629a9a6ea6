//! The columns of each shape, and their values as functions of key and version.
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use lakeward_core::{Column, ColumnId, TableId, TableIdentity, TableSchema};

use crate::config::{Config, Shape};

/// 2020-01-01 in microseconds.
const EPOCH_2020: i64 = 1_577_836_800_000_000;

/// The letters of texts.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz 01234";

/// What a column holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Key,
    /// Integers below this.
    Int(u32),
    Long,
    Real,
    Amount,
    Instant,
    /// Texts of this many letters.
    Text(usize),
}

/// Name and kind of each column, the key first.
pub(crate) fn columns(shape: Shape) -> Vec<(String, Kind)> {
    let mut columns = vec![("id".to_owned(), Kind::Key)];
    let mut add = |count: usize, name: &str, kind: Kind| {
        let numbered = |n: usize| if count == 1 { name.to_owned() } else { format!("{name}_{n}") };
        columns.extend((1..=count).map(|n| (numbered(n), kind)));
    };
    match shape {
        Shape::Narrow => {
            add(1, "a", Kind::Int(1_000_000));
            add(1, "b", Kind::Int(i32::MAX as u32));
            add(1, "amount", Kind::Amount);
            add(1, "at", Kind::Instant);
            add(1, "note", Kind::Text(20));
        }
        Shape::Taxi => {
            add(1, "vendor", Kind::Int(3));
            add(2, "time", Kind::Instant);
            add(3, "code", Kind::Int(7));
            add(2, "zone", Kind::Int(265));
            add(1, "stored", Kind::Text(1));
            add(9, "fare", Kind::Real);
        }
        Shape::Wide => {
            add(40, "n", Kind::Int(100_000));
            add(20, "large", Kind::Long);
            add(20, "real", Kind::Real);
            add(14, "money", Kind::Amount);
            add(10, "at", Kind::Instant);
            add(15, "text", Kind::Text(18));
        }
    }
    columns
}

/// The table's schema.
pub(crate) fn schema(config: &Config) -> Arc<TableSchema> {
    let name = match config.shape {
        Shape::Narrow => "narrow",
        Shape::Taxi => "taxi",
        Shape::Wide => "wide",
    };
    let columns = (1..).zip(columns(config.shape)).map(|(id, (name, kind))| Column {
        id: ColumnId(id),
        name,
        data_type: kind.data_type(),
        declared: kind.declared().to_owned(),
        nullable: !matches!(kind, Kind::Key),
    });
    // another seed or size is another table
    let identity = TableIdentity(format!("{}-{}", config.seed, config.rows));
    let table = TableId::new("generated", name);
    Arc::new(TableSchema::new(table, identity, columns.collect(), vec![0], String::new()))
}

impl Kind {
    fn data_type(self) -> DataType {
        match self {
            Self::Key | Self::Long => DataType::Int64,
            Self::Int(_) => DataType::Int32,
            Self::Real => DataType::Float64,
            Self::Amount => DataType::Decimal128(12, 2),
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Text(_) => DataType::Utf8,
        }
    }

    fn declared(self) -> &'static str {
        match self {
            Self::Key | Self::Long => "bigint",
            Self::Int(_) => "integer",
            Self::Real => "double precision",
            Self::Amount => "numeric(12,2)",
            Self::Instant => "timestamp with time zone",
            Self::Text(_) => "text",
        }
    }

    /// The column's values for rows of these keys and versions. `salt` tells columns apart.
    pub(crate) fn values(self, rows: &[(u64, u64)], salt: u64) -> ArrayRef {
        let hashes = rows.iter().map(|(key, version)| hash(*key, *version, salt));
        match self {
            Self::Key => {
                Arc::new(rows.iter().map(|(key, _)| Some(*key as i64)).collect::<Int64Array>())
            }
            Self::Int(below) => Arc::new(Int32Array::from_iter_values(
                hashes.map(|h| (h % u64::from(below)) as i32),
            )),
            Self::Long => Arc::new(Int64Array::from_iter_values(hashes.map(|h| (h >> 20) as i64))),
            Self::Real => Arc::new(Float64Array::from_iter_values(
                hashes.map(|h| (h % 100_000) as f64 / 100.0),
            )),
            Self::Amount => amounts(hashes),
            Self::Instant => {
                let micros = hashes.map(|h| EPOCH_2020 + (h % 160_000_000_000_000) as i64);
                Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
            }
            Self::Text(letters) => Arc::new(texts(hashes, letters)),
        }
    }
}

fn amounts(hashes: impl Iterator<Item = u64>) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(hashes.map(|h| i128::from(h % 100_000_000)));
    let typed = Kind::Amount.data_type();
    // only the type's name is set: the values fit by construction
    Arc::new(values.with_data_type(typed))
}

fn texts(hashes: impl Iterator<Item = u64>, letters: usize) -> StringArray {
    let mut text = String::with_capacity(letters);
    let texts = hashes.map(|mut bits| {
        text.clear();
        for n in 0..letters {
            if n % 12 == 11 {
                bits = mixed(bits);
            }
            text.push(char::from(LETTERS[(bits >> (5 * (n % 12)) & 31) as usize]));
        }
        text.clone()
    });
    StringArray::from_iter_values(texts)
}

fn hash(key: u64, version: u64, salt: u64) -> u64 {
    mixed(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ mixed(version ^ salt))
}

/// A mixing of 64 bits in which every bit of the input moves every bit of the output.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;

    #[test]
    fn the_shapes_have_their_columns_and_types() {
        for (shape, count) in [(Shape::Narrow, 6), (Shape::Taxi, 19), (Shape::Wide, 120)] {
            let all = columns(shape);
            assert_eq!(all.len(), count, "{shape:?}");
            for (name, kind) in all {
                let values = kind.values(&[(1, 0), (2, 5)], 7);
                assert_eq!((values.len(), values.data_type()), (2, &kind.data_type()), "{name}");
            }
        }
    }

    #[test]
    fn a_version_changes_the_values() {
        let values = Kind::Int(1_000_000).values(&[(1, 0), (1, 1), (1, 0)], 3);
        let values = values.as_any().downcast_ref::<Int32Array>().unwrap();
        assert_ne!(values.value(0), values.value(1));
        assert_eq!(values.value(0), values.value(2));
    }
}
