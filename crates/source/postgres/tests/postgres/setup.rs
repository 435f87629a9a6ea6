//! Publication and slot: made once, found again, refused when they do not fit, removed.
use lakeward_core::{Coverage, ErrorKind};
use lakeward_testkit::servers::Version;
use serde_json::json;

use crate::base::{Base, table};

async fn count(base: &Base, sql: &str) -> String {
    base.server.text(&base.name, sql).await.unwrap().unwrap()
}

async fn made_once_and_removed(version: Version) {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); \
               CREATE SCHEMA \"Odd \"\"one\"; CREATE TABLE \"Odd \"\"one\".\"x.y\" (id int PRIMARY KEY)";
    let base = Base::new(version, ddl).await;
    let source = base.source_with(json!({"tables": ["*.*"]})).await;
    let tables = source.discover().await.unwrap();
    assert_eq!(tables.len(), 3);

    let first = source.prepare(&tables[..2]).await.unwrap();
    assert!(first.fresh);
    let again = source.prepare(&tables[..2]).await.unwrap();
    assert!(!again.fresh);
    assert_eq!(source.covers(&again.beginning, &first.beginning), Coverage::Covered);
    assert!(!source.publish(&tables[..2]).await.unwrap());
    assert!(source.publish(&tables).await.unwrap());
    assert!(!source.publish(&tables).await.unwrap());
    let published =
        format!("SELECT count(*) FROM pg_publication_tables WHERE pubname = '{}'", base.name);
    assert_eq!(count(&base, &published).await, "3");
    let slots = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND NOT two_phase AND plugin = 'pgoutput'",
        base.name
    );
    assert_eq!(count(&base, &slots).await, "1");

    source.remove().await.unwrap();
    source.remove().await.unwrap();
    assert_eq!(count(&base, &published).await, "0");
    assert_eq!(count(&base, &slots).await, "0");
    assert_eq!(count(&base, "SELECT count(*) FROM pg_publication").await, "0");
    assert!(source.prepare(&tables).await.unwrap().fresh);
    source.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn made_once_and_removed_on_15() {
    made_once_and_removed(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_once_and_removed_on_18() {
    made_once_and_removed(Version::V18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_is_used_if_it_fits_and_left_when_we_go() {
    let base = Base::new(Version::V18, "CREATE TABLE a (id int PRIMARY KEY)").await;
    base.run("CREATE PUBLICATION theirs FOR ALL TABLES").await;
    let source = base.source_with(json!({"publication": "theirs"})).await;
    let tables = source.discover().await.unwrap();
    assert!(source.prepare(&tables).await.unwrap().fresh);
    assert!(!source.publish(&tables).await.unwrap());
    source.remove().await.unwrap();
    assert_eq!(count(&base, "SELECT pubname FROM pg_publication").await, "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused() {
    let base = Base::new(Version::V15, "CREATE TABLE a (id int PRIMARY KEY)").await;
    base.run("CREATE PUBLICATION filtered_one FOR TABLE a WHERE (id > 5)").await;
    let source = base.source_with(json!({"publication": "filtered_one"})).await;
    let tables = source.discover().await.unwrap();
    assert_eq!(source.prepare(&tables).await.unwrap_err().kind(), ErrorKind::Config);

    let slot = format!("{}_other", base.name);
    base.run(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', false, true)"
    ))
    .await;
    let source = base.source_with(json!({"slot": slot})).await;
    let error = source.prepare(&tables).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("two_phase"), "{error}");
    base.run(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_leaves_out_what_cannot_be_followed() {
    let ddl = "CREATE TABLE good (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, v text); \
        CREATE TABLE bare (v int); CREATE TABLE mute (id int PRIMARY KEY); ALTER TABLE mute REPLICA IDENTITY NOTHING; \
        CREATE TABLE full_row (v int); ALTER TABLE full_row REPLICA IDENTITY FULL; \
        CREATE TABLE late (id int, PRIMARY KEY (id) DEFERRABLE); \
        CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); CREATE VIEW seen AS SELECT 1; \
        CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); \
        CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9); \
        CREATE TABLE hidden (id int PRIMARY KEY); CREATE TABLE nothing ()";
    let base = Base::new(Version::V15, ddl).await;
    let source = base.source_with(json!({"exclude": ["*.hid*"]})).await;
    let names: Vec<_> =
        source.discover().await.unwrap().iter().map(|t| t.table.name.clone()).collect();
    assert_eq!(names, ["full_row", "good", "part"]);
    let good = table(&source, "good").await;
    let columns: Vec<_> = good.columns.iter().map(|c| (c.id.0, c.name.as_str())).collect();
    assert_eq!(columns, [(1, "id"), (3, "v")]);
    assert_eq!(good.key, [0]);
    assert!(table(&source, "full_row").await.key.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_tells_ddl_that_no_row_announces() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v varchar(5)); INSERT INTO t VALUES (1, 'x')";
    let base = Base::new(Version::V18, ddl).await;
    let source = base.source().await;
    let t = table(&source, "t").await;
    assert!(source.drift(&t).await.unwrap().is_none());
    base.run("VACUUM FULL t").await;
    let moved = source.drift(&t).await.unwrap().unwrap();
    assert_eq!((moved.diverged, moved.change.after.version), (None, t.version));
    base.run("ALTER TABLE t ADD c int DEFAULT 7").await;
    let added = source.drift(&moved.change.after).await.unwrap().unwrap();
    assert_eq!(added.diverged, None);
    assert_eq!(added.change.after.columns.len(), 3);
    assert!(matches!(added.change.fill[2], lakeward_core::Fill::Constant(_)));
    base.run("ALTER TABLE t ALTER v TYPE text USING upper(v)").await;
    let rewritten = source.drift(&added.change.after).await.unwrap().unwrap();
    assert_eq!(rewritten.diverged, Some(lakeward_core::Divergence::Rewritten));
    base.run("DROP TABLE t").await;
    assert!(source.drift(&t).await.unwrap().is_none());
}
