//! Random epochs against a map: whatever was done, both readers find exactly the map, and so does a reopened handle.
use std::collections::BTreeMap;

use arrow_schema::DataType;
use lakeward_core::{Fill, Op, Slot, UpkeepPolicy};

use crate::support::{
    Cell, Row, World, change, changes, land, policy, row, schema, updates, upkeep,
};

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn seed() -> u64 {
    let given = std::env::var("LAKEWARD_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        since.as_nanos() as u64 | 1
    })
}

const KEYS: u64 = 60;

/// One random batch, and the same on the model.
fn batch(
    dice: &mut Dice,
    schema: &std::sync::Arc<lakeward_core::TableSchema>,
    width: usize,
    model: &mut BTreeMap<i64, Row>,
) -> lakeward_core::ChangeBatch {
    let fresh = |dice: &mut Dice, key: i64| -> Row {
        let mut row = row![key, format!("v{}", dice.below(1000)).as_str()];
        row.resize_with(width, || {
            if dice.below(4) == 0 { Cell::Null } else { Cell::Int(dice.below(100) as i64) }
        });
        row
    };
    if dice.below(4) == 0 && model.len() > 2 {
        let from = *model.keys().nth(dice.below(model.len() as u64) as usize).unwrap();
        let target = 1000 + dice.below(KEYS) as i64;
        let to = fresh(dice, target);
        let before = model.remove(&from).unwrap();
        let Cell::Int(key) = to[0] else { panic!() };
        model.insert(key, to.clone());
        return updates(schema, &[(before, to)]);
    }
    let mut list = Vec::new();
    for _ in 0..=dice.below(20) {
        let key = dice.below(KEYS) as i64;
        if dice.below(3) == 0 {
            let mut gone: Row = vec![Cell::Null; width];
            gone[0] = Cell::Int(key);
            model.remove(&key);
            list.push((Op::Delete, gone));
        } else {
            let row = fresh(dice, key);
            let op = [Op::Insert, Op::Update, Op::Read][dice.below(3) as usize];
            model.insert(key, row.clone());
            list.push((op, row));
        }
    }
    changes(schema, &list)
}

async fn run(seed: u64, epochs: usize) {
    eprintln!("LAKEWARD_SEED={seed}");
    let mut dice = Dice(seed);
    let world = World::new().await;
    let mut columns =
        vec![(1, "id".to_owned(), DataType::Int64), (2, "v".to_owned(), DataType::Utf8)];
    let shape = |columns: &[(i32, String, DataType)]| {
        let columns: Vec<_> =
            columns.iter().map(|(id, name, kind)| (*id, name.as_str(), kind.clone())).collect();
        schema("t", &columns, &[0])
    };
    let mut now = shape(&columns);
    let mut model: BTreeMap<i64, Row> = BTreeMap::new();
    let mut table = world.table(&now).await;
    let mut pending: Option<lakeward_core::UpkeepDone> = None;
    for epoch in 0..epochs {
        for _ in 0..=dice.below(3) {
            if dice.below(12) == 0 {
                table.truncate(None).await.unwrap();
                model.clear();
            }
            if dice.below(6) == 0 {
                let before = now.clone();
                match dice.below(3) {
                    0 if columns.len() > 2 => {
                        let gone = 2 + dice.below(columns.len() as u64 - 2) as usize;
                        columns.remove(gone);
                        model.values_mut().for_each(|row| drop(row.remove(gone)));
                    }
                    1 if columns.len() > 3 => {
                        let (a, b) = (columns[2].1.clone(), columns[3].1.clone());
                        (columns[2].1, columns[3].1) = (b, a);
                    }
                    _ => {
                        let id = epoch as i32 * 10 + dice.below(9) as i32 + 10;
                        if columns.iter().all(|c| c.0 != id) {
                            columns.push((id, format!("c{id}"), DataType::Int32));
                            model.values_mut().for_each(|row| row.push(Cell::Null));
                        }
                    }
                }
                now = shape(&columns);
                table.evolve(&change(&before, &now, Fill::Null)).await.unwrap();
            }
            table.write(batch(&mut dice, &now, columns.len(), &mut model)).await.unwrap();
        }
        land(&mut table, &now).await;
        if let Some(done) = pending.take() {
            table.commit_upkeep(done).await.unwrap();
        }
        match dice.below(6) {
            0 => {
                let rules = UpkeepPolicy { force_compact: true, ..policy() };
                if let Some(work) = table.upkeep(&rules).await.unwrap() {
                    pending = Some(work.run().await.unwrap());
                }
            }
            1 => {
                let rules = UpkeepPolicy {
                    force_expire: true,
                    retain: std::time::Duration::ZERO,
                    ..policy()
                };
                upkeep(&mut table, &rules).await;
            }
            2 => {
                pending = None;
                let sink = world.again(&format!("writer-{epoch}")).await;
                table = sink.open_table(&now, Slot::Visible).await.unwrap();
            }
            _ => {}
        }
        if epoch % 4 == 3 || epoch + 1 == epochs {
            let expected: Vec<Row> = model.values().cloned().collect();
            let found = world.read("t");
            assert_eq!(found.columns, columns.iter().map(|c| c.1.as_str()).collect::<Vec<_>>());
            found.assert(&expected);
        }
    }
}

#[tokio::test]
async fn random_epochs_read_back_as_the_model() {
    let seed = seed();
    for round in 0..4 {
        run(seed.wrapping_add(round * 2).max(1), 24).await;
    }
}
