//! The line to the server: logging in, what is refused, what breaks, what is slow.
use std::sync::Arc;
use std::time::Duration;

use lakeward_core::{Coverage, Error, ErrorKind, Secret, SourceEvent};
use lakeward_source_postgres::config::Settings;
use lakeward_source_postgres::position::{Place, covers, resume_lsn};
use lakeward_source_postgres::wire::ReplicationConnection;
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;
use tokio::time::{Instant, timeout};

use crate::follow::Model;
use crate::log::on_both;
use crate::world::{World, settings};

on_both! {
    a_slot_that_is_gone_or_ahead_is_log_gone,
    another_server_or_a_future_position_is_log_gone,
    a_slot_in_use_is_waited_for,
    a_slow_reader_is_not_cut_off,
    a_killed_sender_is_unreachable_and_the_log_goes_on_where_it_was,
    logins_are_refused_with_the_right_kind,
}

const KEYED: &str = "CREATE TABLE t (id bigint PRIMARY KEY, s text)";

fn refused<T>(outcome: Result<T, Error>, kind: ErrorKind) -> Error {
    let Err(error) = outcome else { panic!("not refused") };
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(!error.remedy().is_empty());
    error
}

async fn a_slot_that_is_gone_or_ahead_is_log_gone(version: Version) {
    let world = World::new(version, KEYED).await;
    let mut stream = world.open(&world.beginning, &[]).await;
    let mut model = Model::default();
    world.run("INSERT INTO t VALUES (1, 'x')").await;
    model.deaf(&mut stream, &world.head().await).await;
    drop(stream);
    let slot = &world.database;
    let advance = format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
    eventually(|| world.sql.batch_execute(&advance)).await;
    refused(world.try_open(&world.beginning, &[]).await.map(drop), ErrorKind::LogGone);
    world.run(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    let error = refused(world.try_open(&world.beginning, &[]).await.map(drop), ErrorKind::LogGone);
    assert_eq!(error.context("slot"), Some(slot.as_str()));
    assert!(error.remedy().contains("resync"));
}

async fn eventually<F, T, E: std::fmt::Debug>(mut act: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match act().await {
            Ok(done) => return done,
            Err(error) if Instant::now() > end => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn another_server_or_a_future_position_is_log_gone(version: Version) {
    let world = World::new(version, KEYED).await;
    let lsn = resume_lsn(&world.beginning).unwrap();
    let other = Place::before(world.system ^ 1, lsn);
    refused(world.try_open(&other, &[]).await.map(drop), ErrorKind::LogGone);
    let future = Place::before(world.system, lsn + (1 << 40));
    refused(world.try_open(&future, &[]).await.map(drop), ErrorKind::LogGone);
}

async fn a_slot_in_use_is_waited_for(version: Version) {
    let world = World::new(version, KEYED).await;
    let first = world.open(&world.beginning, &[]).await;
    let second = world.open(&world.beginning, &[]);
    tokio::pin!(second);
    assert!(timeout(Duration::from_secs(1), &mut second).await.is_err(), "two readers of one slot");
    drop(first);
    timeout(Duration::from_secs(15), second).await.expect("the slot is free again");
}

/// The server cuts a client that is silent for a second; the stream is not read for four, with the socket full.
async fn a_slow_reader_is_not_cut_off(version: Version) {
    let impatient = [("wal_sender_timeout", "1s")];
    let server = Arc::new(Postgres::start_with(version, &impatient).await.unwrap());
    let world = World::on(server, KEYED).await;
    let known = world.tables(&["t"]).await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    for part in 0..8 {
        let rows =
            format!("SELECT {part} * 10000 + i, repeat('x', 500) FROM generate_series(1, 5000) i");
        world.run(&format!("INSERT INTO t {rows}")).await;
    }
    let head = world.head().await;
    model.take(stream.next().await.unwrap());
    tokio::time::sleep(Duration::from_secs(4)).await;
    model.follow(&mut stream, &head).await;
    assert_eq!(model.printed("t").len(), 40_000);
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.run("INSERT INTO t VALUES (-1, 'late')").await;
    model.follow(&mut stream, &world.head().await).await;
    assert_eq!(model.printed("t").len(), 40_001);
    assert!(!world.server.log().contains("replication timeout"));
}

async fn a_killed_sender_is_unreachable_and_the_log_goes_on_where_it_was(version: Version) {
    let world = World::new(version, KEYED).await;
    let known = world.tables(&["t"]).await;
    let mut stream = world.open(&world.beginning, &known).await;
    let mut model = Model::knowing(&known);
    world.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    model.follow(&mut stream, &world.head().await).await;
    let kill = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        world.database
    );
    world.run(&kill).await;
    let end = timeout(Duration::from_secs(20), async {
        loop {
            match stream.next().await {
                Ok(SourceEvent::Idle { position }) => model.through = Some(position),
                Ok(other) => panic!("{other:?}"),
                Err(error) => return error,
            }
        }
    });
    let error = end.await.expect("the end of the line is noticed");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    world.run("UPDATE t SET s = 'c' WHERE id = 2").await;
    let from = model.through.clone().unwrap();
    let mut stream = world.open(&from, &known).await;
    let head = world.head().await;
    assert_eq!(covers(&from, &head), Coverage::After);
    model.follow(&mut stream, &head).await;
    assert_eq!(model.printed("t"), world.rows("t").await);
}

async fn logins_are_refused_with_the_right_kind(version: Version) {
    let server = Postgres::start_with(version, &[("max_wal_senders", "5")]).await.unwrap();
    let base = settings(&server, "postgres");
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = (*base).clone();
        change(&mut settings);
        settings
    };
    let connect = |settings: Settings| async move {
        ReplicationConnection::connect(&settings).await.map(drop)
    };
    refused(connect(with(&|s| s.database = "nowhere".into())).await, ErrorKind::Config);
    refused(connect(with(&|s| s.port = 1)).await, ErrorKind::Unreachable);
    server.execute("CREATE USER plain").await.unwrap();
    refused(connect(with(&|s| s.user = "plain".into())).await, ErrorKind::Auth);
    server.require_password("pass_wörd").await.unwrap();
    refused(connect(with(&|_| {})).await, ErrorKind::Auth);
    let wrong = connect(with(&|s| s.password = Some(Secret::new("hunter2")))).await;
    let error = refused(wrong, ErrorKind::Auth);
    assert!(!format!("{error:?}").contains("hunter2"));
    let right = with(&|s| s.password = Some(Secret::new("pass_wörd")));
    let mut connection = ReplicationConnection::connect(&right).await.unwrap();
    assert!(connection.identify().await.unwrap().system > 0);
    md5(&server, &right).await;
}

async fn md5(server: &Postgres, right: &Settings) {
    let client = server.connect().await.unwrap();
    let sql = "SET password_encryption = md5; CREATE USER old REPLICATION PASSWORD 'old secret'";
    client.batch_execute(sql).await.unwrap();
    let rules = "host all old 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.data_dir().join("pg_hba.conf"), rules).unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut settings = right.clone();
    settings.user = "old".into();
    settings.password = Some(Secret::new("old secret"));
    ReplicationConnection::connect(&settings).await.map(drop).unwrap();
    settings.password = Some(Secret::new("other"));
    refused(ReplicationConnection::connect(&settings).await.map(drop), ErrorKind::Auth);
}
