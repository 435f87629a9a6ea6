//! Bad input: each mistake and each accident ends with its exit code, in its own words, with a
//! remedy, and never with a panic.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::judge::Judge;
use crate::product::{Ended, exit};
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};
use crate::{Result, fail, host};

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM $series(1, 500)";

async fn world<S: SourceServer, L: LakeTarget>(source: Arc<S>, name: &str) -> Result<World<S, L>> {
    let mut world = World::create(source, name).await?;
    world.options.pipeline = vec!["retry_limit: 3s".to_owned()];
    world.execute(TABLE).await?;
    Ok(world)
}

async fn run<S: SourceServer, L: LakeTarget>(world: &World<S, L>) -> Result<Ended> {
    world.run()?.arg("--take-over").arg("--until-caught-up").finish(CALL_LIMIT).await
}

/// An error unless the call was refused with 1, 2 or 4 and says these words.
fn refused(ended: Ended, words: &[&str]) -> Result<Ended> {
    match ended.code() {
        Some(exit::STOPPED | exit::USAGE | exit::UNREACHABLE) => ended.says(words),
        _ => ended.ensure(exit::STOPPED),
    }
}

/// A definition with another value for the first `key:` line.
fn with_line(text: &str, key: &str, value: &str) -> String {
    let is_it = |line: &&str| line.trim_start().starts_with(&format!("{key}:"));
    let line = text.lines().find(is_it).unwrap_or_default();
    text.replacen(line, &format!("  {key}: {value}"), 1)
}

/// A wrong password; the server must ask for one. The secret must not be told.
pub async fn wrong_password<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = world::<S, L>(source, "bad_password").await?;
    world.options.source = vec!["password: { env: LAW_PASSWORD }".to_owned()];
    let call = world.run()?.arg("--until-caught-up").env("LAW_PASSWORD", "open-sesame-17");
    let ended = refused(call.finish(CALL_LIMIT).await?, &["password"])?;
    if ended.text().contains("open-sesame-17") {
        fail!("the secret stands in the log:\n{}", ended.tail());
    }
    world.done().await
}

/// The right password, by environment and by file, works.
pub async fn right_password<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
    password: &str,
) -> Result<()> {
    let mut world = world::<S, L>(source, "good_password").await?;
    world.options.source = vec!["password: { env: LAW_PASSWORD }".to_owned()];
    let call = world.run()?.arg("--until-caught-up").env("LAW_PASSWORD", password);
    call.finish(CALL_LIMIT).await?.ensure(exit::DONE)?;
    let file = world.home().join("password");
    fs::write(&file, format!("{password}\n"))?;
    world.options.source = vec![format!("password: {{ file: {} }}", file.display())];
    world.catch_up().await?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

/// A pattern that no table matches.
pub async fn missing_table<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = world::<S, L>(source, "bad_table").await?;
    let missing = world.table("not_there");
    world.options.tables = vec![missing.clone()];
    refused(run(&world).await?, &[&missing])?;
    world.done().await
}

/// A server whose log has no logical content; it is set up so.
pub async fn unfit_server<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_server").await?;
    refused(run(&world).await?, S::unfit().words)?;
    world.done().await
}

/// A user that may not read a table.
pub async fn no_right_on_a_table<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_right").await?;
    let reader = format!("reader_{}", L::title());
    world.execute(&format!("$grant_log({reader})")).await?;
    let path = world.definition()?;
    fs::write(&path, with_line(&world.definition_text(), "user", &reader))?;
    let log = world.home().join("reader.log");
    let call = crate::product::Call::new(&["run"], &path, log)?.arg("--until-caught-up");
    refused(call.finish(CALL_LIMIT).await?, &[&world.table("t"), "grant"])?;
    world.execute(&format!("$forget_user({reader})")).await?;
    world.done().await
}

/// A warehouse that cannot be written: a file stands where the folder should be.
pub async fn unwritable_warehouse<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_warehouse").await?;
    let folder = world.folder();
    fs::remove_dir_all(&folder)?;
    fs::write(&folder, "a file")?;
    refused(run(&world).await?, &[&folder.to_string_lossy()])?;
    world.done().await
}

/// A ledger entry that is no JSON.
pub async fn damaged_ledger<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_ledger").await?;
    world.catch_up().await?;
    let mut entries = ledger_entries(&world.folder().join("_lakeward"))?;
    entries.sort();
    let Some(last) = entries.pop() else {
        fail!("the ledger has no entries below {}", world.folder().display());
    };
    fs::set_permissions(&last, fs::Permissions::from_mode(0o644))?;
    fs::write(&last, "{ damaged")?;
    refused(run(&world).await?, &["ledger"])?;
    healed(&world, &[]).await?;
    world.done().await
}

fn ledger_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(ledger_entries(&path)?);
        } else if path.extension().is_some_and(|end| end == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The ledger is gone while the tables stand: refuse, do not begin anew.
pub async fn lost_ledger<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "lost_ledger").await?;
    world.catch_up().await?;
    fs::remove_dir_all(world.folder().join("_lakeward"))?;
    refused(run(&world).await?, &["ledger"])?;
    healed(&world, &["--trust-marks"]).await?;
    world.done().await
}

/// The ledger is made again from the marks; what changed meanwhile is not lost.
async fn healed<S: SourceServer, L: LakeTarget>(world: &World<S, L>, args: &[&str]) -> Result<()> {
    world.execute("DELETE FROM t WHERE id < 10").await?;
    let rebuild = args.iter().fold(world.call(&["rebuild-ledger"])?, |call, arg| call.arg(arg));
    rebuild.finish(CALL_LIMIT).await?.ensure(exit::DONE)?;
    world.catch_up().await?;
    world.judge(&mut Judge::start().await?).await?;
    Ok(())
}

/// The log is taken away behind the product's back: it has a hole, and that must be said. Needs a
/// server of its own.
pub async fn lost_log<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_log").await?;
    world.catch_up().await?;
    world.execute("DELETE FROM t WHERE id < 50").await?;
    world.execute("$lose_log").await?;
    world.execute("DELETE FROM t WHERE id < 100").await?;
    refused(run(&world).await?, S::lost_log())?;
    world.done().await
}

/// A second pipeline on tables that another pipeline owns.
pub async fn two_pipelines_on_one_table<S: SourceServer, L: LakeTarget>(
    source: Arc<S>,
) -> Result<()> {
    let world = world::<S, L>(source, "bad_two").await?;
    world.catch_up().await?;
    let text = world
        .definition_text()
        .replace(&format!("  name: {}\n", world.database), "  name: bad_other\n")
        .replace("/state\n", "/state-other\n");
    let path = world.home().join("other.yaml");
    fs::write(&path, text)?;
    let call = crate::product::Call::new(&["run"], &path, world.home().join("other.log"))?
        .arg("--until-caught-up");
    refused(call.finish(CALL_LIMIT).await?, &["bad_two"])?;
    world.catch_up().await?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

/// The catalogue is locked by another program: first for a while, then for good.
pub async fn catalogue_locked<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_lock").await?;
    let Some(catalogue) = world.lake.lakes().into_iter().find_map(|lake| lake.lock) else {
        println!("catalogue_locked, {}: does not apply, no catalogue", L::title());
        return world.done().await;
    };
    world.catch_up().await?;
    world.execute("UPDATE t SET v = 'locked' WHERE id < 50").await?;
    let lock = lock_catalogue(&world, &catalogue, 3).await?;
    run(&world).await?.ensure(exit::DONE)?;
    drop(lock);
    world.execute("UPDATE t SET v = 'locked again' WHERE id < 70").await?;
    let lock = lock_catalogue(&world, &catalogue, 120).await?;
    refused(run(&world).await?, &["lock"])?;
    drop(lock);
    tokio::time::sleep(Duration::from_millis(300)).await;
    run(&world).await?.ensure(exit::DONE)?;
    world.judge(&mut Judge::start().await?).await?;
    world.done().await
}

/// Holds SQLite's exclusive lock for some seconds, or until dropped.
async fn lock_catalogue<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    catalogue: &Path,
    seconds: u64,
) -> Result<tokio::process::Child> {
    let python = tokio::task::spawn_blocking(crate::readers::python).await??;
    let program = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); \
                   c.execute('BEGIN EXCLUSIVE'); open(sys.argv[3], 'w').close(); time.sleep(float(sys.argv[2]))";
    let ready = world.hold("locked");
    ready.release();
    let child = tokio::process::Command::new(python)
        .args(["-c", program])
        .arg(catalogue)
        .arg(seconds.to_string())
        .arg(world.home().join("locked"))
        .kill_on_drop(true)
        .spawn()?;
    ready.arrived(Duration::from_secs(20)).await?;
    Ok(child)
}

/// The disk of the warehouse is full; when there is room again, the next run ends well. `None`:
/// this machine does not let us mount a small disk.
pub async fn disk_full<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<Option<()>> {
    let world = world::<S, L>(source, "bad_disk").await?;
    let Some(disk) = SmallDisk::mount(world.folder(), "12m") else {
        world.done().await?;
        return Ok(None);
    };
    world.catch_up().await?;
    let ballast = world.folder().join("ballast");
    let _ = fs::write(&ballast, vec![0_u8; 12 << 20]);
    world.execute("INSERT INTO t SELECT i, md5('' || i) FROM $series(1000, 60000)").await?;
    refused(run(&world).await?, &["no space", "free"])?;
    fs::remove_file(&ballast)?;
    run(&world).await?.ensure(exit::DONE)?;
    world.judge(&mut Judge::start().await?).await?;
    drop(disk);
    world.done().await?;
    Ok(Some(()))
}

/// A file system in memory of a few MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf, size: &str) -> Option<SmallDisk> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&folder);
        host::run(&mut mount).ok().map(|_| SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A definition with several mistakes: all are told at once, with their places, before anything runs.
pub async fn bad_definition<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_definition").await?;
    let text = world
        .definition_text()
        .replace("commit_interval:", "comit_interval:")
        .replace("rows_per_chunk: 500", "rows_per_chunk: many");
    let path = world.home().join("bad.yaml");
    fs::write(&path, text)?;
    let call = crate::product::Call::new(&["run"], &path, world.home().join("bad.log"))?;
    let ended = call.finish(CALL_LIMIT).await?.ensure(exit::USAGE)?;
    ended.says(&["comit_interval", "commit_interval", "whole number", "bad.yaml:"])?;
    world.done().await
}

/// No server at the address: exit 4 once the retry limit is over.
pub async fn unreachable_server<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let world = world::<S, L>(source, "bad_address").await?;
    let port = host::free_port()?.to_string();
    let path = world.home().join("nowhere.yaml");
    fs::write(&path, with_line(&world.definition_text(), "port", &port))?;
    let call = crate::product::Call::new(&["run"], &path, world.home().join("nowhere.log"))?
        .arg("--until-caught-up");
    call.finish(CALL_LIMIT).await?.ensure(exit::UNREACHABLE)?;
    world.done().await
}
