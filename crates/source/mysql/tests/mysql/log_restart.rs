//! The log opened again: at every place, and after everything that can end a connection.
use lakeward_core::{ErrorKind, SourceEvent, StartAt};
use lakeward_testkit::mariadb::MariaDb;
use lakeward_testkit::mariadb::Version::{V10_11, V11_8};

use crate::world::{Follow, World, lines};

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, v INT)";

/// Reads until a transaction or a quiet place ends; `None` behind `head`.
async fn piece(follow: &mut Follow, head: &lakeward_core::Position) -> Option<Vec<SourceEvent>> {
    let mut events = Vec::new();
    loop {
        if follow.has_passed(head) {
            return (!events.is_empty()).then_some(events);
        }
        let event = follow.next().await.unwrap();
        let ends = matches!(event, SourceEvent::Commit { .. } | SourceEvent::Idle { .. });
        events.push(event);
        if ends {
            return Some(events);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opened_again_at_every_place_the_log_brings_each_row_once() {
    let mut world = World::new(V10_11, TABLE).await;
    for id in 0..30 {
        world
            .run(&format!("INSERT INTO t VALUES ({id}, -1); UPDATE t SET v={id} WHERE id={id}"))
            .await;
    }
    let whole = world.lines().await;
    assert_eq!(whole.len(), 60);
    let head = world.source.head().await.unwrap();
    let mut all = Vec::new();
    let mut from = StartAt::Beginning(world.beginning.clone());
    loop {
        let mut follow = world.follow_from(from.clone()).await;
        let Some(events) = piece(&mut follow, &head).await else { break };
        all.extend(events.iter().flat_map(lines));
        let Some(through) = follow.through.clone() else { break };
        from = StartAt::After(through);
        if follow.has_passed(&head) {
            break;
        }
    }
    assert_eq!(all, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_survives_a_restart_between() {
    let mut world = World::new(V11_8, TABLE).await;
    let name = world.database.clone();
    world
        .run(&format!(
            "INSERT INTO t VALUES (1,1);
             XA START '{name}'; INSERT INTO t VALUES (2,2); XA END '{name}'; XA PREPARE '{name}'"
        ))
        .await;
    let mut other = world.server.connect_to(&world.database).await.unwrap();
    lakeward_testkit::mariadb::run(&mut other, "INSERT INTO t VALUES (3,3)").await.unwrap();
    let mut follow = world.follow().await;
    assert_eq!(follow.lines().await, ["+ t 1|1", "?+ t 2|2", "+ t 3|3"]);
    let through = follow.through.clone().unwrap();
    drop(follow);
    world.run(&format!("XA COMMIT '{name}'")).await;
    let mut again = world.follow_from(StartAt::After(through.clone())).await;
    let events = again.events().await;
    let shown: Vec<_> = events.iter().flat_map(lines).collect();
    assert_eq!(shown, ["?+ t 2|2"]);
    assert!(matches!(events.last().unwrap(), SourceEvent::Commit { .. }));
    // Behind the commit nothing of it is read again; before it, it is read and dropped.
    let behind = again.through.clone().unwrap();
    drop(again);
    let mut last = world.follow_from(StartAt::After(behind)).await;
    lakeward_testkit::mariadb::run(&mut other, "INSERT INTO t VALUES (4,4)").await.unwrap();
    assert_eq!(last.lines().await, ["+ t 4|4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_connection_and_a_restarted_server_are_unreachable_and_nothing_is_lost() {
    let server = std::sync::Arc::new(MariaDb::start(V10_11).await.unwrap());
    let mut world = World::on(std::sync::Arc::clone(&server), TABLE).await;
    let mut follow = world.follow().await;
    world.run("INSERT INTO t VALUES (1,1)").await;
    assert_eq!(follow.lines().await, ["+ t 1|1"]);
    end_dumps(&server).await;
    world.run("INSERT INTO t VALUES (2,2)").await;
    let error = until_error(&mut follow).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let from = StartAt::After(follow.through.clone().unwrap());
    let mut follow = world.follow_from(from).await;
    assert_eq!(follow.lines().await, ["+ t 2|2"]);
    server.restart().await.unwrap();
    let error = until_error(&mut follow).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    server.execute_in(&world.database, "INSERT INTO t VALUES (3,3)").await.unwrap();
    server.kill9().await.unwrap();
    server.start_again().await.unwrap();
    server.execute_in(&world.database, "INSERT INTO t VALUES (4,4)").await.unwrap();
    let from = StartAt::After(follow.through.clone().unwrap());
    assert_eq!(world.follow_from(from).await.lines().await, ["+ t 3|3", "+ t 4|4"]);
}

/// Ends every connection on which a log is sent. Files that one of them reads cannot be purged.
async fn end_dumps(server: &MariaDb) {
    let dumps = "SELECT id FROM information_schema.processlist WHERE command='Binlog Dump'";
    loop {
        let ids = server.rows("mysql", dumps).await.unwrap();
        if ids.is_empty() {
            return;
        }
        for id in ids.iter().flatten().flatten() {
            // It may have ended by itself.
            let _ = server.execute(&format!("KILL {id}")).await;
        }
    }
}

async fn until_error(follow: &mut Follow) -> lakeward_core::Error {
    loop {
        if let Err(error) = follow.next().await {
            return error;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_logs_are_followed_and_purged_ones_are_named() {
    let server = std::sync::Arc::new(MariaDb::start(V10_11).await.unwrap());
    let mut world = World::on(std::sync::Arc::clone(&server), TABLE).await;
    world.run("INSERT INTO t VALUES (1,1); FLUSH BINARY LOGS; INSERT INTO t VALUES (2,2)").await;
    world.run("FLUSH BINARY LOGS; FLUSH BINARY LOGS; INSERT INTO t VALUES (3,3)").await;
    let mut follow = world.follow().await;
    assert_eq!(follow.lines().await, ["+ t 1|1", "+ t 2|2", "+ t 3|3"]);
    let through = follow.through.clone().unwrap();
    drop(follow);
    end_dumps(&server).await;
    // A file counts as read for a moment longer than its reader lives.
    while server.rows("mysql", "SHOW BINARY LOGS").await.unwrap().len() > 1 {
        world.run("FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await;
    }
    world.run("INSERT INTO t VALUES (4,4)").await;
    let mut gone = world.follow().await;
    let error = until_error(&mut gone).await;
    assert_eq!(error.kind(), ErrorKind::LogGone, "{error:?}");
    let mut there = world.follow_from(StartAt::After(through)).await;
    assert_eq!(there.lines().await, ["+ t 4|4"]);
    world.run("RESET MASTER").await;
    let from = StartAt::After(there.through.clone().unwrap());
    let error = world.source.changes(from, &world.known).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::LogGone, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_log_still_tells_where_it_is() {
    let mut world = World::new(V10_11, TABLE).await;
    world.run("INSERT INTO t VALUES (1,1)").await;
    let mut follow = world.follow().await;
    assert_eq!(follow.lines().await, ["+ t 1|1"]);
    let through = follow.through.clone().unwrap();
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(2500), follow.stream.next());
    // Heartbeats say nothing that was not said; others of this binary may write meanwhile.
    if let Ok(event) = quiet.await {
        assert!(matches!(event.unwrap(), SourceEvent::Commit { .. } | SourceEvent::Idle { .. }));
    }
    world.run("INSERT INTO t VALUES (2,2)").await;
    assert_eq!(follow.lines().await, ["+ t 2|2"]);
    assert!(follow.through.unwrap() != through);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_domains_are_told_apart_at_every_place() {
    let mut world = World::new(V11_8, TABLE).await;
    for id in 0..12 {
        world.run(&format!("SET SESSION gtid_domain_id={}", id % 3 + 40)).await;
        world.run(&format!("INSERT INTO t VALUES ({id},0)")).await;
    }
    let whole = world.lines().await;
    assert_eq!(whole.len(), 12);
    let head = world.source.head().await.unwrap();
    let (mut all, mut from) = (Vec::new(), StartAt::Beginning(world.beginning.clone()));
    loop {
        let mut follow = world.follow_from(from).await;
        let Some(events) = piece(&mut follow, &head).await else { break };
        all.extend(events.iter().flat_map(lines));
        if follow.has_passed(&head) {
            break;
        }
        from = StartAt::After(follow.through.clone().unwrap());
    }
    assert_eq!(all, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_out_of_order_are_refused() {
    let server = MariaDb::start_with(V10_11, &[("gtid-strict-mode", "0")]).await.unwrap();
    let mut world = World::on(std::sync::Arc::new(server), TABLE).await;
    let mut follow = world.follow().await;
    world.run("SET SESSION gtid_seq_no=1000; INSERT INTO t VALUES (1,1)").await;
    assert_eq!(follow.lines().await, ["+ t 1|1"]);
    world.run("SET SESSION gtid_seq_no=500; INSERT INTO t VALUES (2,2)").await;
    let error = until_error(&mut follow).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_of_one_number_are_noticed() {
    let world = World::new(V10_11, TABLE).await;
    let mut first = world.follow().await;
    let _second = world.follow().await;
    let error = until_error(&mut first).await;
    assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Conflict), "{error:?}");
}
