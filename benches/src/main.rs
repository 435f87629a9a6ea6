//! `bench`: measures the product beside the physical limits of this machine and writes what it found.
//!
//! ```text
//!  cases ──▶ run: server, raw reader, product, in turns ──▶ results: medians ──▶ report: table, JSON, SVG
//! ```
//!
//! The product is a process only; nothing of it is linked. Deliberately absent: what the figures mean (docs/performance).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it speaks to a person")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

mod arguments;
mod cases;
mod flame;
mod machine;
mod marks;
mod measure;
mod plot;
mod profile;
mod puts;
mod raw;
mod report;
mod results;
mod run;
mod world;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use lakeward_testkit::Result;

use arguments::{Act, Arguments};
use cases::Reach;
use profile::{Profile, Tool};
use results::{Outcome, Samples};
use run::Stage;
use world::Bench;

/// Not a case: the micro benches under callgrind.
const INSTRUCTIONS: &str = "instructions";

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match arguments::parse(std::env::args().skip(1)) {
        Err(problem) => {
            eprintln!("bench: {problem}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
        Ok(Act::Compare(first, second)) => {
            report::compare(&first, &second).map(|text| print!("{text}"))
        }
        Ok(Act::Measure(arguments)) => match arguments.tool {
            Some(tool) => profiled(*arguments, tool).await,
            None => measured(*arguments).await,
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, shows and writes. A case that could not be measured makes it fail, when all others have been.
async fn measured(arguments: Arguments) -> Result<()> {
    let home = tempfile::Builder::new().prefix("lakeward-bench-").tempdir()?;
    let Arguments { binary, scale, rounds, lake, product, only, reach, title, out, .. } = arguments;
    let bench = Bench { binary, scale, rounds, lake, home, profile: None };
    let mut stage = Stage::new(bench, product);
    if only.as_deref() == Some(INSTRUCTIONS) {
        for (name, count) in stage.instructions()? {
            println!("{name}: {} instructions", report::figure(count as f64, ""));
        }
        return Ok(());
    }
    let mut samples = Samples::default();
    let mut failures = Vec::new();
    for group in cases::groups(only.as_deref(), reach) {
        let start = Instant::now();
        println!("{group:?}");
        match stage.measure(group).await {
            Ok(more) => samples.extend(more),
            Err(error) => failures.push(format!("{group:?}: {error}")),
        }
        println!("  {:.1} s", start.elapsed().as_secs_f64());
    }
    let outcomes = samples.outcomes();
    let machine = machine::describe();
    println!("\n{title} on {machine}\n\n{}", report::table(&outcomes));
    fs::create_dir_all(&out)?;
    let json = serde_json::to_string_pretty(&report::json(&machine, &outcomes))?;
    fs::write(out.join(format!("{title}.json")), json)?;
    fs::write(out.join(format!("{title}.svg")), plot::svg(&title, &machine, &outcomes))?;
    println!("written: {}", out.join(format!("{title}.{{json,svg}}")).display());
    failures.extend(unsound(&outcomes, only.as_deref(), reach));
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// Runs a case once under a profiler and shows what that recorded.
async fn profiled(arguments: Arguments, tool: Tool) -> Result<()> {
    tool.check()?;
    let home = tempfile::Builder::new().prefix("lakeward-bench-").tempdir()?;
    let Arguments { binary, scale, lake, product, only, reach, out, .. } = arguments;
    fs::create_dir_all(&out)?;
    let profile = Profile { tool, folder: out };
    let bench = Bench { binary, scale, rounds: 1, lake, home, profile: Some(profile.clone()) };
    let mut stage = Stage::new(bench, product);
    for group in cases::groups(only.as_deref(), reach) {
        stage.measure(group).await?;
    }
    print!("{}", profile.show()?);
    Ok(())
}

/// Cases that were asked for and have no figure, or one that is none.
fn unsound(outcomes: &[Outcome], only: Option<&str>, reach: Reach) -> Vec<String> {
    let problem = |case: &cases::Case| match outcomes.iter().find(|o| o.case.name == case.name) {
        None => Some(format!("{}: not measured", case.name)),
        Some(outcome) if !outcome.is_sound() => {
            Some(format!("{}: {} is no figure", case.name, outcome.value))
        }
        Some(_) => None,
    };
    cases::chosen(only, reach).filter_map(problem).collect()
}
