//! An initial load beside the log: rows that are the first of their keys, and changes of them in any epoch.
use super::*;

fn first(id: i64, random: &mut Random) -> Change {
    let a = random.below(1 << 30) as i64;
    Change { op: Op::ReadFirst, id, a, t: Some(text(random)), before: None }
}

async fn random_load(seed: u64, home: Home) {
    let mut random = Random::new(seed);
    let mut world = World::new(Identity::Key(vec![0]), home).await;
    let mut model = Model::default();
    let mut next = 0u64;
    let log_begins = random.below(8);
    let options = options(&mut random);
    let mut writer = EpochWriter::new(world.store.clone(), world.layout.clone(), options);
    for number in 0..12 {
        let (before, next_before) = (model.clone(), next);
        model.owed.clear();
        for _ in 0..random.below(8) {
            let loads = number < log_begins || random.below(2) == 0;
            let changes: Vec<_> = (0..1 + random.below(60))
                .map(|_| match loads {
                    true => {
                        next += 1;
                        first(next as i64, &mut random)
                    }
                    false => change(&mut random, next + 3),
                })
                .collect();
            changes.iter().for_each(|c| model.apply(c));
            // What the log inserted is never the first again.
            next = changes.iter().map(|c| c.id as u64).fold(next, u64::max);
            next = before_ids(&changes).fold(next, u64::max);
            writer.write(&batch(&changes, true), &MAPPING, &world.head).await.unwrap();
        }
        let mut epoch = writer.finish(&world.head).await.unwrap();
        assert!(writer.is_empty());
        if random.below(3) == 0 && world.end_compaction().await {
            epoch.rebase(&world.head).await.unwrap();
        }
        if random.below(6) == 0 {
            epoch.abandon(&world.store).await.unwrap();
            (model, next) = (before, next_before);
        } else {
            world.head.publish(&epoch).await;
        }
        match random.below(4) {
            0 => world.begin_compaction(&mut random).await,
            1 => drop(world.end_compaction().await),
            2 => world.reopen().await,
            _ => {}
        }
        let expected: Vec<_> = model.rows.clone().into_iter().collect();
        assert_eq!(world.rows().await, expected, "seed {seed}");
        // Else the next epoch looks keys up that are still on their way.
        if random.below(2) == 0 {
            world.head.arrive().await;
            world.check_index(expected.len(), seed);
        }
    }
}

fn before_ids(changes: &[Change]) -> impl Iterator<Item = u64> {
    changes.iter().filter_map(|c| c.before.as_ref()).map(|(id, _)| *id as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_loads_beside_the_log_equal_the_model() {
    for home in [Home::Memory, Home::Disk] {
        for seed in seeds(60) {
            random_load(seed, home).await;
        }
    }
}

#[tokio::test]
async fn a_table_that_was_not_empty_is_searched_for_first_rows_too() {
    let mut world = World::new(Identity::Key(vec![0]), Home::Memory).await;
    commit(&mut world, &[set(1, 10, "old")]).await;
    let mut again = set(1, 11, "new");
    again.op = Op::ReadFirst;
    let epoch = commit(&mut world, &[again]).await;
    assert_eq!(epoch.rows_deleted(), 1);
    assert_eq!(world.rows().await, [(1, (11, Some("new".into())))]);
}
