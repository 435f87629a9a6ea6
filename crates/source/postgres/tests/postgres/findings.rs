//! Every finding of `check`, provoked on a real server.
use std::sync::Arc;

use lakeward_core::{CheckReport, ErrorKind, Severity, Source};
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;
use serde_json::json;

use crate::base::Base;

fn has(report: &CheckReport, severity: Severity, about: &str, message: &str) {
    let found = report
        .findings
        .iter()
        .find(|f| f.severity == severity && f.about == about && f.message.contains(message));
    let found = found.unwrap_or_else(|| {
        panic!("no {severity:?} about `{about}` saying `{message}` in {:#?}", report.findings)
    });
    assert!(!found.remedy.is_empty());
}

fn refused(report: &CheckReport) -> Vec<&str> {
    let refused = report.findings.iter().filter(|f| f.severity == Severity::Refused);
    refused.map(|f| f.about.as_str()).collect()
}

async fn a_fit_database_has_nothing_refused(version: Version) {
    let base = Base::new(version, "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let source = base.source().await;
    let report = source.check().await.unwrap();
    assert!(
        report.server.starts_with(&format!("PostgreSQL {}", version.major())),
        "{}",
        report.server
    );
    assert_eq!(refused(&report), [""; 0], "{:#?}", report.findings);
    source.prepare(&source.discover().await.unwrap()).await.unwrap();
    assert_eq!(refused(&source.check().await.unwrap()), [""; 0]);
    let left = base.server.text(&base.name, "SELECT count(*) FROM pg_publication").await.unwrap();
    assert_eq!(left.as_deref(), Some("1"));
    source.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_database_has_nothing_refused_on_15() {
    a_fit_database_has_nothing_refused(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_database_has_nothing_refused_on_18() {
    a_fit_database_has_nothing_refused(Version::V18).await;
}

async fn fails(base: &Base, change: serde_json::Value, kind: ErrorKind, message: &str) {
    let error = base.source_with(change).await.check().await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_is_an_error_that_says_why() {
    let base = Base::new(Version::V15, "").await;
    let cannot = "cannot connect";
    let port = json!({"port": 1, "connect_timeout": "2s"});
    fails(&base, port, ErrorKind::Unreachable, cannot).await;
    let host = json!({"host": "no.such.host.invalid"});
    fails(&base, host, ErrorKind::Unreachable, cannot).await;
    let database = json!({"database": "nowhere"});
    fails(&base, database, ErrorKind::Config, "database does not exist").await;
    let tls = json!({"tls": {"mode": "require"}});
    fails(&base, tls, ErrorKind::Config, "does not offer TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_missing_password_is_an_error_without_the_password() {
    let server = Arc::new(Postgres::start(Version::V18).await.unwrap());
    let base = Base::on(server, "").await;
    base.server.require_password("right").await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let change = json!({"password": {"file": file.path()}});
    std::fs::write(file.path(), "wrong-secret\n").unwrap();
    fails(&base, change.clone(), ErrorKind::Auth, "password").await;
    let error = base.source_with(change.clone()).await.check().await.unwrap_err();
    assert!(!format!("{error:?}").contains("wrong-secret"));
    std::fs::write(file.path(), "right\n").unwrap();
    assert!(base.source_with(change).await.check().await.is_ok());
    fails(&base, json!({}), ErrorKind::Auth, "asks for a password").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_columns_are_judged() {
    let ddl = "CREATE TABLE good (id int PRIMARY KEY, \
            twice int GENERATED ALWAYS AS (id * 2) STORED, span interval, total numeric, who inet[]); \
        CREATE TABLE bare (v int); CREATE TABLE mute (id int PRIMARY KEY); ALTER TABLE mute REPLICA IDENTITY NOTHING; \
        CREATE TABLE full_row (v int); ALTER TABLE full_row REPLICA IDENTITY FULL; \
        CREATE TABLE late (id int, PRIMARY KEY (id) DEFERRABLE); \
        CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); CREATE VIEW seen AS SELECT 1; \
        CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE nothing (); \
        CREATE TABLE made (a int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)";
    let base = Base::new(Version::V15, ddl).await;
    let patterns = json!({"tables": ["public.*", "sales.*", "public.absent"]});
    let report = base.source_with(patterns).await.check().await.unwrap();
    let refusals = [
        ("public.bare", "replica identity"),
        ("public.mute", "replica identity"),
        ("public.late", "replica identity"),
        ("public.quick", "unlogged"),
        ("public.parts", "partitioned"),
        ("public.made", "generated"),
        ("tables: public.absent", "no table matches"),
    ];
    for (about, message) in refusals {
        has(&report, Severity::Refused, about, message);
    }
    assert_eq!(refused(&report).len(), refusals.len(), "{:#?}", report.findings);
    has(&report, Severity::Warning, "public.full_row", "has no key");
    has(&report, Severity::Warning, "public.seen", "view");
    has(&report, Severity::Warning, "public.nothing", "no columns");
    has(&report, Severity::Warning, "tables: sales.*", "no table matches");
    has(&report, Severity::Note, "public.good.twice", "generated");
    has(&report, Severity::Note, "public.good.span", "lands as text");
    has(&report, Severity::Note, "public.good.total", "lands as text");
    has(&report, Severity::Note, "max_slot_wal_keep_size", "without limit");
    assert!(!report.findings.iter().any(|f| f.about == "public.good.id"));
    let remedy = &report.findings.iter().find(|f| f.about == "public.bare").unwrap().remedy;
    assert!(
        remedy.starts_with("ALTER TABLE \"public\".\"bare\" REPLICA IDENTITY FULL"),
        "{remedy}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_named() {
    let ddl = "CREATE ROLE poor LOGIN; CREATE TABLE t (id int PRIMARY KEY); \
        CREATE TABLE secret (id int PRIMARY KEY); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; \
        GRANT SELECT ON secret TO poor; CREATE SCHEMA shut; CREATE TABLE shut.u (id int PRIMARY KEY)";
    let server = Arc::new(Postgres::start(Version::V15).await.unwrap());
    let base = Base::on(server, ddl).await;
    let source = base.source_with(json!({"user": "poor", "tables": ["*.*"]})).await;
    let report = source.check().await.unwrap();
    has(&report, Severity::Refused, "user", "may not read the log");
    has(&report, Severity::Refused, "user", "may not make the publication");
    has(&report, Severity::Refused, "public.t", "may not be read");
    has(&report, Severity::Refused, "public.t", "not owned");
    has(&report, Severity::Refused, "shut.u", "may not be read");
    has(&report, Severity::Refused, "public.secret", "row security");

    base.run(&format!(
        "ALTER ROLE poor REPLICATION BYPASSRLS; GRANT CREATE ON DATABASE {} TO poor; GRANT USAGE ON SCHEMA shut TO poor; \
         ALTER TABLE t OWNER TO poor; ALTER TABLE secret OWNER TO poor; ALTER TABLE shut.u OWNER TO poor",
        base.name
    ))
    .await;
    let report = source.check().await.unwrap();
    assert_eq!(refused(&report), [""; 0], "{:#?}", report.findings);
    let tables = source.discover().await.unwrap();
    assert_eq!(tables.len(), 3);
    assert!(source.prepare(&tables).await.unwrap().fresh);
    source.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_or_publication_that_does_not_fit_is_refused() {
    let base = Base::new(Version::V15, "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
    let n = &base.name;
    base.run(&format!(
        "SELECT pg_create_logical_replication_slot('{n}_two', 'pgoutput', false, true); \
         SELECT pg_create_logical_replication_slot('{n}_plugin', 'test_decoding'); \
         SELECT pg_create_logical_replication_slot('{n}_fits', 'pgoutput'); \
         CREATE PUBLICATION filtered FOR TABLE t WHERE (id > 1); CREATE PUBLICATION cut FOR TABLE t (id); \
         CREATE PUBLICATION root FOR TABLE t WITH (publish_via_partition_root); \
         CREATE PUBLICATION inserts FOR TABLE t WITH (publish = 'insert')"
    ))
    .await;
    let other = Base::new(Version::V15, "").await;
    for (slot, message) in [("two", "two_phase"), ("plugin", "another output plugin")] {
        let source = base.source_with(json!({"slot": format!("{n}_{slot}")})).await;
        let about = format!("slot {n}_{slot}");
        has(&source.check().await.unwrap(), Severity::Refused, &about, message);
    }
    let foreign = other.source_with(json!({"slot": format!("{n}_fits"), "tables": ["*.*"]})).await;
    let report = foreign.check().await.unwrap();
    has(&report, Severity::Refused, &format!("slot {n}_fits"), "another database");
    for (publication, message) in [
        ("filtered", "row filters or column lists: public.t"),
        ("cut", "row filters or column lists: public.t"),
        ("root", "publish_via_partition_root"),
        ("inserts", "does not publish all"),
    ] {
        let source = base.source_with(json!({"publication": publication})).await;
        let about = format!("publication {publication}");
        has(&source.check().await.unwrap(), Severity::Refused, &about, message);
    }
    for slot in ["two", "plugin", "fits"] {
        base.run(&format!("SELECT pg_drop_replication_slot('{n}_{slot}')")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_is_a_warning() {
    let world = crate::world::World::new(Version::V18, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let t = world.table("t").await;
    let _stream = world.open(&world.beginning, &[t]).await;
    let source = lakeward_source_postgres::Postgres::new(Arc::clone(&world.settings));
    let about = format!("slot {}", world.settings.slot);
    has(&source.check().await.unwrap(), Severity::Warning, &about, "being read by process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_logical_log_or_room_is_refused() {
    let settings =
        [("wal_level", "replica"), ("max_replication_slots", "1"), ("max_wal_senders", "0")];
    let server = Arc::new(Postgres::start_with(Version::V15, &settings).await.unwrap());
    let base = Base::on(server, "CREATE TABLE t (id int PRIMARY KEY)").await;
    base.run("SELECT pg_create_physical_replication_slot('taken')").await;
    let source = base.source().await;
    let report = source.check().await.unwrap();
    has(&report, Severity::Refused, "wal_level", "`replica`");
    has(&report, Severity::Refused, "max_replication_slots", "in use");
    has(&report, Severity::Refused, "max_wal_senders", "in use");
    assert!(source.prepare(&source.discover().await.unwrap()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_log_is_gone_is_refused() {
    let settings =
        [("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB"), ("min_wal_size", "32MB")];
    let server = Arc::new(Postgres::start_with(Version::V18, &settings).await.unwrap());
    let base = Base::on(server, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let source = base.source().await;
    let tables = source.discover().await.unwrap();
    source.prepare(&tables).await.unwrap();
    has(&source.check().await.unwrap(), Severity::Note, "max_slot_wal_keep_size", "1 MiB");
    for _ in 0..6 {
        base.run("INSERT INTO t SELECT coalesce((SELECT max(id) FROM t), 0) + i FROM generate_series(1, 20000) i").await;
        base.run("SELECT pg_switch_wal()").await;
    }
    base.run("CHECKPOINT").await;
    let about = format!("slot {}", base.name);
    has(&source.check().await.unwrap(), Severity::Refused, &about, "removed log");
    let error = source.prepare(&tables).await.unwrap_err();
    assert_eq!(error.kind(), lakeward_core::ErrorKind::LogGone);
    source.remove().await.unwrap();
}
