//! Micro benches of other rooms: run by cargo, each prints one JSON object of figures in its last line.

use std::path::{Path, PathBuf};
use std::process::Command;

use lakeward_testkit::{Result, host};
use serde_json::Value;

use crate::cases;
use crate::measure::Cost;
use crate::results::Samples;
use crate::world::Bench;

/// A micro bench: package, name (no other in the workspace has it: they are built together), and the group's cases that it
/// answers.
struct Micro {
    package: &'static str,
    bench: &'static str,
    cases: &'static [&'static str],
    rounds_max: u32,
}

const INDEX: Micro = Micro {
    package: "lakeward-files",
    bench: "index",
    cases: &["index_build_keys_per_cpu_second", "index_lookups_per_cpu_second", "index_rss_bytes"],
    rounds_max: 1,
};

const DECODE: Micro = Micro {
    package: "lakeward-source-mysql",
    bench: "decode",
    cases: &["mysql_decode_changes_per_cpu_second"],
    rounds_max: 3,
};

/// No case: its instructions are counted.
const POSTGRES: Micro = Micro {
    package: "lakeward-source-postgres",
    bench: "decode_postgres",
    cases: &[],
    rounds_max: 1,
};

/// No case: its instructions are counted.
const ENCODE: Micro =
    Micro { package: "lakeward-files", bench: "encode", cases: &[], rounds_max: 1 };

/// Whose instructions are counted: how they are called, and what part of the bench they are of.
const COUNTED: [(&str, &Micro, &[&str]); 4] = [
    ("PostgreSQL's log, a change", &POSTGRES, &["--only", "log"]),
    ("PostgreSQL's binary COPY, a row", &POSTGRES, &["--only", "copy"]),
    ("MariaDB's log, a change", &DECODE, &["--only", "narrow"]),
    ("the Parquet encoder, a row", &ENCODE, &[]),
];

/// The key index at 100 million keys.
pub(crate) fn index(bench: &Bench) -> Result<Samples> {
    INDEX.run(bench)
}

/// MariaDB's log, decoding alone.
pub(crate) fn decode(bench: &Bench) -> Result<Samples> {
    DECODE.run(bench)
}

/// Instructions of the micro benches under callgrind: where a machine is too noisy for time. Of decoders and the encoder for
/// each row, of the key index for the whole bench; each at a thousandth of its size at most.
pub(crate) fn instructions(bench: &Bench) -> Result<Vec<(&'static str, u64)>> {
    let asked = Command::new("valgrind").arg("--version").output();
    if !asked.is_ok_and(|output| output.status.success()) {
        return Err("no valgrind here: type `apt-get install valgrind`".into());
    }
    let mut counts = Vec::new();
    for (name, micro, part) in COUNTED {
        counts.push((name, micro.instructions_a_row(bench, part)?));
    }
    let program = INDEX.built()?;
    counts.push(("the key index, whole bench", INDEX.counted(bench, &program, &[])?.0));
    Ok(counts)
}

/// `Executable benches/index.rs (target/release/deps/index-0123)`: what stands in the last parentheses.
fn executable(said: &str) -> Option<&str> {
    let line = said.lines().find(|line| line.trim_start().starts_with("Executable"))?;
    line.rsplit_once('(')?.1.strip_suffix(')')
}

/// `==7== Collected : 1234`
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// What a bench says in its last line.
fn figures(said: &str) -> serde_json::Result<Value> {
    serde_json::from_str(said.trim().lines().last().unwrap_or(""))
}

impl Micro {
    /// What a row costs: the difference between three rounds and one over the same input, which was made before.
    fn instructions_a_row(&self, bench: &Bench, part: &[&str]) -> Result<u64> {
        let program = self.built()?;
        let repeated =
            |rounds: &str| self.counted(bench, &program, &[part, &["--repeat", rounds]].concat());
        let (((one, rows), (three, _)), of) = ((repeated("1")?, repeated("3")?), self.bench);
        let rows = rows.ok_or_else(|| format!("{of} does not tell how many rows it counted"))?;
        Ok(three.saturating_sub(one) / (2 * rows).max(1))
    }

    /// The bench as a program.
    fn built(&self) -> Result<PathBuf> {
        let mut build = cargo();
        build.args(["bench", "--locked", "--no-run", "-p", self.package, "--bench", self.bench]);
        let said = String::from_utf8_lossy(&build.output()?.stderr).into_owned();
        let program = executable(&said).ok_or_else(|| format!("no program was built:\n{said}"))?;
        Ok(program.into())
    }

    /// Instructions of one run, and how many rows each of its rounds has where it tells.
    fn counted(
        &self,
        bench: &Bench,
        program: &Path,
        arguments: &[&str],
    ) -> Result<(u64, Option<u64>)> {
        let mut run = Command::new("valgrind");
        run.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
        run.args(["--scale", &bench.scale.min(0.001).to_string()]).args(arguments);
        let output = run.current_dir(host::workspace()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let count =
            collected(&said).ok_or_else(|| format!("callgrind counted nothing:\n{said}"))?;
        let figures = figures(&String::from_utf8_lossy(&output.stdout));
        Ok((count, figures.ok().and_then(|figures| figures["counted"].as_u64())))
    }

    fn run(&self, bench: &Bench) -> Result<Samples> {
        let mut samples = Samples::default();
        // form is checked without optimising and with the whole workspace in view: those builds are there already
        let (profile, what) = match bench.form_only() {
            true => ("dev", vec!["--workspace"]),
            false => ("release", vec!["-p", self.package]),
        };
        // a long run in one process is its own average
        for _ in 0..bench.rounds.min(self.rounds_max) {
            let mut cargo = cargo();
            cargo.args(["bench", "--quiet", "--locked", "--profile", profile]).args(&what);
            cargo.args(["--bench", self.bench, "--", "--scale", &bench.scale.to_string()]);
            let said = tokio::task::block_in_place(|| host::run(&mut cargo))?;
            let figures = figures(&said)
                .map_err(|error| format!("{}'s last line is no JSON: {error}", self.bench))?;
            for name in self.cases {
                let case = cases::by_name(name).ok_or("no such case")?;
                let value = figures[*name].as_f64();
                let value = value.ok_or_else(|| format!("{} does not tell {name}", self.bench))?;
                samples.push(case.name, value, Cost::default());
            }
        }
        Ok(samples)
    }
}

/// The cargo that started this program, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(host::workspace());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_and_callgrind_say_is_understood() {
        let cargo = "   Finished\n  Executable benches/index.rs (target/release/deps/index-01)\n";
        assert_eq!(executable(cargo), Some("target/release/deps/index-01"));
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1234\n"), Some(1234));
        assert_eq!(collected(""), None);
    }
}
