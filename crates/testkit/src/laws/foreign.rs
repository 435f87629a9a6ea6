//! The foreign law: another engine rewrites the tables' files while the product writes them, and at
//! the end reads what the source holds. The engine is Spark with the format's own Java library.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::open_shop;
use crate::judge::{Judge, LakeAt, Rewritten};
use crate::product::{Running, exit};
use crate::workload::random::seed;
use crate::workload::shop::Size;
use crate::workload::{Drive, Plan};
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
use crate::{Result, fail};

const SIZE: Size = Size { customers: 400 };

/// Rest between two transactions. The foreign engine needs a second or two for a table and loses
/// against every commit that touches its files meanwhile; it must also win.
const PACE: Duration = Duration::from_secs(2);

/// How long the foreign engine may try to win against the product's commits.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long the product must follow after a rewrite: long enough to change rows that it moved.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// The law. `judge` is one for all pairs, so that Spark starts once for each format.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>, judge: &mut Judge) -> Result<()> {
    let (seed, title) = (seed(), format!("foreign law, {} -> {}", source.title(), L::title()));
    println!("{title}: LAKEWARD_SEED={seed}");
    let world = World::<S, L>::create(source, "foreign").await?;
    open_shop(&world, SIZE).await?;
    world.catch_up().await?;
    let plan = Plan { seed, writers: 1, size: SIZE, pause: PACE, ddl_pause: None, large_rows: 0 };
    let drive = Drive::start(world.source.as_ref(), &world.database, &plan).await?;
    let mut running = world.follow()?;
    for lake in world.lake.lakes() {
        let replaced = rewrite(&world, judge, &mut running, &lake.at).await?;
        println!("{title}: files replaced: {replaced:?}");
    }
    tokio::time::sleep(AFTERWARDS).await;
    let counts = drive.finish().await?;
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.recover().await?;
    world.judge(judge).await?;
    println!("{title}: {counts}");
    read_by_spark(&world, judge, &title).await?;
    world.done().await
}

/// Fewer rewritten tables prove little. Spark cannot rewrite each.
const TABLES_MIN: usize = 2;

/// Rewrites until each table that can be rewritten was, once, while the product runs.
async fn rewrite<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    judge: &mut Judge,
    running: &mut Running,
    lake: &LakeAt,
) -> Result<BTreeMap<String, u64>> {
    let end = Instant::now() + PATIENCE;
    let mut replaced = BTreeMap::new();
    let mut refused = BTreeMap::new();
    let mut wanted = world.options.tables.clone();
    while replaced.len() < TABLES_MIN && Instant::now() < end {
        for (table, outcome) in judge.foreign_rewrite(lake, &wanted).await? {
            match outcome {
                Rewritten::Files(n) if n > 1 => {
                    wanted.push(format!("!{table}"));
                    replaced.insert(table, n);
                }
                Rewritten::Files(_) => {}
                Rewritten::Refused(why) => {
                    refused.insert(table, why);
                }
            }
        }
        if running.ended() {
            fail!(
                "the product ended beside a foreign writer; evidence: {}",
                world.home().display()
            );
        }
    }
    if replaced.len() < TABLES_MIN {
        fail!("the foreign engine rewrote {replaced:?} only; refused: {refused:#?}");
    }
    Ok(replaced)
}

/// Spark sees what the source holds; what it cannot see is said.
async fn read_by_spark<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    judge: &mut Judge,
    title: &str,
) -> Result<()> {
    let at = world.source.judged_at(&world.database);
    let lakes: Vec<LakeAt> = world.lake.lakes().into_iter().map(|lake| lake.at).collect();
    let verdict = judge.compare_through(&at, &lakes, &world.options.tables, &["spark"]).await?;
    let verdict = verdict.ensure();
    let verdict = verdict.map_err(|e| format!("{e}\nevidence: {}", world.home().display()))?;
    for left in verdict.answer["left_out"].as_array().into_iter().flatten() {
        println!(
            "{title}: not seen by spark: {}.{}: {}",
            left["table"], left["column"], left["why"]
        );
    }
    println!(
        "{title}: {} tables, {} rows agree, read by {}",
        verdict.tables,
        verdict.rows,
        verdict.readers()
    );
    Ok(())
}
