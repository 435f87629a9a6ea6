//! Row lineage: a row keeps its id and the sequence number of its last change for as long as it is not changed.
use std::collections::BTreeMap;

use lakeward_core::{Op, Slot, UpkeepOutcome, UpkeepPolicy};

use crate::support::{Row, World, changes, inserts, land, people, policy, row, upkeep};

/// Row id and sequence number by key.
fn lineage(world: &World) -> BTreeMap<i64, (i64, i64)> {
    let query = "SELECT id, _row_id, _last_updated_sequence_number FROM {table} ORDER BY id";
    let rows: Vec<(i64, i64, i64)> = serde_json::from_value(world.duckdb("t", query)).unwrap();
    rows.into_iter().map(|(key, id, sequence)| (key, (id, sequence))).collect()
}

fn next_row_id(world: &World) -> i64 {
    world.execute(Some("t"), "result = table.metadata.next_row_id").as_i64().unwrap()
}

#[tokio::test]
async fn rows_keep_their_lineage_through_commits_and_compactions() {
    let world = World::new().await;
    let schema = people("t");
    let mut table = world.table(&schema).await;
    let compact = UpkeepPolicy { force_compact: true, ..policy() };
    let mut known: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for round in 0..4i64 {
        for part in 0..3i64 {
            let from = round * 30 + part * 10;
            let rows: Vec<Row> = (from..from + 10).map(|n| row![n, "a", n]).collect();
            table.write(inserts(&schema, &rows)).await.unwrap();
            let (gone, changed) = (from / 2, from / 3);
            let more = [(Op::Delete, row![gone, (), ()]), (Op::Update, row![changed, "b", round])];
            table.write(changes(&schema, &more)).await.unwrap();
            let newest = land(&mut table, &schema).await;
            let now = lineage(&world);
            let mut ids: Vec<i64> = now.values().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), now.len(), "two rows have one id after epoch {}", newest.epoch);
            assert!(ids.last().is_some_and(|id| *id < next_row_id(&world)));
            for (key, lineage) in known.iter().filter(|(key, _)| **key != changed) {
                assert!(now.get(key).is_none_or(|now| now == lineage), "{key}: {lineage:?}");
            }
            known = now;
        }
        if round == 2 {
            let sink = world.again("writer-1").await;
            table = sink.open_table(&schema, Slot::Visible).await.unwrap();
        }
        // Rows that are deleted while it runs must not shift the ids of the others.
        let done = table.upkeep(&compact).await.unwrap().unwrap().run().await.unwrap();
        table.write(changes(&schema, &[(Op::Delete, row![round * 30 + 7, (), ()])])).await.unwrap();
        land(&mut table, &schema).await;
        known.remove(&(round * 30 + 7));
        let outcome = table.commit_upkeep(done).await.unwrap();
        assert!(matches!(outcome, UpkeepOutcome::Done(_)), "{outcome:?}");
        assert_eq!(lineage(&world), known, "round {round}");
    }
    // What was compacted before is compacted again, alone.
    table.write(changes(&schema, &[(Op::Delete, row![119, (), ()])])).await.unwrap();
    land(&mut table, &schema).await;
    known.remove(&119);
    upkeep(&mut table, &compact).await.unwrap();
    assert_eq!(lineage(&world), known);
    let rows = world.read("t").rows.len();
    assert_eq!(rows, known.len());
}
