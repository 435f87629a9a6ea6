//! Position delete files of version 2 that stand beside older ones, read by foreign readers and by a handle opened anew.
use std::collections::BTreeMap;

use lakeward_core::{Op, UpkeepOutcome, UpkeepPolicy};
use serde_json::json;

use crate::support::{Row, World, changes, inserts, land, people, policy, row, upkeep};

const ROWS: i64 = 40_000;

fn name(id: i64) -> Row {
    row![id, "a", id]
}

/// Count and sum by both readers, and the most delete files that a data file has.
fn found(world: &World) -> (i64, i64, i64) {
    let theirs = world.duckdb("t", "SELECT count(*), sum(n)::BIGINT FROM {table}");
    let ours = world.execute(
        Some("t"),
        "import pyarrow.compute as c\n\
         rows = table.scan().to_arrow()\n\
         most = max(len(task.delete_files) for task in table.scan().plan_files())\n\
         result = [rows.num_rows, c.sum(rows['n']).as_py(), most]",
    );
    let ours: (i64, i64, i64) = serde_json::from_value(ours).unwrap();
    assert_eq!(theirs, json!([[ours.0, ours.1]]), "the readers disagree");
    ours
}

#[tokio::test]
async fn few_deletes_stand_beside_many_and_are_joined_before_they_are_too_many_files() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    let mut model: BTreeMap<i64, i64> = (0..ROWS).map(|id| (id, id)).collect();
    let all: Vec<Row> = (0..ROWS).map(name).collect();
    table.write(inserts(&schema, &all)).await.unwrap();
    land(&mut table, &schema).await;

    let mut seen = Vec::new();
    for epoch in 0..7i64 {
        // The first deletes many rows of the file, each other one a few, and updates some.
        let gone: Vec<i64> = match epoch {
            0 => (0..8_500).map(|n| n * 4).collect(),
            _ => (0..200).map(|n| n * 16 + 2 * epoch - 1).collect(),
        };
        let deletes = gone.iter().map(|id| (Op::Delete, row![*id, (), ()]));
        let changed = (0..100).map(|n| (20_000 + n * 12 + epoch) | 1);
        let updates = changed.clone().map(|id| (Op::Update, row![id, "b", id + epoch]));
        let batch: Vec<_> = deletes.chain(updates).collect();
        table.write(changes(&schema, &batch)).await.unwrap();
        land(&mut table, &schema).await;
        for id in &gone {
            model.remove(id);
        }
        model.extend(changed.map(|id| (id, id + epoch)));
        let (rows, sum, most) = found(&world);
        assert_eq!((rows, sum), (model.len() as i64, model.values().sum()), "epoch {epoch}");
        seen.push(most);
        if epoch == 4 {
            table = world.table(&schema).await;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 1, 2, 3]);

    let forced = UpkeepPolicy { force_compact: true, ..policy() };
    let done = upkeep(&mut table, &forced).await;
    assert!(matches!(done, Some(UpkeepOutcome::Done(_))), "{done:?}");
    assert_eq!(found(&world), (model.len() as i64, model.values().sum(), 0));
}
