//! Killed at any moment: the table shows exactly the epoch of its mark, and the next writer goes on from there.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lakeward_core::{Op, Slot, UpkeepPolicy};
use serde_json::json;

use crate::support::{Row, World, changes, land, open, people, policy, row, upkeep};

/// Names the warehouse for the process that is to be killed.
const CHILD: &str = "LAKEWARD_TEST_KILLED_WAREHOUSE";

/// What epoch `n` does, the same in every process.
fn epoch(n: u64) -> Vec<(Op, Row)> {
    let n = n as i64;
    let mut list: Vec<(Op, Row)> =
        (0..3).map(|i| (Op::Insert, row![n * 3 + i, "new", n])).collect();
    list.push((Op::Update, row![(n * 7) % (n * 3), "changed", n]));
    list.push((Op::Delete, row![(n * 5) % (n * 3), (), ()]));
    list
}

fn model(epochs: u64) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    for (op, row) in (1..=epochs).flat_map(epoch) {
        match op {
            Op::Delete => drop(rows.remove(&row[0])),
            _ => drop(rows.insert(row[0].clone(), row)),
        }
    }
    rows.into_values().collect()
}

/// Not a test of its own: the body of the process that is killed.
#[tokio::test]
async fn child_writes_epochs_for_ever() {
    let Ok(warehouse) = std::env::var(CHILD) else { return };
    let writer = format!("writer-{}", std::process::id());
    let sink = open(Path::new(&warehouse), &writer, json!({})).await.unwrap();
    let schema = people("t");
    let mut table = sink.open_table(&schema, Slot::Visible).await.unwrap();
    loop {
        let next = table.last_commit().await.unwrap().map_or(1, |mark| mark.epoch + 1);
        table.write(changes(&schema, &epoch(next))).await.unwrap();
        land(&mut table, &schema).await;
        let retain = Duration::from_millis(200);
        let rules = UpkeepPolicy {
            force_compact: next.is_multiple_of(5),
            force_expire: next.is_multiple_of(7),
            retain,
            ..policy()
        };
        upkeep(&mut table, &rules).await;
    }
}

fn spawn(warehouse: &Path) -> std::process::Child {
    let itself: PathBuf = std::env::current_exe().unwrap();
    Command::new(itself)
        .args(["--exact", "killed::child_writes_epochs_for_ever", "--nocapture"])
        .env(CHILD, warehouse)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_writer_leaves_exactly_its_last_epoch() {
    let world = World::new().await;
    let schema = people("t");
    let mut last = 0;
    for kill in 0..12u64 {
        let mut child = spawn(&world.path());
        std::thread::sleep(Duration::from_millis(250 + kill * 53 % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        let sink = world.again(&format!("look-{kill}")).await;
        let mut table = sink.open_table(&schema, Slot::Visible).await.unwrap();
        let Some(mark) = table.last_commit().await.unwrap() else { continue };
        assert!(mark.epoch >= last, "an epoch was lost: {} after {last}", mark.epoch);
        last = mark.epoch;
        world.read("t").assert(&model(last));
    }
    eprintln!("12 kills, {last} epochs");
    assert!(last > 20, "only {last} epochs in 12 lives");
}
