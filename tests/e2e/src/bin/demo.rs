//! The demonstration: a shop that keeps changing, followed into a lake, with one death in the
//! middle, and a foreign reader's word at the end.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it speaks to a person")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lakeward_testkit::judge::{Judge, Verdict};
use lakeward_testkit::mariadb::{self, MariaDb};
use lakeward_testkit::pairs::{Both, DeltaFolder, IcebergFolder};
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::product::{binary, exit};
use lakeward_testkit::servers::Version;
use lakeward_testkit::workload::shop::Size;
use lakeward_testkit::workload::{Drive, Plan, random};
use lakeward_testkit::world::{CALL_LIMIT, Lake, LakeTarget, SourceServer, World};
use lakeward_testkit::{Result, host, readers};

/// About a hundred thousand rows.
const SIZE: Size = Size { customers: 12_000 };

/// How long the product runs before and after its death.
const ACT: Duration = Duration::from_secs(8);

const USAGE: &str = "--source postgres | postgres-15 | postgres-18 | mysql | mariadb-10.11 | mariadb-11.8, \
     --lake iceberg | delta | iceberg,delta, --keep";

/// What was asked for.
struct Wish {
    source: String,
    lake: String,
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match wish(std::env::args().skip(1)) {
        Ok(wish) => choose(&wish).await,
        Err(problem) => Ok(Some(problem)),
    };
    match outcome {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(problem)) => {
            eprintln!("demo: {problem}; there is: {USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn wish(mut args: impl Iterator<Item = String>) -> Result<Wish, String> {
    let (source, lake) = ("postgres".to_owned(), "iceberg".to_owned());
    let mut wish = Wish { source, lake, keep: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--keep" => wish.keep = true,
            "--source" => wish.source = value()?,
            "--lake" => wish.lake = value()?,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(wish)
}

/// Runs the demonstration; what is not known is said.
async fn choose(wish: &Wish) -> Result<Option<String>> {
    match wish.source.as_str() {
        "postgres" | "postgres-18" => to_lake::<Postgres>(Version::V18, wish).await,
        "postgres-15" => to_lake::<Postgres>(Version::V15, wish).await,
        "mysql" | "mariadb-11.8" => to_lake::<MariaDb>(mariadb::Version::V11_8, wish).await,
        "mariadb-10.11" => to_lake::<MariaDb>(mariadb::Version::V10_11, wish).await,
        other => Ok(Some(format!("unknown source {other}"))),
    }
}

async fn to_lake<S: SourceServer>(version: S::Version, wish: &Wish) -> Result<Option<String>> {
    match wish.lake.as_str() {
        "iceberg" => demo::<S, IcebergFolder>(version, wish.keep).await?,
        "delta" => demo::<S, DeltaFolder>(version, wish.keep).await?,
        "iceberg,delta" => demo::<S, Both<IcebergFolder, DeltaFolder>>(version, wish.keep).await?,
        other => return Ok(Some(format!("unknown lake {other}"))),
    }
    Ok(None)
}

async fn demo<S: SourceServer, L: LakeTarget>(version: S::Version, keep: bool) -> Result<()> {
    say(&format!("starting a server and filling a shop with {} rows", SIZE.rows()));
    let server = Arc::new(S::begin(version, &[]).await?);
    server.create_database("shop").await?;
    let home = host::target().join("demo");
    let mut world = World::<S, L>::at(Arc::clone(&server), "shop", &home)?;
    world.options.memory = "512MiB".to_owned();
    world.options.commit_interval = "1s".to_owned();
    world.options.rows_per_chunk = 5_000;
    fill(&world).await?;
    let verdict = acts(&world).await?;
    let source = server.title();
    let kind = source.split(' ').next().unwrap_or("?");
    let source = format!("{kind} {}", server.full_version().await?);
    play_on(&world)?;
    let lakes: Vec<String> = world.lake.lakes().into_iter().map(|lake| lake.at.kind).collect();
    drop(world);
    if keep {
        leave(server)?;
    }
    let (tables, rows, readers) = (verdict.tables, verdict.rows, verdict.readers());
    println!(
        "source and lake agree: {tables} tables, {rows} rows ({source} -> {}; read by {readers})",
        lakes.join(", ")
    );
    Ok(())
}

async fn fill<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<()> {
    let mut session = world.session().await?;
    let shop = world.source.dialect().shop();
    session.run(shop.schema).await?;
    for fill in shop.fill(SIZE) {
        session.run(&fill).await?;
    }
    Ok(())
}

/// Follow, die, follow again, come to rest, compare.
async fn acts<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<Verdict> {
    let seed = random::seed();
    let plan = Plan {
        seed,
        writers: 2,
        size: SIZE,
        pause: Duration::from_millis(20),
        ddl_pause: Some(Duration::from_secs(3)),
        large_rows: 5_000,
    };
    say(&format!("two clients keep changing the shop (seed {seed})"));
    let drive = Drive::start(world.source.as_ref(), &world.database, &plan).await?;
    say("lakeward run: the initial load, with the log beside it");
    let running = world.call(&["run"])?.visible().spawn()?;
    tokio::time::sleep(ACT).await;
    say("kill -9, in the middle of it");
    running.kill9().await?;
    say("lakeward run again: it rolls forward from what the lake holds");
    let running = world.call(&["run"])?.arg("--take-over").visible().spawn()?;
    tokio::time::sleep(ACT).await;
    let counts = drive.finish().await?;
    say(&format!("the clients stop: {counts}"));
    running.drain(CALL_LIMIT).await?.ensure(exit::DONE)?;
    let rest = world.call(&["run"])?.arg("--until-caught-up").visible().spawn()?;
    rest.wait(CALL_LIMIT).await?.ensure(exit::DONE)?;
    say("comparing every value, through readers that know nothing of lakeward");
    world.judge(&mut Judge::start().await?).await
}

fn say(text: &str) {
    println!("\n==> {text}");
}

fn play_on<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<()> {
    let (definition, python, program) = (world.definition()?, readers::python()?, binary()?);
    println!("\nThe lake stays. To play on:");
    println!("  {} tables {}", program.display(), definition.display());
    for lake in world.lake.lakes() {
        let several = world.lake.lakes().len() > 1;
        let sink = if several { format!(" --sink {}", lake.name) } else { String::new() };
        println!("  {} inspect points {}{sink}", program.display(), definition.display());
        println!("  {} -c \"{}\"", python.display(), one_table(&lake, &world.table("customers")));
    }
    println!();
    Ok(())
}

/// A program that shows some rows of a table, through the lake's own reader.
fn one_table(lake: &Lake, table: &str) -> String {
    let folder = &lake.at.folder;
    match &lake.lock {
        Some(catalogue) => format!(
            "from pyiceberg.catalog.sql import SqlCatalog; \
             c = SqlCatalog('lakeward', uri='sqlite:///{}', init_catalog_tables='false'); \
             print(c.load_table('{table}').scan(limit=5).to_arrow().to_pylist())",
            catalogue.display()
        ),
        None => format!(
            "from deltalake import DeltaTable, QueryBuilder; \
             t = DeltaTable('{}'); q = QueryBuilder().register('t', t); \
             print(q.execute('SELECT * FROM t LIMIT 5').read_all())",
            folder.join(table.replace('.', "/")).display()
        ),
    }
}

fn leave<S: SourceServer>(server: Arc<S>) -> Result<()> {
    let mut server = Arc::into_inner(server).ok_or("the server is still in use")?;
    let at = server.judged_at("shop").dsn;
    let pid = server.stay().unwrap_or_default();
    println!("The server stays at {at}; end it with `kill -TERM {pid}`\n");
    Ok(())
}
