//! Parquet files: every type comes back, statistics are right, row groups are bounded.
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;
use lakeward_files::{
    Bound, ColumnMetrics, DataFile, DataFileReader, FIELD_ID, FileWriter, RowChoice, Store,
    WriterOptions,
};
use parquet::basic::{Encoding, LogicalType};
use parquet::file::reader::{FileReader, SerializedFileReader};

fn identified(id: i32, field: Field) -> Field {
    field.with_metadata(HashMap::from([(FIELD_ID.to_owned(), id.to_string())]))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let field = |(id, (name, array)): (usize, &(&str, ArrayRef))| {
        identified(id as i32 + 1, Field::new(*name, array.data_type().clone(), true))
    };
    let fields: Vec<_> = columns.iter().enumerate().map(field).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

async fn written(store: &Store, rows: &[RecordBatch], options: WriterOptions) -> DataFile {
    let path = "t/x.parquet".to_owned();
    let mut writer = FileWriter::create(store, path, rows[0].schema(), options).await.unwrap();
    for rows in rows {
        writer.write(rows).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(store: &Store, schema: &SchemaRef, choice: &RowChoice) -> Vec<RecordBatch> {
    let reader = DataFileReader::open(store, "t/x.parquet").await.unwrap();
    reader.stream(schema, choice).unwrap().try_collect().await.unwrap()
}

fn footer(folder: &tempfile::TempDir) -> SerializedFileReader<std::fs::File> {
    let file = std::fs::File::open(folder.path().join("t/x.parquet")).unwrap();
    SerializedFileReader::new(file).unwrap()
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::local(folder.path()).unwrap();
    (folder, store)
}

fn every_type() -> RecordBatch {
    let mut lists = ListBuilder::new(Int64Builder::new())
        .with_field(identified(99, Field::new("element", DataType::Int64, true)));
    lists.append_value([Some(1), None, Some(3)]);
    lists.append_null();
    lists.append_value([]);
    let decimal = |precision, values: [Option<i128>; 3]| -> ArrayRef {
        Arc::new(
            Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, 2).unwrap(),
        )
    };
    let uuids = [Some([0xFFu8; 16]), None, Some([1; 16])];
    batch(vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("int", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
        ("long", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("float", Arc::new(Float32Array::from(vec![Some(f32::NAN), None, Some(-1.5)]))),
        ("double", Arc::new(Float64Array::from(vec![Some(2.5), Some(f64::NAN), Some(-0.5)]))),
        ("dec9", decimal(9, [Some(-5), None, Some(7)])),
        ("dec18", decimal(18, [Some(-500), None, Some(700)])),
        ("dec38", decimal(38, [Some(-(10i128.pow(37))), None, Some(10i128.pow(37))])),
        ("text", Arc::new(StringArray::from(vec![Some("ä"), None, Some("")]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\xFF\0"[..]), None, Some(b"")]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(19_000)]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]))),
        (
            "zoned",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1)]).with_timezone("UTC"),
            ),
        ),
        (
            "uuid",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids.into_iter(), 16)
                    .unwrap(),
            ),
        ),
        ("list", Arc::new(lists.finish())),
    ])
}

#[tokio::test]
async fn every_type_comes_back() {
    let (folder, store) = open();
    let rows = every_type();
    let file = written(&store, std::slice::from_ref(&rows), WriterOptions::default()).await;
    assert_eq!(read(&store, &rows.schema(), &RowChoice::All).await, [rows]);
    assert_eq!(file.bytes, std::fs::metadata(folder.path().join("t/x.parquet")).unwrap().len());
    let uuid = footer(&folder).metadata().file_metadata().schema_descr().column(14);
    assert_eq!(uuid.logical_type_ref(), Some(&LogicalType::Uuid));
}

#[tokio::test]
async fn metrics_tell_what_the_file_holds() {
    let (_folder, store) = open();
    let file = written(&store, &[every_type()], WriterOptions::default()).await;
    let column =
        |id: i32| -> &ColumnMetrics { file.columns.iter().find(|c| c.field_id == id).unwrap() };
    let bounds = |id: i32| (column(id).lower.clone(), column(id).upper.clone());
    let both = |lower, upper| (Some(lower), Some(upper));
    assert!(file.columns.iter().all(|c| c.bytes > 0));
    assert!(file.columns.iter().filter(|c| c.field_id < 16).all(|c| c.values == 3));
    assert_eq!((column(2).nulls, column(2).nans), (Some(1), None));
    assert_eq!((column(4).nulls, column(4).nans), (Some(1), Some(1)));
    assert_eq!((column(5).nulls, column(5).nans), (Some(0), Some(1)));
    assert_eq!(bounds(1), both(Bound::Boolean(false), Bound::Boolean(true)));
    assert_eq!(bounds(2), both(Bound::Int(i32::MIN), Bound::Int(i32::MAX)));
    assert_eq!(bounds(3), both(Bound::Long(i64::MIN), Bound::Long(i64::MAX)));
    assert_eq!(bounds(4), both(Bound::Float(-1.5), Bound::Float(-1.5)));
    assert_eq!(bounds(5), both(Bound::Double(-0.5), Bound::Double(2.5)));
    assert_eq!(bounds(6), both(Bound::Decimal(-5), Bound::Decimal(7)));
    assert_eq!(bounds(7), both(Bound::Decimal(-500), Bound::Decimal(700)));
    let wide = 10i128.pow(37);
    assert_eq!(bounds(8), both(Bound::Decimal(-wide), Bound::Decimal(wide)));
    assert_eq!(bounds(9), both(Bound::Text(String::new()), Bound::Text("ä".into())));
    assert_eq!(bounds(10), both(Bound::Bytes(vec![]), Bound::Bytes(vec![0xFF, 0])));
    assert_eq!(bounds(11), both(Bound::Int(-719_162), Bound::Int(19_000)));
    assert_eq!(bounds(14), both(Bound::Long(-1), Bound::Long(1)));
    assert_eq!(bounds(15), both(Bound::Bytes(vec![1; 16]), Bound::Bytes(vec![0xFF; 16])));
    let element = column(99);
    assert_eq!((element.values, element.nulls, &element.lower), (5, None, &None));
}

#[tokio::test]
async fn long_text_has_short_bounds_that_hold() {
    let (_folder, store) = open();
    let texts: Vec<String> =
        (0..500).map(|n| format!("{:03}{}", n, "\u{10FFFF}z".repeat(200))).collect();
    let rows = batch(vec![("text", Arc::new(StringArray::from_iter_values(&texts)))]);
    let file = written(&store, &[rows], WriterOptions::default()).await;
    let (Some(Bound::Text(lower)), Some(Bound::Text(upper))) =
        (&file.columns[0].lower, &file.columns[0].upper)
    else {
        panic!("{:?}", file.columns[0])
    };
    assert_eq!(lower.chars().count(), 16);
    assert!(upper.chars().count() <= 16);
    assert!(texts.iter().all(|t| lower <= t && t <= upper), "{lower} {upper}");
}

#[tokio::test]
async fn a_column_of_nulls_or_nans_has_no_bounds() {
    let (_folder, store) = open();
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    let nans: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, f64::NAN]));
    let file =
        written(&store, &[batch(vec![("n", nulls), ("f", nans)])], WriterOptions::default()).await;
    assert_eq!((file.columns[0].nulls, &file.columns[0].lower), (Some(2), &None));
    assert_eq!((file.columns[1].nans, &file.columns[1].upper), (Some(2), &None));
}

fn many(rows: i64) -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("random", Arc::new(Int64Array::from_iter_values((0..rows).map(scramble)))),
        (
            "state",
            Arc::new(StringArray::from_iter_values(
                (0..rows).map(|n| ["new", "paid", "sent"][n as usize % 3]),
            )),
        ),
        (
            "name",
            Arc::new(StringArray::from_iter_values(
                (0..rows).map(|n| format!("{:x}", scramble(n))),
            )),
        ),
    ])
}

fn scramble(n: i64) -> i64 {
    (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) as i64
}

#[tokio::test]
async fn encodings_fit_their_columns_and_row_groups_are_bounded() {
    let (folder, store) = open();
    let rows = many(300_000);
    let parts: Vec<_> = (0..300_000).step_by(10_000).map(|n| rows.slice(n, 10_000)).collect();
    let options = WriterOptions { row_group_bytes: 1 << 20, whole_bounds: false };
    let file = written(&store, &parts, options).await;
    let reader = footer(&folder);
    let groups = reader.metadata().row_groups();
    assert!(groups.len() > 2, "{}", groups.len());
    assert_eq!(file.split_offsets.len(), groups.len());
    assert_eq!(file.split_offsets[0], 4);
    assert!(file.split_offsets.is_sorted());
    assert!(groups.iter().all(|g| g.compressed_size() < 3 << 20));
    let has = |column: usize, encoding| groups[0].column(column).encodings().any(|e| e == encoding);
    assert!(has(0, Encoding::DELTA_BINARY_PACKED) && !has(0, Encoding::RLE_DICTIONARY));
    assert!(has(2, Encoding::RLE_DICTIONARY));
    assert!(has(3, Encoding::DELTA_LENGTH_BYTE_ARRAY) && !has(3, Encoding::RLE_DICTIONARY));
    let metrics = &file.columns[0];
    assert_eq!(
        (&metrics.lower, &metrics.upper),
        (&Some(Bound::Long(0)), &Some(Bound::Long(299_999)))
    );
    // Rows are found by their number across row groups.
    let choice = RowChoice::Only([0, 99_999, 100_000, 299_999].into_iter().collect());
    let found = read(&store, &rows.schema(), &choice).await;
    let found = arrow_select::concat::concat_batches(&rows.schema(), &found).unwrap();
    let expected: Vec<_> = [0, 99_999, 100_000, 299_999].map(|n| rows.slice(n, 1)).into();
    assert_eq!(found, arrow_select::concat::concat_batches(&rows.schema(), &expected).unwrap());
}

#[tokio::test]
async fn a_file_reads_under_a_later_schema() {
    let (_folder, store) = open();
    let rows = batch(vec![
        ("old_name", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("dropped", Arc::new(Int32Array::from(vec![7, 8, 9]))),
    ]);
    written(&store, &[rows], WriterOptions::default()).await;
    let later = Arc::new(Schema::new(vec![
        identified(5, Field::new("added", DataType::Utf8, true)),
        identified(1, Field::new("new_name", DataType::Int64, true)),
    ]));
    let choice = RowChoice::Except([1].into_iter().collect());
    let found = read(&store, &later, &choice).await;
    let expected = RecordBatch::try_new(
        later,
        vec![
            Arc::new(StringArray::from(vec![None::<&str>, None])),
            Arc::new(Int64Array::from(vec![1, 3])),
        ],
    );
    assert_eq!(found, [expected.unwrap()]);
}

#[tokio::test]
async fn a_damaged_file_is_corrupt_and_nothing_panics() {
    let (folder, store) = open();
    let rows = many(5000);
    written(&store, std::slice::from_ref(&rows), WriterOptions::default()).await;
    let path = folder.path().join("t/x.parquet");
    let whole = std::fs::read(&path).unwrap();
    for step in 0..150 {
        let mut damaged = whole.clone();
        let at = scramble(step).unsigned_abs() as usize % whole.len();
        damaged[at] ^= 1 << (step % 8);
        if step % 5 == 0 {
            damaged.truncate(at);
        }
        std::fs::write(&path, damaged).unwrap();
        if let Ok(reader) = DataFileReader::open(&store, "t/x.parquet").await
            && let Ok(stream) = reader.stream(&rows.schema(), &RowChoice::All)
        {
            let _: Result<Vec<_>, _> = stream.try_collect().await;
        }
    }
    std::fs::write(&path, b"PAR1").unwrap();
    let error = DataFileReader::open(&store, "t/x.parquet").await.err().unwrap();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::Corrupt);
}

/// Prints what PyArrow and DuckDB read, one line a column.
const FOREIGN: &str = r#"
import sys, pyarrow.parquet as pq, duckdb
table = pq.read_table(sys.argv[1])
for name in table.column_names:
    values = [v.hex() if isinstance(v, bytes) else str(v) for v in table[name].to_pylist()]
    print(name, *values, sep="|")
rows = duckdb.sql(f"select uuid, dec38, bytes, date from '{sys.argv[1]}'").fetchall()
print(*[str(v) for row in rows for v in row], sep="|")
"#;

/// Judged by foreign readers where they are installed.
#[tokio::test]
async fn foreign_readers_read_every_type() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let python = root.join("target/readers/venv/bin/python");
    if !python.exists() {
        println!("SKIPPED foreign_readers_read_every_type: the readers are not installed");
        return;
    }
    let (folder, store) = open();
    written(&store, &[every_type()], WriterOptions::default()).await;
    let output = std::process::Command::new(python)
        .args(["-c", FOREIGN])
        .arg(folder.path().join("t/x.parquet"))
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let told = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = told.lines().collect();
    let expected = [
        "bool|True|None|False",
        "int|-2147483648|None|2147483647",
        "long|-9223372036854775808|None|9223372036854775807",
        "float|nan|None|-1.5",
        "double|2.5|nan|-0.5",
        "dec9|-0.05|None|0.07",
        "dec18|-5.00|None|7.00",
        "dec38|-100000000000000000000000000000000000.00|None|100000000000000000000000000000000000.00",
        "text|ä|None|",
        "bytes|ff00|None|",
        "date|0001-01-01|None|2022-01-08",
        "time|00:00:00|None|23:59:59.999999",
        "at|1969-12-31 23:59:59.999999|None|1970-01-01 00:00:00.000001",
        "zoned|1969-12-31 23:59:59.999999+00:00|None|1970-01-01 00:00:00.000001+00:00",
        "uuid|ffffffff-ffff-ffff-ffff-ffffffffffff|None|01010101-0101-0101-0101-010101010101",
        "list|[1, None, 3]|None|[]",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(*line, expected);
    }
    let duckdb = lines[16];
    assert!(duckdb.starts_with("ffffffff-ffff-ffff-ffff-ffffffffffff|-1000"), "{duckdb}");
}
