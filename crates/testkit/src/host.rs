//! This machine: the project's folders, free ports, external commands, the unprivileged user.
//! It knows no server and no reader.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, fail};

/// The folder of the workspace's manifest.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's target folder: caches and programs live below it.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// True if this process runs as root. Servers then run as another user.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// User and group id to start servers as; `None` if this process is unprivileged already.
/// As root it takes `postgres` if there, else makes `lakeward-test`, else takes `nobody`.
pub fn unprivileged() -> Result<Option<(u32, u32)>> {
    if !is_root() {
        return Ok(None);
    }
    if let Some(ids) = user_ids("postgres")?.or(user_ids("lakeward-test")?) {
        return Ok(Some(ids));
    }
    let _ =
        Command::new("useradd").args(["--system", "--no-create-home", "lakeward-test"]).output();
    match user_ids("lakeward-test")?.or(user_ids("nobody")?) {
        Some(ids) => Ok(Some(ids)),
        None => fail!("no unprivileged user: type `useradd --system lakeward-test`"),
    }
}

fn user_ids(name: &str) -> Result<Option<(u32, u32)>> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [user, _, uid, gid, ..] = fields[..]
            && user == name
        {
            return Ok(Some((uid.parse()?, gid.parse()?)));
        }
    }
    Ok(None)
}

/// True if every folder on the way to `path` may be entered by any user.
pub fn reachable_by_all(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter(|dir| !dir.as_os_str().is_empty())
        .all(|dir| fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a command to its end; its output is part of the error if it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    if !output.status.success() {
        fail!(
            "{:?} failed with {}:\n{}{}",
            command.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends a signal by name (`INT`, `KILL`, …) to one process. A process that is gone is no error.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).output();
}

/// True while the process exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits until `pid` is gone; false if it still lives after `limit`.
pub fn wait_gone(pid: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while alive(pid) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A lock between processes, held until it is dropped.
pub struct Lock(#[expect(dead_code, reason = "held, never read")] File);

/// Waits for the lock of this name below `target/`.
pub fn lock(name: &str) -> Result<Lock> {
    let dir = target().join("locks");
    fs::create_dir_all(&dir)?;
    let file = File::create(dir.join(name))?;
    file.lock()?;
    Ok(Lock(file))
}

/// Quotes a text as an SQL literal.
pub fn sql_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
