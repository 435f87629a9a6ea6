//! What the log has handed out, every later snapshot has seen: under many writers, and for prepared transactions.
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use lakeward_core::{
    ChangeBatch, Chunk, Coverage, Delivered, Position, SourceEvent, TransactionId,
};
use lakeward_testkit::mariadb::Version::{self, V10_11, V11_8};
use lakeward_testkit::mariadb::{MariaDb, run};

use crate::world::World;

const ROWS: i32 = 64;
const WRITERS: i32 = 12;
const DURATION: Duration = Duration::from_secs(6);

/// Versions of rows by key, as far as the log has handed them out, and where it was.
#[derive(Debug, Default)]
struct Told {
    versions: HashMap<i32, i32>,
    held: HashMap<TransactionId, Vec<(i32, i32)>>,
    through: Option<Position>,
}

fn versions(batch: &arrow_array::RecordBatch) -> Vec<(i32, i32)> {
    let column = |at: usize| batch.column(at).as_primitive::<Int32Type>().values().to_vec();
    column(0).into_iter().zip(column(1)).collect()
}

impl Told {
    fn rows(&mut self, batch: &ChangeBatch) {
        match batch.runs.iter().find(|run| run.transaction.end.is_none()) {
            Some(open) => {
                let id = open.transaction.transaction.id;
                self.held.entry(id).or_default().extend(versions(&batch.rows));
            }
            None => self.versions.extend(versions(&batch.rows)),
        }
    }
}

/// Counts rows up, each writer its own; more than half of the changes by prepared transactions.
async fn write(server: Arc<MariaDb>, database: String, writer: i32, stop: Arc<AtomicBool>) -> u64 {
    let mut sql = server.connect_to(&database).await.unwrap();
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = writer + WRITERS * (changes as i32 % (ROWS / WRITERS));
        let update = format!("UPDATE t SET v=v+1 WHERE id={id}");
        let statement = match changes % 7 {
            3.. => format!(
                "XA START '{writer}','{changes}'; {update}; XA END '{writer}','{changes}';
                 XA PREPARE '{writer}','{changes}'; XA COMMIT '{writer}','{changes}'"
            ),
            _ => update,
        };
        run(&mut sql, &statement).await.unwrap();
        changes += 1;
    }
    changes
}

async fn snapshots_see_what_was_handed_out(version: Version) {
    // A server of its own: a commit is made slow, so that log and snapshots drift apart.
    let settings = [("sync-binlog", "1"), ("innodb-flush-log-at-trx-commit", "1")];
    let server = Arc::new(MariaDb::start_with(version, &settings).await.unwrap());
    let ddl = format!(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t SELECT seq, 0 FROM seq_0_to_{}",
        ROWS - 1
    );
    let world = World::on(Arc::clone(&server), &ddl).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (server, database) = (Arc::clone(&server), world.database.clone());
            tokio::spawn(write(server, database, writer, Arc::clone(&stop)))
        })
        .collect();
    let told = Arc::new(Mutex::new(Told::default()));
    let mut follow = world.follow().await;
    let reader = tokio::spawn({
        let told = Arc::clone(&told);
        async move {
            loop {
                let event = follow.next().await.unwrap();
                let mut told = told.lock().unwrap();
                match event {
                    SourceEvent::Rows(batch) => told.rows(&batch),
                    SourceEvent::Commit { transaction, end } => {
                        let held = told.held.remove(&transaction).unwrap_or_default();
                        told.versions.extend(held);
                        told.through = Some(end.position);
                    }
                    _ => {}
                }
            }
        }
    });
    let schema = Arc::clone(&world.known[0]);
    let until = Instant::now() + DURATION;
    let (mut taken, mut ahead) = (0, 0);
    while Instant::now() < until {
        let (known, through) = {
            let told = told.lock().unwrap();
            (told.versions.clone(), told.through.clone())
        };
        let mut chunk = world
            .source
            .read_chunk(
                &schema,
                &Chunk::Range { from: None, to: None },
                Arc::<Delivered>::default(),
            )
            .await
            .unwrap();
        let saw = chunk.saw_nothing_after().clone();
        if let Some(through) = through {
            assert_eq!(world.source.covers(&saw, &through), Coverage::Covered);
        }
        let mut seen = HashMap::new();
        while let Some(batch) = chunk.next().await.unwrap() {
            seen.extend(versions(&batch));
        }
        for (id, version) in known {
            assert!(
                seen[&id] >= version,
                "row {id}: the log told {version}, a later snapshot {}",
                seen[&id]
            );
            ahead += i32::from(seen[&id] > version);
        }
        taken += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let mut changes = 0;
    for writer in writers {
        changes += writer.await.unwrap();
    }
    reader.abort();
    println!("{taken} snapshots beside {changes} changes, {ahead} cells newer than the log");
    assert!(taken >= 20 && changes > 200, "{taken} {changes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_see_what_was_handed_out_10_11() {
    snapshots_see_what_was_handed_out(V10_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_see_what_was_handed_out_11_8() {
    snapshots_see_what_was_handed_out(V11_8).await;
}
