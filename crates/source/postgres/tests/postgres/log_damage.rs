//! Damaged bytes: whatever comes over the line, the answer is an error that says where, never a panic.
use std::collections::HashMap;
use std::sync::Arc;

use lakeward_core::ErrorKind;
use lakeward_source_postgres::batch::Layout;
use lakeward_source_postgres::decode::{self, Message};
use lakeward_source_postgres::fold::{Fold, OpenLayout};
use lakeward_source_postgres::position::resume_lsn;
use lakeward_source_postgres::relation::{Known, resolve};
use lakeward_source_postgres::wire::ReplicationConnection;
use lakeward_testkit::servers::Version;

use crate::world::World;

const SEED: u64 = 0x1a4e_3a2d_0b5c_7f91;
const ROUNDS: u64 = 3_000;

/// A small generator of our own: the same seed, the same damage, on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

async fn capture(world: &World) -> Vec<Vec<u8>> {
    let mut connection = ReplicationConnection::connect(&world.settings).await.unwrap();
    let end = connection.identify().await.unwrap().flushed;
    let from = resume_lsn(&world.beginning).unwrap();
    let name = world.database.clone();
    let mut copy = connection.stream(&name, &name, from).await.unwrap();
    let mut messages = Vec::new();
    loop {
        while let Some(frame) = copy.frames.peek().unwrap() {
            let body = frame.body.to_vec();
            copy.frames.consume();
            match body[0] {
                b'w' => messages.push(body[25..].to_vec()),
                _ if u64::from_be_bytes(body[1..9].try_into().unwrap()) >= end => return messages,
                _ => {}
            }
        }
        assert!(copy.frames.fill(&mut copy.reader).await.unwrap() > 0);
    }
}

async fn layouts(world: &World, messages: &[Vec<u8>]) -> HashMap<u32, Arc<Layout>> {
    let mut layouts = HashMap::new();
    for message in messages.iter().filter(|m| m[0] == b'R') {
        for streaming in [false, true] {
            let Ok(Message::Relation { relation, .. }) = decode::parse(message, streaming) else {
                continue;
            };
            let Ok(Some(now)) = world.catalog.describe(relation.relid).await else { continue };
            let wanted: Vec<_> = relation.columns.iter().map(|c| (c.type_oid, c.typmod)).collect();
            let types = world.catalog.pg_types(&wanted).await.unwrap();
            let known = Known {
                told: None,
                relation: &relation,
                types: &types,
                now: &now,
                told_may_be_newer: false,
                unseen_ddl: false,
            };
            let resolved = resolve(known);
            let policy = world.settings.unrepresentable;
            let layout =
                Layout::new(relation.relid, Arc::new(resolved.schema), resolved.slots, policy);
            layouts.insert(relation.relid, Arc::new(layout));
        }
    }
    layouts
}

fn replay(
    messages: &[Vec<u8>],
    layouts: &HashMap<u32, Arc<Layout>>,
) -> Result<usize, lakeward_core::Error> {
    let mut fold = Fold::new(1, 0);
    let mut events = 0;
    for message in messages {
        match decode::parse(message, fold.streaming())? {
            Message::Relation { xid, relation } => {
                let Some(layout) = layouts.get(&relation.relid) else { continue };
                let layout = OpenLayout { part: 0, layout: Arc::clone(layout), changed: None };
                fold.install(xid, layout, None)?;
            }
            other => fold.apply(other)?,
        }
        while fold.pop().is_some() {
            events += 1;
        }
    }
    fold.flush()?;
    while fold.pop().is_some() {
        events += 1;
    }
    Ok(events)
}

fn damage(messages: &mut Vec<Vec<u8>>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(messages.len());
        let length = messages[at].len();
        match random.below(8) {
            0 => messages[at].truncate(random.below(length + 1)),
            1 => messages[at].push(random.below(256) as u8),
            2 => drop(messages.remove(at)),
            3 => {
                let copy = messages[at].clone();
                messages.insert(random.below(messages.len()), copy);
            }
            4 if length >= 4 => {
                let place = random.below(length - 3);
                let value = [u32::MAX, i32::MAX as u32, 0, 1 << 16][random.below(4)];
                messages[at][place..place + 4].copy_from_slice(&value.to_be_bytes());
            }
            _ if length > 0 => {
                let place = random.below(length);
                messages[at][place] = random.below(256) as u8;
            }
            _ => {}
        }
        if messages.is_empty() {
            return;
        }
    }
}

#[tokio::test]
async fn damaged_messages_are_errors_and_never_panics() {
    let world = World::new(
        Version::V15,
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(8,2), a int[], s text, b bytea, d timestamptz, u uuid);
         CREATE TABLE f (id int, j jsonb); ALTER TABLE f REPLICA IDENTITY FULL",
    )
    .await;
    let row = "i, i / 7.0, array[i, NULL], 'x' || i, 'abc', now(), gen_random_uuid()";
    world.run(&format!("INSERT INTO t SELECT {row} FROM generate_series(1, 20) i")).await;
    world.run("INSERT INTO f VALUES (1, '{}'), (2, NULL); UPDATE f SET id = 3; DELETE FROM f WHERE j IS NULL").await;
    world
        .run("UPDATE t SET id = id + 100 WHERE id < 5; DELETE FROM t WHERE id > 110; TRUNCATE t, f")
        .await;
    let open = world.session().await;
    let start = format!(
        "BEGIN; INSERT INTO t SELECT {row} FROM generate_series(1, 900) i; SAVEPOINT a;
         INSERT INTO f SELECT i, '[1]' FROM generate_series(1, 900) i; ROLLBACK TO a; COMMIT"
    );
    open.batch_execute(&start).await.unwrap();
    let whole = capture(&world).await;
    let layouts = layouts(&world, &whole).await;
    assert!(replay(&whole, &layouts).unwrap() > 5);
    // Long runs of equal messages teach nothing: keep the kinds, and a few of each.
    let mut kept: HashMap<(u8, usize), usize> = HashMap::new();
    let messages: Vec<_> = whole
        .into_iter()
        .filter(|m| {
            let count = kept.entry((m[0], m.len() / 40)).or_default();
            *count += 1;
            *count <= 6 || matches!(m[0], b'S' | b'E' | b'c' | b'A' | b'B' | b'C' | b'R')
        })
        .collect();
    let mut random = Random(SEED);
    let mut errors: HashMap<ErrorKind, usize> = HashMap::new();
    for _ in 0..ROUNDS {
        let mut damaged = messages.clone();
        damage(&mut damaged, &mut random);
        if let Err(error) = replay(&damaged, &layouts) {
            *errors.entry(error.kind()).or_default() += 1;
        }
    }
    let expected = [ErrorKind::Corrupt, ErrorKind::BadData, ErrorKind::Unsupported];
    assert!(errors.keys().all(|kind| expected.contains(kind)), "seed {SEED:#x}: {errors:?}");
    let found = errors[&ErrorKind::Corrupt] > 100 && errors[&ErrorKind::BadData] > 10;
    assert!(found, "the damage was too mild: {errors:?}");
}
