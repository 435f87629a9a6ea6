//! The foreign readers: one Python environment with DuckDB, PyIceberg and a PostgreSQL driver,
//! made once below `target/` from the pinned list and made again when that list changes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{Result, host};

/// The pinned list of packages.
fn requirements() -> PathBuf {
    host::workspace().join("tests/e2e/requirements.txt")
}

/// The environment's interpreter, made first if it is missing or out of date.
pub fn python() -> Result<PathBuf> {
    let _lock = host::lock("readers")?;
    let home = host::target().join("readers");
    let interpreter = home.join("venv/bin/python");
    let stamp = home.join("requirements.installed");
    let wanted = fs::read_to_string(requirements())?;
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) && interpreter.exists() {
        return Ok(interpreter);
    }
    fs::create_dir_all(&home)?;
    let venv = home.join("venv");
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    host::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"]);
    host::run(pip.arg(requirements()))?;
    fs::write(stamp, wanted)?;
    Ok(interpreter)
}
