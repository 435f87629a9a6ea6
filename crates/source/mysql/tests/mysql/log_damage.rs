//! A real server's log with bytes turned: an error or other rows, never a panic.
use std::sync::Arc;

use lakeward_core::TableId;
use lakeward_source_mysql::binlog::Flavour;
use lakeward_source_mysql::binlog::event::{HEADER_BYTES, Header};
use lakeward_source_mysql::fold::{Fold, World as Known};
use lakeward_source_mysql::follow::{ColumnNow, Look};
use lakeward_source_mysql::position::GtidSet;
use lakeward_source_mysql::shared::Shared;
use lakeward_source_mysql::tables::Tables;
use lakeward_source_mysql::types::{Charsets, Kind, Unrepresentable};
use lakeward_testkit::mariadb::{MariaDb, Version};

const DDL: &str = "
    CREATE TABLE t (id INT PRIMARY KEY, a BIGINT UNSIGNED, b DECIMAL(20,5), c DECIMAL(50,10), d DOUBLE,
        e VARCHAR(300), f TEXT, g BLOB, h DATE, i TIME(3), j DATETIME(6), k TIMESTAMP(2) NULL, l YEAR,
        m ENUM('a','b'), n SET('a','b','c'), o BIT(12), p CHAR(9), q BINARY(5));
    SET GLOBAL log_bin_compress_min_len=10; SET SESSION time_zone='+00:00'";

const DML: &str = "
    INSERT INTO t VALUES (1, 18446744073709551615, -1.5, 123456789012345678901234567890.5, 1.5, 'text', REPEAT('long', 99),
        'bytes', '2024-05-06', '-12:13:14.5', '2024-05-06 07:08:09.123456', '2024-05-06 07:08:09.12', 2024, 'b',
        'a,c', b'101', 'x', 'y'), (2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
    UPDATE t SET a=5, f='short'; UPDATE t SET id=7 WHERE id=2;
    SET GLOBAL log_bin_compress=ON; UPDATE t SET f=REPEAT('longer', 99), e=REPEAT('x', 200); SET GLOBAL log_bin_compress=OFF;
    XA START 'damage'; INSERT INTO t (id) VALUES (9); XA END 'damage'; XA PREPARE 'damage'; XA COMMIT 'damage';
    ALTER TABLE t ADD COLUMN r INT DEFAULT 7, RENAME COLUMN e TO s, DROP COLUMN g; INSERT INTO t (id) VALUES (10);
    DELETE FROM t WHERE id<8; TRUNCATE TABLE t";

/// The events of the server's only log, with header and checksum.
async fn events() -> Vec<Vec<u8>> {
    let server = MariaDb::start(Version::V10_11).await.unwrap();
    server.execute("CREATE DATABASE d").await.unwrap();
    server.execute_in("d", DDL).await.unwrap();
    server.execute_in("d", DML).await.unwrap();
    let bytes = std::fs::read(server.data_dir().join("bin.000001")).unwrap();
    let mut events: Vec<Vec<u8>> = Vec::new();
    let mut at = 4;
    while at + HEADER_BYTES <= bytes.len() {
        let header = Header::parse(&bytes[at..]).unwrap();
        let end = at + header.size as usize;
        events.push(bytes[at..end].to_vec());
        at = end;
    }
    // The table is known from behind its own beginning.
    let made =
        events.iter().position(|event| event.windows(12).any(|text| text == b"CREATE TABLE"));
    events.split_off(made.unwrap() + 1)
}

fn fold() -> Fold {
    let columns = [
        ("id", "int"),
        ("a", "bigint unsigned"),
        ("b", "decimal(20,5)"),
        ("c", "decimal(50,10)"),
        ("d", "double"),
        ("e", "varchar(300)"),
        ("f", "text"),
        ("g", "blob"),
        ("h", "date"),
        ("i", "time(3)"),
        ("j", "datetime(6)"),
        ("k", "timestamp(2)"),
        ("l", "year"),
        ("m", "enum('a','b')"),
        ("n", "set('a','b','c')"),
        ("o", "bit(12)"),
        ("p", "char(9)"),
        ("q", "binary(5)"),
    ];
    let column = |(name, declared): &(&str, &str)| ColumnNow {
        name: (*name).to_owned(),
        kind: Kind::of_declared(declared).unwrap(),
        nullable: *name != "id",
    };
    let look = Look {
        columns: columns.iter().map(column).collect(),
        key: vec!["id".into()],
        ignored: Vec::new(),
    };
    let tables = Tables::new(Unrepresentable::Null);
    tables.looked(&TableId::new("d", "t"), &look, "");
    let charsets = Charsets::new((1..300).map(|id| (id, "utf8mb4".to_owned())));
    let known = Known {
        tables: Arc::new(tables),
        shared: Arc::new(Shared::default()),
        charsets: Arc::new(charsets),
        flavour: Flavour::MariaDb,
        lower_case: false,
    };
    Fold::new(known, GtidSet::mariadb(), GtidSet::mariadb())
}

/// Events taken in until one is refused, and rows that came out.
fn read(events: &[Vec<u8>]) -> (usize, usize) {
    let mut fold = fold();
    let mut rows = 0;
    for (at, event) in events.iter().enumerate() {
        let Ok(header) = Header::parse(event) else { return (at, rows) };
        let body = event.get(HEADER_BYTES..event.len().saturating_sub(4)).unwrap_or_default();
        if fold.apply(&header, body).and_then(|()| fold.flush()).is_err() {
            return (at, rows);
        }
        while let Some(event) = fold.pop() {
            if let lakeward_core::SourceEvent::Rows(batch) = event {
                rows += batch.len();
            }
        }
    }
    (events.len(), rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_turned_byte_causes_a_panic() {
    let whole = events().await;
    let (taken, rows) = read(&whole);
    assert_eq!(taken, whole.len(), "the server's own log is refused");
    assert!(rows >= 10, "{rows}");
    let mut seed = 0x2545_F491_4F6C_DD1Du64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below.max(1)
    };
    let mut refused = 0;
    for _ in 0..4000 {
        let mut events = whole.clone();
        for _ in 0..=random(2) {
            let event = random(events.len());
            let bytes = &mut events[event];
            match random(4) {
                0 => bytes.truncate(random(bytes.len())),
                1 => {
                    let at = random(bytes.len());
                    bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][random(6)];
                }
                2 if bytes.len() > HEADER_BYTES => {
                    let at = HEADER_BYTES + random(bytes.len() - HEADER_BYTES);
                    bytes[at] ^= 1 << random(8);
                }
                _ => {
                    let other = random(events.len());
                    events.swap(event, other);
                }
            }
        }
        refused += usize::from(read(&events).0 < events.len());
    }
    println!("{refused} of 4000 damaged logs were refused");
    assert!(refused > 500, "{refused}");
}
