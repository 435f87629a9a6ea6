//! An hour in which nothing of ours happens, pressed into seconds: the server's heartbeat every 50 milliseconds instead of
//! every minute, sixty of which are an hour; a connection without one for as long is taken for dead.
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakeward_core::{SourceEvent, StartAt};
use lakeward_source_mysql::MySql;
use lakeward_source_mysql::config::Settings;
use lakeward_testkit::mariadb::MariaDb;
use lakeward_testkit::mariadb::Version::{self, V10_11, V11_8};
use serde_json::json;

use crate::world::{Follow, World, settings};

const HEARTBEAT: Duration = Duration::from_millis(50);
/// Longer than a connection may be silent.
const HOUR: Duration = Duration::from_secs(4);

/// The world with a source whose heartbeats are that short.
async fn quick(version: Version) -> World {
    // Its own server: its log is purged.
    let server = Arc::new(MariaDb::start(version).await.unwrap());
    let ddl = "CREATE TABLE t (id INT PRIMARY KEY)";
    let mut world = World::on(server, ddl).await;
    let slow = settings(&world.server, &world.database, json!({}));
    let quick = Settings { heartbeat: HEARTBEAT, ..Settings::clone(&slow) };
    world.source = Arc::new(MySql::new(Arc::new(quick)));
    world.known = world.source.discover().await.unwrap();
    world.beginning = world.source.prepare(&world.known).await.unwrap().beginning;
    world
}

/// Lets an hour pass in which only heartbeats come.
async fn only_heartbeats(follow: &mut Follow) {
    let until = Instant::now() + HOUR;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, follow.next()).await {
            Ok(event) => {
                let event = event.unwrap();
                assert!(!matches!(event, SourceEvent::Rows(_)), "{event:?}");
            }
            Err(_) => return,
        }
    }
}

async fn an_idle_hour_loses_neither_connection_nor_position(version: Version) {
    let mut world = quick(version).await;
    let mut follow = world.follow().await;
    only_heartbeats(&mut follow).await;
    // Others write, and the log goes on from file to file.
    world.server.execute("CREATE DATABASE others; CREATE TABLE others.o (id INT)").await.unwrap();
    for id in 0..20 {
        let sql = format!("INSERT INTO others.o VALUES ({id}); FLUSH BINARY LOGS");
        world.server.execute(&sql).await.unwrap();
        assert_eq!(follow.lines().await, [""; 0]);
    }
    only_heartbeats(&mut follow).await;
    let told = follow.through.clone().unwrap();
    let head = world.source.head().await.unwrap();
    assert!(follow.has_passed(&head), "what others did moved the position");
    let files = world.server.rows("mysql", "SHOW BINARY LOGS").await.unwrap();
    let last = files.last().and_then(|row| row[0].clone()).unwrap();
    world.server.execute(&format!("PURGE BINARY LOGS TO '{last}'")).await.unwrap();
    let left = world.server.rows("mysql", "SHOW BINARY LOGS").await.unwrap();
    assert_eq!((files.len() > 20, left.len()), (true, 1), "the log before is gone");
    only_heartbeats(&mut follow).await;
    world.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(follow.lines().await, ["+ t 1"]);
    drop(follow);
    let mut again = world.follow_from(StartAt::After(told)).await;
    assert_eq!(again.lines().await, ["+ t 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_hour_of_10_11() {
    an_idle_hour_loses_neither_connection_nor_position(V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_hour_of_11_8() {
    an_idle_hour_loses_neither_connection_nor_position(V11_8).await;
}
