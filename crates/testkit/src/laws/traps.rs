//! The traps: what real servers do that followers of logs are not prepared for. Each was forced
//! on a real PostgreSQL once; each is one function here.

use std::sync::Arc;
use std::time::Duration;

use crate::dialect::Ability;
use crate::judge::Judge;
use crate::product::exit;
use crate::workload::{Random, shop};
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
use crate::{Result, fail};

const ARRIVAL: Duration = Duration::from_secs(60);

/// Ends a trap: catch up, compare, clean up.
async fn agree<S: SourceServer, L: LakeTarget>(world: World<S, L>) -> Result<()> {
    world.recover().await?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

const BIG: &str = "CREATE TABLE big (id int PRIMARY KEY, v text); \
     INSERT INTO big SELECT i, 'old' FROM $series(1, 4000);";

/// A commit that the log has delivered and that a new snapshot does not see yet: the server waits
/// for a standby that never comes. Needs a server of its own. `restarted`: the product is killed
/// and started again in between.
pub async fn held_commit<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    restarted: bool,
) -> Result<()> {
    let name = if restarted { "held_commit_restart" } else { "held_commit" };
    if !World::<S, L>::needs(&source, Ability::HoldsCommits, name) {
        return Ok(());
    }
    let mut world = World::<S, L>::create(source, name).await?;
    world.options.chunk_readers = 1;
    world.execute(BIG).await?;
    let hold = world.hold("chunk.hold");
    let mut running = world.run()?.hold_at("chunk-read", 2, &hold).spawn()?;
    hold.arrived(ARRIVAL).await?;
    set(&world, "$hold_commits").await?;
    let mut session = world.session().await?;
    let held = tokio::spawn(async move {
        session.run("UPDATE big SET v = 'new' WHERE id % 2 = 0 OR id > 3500").await
    });
    super::until(&world, "$commits_held", ARRIVAL).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    hold.release();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    if restarted {
        running.kill9().await?;
        running = world.follow()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    set(&world, "$release_commits").await?;
    held.await??;
    running.drain_after(Duration::from_secs(1)).await?;
    agree(world).await
}

async fn set<S: SourceServer, L: LakeTarget>(world: &World<S, L>, setting: &str) -> Result<()> {
    let mut session = world.session().await?;
    session.run(setting).await?;
    session.run("$apply_settings").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// A table comes into the selection while a writer has an open transaction on it.
pub async fn table_added_under_an_open_writer<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let world = World::<S, L>::create(source, "added_open").await?;
    world.execute("CREATE TABLE first (id int PRIMARY KEY); INSERT INTO first VALUES (1)").await?;
    world.catch_up().await?;
    world.execute("CREATE TABLE second (id int PRIMARY KEY, v text); INSERT INTO second VALUES (1, 'committed')").await?;
    let mut writer = world.session().await?;
    writer.run("BEGIN; INSERT INTO second SELECT i, 'early' FROM $series(2, 50); UPDATE second SET v = 'u' WHERE id = 1").await?;
    let running = world.run()?.spawn()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    writer.run("INSERT INTO second SELECT i, 'late' FROM $series(51, 100); COMMIT").await?;
    running.drain_after(Duration::from_secs(4)).await?;
    agree(world).await
}

/// A table that is made while the product follows is found and loaded without a restart.
pub async fn table_added_while_running<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let world = World::<S, L>::create(source, "added_running").await?;
    world.execute("CREATE TABLE first (id int PRIMARY KEY); INSERT INTO first VALUES (1)").await?;
    let running = world.run()?.spawn()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.execute("CREATE TABLE second (id int PRIMARY KEY, v text); INSERT INTO second SELECT i, 'x' FROM $series(1, 3000)").await?;
    for round in 0..40 {
        world.execute(&format!("UPDATE second SET v = 'round {round}' WHERE id % 40 = {round}; INSERT INTO first VALUES (100 + {round})")).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.drain_after(Duration::from_secs(3)).await?;
    agree(world).await
}

/// `ALTER … TYPE` rewrites the table while its load runs: older snapshots read it as empty.
pub async fn rewrite_under_a_snapshot<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let mut world = World::<S, L>::create(source, "rewrite").await?;
    world.options.chunk_readers = 1;
    world.execute("CREATE TABLE big (id int PRIMARY KEY, v int); INSERT INTO big SELECT i, i FROM $series(1, 4000)").await?;
    let hold = world.hold("chunk.hold");
    let running = world.run()?.hold_at("chunk-read", 2, &hold).spawn()?;
    hold.arrived(ARRIVAL).await?;
    let mut session = world.session().await?;
    let rewrite = tokio::spawn(async move { session.run("$rewrite(big, v)").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    hold.release();
    rewrite.await??;
    world.execute("UPDATE big SET v = v - 1 WHERE id % 100 = 0").await?;
    running.drain_after(Duration::from_secs(3)).await?;
    agree(world).await
}

/// The same rewrite on a table that is loaded: rows changed that the log does not carry.
pub async fn rewrite_of_a_loaded_table<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let world = World::<S, L>::create(source, "rewrite_loaded").await?;
    world.execute("CREATE TABLE big (id int PRIMARY KEY, v int); INSERT INTO big SELECT i, i FROM $series(1, 3000)").await?;
    world.catch_up().await?;
    world.execute("$rewrite(big, v); UPDATE big SET v = v - 1 WHERE id % 100 = 0").await?;
    world
        .execute("INSERT INTO big VALUES (5000, 5000000000); DELETE FROM big WHERE id < 10")
        .await?;
    world.catch_up().await?;
    agree(world).await
}

/// DDL and TRUNCATE inside a savepoint that is rolled back, in a transaction that streams.
pub async fn ddl_in_a_rolled_back_savepoint<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    if !World::<S, L>::needs(&source, Ability::TransactionalDdl, "ddl_savepoint") {
        return Ok(());
    }
    let world = World::<S, L>::create(source, "ddl_savepoint").await?;
    world.execute(BIG).await?;
    world.execute("CREATE TABLE kept (id int PRIMARY KEY, v text); INSERT INTO kept SELECT i, 'k' FROM $series(1, 500)").await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    let mut session = world.session().await?;
    for step in [
        "BEGIN; INSERT INTO big SELECT i, 'streams' FROM $series(10001, 13000)",
        "SAVEPOINT part; ALTER TABLE big ADD COLUMN gone int DEFAULT 3; UPDATE big SET gone = id WHERE id < 2000",
        "TRUNCATE kept; INSERT INTO kept SELECT i, 'never' FROM $series(1, 3000); ALTER TABLE kept RENAME v TO w",
        "INSERT INTO big SELECT i, 'never', 1 FROM $series(20001, 23000)",
        "ROLLBACK TO part; INSERT INTO big SELECT i, 'after' FROM $series(30001, 33000)",
        "UPDATE kept SET v = 'after' WHERE id % 2 = 0; SAVEPOINT other; ALTER TABLE kept ADD COLUMN stays int; \
         UPDATE kept SET stays = id WHERE id % 5 = 0; RELEASE SAVEPOINT other",
        "COMMIT",
    ] {
        session.run(step).await?;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    running.drain_after(Duration::from_secs(1)).await?;
    agree(world).await
}

/// The same work in a transaction that is rolled back as a whole.
pub async fn ddl_in_a_rolled_back_transaction<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    if !World::<S, L>::needs(&source, Ability::TransactionalDdl, "ddl_rollback") {
        return Ok(());
    }
    let world = World::<S, L>::create(source, "ddl_rollback").await?;
    world.execute(BIG).await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    let mut session = world.session().await?;
    session.run("BEGIN; INSERT INTO big SELECT i, 'streams' FROM $series(10001, 13000)").await?;
    session.run("ALTER TABLE big ADD COLUMN gone int DEFAULT 3; TRUNCATE big; INSERT INTO big SELECT i, 'x', 1 FROM $series(1, 3000)").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    session.run("ROLLBACK").await?;
    world.execute("UPDATE big SET v = 'after' WHERE id % 10 = 0").await?;
    running.drain_after(Duration::from_secs(1)).await?;
    agree(world).await
}

/// `ADD COLUMN … DEFAULT` sends nothing for the rows that are there.
pub async fn add_column_with_default<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = World::<S, L>::create(source, "add_default").await?;
    world.execute(BIG).await?;
    world.catch_up().await?;
    for change in [
        "ALTER TABLE big ADD COLUMN seven int DEFAULT 7; UPDATE big SET v = 'x' WHERE id = 1",
        "ALTER TABLE big ADD COLUMN day date NOT NULL DEFAULT '2020-02-29'; INSERT INTO big (id, v, seven) VALUES (9001, 'n', 1)",
        "ALTER TABLE big ADD COLUMN price numeric(8,3) DEFAULT 1.5, ADD COLUMN words $list DEFAULT '{a,NULL}'; DELETE FROM big WHERE id = 2",
        "ALTER TABLE big ADD COLUMN nothing text; UPDATE big SET nothing = '' WHERE id = 3",
        "$add_computed(big, unknown); UPDATE big SET v = 'y' WHERE id = 4",
        "ALTER TABLE big ALTER seven SET DEFAULT 8; INSERT INTO big (id, day) VALUES (9002, '2001-01-01')",
    ] {
        world.execute(change).await?;
        world.catch_up().await?;
    }
    agree(world).await
}

/// The same, and the product dies in the epoch that brings the column: what the old rows must get
/// may not be forgotten with it.
pub async fn add_column_with_default_in_a_torn_epoch<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let world = World::<S, L>::create(source, "add_default_torn").await?;
    world.execute(BIG).await?;
    world
        .execute("CREATE TABLE beside (id int PRIMARY KEY); INSERT INTO beside VALUES (1)")
        .await?;
    world.catch_up().await?;
    let mut judge = Judge::start().await?;
    for (round, point) in
        ["intent", "before-table-commit", "after-table-commit", "done"].iter().enumerate()
    {
        let change = format!(
            "BEGIN; ALTER TABLE big ADD COLUMN c{round} text DEFAULT 'seven'; UPDATE big SET v = 'r{round}' WHERE id = 1; \
             INSERT INTO beside VALUES (10 + {round}); COMMIT"
        );
        world.execute(&change).await?;
        let call = world.run()?.arg("--take-over").arg("--until-caught-up").kill_at(point, 1);
        let ended = call.finish(CALL_LIMIT).await?;
        if !ended.killed() {
            fail!("the product did not die at {point}:\n{}", ended.tail());
        }
        world.recover().await?;
        world.judge(&mut judge).await.map_err(|error| format!("died at {point}: {error}"))?;
    }
    world.done().await
}

/// Two columns swap their names in one transaction.
pub async fn columns_swap_names<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = World::<S, L>::create(source, "columns_swap").await?;
    world
        .execute(
            "CREATE TABLE cols (id int PRIMARY KEY, a text, b text); \
         INSERT INTO cols SELECT i, 'a' || i, 'b' || i FROM $series(1, 600)",
        )
        .await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    world
        .execute(
            "BEGIN; UPDATE cols SET a = 'before' WHERE id = 1; $swap_columns(cols, a, b); \
         UPDATE cols SET a = 'after' WHERE id = 2; COMMIT",
        )
        .await?;
    world.execute("UPDATE cols SET b = 'later' WHERE id = 5").await?;
    running.drain_after(Duration::from_secs(2)).await?;
    agree(world).await
}

/// Two tables swap their names in one transaction.
pub async fn tables_swap_names<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = World::<S, L>::create(source, "tables_swap").await?;
    for name in ["one", "two"] {
        world
            .execute(&format!(
                "CREATE TABLE {name} (id int PRIMARY KEY, v text); \
             INSERT INTO {name} SELECT i, '{name}' FROM $series(1, 600)"
            ))
            .await?;
    }
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    world
        .execute(
            "BEGIN; UPDATE one SET v = 'before' WHERE id = 1; $swap_tables(one, two); \
         UPDATE one SET v = 'after, was two' WHERE id = 2; \
         DELETE FROM two WHERE id = 3; COMMIT",
        )
        .await?;
    world.execute("UPDATE two SET v = 'later' WHERE id = 4").await?;
    running.drain_after(Duration::from_secs(3)).await?;
    agree(world).await
}

/// A table is dropped and made again under its name: another table.
pub async fn table_made_again<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = World::<S, L>::create(source, "made_again").await?;
    world.execute(BIG).await?;
    world.catch_up().await?;
    world.execute("DROP TABLE big; CREATE TABLE big (id int PRIMARY KEY, w numeric(6,2)); INSERT INTO big SELECT i, i FROM $series(1, 50)").await?;
    world.catch_up().await?;
    world.execute("UPDATE big SET w = 1 WHERE id < 10").await?;
    agree(world).await
}

/// Unchanged large values and key changes inside the window of the load.
pub async fn missing_cells_while_loading<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let mut world = World::<S, L>::create(source, "missing_cells").await?;
    world.options.rows_per_chunk = 100;
    super::open_shop(&world, shop::Size { customers: 800 }).await?;
    let hold = world.hold("chunk.hold");
    let running = world.run()?.hold_at("chunk-read", 3, &hold).spawn()?;
    hold.arrived(ARRIVAL).await?;
    let changes = "UPDATE events SET kind = 'beside' WHERE id % 8 = 0; UPDATE events SET id = id + 5000000 WHERE id % 24 = 0; \
         UPDATE orders SET customer = -1 WHERE customer % 10 = 0; DELETE FROM events WHERE id % 56 = 0; \
         UPDATE events SET id = id - 5000000 WHERE id > 5000300; UPDATE products SET sku = 'k' || sku WHERE price > 4";
    world.execute(changes).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    hold.release();
    let mut random = Random::new(3);
    for _ in 0..20 {
        let id = random.between(1, 700);
        world
            .execute(&format!("UPDATE events SET score = {id} WHERE id BETWEEN {id} AND {id} + 90"))
            .await?;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    running.drain_after(Duration::from_secs(1)).await?;
    agree(world).await
}

/// Equal rows of a table without a key: one delete takes one of them.
pub async fn tables_without_a_key<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = World::<S, L>::create(source, "no_key").await?;
    world.execute("CREATE TABLE bag (a int, b text); $whole_rows(bag)").await?;
    world
        .execute("INSERT INTO bag SELECT i % 10, NULLIF('r' || (i % 3), 'r0') FROM $series(1, 900)")
        .await?;
    world.catch_up().await?;
    world.execute("$delete_some(bag, a = 3, 5)").await?;
    world.execute("$update_some(bag, b = 'u', a = 4, 7)").await?;
    world.execute("INSERT INTO bag SELECT 5, NULL FROM $series(1, 20); $delete_some(bag, a = 5 AND b IS NULL, 11)").await?;
    agree(world).await
}

/// `lakeward resync` while rows are deleted: what is gone stays gone.
pub async fn resync_of_one_table<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = World::<S, L>::create(source, "resync").await?;
    world.execute(BIG).await?;
    world.catch_up().await?;
    let running = world.run()?.spawn()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.execute("DELETE FROM big WHERE id % 3 = 0").await?;
    let resync = world.call(&["resync"])?.arg(&world.table("big")).spawn()?;
    for round in 0..10 {
        world.execute(&format!("DELETE FROM big WHERE id % 30 = {round}; UPDATE big SET v = '{round}' WHERE id % 31 = {round}")).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    resync.wait(CALL_LIMIT).await?.ensure(exit::DONE)?;
    running.drain_after(Duration::from_secs(2)).await?;
    agree(world).await
}
