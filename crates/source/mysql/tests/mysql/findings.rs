//! What `check`, `discover` and `drift` say of real servers.
use std::sync::Arc;

use lakeward_core::{Divergence, ErrorKind, Fill, Severity, Source};
use lakeward_testkit::mariadb::{MariaDb, Version};
use serde_json::json;

use crate::world::{World, server, source};

async fn findings(source: &dyn Source) -> Vec<(Severity, String)> {
    let report = source.check().await.unwrap();
    assert!(report.server.starts_with("MariaDB 1"), "{}", report.server);
    assert!(report.findings.iter().all(|f| !f.remedy.is_empty() && !f.message.is_empty()));
    report.findings.into_iter().map(|f| (f.severity, f.about)).collect()
}

fn about(findings: &[(Severity, String)], severity: Severity) -> Vec<&str> {
    findings.iter().filter(|(s, _)| *s == severity).map(|(_, about)| about.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_badly_set_server_is_refused_point_by_point() {
    let settings = [
        ("binlog-format", "MIXED"),
        ("binlog-row-metadata", "MINIMAL"),
        ("binlog-row-image", "MINIMAL"),
        ("gtid-strict-mode", "0"),
        ("binlog-expire-logs-seconds", "600"),
    ];
    let server = MariaDb::start_with(Version::V10_11, &settings).await.unwrap();
    server.execute("CREATE DATABASE d; CREATE TABLE d.t (id int PRIMARY KEY)").await.unwrap();
    let found = findings(source(&server, "d", json!({})).await.as_ref()).await;
    let mut refused = about(&found, Severity::Refused);
    refused.sort_unstable();
    assert_eq!(refused, ["binlog_format", "binlog_row_image", "binlog_row_metadata"]);
    let warned = about(&found, Severity::Warning);
    for name in ["gtid_strict_mode", "binlog_expire_logs_seconds"] {
        assert!(warned.contains(&name), "{warned:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_be_followed_are_told_and_left_out() {
    let ddl = "CREATE TABLE good (id int PRIMARY KEY, g int AS (id + 1) STORED); \
               CREATE TABLE aria (id int PRIMARY KEY) ENGINE = Aria; \
               CREATE TABLE parent (id int PRIMARY KEY); \
               CREATE TABLE child (id int PRIMARY KEY, p int, \
                 FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE); \
               CREATE TABLE odd (id int PRIMARY KEY, s varchar(9) CHARACTER SET sjis); \
               CREATE TABLE keyless (a int); \
               CREATE VIEW v AS SELECT * FROM good; \
               CREATE TABLE versioned (id int PRIMARY KEY) WITH SYSTEM VERSIONING";
    let world = World::new(Version::V11_8, ddl).await;
    let names: Vec<_> = world.known.iter().map(|t| t.table.name.as_str()).collect();
    assert_eq!(names, ["good", "keyless", "odd", "parent"]);
    let good = &world.known[0];
    assert_eq!(good.columns.len(), 1);
    let found = findings(world.source.as_ref()).await;
    let named = |name: &str| format!("{}.{name}", world.database);
    let refused = about(&found, Severity::Refused);
    for name in ["aria", "child", "odd.s"] {
        assert!(refused.contains(&named(name).as_str()), "{name}: {refused:?}");
    }
    let notes = about(&found, Severity::Note);
    for name in ["good.g", "keyless", "v", "versioned"] {
        assert!(notes.contains(&named(name).as_str()), "{name}: {notes:?}");
    }
    let server = server(Version::V11_8).await;
    let lenient = source(&server, &world.database, json!({"allow_cascades": true})).await;
    assert_eq!(lenient.discover().await.unwrap().len(), 5);
    let found = findings(lenient.as_ref()).await;
    assert!(about(&found, Severity::Warning).contains(&named("child").as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told_which() {
    let server = server(Version::V11_8).await;
    let world = World::on(Arc::clone(&server), "CREATE TABLE t (id int PRIMARY KEY)").await;
    let user = format!("u_{}", world.database);
    let database = &world.database;
    server
        .execute(&format!(
            "CREATE USER {user}@'%' IDENTIFIED BY 'secret'; CREATE USER {user}@localhost IDENTIFIED BY 'secret'; \
             GRANT SELECT ON {database}.* TO {user}@'%'; GRANT SELECT ON {database}.* TO {user}@localhost"
        ))
        .await
        .unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "secret\n").unwrap();
    let options = json!({"user": user, "password": {"file": password.path()}});
    let reader = source(&server, database, options).await;
    let found = findings(reader.as_ref()).await;
    assert_eq!(about(&found, Severity::Refused), ["user"]);
    assert_eq!(reader.discover().await.unwrap().len(), 1);
    server
        .execute(&format!(
            "GRANT REPLICATION SLAVE ON *.* TO {user}@'%'; GRANT REPLICATION SLAVE ON *.* TO {user}@localhost"
        ))
        .await
        .unwrap();
    assert_eq!(about(&findings(reader.as_ref()).await, Severity::Refused), Vec::<&str>::new());
    std::fs::write(password.path(), "wrong\n").unwrap();
    let options = json!({"user": user, "password": {"file": password.path()}});
    let error = source(&server, database, options).await.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_as_strict_as_asked_for() {
    // 11.8 makes itself a certificate that nobody signed; 10.11 has none.
    let new = server(Version::V11_8).await;
    let old = server(Version::V10_11).await;
    let tls = |mode: &str| json!({"tls": {"mode": mode}, "tables": ["none.*"]});
    for mode in ["disable", "prefer", "require"] {
        source(&new, "none", tls(mode)).await.head().await.unwrap();
    }
    for mode in ["verify_ca", "verify_full"] {
        let error = source(&new, "none", tls(mode)).await.head().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{mode}: {error}");
    }
    source(&old, "none", tls("prefer")).await.head().await.unwrap();
    let error = source(&old, "none", tls("require")).await.head().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unreachable() {
    let server = server(Version::V10_11).await;
    let error = source(&server, "d", json!({"port": 1})).await.discover().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_without_a_row_is_found_by_looking() {
    let mut world = World::new(Version::V10_11, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut follow = world.follow().await;
    world.run("ALTER TABLE t ADD COLUMN c int DEFAULT 7").await;
    let told = follow.events().await;
    let known = told.iter().find_map(|event| match event {
        lakeward_core::SourceEvent::Schema(change) => Some(Arc::clone(&change.after)),
        _ => None,
    });
    let known = known.expect("an ALTER is told");
    assert_eq!(known.columns.len(), 1);
    let drift = world.source.drift(&known).await.unwrap().expect("the catalogue has a column more");
    assert_eq!(drift.diverged, None);
    assert!(matches!(drift.change.fill[1], Fill::Constant(_)));
    assert!(world.source.drift(&drift.change.after).await.unwrap().is_none());
    world.run("INSERT INTO t VALUES (1, 2)").await;
    let again = follow.lines().await;
    assert_eq!(again.last().map(String::as_str), Some("+ t 1|2"));
    let discovered = world.source.discover().await.unwrap();
    assert_eq!(discovered[0].version, drift.change.after.version);
    assert_eq!(discovered[0].note, drift.change.after.note);
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_that_is_kept_out_of_the_log_is_found_by_looking() {
    let mut world = World::new(Version::V11_8, "CREATE TABLE t (id int PRIMARY KEY, a int)").await;
    let known = Arc::clone(&world.known[0]);
    assert!(world.source.drift(&known).await.unwrap().is_none());
    world
        .run("SET sql_log_bin = 0; ALTER TABLE t ADD COLUMN c int DEFAULT 7; SET sql_log_bin = 1")
        .await;
    let drift = world.source.drift(&known).await.unwrap().unwrap();
    assert_eq!(drift.diverged, Some(Divergence::Rewritten));
    assert_eq!(drift.change.after.columns.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_is_another_table() {
    let mut world = World::new(Version::V10_11, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut follow = world.follow().await;
    let before = world.source.discover().await.unwrap();
    assert_eq!(before[0].identity, world.known[0].identity);
    world.run("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY)").await;
    let lines = follow.lines().await;
    assert!(lines.iter().any(|line| line.starts_with("diverged t")), "{lines:?}");
    let after = world.source.discover().await.unwrap();
    assert_ne!(after[0].identity, before[0].identity);
}
