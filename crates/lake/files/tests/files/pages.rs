//! Every type, with NULLs of every pattern and values that repeat or do not, over many pages and row groups: read back
//! by the library, and by foreign readers against a plain file of the library's own writer.
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use futures::TryStreamExt;
use lakeward_files::{
    Bound, DataFile, DataFileReader, FIELD_ID, FileWriter, RowChoice, Store, WriterOptions,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};

const ROWS: usize = 100_003;

fn scramble(n: usize) -> u64 {
    let mut x = (n as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

type IsThere = (&'static str, fn(usize) -> bool);
type Seed = (&'static str, fn(usize) -> u64);

/// Which rows hold a value.
const NULLS: [IsThere; 5] = [
    ("none", |_| true),
    ("few", |n| !scramble(n).is_multiple_of(17)),
    ("most", |n| scramble(n).is_multiple_of(19)),
    ("stretches", |n| (n / 3_001).is_multiple_of(2)),
    ("only", |_| false),
];

/// What values look like: of each row a number.
const VALUES: [Seed; 4] = [
    ("random", scramble),
    ("rising", |n| n as u64 * 3 + scramble(n) % 3),
    ("repeated", |n| scramble(scramble(n / 5) as usize % 90)),
    // A dictionary is begun, and given up.
    ("turning", |n| scramble(if n < 9_000 { n % 7 } else { n })),
];

fn text(seed: u64) -> String {
    format!("{seed:x}").chars().take(seed as usize % 17).collect()
}

fn decimals(
    precision: u8,
    rows: impl Iterator<Item = Option<u64>>,
) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let limit = 10i128.pow(u32::from(precision)) - 1;
    let wide = |seed: u64| i128::from(seed as i64) * i128::from(scramble(seed as usize));
    let values = rows.map(|row| row.map(|seed| wide(seed) % limit));
    Ok(Arc::new(Decimal128Array::from_iter(values).with_precision_and_scale(precision, 3)?))
}

fn arrays(rows: &[Option<u64>]) -> Vec<(&'static str, ArrayRef)> {
    let each = || rows.iter().copied();
    let fixed = each().map(|row| row.map(|seed| u128::from(seed).to_le_bytes()[..12].to_vec()));
    vec![
        ("boolean", Arc::new(BooleanArray::from_iter(each().map(|r| r.map(|s| s % 3 == 0))))),
        ("int", Arc::new(Int32Array::from_iter(each().map(|r| r.map(|s| s as i32))))),
        ("long", Arc::new(Int64Array::from_iter(each().map(|r| r.map(|s| s as i64))))),
        ("float", Arc::new(Float32Array::from_iter(each().map(|r| r.map(|s| s as i32 as f32))))),
        ("double", Arc::new(Float64Array::from_iter(each().map(|r| r.map(|s| s as i64 as f64))))),
        ("dec9", decimals(9, each()).unwrap()),
        ("dec18", decimals(18, each()).unwrap()),
        ("dec38", decimals(38, each()).unwrap()),
        ("text", Arc::new(StringArray::from_iter(each().map(|r| r.map(text))))),
        (
            "bytes",
            Arc::new(BinaryArray::from_iter(each().map(|r| r.map(|s| text(s).into_bytes())))),
        ),
        ("date", Arc::new(Date32Array::from_iter(each().map(|r| r.map(|s| (s % 40_000) as i32))))),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from_iter(
                each().map(|r| r.map(|s| (s % 86_400_000_000) as i64)),
            )),
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter(
                each().map(|r| r.map(|s| (s % (1 << 50)) as i64)),
            )),
        ),
        (
            "fixed",
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(fixed, 12).unwrap()),
        ),
    ]
}

fn table() -> RecordBatch {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (nulls, is_there) in NULLS {
        // Where few rows hold a value, what it is matters less.
        let kinds = match nulls {
            "none" | "few" => 0..4,
            "only" => 0..1,
            _ => 2..4,
        };
        for (values, seed) in &VALUES[kinds] {
            let rows: Vec<_> = (0..ROWS).map(|n| is_there(n).then(|| seed(n))).collect();
            for (name, array) in arrays(&rows) {
                let id = (FIELD_ID.to_owned(), (fields.len() + 1).to_string());
                let name = format!("{name}_{values}_{nulls}");
                let field = Field::new(name, array.data_type().clone(), nulls != "none");
                fields.push(field.with_metadata(HashMap::from([id])));
                columns.push(array);
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Slices of odd lengths, so that nothing begins at a full byte.
fn pieces(rows: &RecordBatch) -> Vec<RecordBatch> {
    let lengths = [4_099, 1, 7, 8_192, 30_011, 64, 20_000];
    let (mut from, mut pieces) = (0, Vec::new());
    for length in lengths.into_iter().cycle() {
        let length = length.min(rows.num_rows() - from);
        if length == 0 {
            break;
        }
        pieces.push(rows.slice(from, length));
        from += length;
    }
    pieces
}

async fn write(store: &Store, rows: &[RecordBatch], row_group_bytes: usize) -> DataFile {
    let options = WriterOptions { row_group_bytes, whole_bounds: false };
    let path = "ours.parquet".to_owned();
    let mut writer = FileWriter::create(store, path, rows[0].schema(), options).await.unwrap();
    for rows in rows {
        writer.write(rows).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(store: &Store, rows: &RecordBatch) -> RecordBatch {
    let reader = DataFileReader::open(store, "ours.parquet").await.unwrap();
    let stream = reader.stream(&rows.schema(), &RowChoice::All).unwrap();
    let found: Vec<_> = stream.try_collect().await.unwrap();
    arrow_select::concat::concat_batches(&rows.schema(), &found).unwrap()
}

/// Smallest and largest values that the test can tell by itself.
fn extremes(column: &ArrayRef) -> Option<(Bound, Bound)> {
    fn ends<T: Copy + PartialOrd>(values: impl Iterator<Item = T> + Clone) -> Option<(T, T)> {
        let least = values.clone().reduce(|a, b| if b < a { b } else { a })?;
        Some((least, values.reduce(|a, b| if b > a { b } else { a })?))
    }
    fn both<T>((a, b): (T, T), bound: impl Fn(T) -> Bound) -> (Bound, Bound) {
        (bound(a), bound(b))
    }
    if let Some(array) = column.as_primitive_opt::<Int32Type>() {
        ends(array.iter().flatten()).map(|e| both(e, Bound::Int))
    } else if let Some(array) = column.as_primitive_opt::<Int64Type>() {
        ends(array.iter().flatten()).map(|e| both(e, Bound::Long))
    } else if let Some(array) = column.as_primitive_opt::<Float64Type>() {
        ends(array.iter().flatten()).map(|e| both(e, Bound::Double))
    } else if let Some(array) = column.as_any().downcast_ref::<Decimal128Array>() {
        ends(array.iter().flatten()).map(|e| both(e, Bound::Decimal))
    } else if let Some(array) = column.as_string_opt::<i32>() {
        ends(array.iter().flatten()).map(|e| both(e, |text| Bound::Text(text.to_owned())))
    } else if let Some(array) = column.as_binary_opt::<i32>() {
        ends(array.iter().flatten()).map(|e| both(e, |bytes| Bound::Bytes(bytes.to_vec())))
    } else if let Some(array) = column.as_boolean_opt() {
        ends(array.iter().flatten()).map(|e| both(e, Bound::Boolean))
    } else {
        None
    }
}

#[tokio::test]
async fn pages_cut_by_row_groups_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let groups = check(&folder, 20 << 20).await;
    assert!(groups > 2, "{groups}");
}

#[tokio::test]
async fn pages_cut_by_their_rows_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let groups = check(&folder, 1 << 30).await;
    assert_eq!(groups, 1);
    let footer = footer(&folder);
    let columns = footer.metadata().row_group(0).columns();
    let uses = |name: &str, both: [Encoding; 2]| {
        let chunk = columns.iter().find(|c| c.column_path().string() == name).unwrap();
        both.iter().all(|encoding| chunk.encodings().any(|e| e == *encoding))
    };
    // A dictionary is used, and given up.
    assert!(uses("double_repeated_none", [Encoding::RLE_DICTIONARY, Encoding::PLAIN]));
    let texts = [Encoding::RLE_DICTIONARY, Encoding::DELTA_LENGTH_BYTE_ARRAY];
    assert!(uses("text_turning_none", texts));
}

/// Writes the table; checks values and statistics; answers the number of row groups.
async fn check(folder: &tempfile::TempDir, row_group_bytes: usize) -> usize {
    let store = Store::local(folder.path()).unwrap();
    let rows = table();
    let file = write(&store, &pieces(&rows), row_group_bytes).await;
    let found = read(&store, &rows).await;
    for (index, field) in rows.schema().fields().iter().enumerate() {
        let (column, metrics) = (rows.column(index), &file.columns[index]);
        assert!(found.column(index) == column, "{} differs", field.name());
        assert_eq!(metrics.nulls, Some(column.null_count() as u64), "{}", field.name());
        if let Some((lower, upper)) = extremes(column) {
            assert_eq!(metrics.lower, Some(lower), "{}", field.name());
            assert_eq!(metrics.upper, Some(upper), "{}", field.name());
        }
        if column.null_count() == ROWS {
            assert_eq!((&metrics.lower, &metrics.upper), (&None, &None), "{}", field.name());
        }
    }
    judge(folder, &rows);
    footer(folder).metadata().num_row_groups()
}

fn footer(folder: &tempfile::TempDir) -> SerializedFileReader<std::fs::File> {
    let file = std::fs::File::open(folder.path().join("ours.parquet")).unwrap();
    SerializedFileReader::new(file).unwrap()
}

#[tokio::test]
async fn values_larger_than_a_page_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let long = |n: usize| (!n.is_multiple_of(3)).then(|| format!("{n}").repeat((n % 5) * 300_000));
    let rows = one_column(Arc::new(StringArray::from_iter((0..40).map(long))));

    write(&store, std::slice::from_ref(&rows), 4 << 20).await;

    assert!(read(&store, &rows).await == rows);
}

#[tokio::test]
async fn a_dictionary_may_have_pages_and_row_groups_of_nulls_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    let value = |n: usize| (!(5_000..190_000).contains(&n)).then(|| format!("v{}", n % 3));
    let rows = one_column(Arc::new(StringArray::from_iter((0..200_000).map(value))));
    let parts = [0..5_000, 5_000..180_000, 180_000..200_000].map(|r| rows.slice(r.start, r.len()));

    // The first part makes a row group.
    write(&store, &parts, 1_000).await;

    assert!(read(&store, &rows).await == rows);
    assert!(footer(&folder).metadata().num_row_groups() > 1);
    judge(&folder, &rows);
}

fn one_column(array: ArrayRef) -> RecordBatch {
    let id = HashMap::from([(FIELD_ID.to_owned(), "1".to_owned())]);
    let field = Field::new("only", array.data_type().clone(), true).with_metadata(id);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
}

/// Compares each column of both files.
const JUDGE: &str = r#"
import sys, pyarrow.parquet as pq, duckdb
ours, plain = sys.argv[1:]
duckdb.sql("set enable_progress_bar = false")
a, b = pq.read_table(ours), pq.read_table(plain)
bad = [c for c in b.column_names if not a[c].equals(b[c])]
pairs = " or ".join(f'a."{c}" is distinct from b."{c}"' for c in b.column_names)
rows = duckdb.sql(f"select count(*) from '{ours}' a positional join '{plain}' b where {pairs}").fetchall()
print(a.num_rows, bad, rows[0][0])
"#;

/// Foreign readers find the same in our file as in one of the library, where they are installed.
fn judge(folder: &tempfile::TempDir, rows: &RecordBatch) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let python = root.join("target/readers/venv/bin/python");
    if !python.exists() {
        println!("SKIPPED foreign readers of pages: they are not installed");
        return;
    }
    let plain = folder.path().join("plain.parquet");
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let file = std::fs::File::create(&plain).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();

    let output = std::process::Command::new(python)
        .args(["-c", JUDGE])
        .args([folder.path().join("ours.parquet"), plain])
        .output()
        .unwrap();

    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.trim(), format!("{} [] 0", rows.num_rows()));
}
