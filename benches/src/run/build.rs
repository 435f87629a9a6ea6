//! What a change costs those who make it: a release build from nothing, and from an edit in one connector to its tests.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use lakeward_testkit::{Result, host};

use super::micro::cargo;
use crate::measure;
use crate::results::Samples;
use crate::world::Bench;

const LIMIT: Duration = Duration::from_secs(3600);

/// Builds the release into an empty folder, once.
pub(crate) fn release(bench: &Bench) -> Result<Samples> {
    if bench.form_only() {
        return nothing_new(bench, "build_release_s");
    }
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "-p", "lakeward"]);
    build.env("CARGO_TARGET_DIR", bench.home.path().join("target"));
    timed(bench, "build_release_s", &mut build)
}

/// Touches a file of the PostgreSQL source and runs its unit tests.
pub(crate) fn edit(bench: &Bench) -> Result<Samples> {
    if bench.form_only() {
        return nothing_new(bench, "edit_to_tested_s");
    }
    let edited = host::workspace().join("crates/source/postgres/src/lib.rs");
    let before = edited.metadata()?.modified()?;
    let mut test = cargo();
    test.args(["test", "--locked", "-p", "lakeward-source-postgres", "--lib"]);
    timed(bench, "edit_to_tested_s", &mut test)?; // whatever else was not up to date
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        touch(&edited, SystemTime::now())?;
        samples.extend(timed(bench, "edit_to_tested_s", &mut test)?);
    }
    touch(&edited, before)?;
    Ok(samples)
}

/// For the form: a build of what has just been built.
fn nothing_new(bench: &Bench, case: &'static str) -> Result<Samples> {
    let mut build = cargo();
    build.args(["build", "--locked", "--workspace", "--bin", "bench"]);
    timed(bench, case, &mut build)
}

fn touch(file: &Path, when: SystemTime) -> Result<()> {
    Ok(File::options().append(true).open(file)?.set_modified(when)?)
}

fn timed(bench: &Bench, case: &'static str, command: &mut Command) -> Result<Samples> {
    let log = bench.home.path().join("cargo.log");
    let mut samples = Samples::default();
    let cost = tokio::task::block_in_place(|| measure::run(command, &log, LIMIT))?;
    samples.push(case, cost.wall.as_secs_f64(), cost);
    Ok(samples)
}
