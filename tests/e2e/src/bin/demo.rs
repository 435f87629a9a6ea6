//! The demonstration: a shop that keeps changing, followed into a lake, with one death in the
//! middle, and a foreign reader's word at the end.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it speaks to a person")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lakeward_testkit::judge::{Judge, Verdict};
use lakeward_testkit::pairs::IcebergFolder;
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::product::{binary, exit};
use lakeward_testkit::servers::Version;
use lakeward_testkit::workload::shop::{self, Size};
use lakeward_testkit::workload::{Drive, Plan, random};
use lakeward_testkit::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
use lakeward_testkit::{Result, host, readers};

/// About a hundred thousand rows.
const SIZE: Size = Size { customers: 12_000 };

/// How long the product runs before and after its death.
const ACT: Duration = Duration::from_secs(8);

#[tokio::main]
async fn main() -> ExitCode {
    let mut version = Version::V18;
    let mut keep = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--keep" => keep = true,
            "postgres-15" => version = Version::V15,
            "postgres-18" => version = Version::V18,
            other => {
                eprintln!("demo: unknown argument {other}");
                return ExitCode::from(2);
            }
        }
    }
    match demo(version, keep).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(version: Version, keep: bool) -> Result<()> {
    let title = format!("PostgreSQL {}", version.major());
    say(&format!("starting {title} and filling a shop with {} rows", SIZE.rows()));
    let server = Arc::new(Postgres::start(version).await?);
    server.create_database("shop").await?;
    let home = host::target().join("demo");
    let mut world = World::<Postgres, IcebergFolder>::at(Arc::clone(&server), "shop", &home)?;
    world.options.memory = "512MiB".to_owned();
    world.options.commit_interval = "1s".to_owned();
    world.options.rows_per_chunk = 5_000;
    fill(&world).await?;
    let verdict = acts(&world).await?;
    let source = format!("postgres {}", server.full_version().await?);
    play_on(&world)?;
    drop(world);
    if keep {
        leave(server)?;
    }
    let (tables, rows, readers) = (verdict.tables, verdict.rows, verdict.readers());
    let lake = IcebergFolder::title();
    println!(
        "source and lake agree: {tables} tables, {rows} rows ({source} -> {lake}; read by {readers})"
    );
    Ok(())
}

async fn fill(world: &World<Postgres, IcebergFolder>) -> Result<()> {
    let mut session = world.session().await?;
    session.run(shop::SCHEMA).await?;
    for fill in SIZE.fill() {
        session.run(&fill).await?;
    }
    Ok(())
}

/// Follow, die, follow again, come to rest, compare.
async fn acts(world: &World<Postgres, IcebergFolder>) -> Result<Verdict> {
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

fn play_on(world: &World<Postgres, IcebergFolder>) -> Result<()> {
    let (definition, python, program) = (world.definition()?, readers::python()?, binary()?);
    let lake = world.lake.folder();
    println!("\nThe lake stays. To play on:");
    println!("  {} tables {}", program.display(), definition.display());
    println!("  {} inspect points {}", program.display(), definition.display());
    println!("  {}", one_table(&python, lake));
    println!();
    Ok(())
}

/// A command that reads a table with PyIceberg.
fn one_table(python: &Path, lake: &Path) -> String {
    let program = format!(
        "from pyiceberg.catalog.sql import SqlCatalog; \
         c = SqlCatalog('lakeward', uri='sqlite:///{}', init_catalog_tables='false'); \
         print(c.load_table('public.customers').scan(limit=5).to_arrow().to_pylist())",
        lake.join("catalog.db").display()
    );
    format!("{} -c \"{program}\"", python.display())
}

fn leave(server: Arc<Postgres>) -> Result<()> {
    let port = server.port();
    let mut server = Arc::into_inner(server).ok_or("the server is still in use")?;
    let pid = server.leave().unwrap_or_default();
    println!(
        "The server stays: psql -h 127.0.0.1 -p {port} -U postgres shop; end it with `kill -INT {pid}`\n"
    );
    Ok(())
}
