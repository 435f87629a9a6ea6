//! `cargo x test`: stages in order, minutes per stage, one closing line.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::{End, bench, command, prerequisites, skips, tidy};

/// What a change's test should take on a bare machine of two cores.
const BUDGET: Duration = Duration::from_secs(60 * 60);

/// A change's test may not take longer.
const LIMIT: Duration = Duration::from_secs(70 * 60);

/// Laws at the same time: most of a law is waiting for intervals and servers.
const LAW_THREADS: &str = "4";

/// The verb.
pub(crate) fn test(args: &[String]) -> End {
    let mut filter = None;
    let mut full = false;
    for arg in args {
        match arg.as_str() {
            "--full" => full = true,
            flag if flag.starts_with('-') => {
                return End::Usage(format!("test: unknown flag {flag}"));
            }
            text if filter.is_none() => filter = Some(text.to_owned()),
            text => return End::Usage(format!("test: one filter only, not also {text}")),
        }
    }
    let mut run = Run { filter, full, ..Run::default() };
    run.all();
    run.close()
}

/// A run of all stages.
#[derive(Default)]
struct Run {
    filter: Option<String>,
    full: bool,
    stages: Vec<(&'static str, Duration, bool)>,
    passed: u64,
    failed: u64,
    skipped: BTreeMap<String, bool>,
    fetching: Option<Child>,
}

impl Run {
    fn all(&mut self) {
        if !self.stage("prerequisites", |_| prerequisites::check()) {
            return;
        }
        self.stage("build the fetcher", Run::start_fetching);
        if self.filter.is_none() {
            self.stage("fmt", |_| command::run(&mut command::cargo(&["fmt", "--all", "--check"])));
            self.stage("clippy", |_| clippy());
            self.stage("tidy", |_| tidy::check());
            self.stage("rustdoc", |_| rustdoc());
        }
        self.stage("fetch, what is left of it", Run::end_fetching);
        self.stage("unit tests", Run::units);
        if self.stage("build for the laws", |_| build()) {
            self.stage("laws", Run::laws);
            if self.filter.is_none() {
                self.stage("bench, form only", |_| bench::form(law_binary()));
            }
        }
    }

    /// Runs one stage; its failure is told and does not stop the next.
    fn stage(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Run) -> Result<(), String>,
    ) -> bool {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = work(self);
        if let Err(problem) = &outcome {
            eprintln!("{name} FAILED: {problem}");
        }
        self.stages.push((name, start.elapsed(), outcome.is_ok()));
        outcome.is_ok()
    }

    /// Servers and readers come while the next stages compile.
    fn start_fetching(&mut self) -> Result<(), String> {
        // built with the whole workspace in view, as everything here: one set of features, compiled once
        let args = ["build", "--quiet", "--workspace", "--locked", "--bin", "fetch"];
        command::run(&mut command::cargo(&args))?;
        let fetcher = Command::new(command::target().join("debug/fetch")).spawn();
        self.fetching = Some(fetcher.map_err(|error| format!("fetch did not start: {error}"))?);
        Ok(())
    }

    fn end_fetching(&mut self) -> Result<(), String> {
        let Some(mut fetcher) = self.fetching.take() else {
            return Err("it did not start".to_owned());
        };
        match fetcher.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("fetch ended with {status}")),
            Err(error) => Err(format!("fetch: {error}")),
        }
    }

    fn units(&mut self) -> Result<(), String> {
        let mut args =
            vec!["test", "--workspace", "--locked", "--exclude", "lakeward-e2e", "--no-fail-fast"];
        let filter = self.filter.clone();
        args.extend(filter.as_deref());
        args.extend(["--", "--nocapture"]);
        self.count(&mut command::cargo(&args))
    }

    fn laws(&mut self) -> Result<(), String> {
        let mut args = vec!["test", "--workspace", "--locked", "--test", "laws"];
        let filter = self.filter.clone();
        args.extend(filter.as_deref());
        args.extend(["--", "--nocapture", "--test-threads", LAW_THREADS]);
        if self.full {
            args.push("--include-ignored");
        }
        let mut laws = command::cargo(&args);
        laws.env("RUST_BACKTRACE", "0");
        laws.env("LAKEWARD_BIN", law_binary())
            .env("LAKEWARD_FULL", if self.full { "1" } else { "0" });
        self.count(&mut laws)
    }

    /// Runs tests and adds up what their output says.
    fn count(&mut self, tests: &mut Command) -> Result<(), String> {
        let (mut passed, mut failed, mut skips_seen) = (0, 0, Vec::new());
        let good = command::watch(tests, &mut |line| {
            if let Some(name) = skips::skipped(line) {
                skips_seen.push(name.to_owned());
            } else if let Some((p, f)) = summary(line) {
                passed += p;
                failed += f;
            }
        })?;
        self.passed += passed.saturating_sub(skips_seen.len() as u64);
        self.failed += failed;
        self.skipped.extend(skips_seen.into_iter().map(|name| (name, false)));
        if good { Ok(()) } else { Err("see above".to_owned()) }
    }

    /// In CI a skip must be declared.
    fn undeclared(&mut self) -> Vec<String> {
        let text = fs::read_to_string(command::workspace().join("docs/gaps/skips.toml"));
        let declared = match skips::declared(&text.unwrap_or_default()) {
            Ok(declared) => declared,
            Err(problem) => return vec![problem],
        };
        for (name, known) in &mut self.skipped {
            *known = declared.contains_key(name);
        }
        self.skipped.iter().filter(|(_, known)| !**known).map(|(name, _)| name.clone()).collect()
    }

    fn close(mut self) -> End {
        let mut total = Duration::ZERO;
        println!();
        for (name, took, good) in &self.stages {
            total += *took;
            println!(
                "{:>6.1} min  {name}{}",
                took.as_secs_f64() / 60.0,
                if *good { "" } else { "  FAILED" }
            );
        }
        println!(
            "{:>6.1} min  in all, of {} budgeted",
            total.as_secs_f64() / 60.0,
            BUDGET.as_secs() / 60
        );
        let undeclared = self.undeclared();
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        if !undeclared.is_empty() {
            println!("skipped without a reason in docs/gaps/skips.toml: {}", undeclared.join(", "));
        }
        let late = total > LIMIT && !self.full;
        if late {
            println!("it took longer than {} minutes", LIMIT.as_secs() / 60);
        }
        let stages_failed = self.stages.iter().filter(|(.., good)| !good).count() as u64;
        let failed = self.failed.max(stages_failed)
            + if in_ci { undeclared.len() as u64 } else { 0 }
            + u64::from(late);
        println!("{} passed, {failed} failed, {} skipped", self.passed, self.skipped.len());
        if failed == 0 { End::Good } else { End::Bad }
    }
}

/// `test result: ok. 3 passed; 0 failed; …`
fn summary(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = rest.split_once(word)?.0.trim_end();
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((number(" passed")?, number(" failed")?))
}

fn clippy() -> Result<(), String> {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    command::run(&mut command::cargo(&args))
}

fn rustdoc() -> Result<(), String> {
    let mut doc = command::cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--locked",
        "--document-private-items",
    ]);
    command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn law_binary() -> PathBuf {
    command::target().join("laws-bin").join("lakeward")
}

/// The product with kill points, put aside so that no other build replaces it.
fn build() -> Result<(), String> {
    command::run(&mut command::cargo(&[
        "build",
        "--workspace",
        "--locked",
        "--features",
        "lakeward/kill-points",
        "--bin",
        "lakeward",
    ]))?;
    let to = law_binary();
    let built = command::target().join("debug").join("lakeward");
    let copy = || -> std::io::Result<()> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let _ = fs::remove_file(&to);
        fs::copy(built, &to).map(|_| ())
    };
    copy().map_err(|error| format!("cannot put the program aside: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_from_the_closing_lines() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s";
        assert_eq!(summary(line), Some((12, 3)));
        assert_eq!(summary("test a ... ok"), None);
    }
}
