//! `cargo x bench`: builds the product and the bench as they ship, and runs it.

use std::path::PathBuf;
use std::process::Command;

use crate::{End, command, prerequisites};

/// Flags with one value; what the values may be is the bench's to say.
const WITH_VALUE: &[&str] =
    &["--source", "--lake", "--only", "--scale", "--rounds", "--flame", "--heap", "--binary"];

/// The verb.
pub(crate) fn bench(args: &[String]) -> End {
    let passed = match parse(args) {
        Ok(passed) => passed,
        Err(problem) => return End::Usage(problem),
    };
    match run(&passed) {
        Ok(end) => end,
        Err(problem) => {
            eprintln!("bench: {problem}");
            End::Bad
        }
    }
}

fn parse(args: &[String]) -> Result<Vec<String>, String> {
    let mut passed = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let values = match arg.as_str() {
            flag if WITH_VALUE.contains(&flag) => 1,
            "--compare" => 2,
            other => return Err(format!("bench: unknown argument {other}")),
        };
        passed.push(arg.clone());
        for _ in 0..values {
            match args.next() {
                Some(value) if !value.starts_with('-') => passed.push(value.clone()),
                _ => return Err(format!("bench: {arg} needs {values} values")),
            }
        }
    }
    Ok(passed)
}

fn run(passed: &[String]) -> Result<End, String> {
    let measures = !passed.iter().any(|arg| arg == "--compare");
    let builds = measures && !passed.iter().any(|arg| arg == "--binary");
    if measures {
        prerequisites::check()?;
    }
    let mut programs = vec!["--bin", "bench"];
    if builds {
        programs.extend(["--bin", "lakeward"]);
    }
    let mut build = command::cargo(&["build", "--release", "--workspace", "--locked", "--quiet"]);
    command::run(build.args(programs))?;
    ended(Command::new(command::target().join("release/bench")).args(passed))
}

/// Every case at a thousandth of its size: that it appears, and is a figure.
pub(crate) fn form(binary: PathBuf) -> Result<(), String> {
    let build = ["build", "--quiet", "--workspace", "--locked", "--bin", "bench"];
    command::run(&mut command::cargo(&build))?;
    let mut bench = Command::new(command::target().join("debug/bench"));
    bench.args(["--scale", "0.001", "--binary"]).arg(binary);
    bench.arg("--out").arg(command::target().join("bench-form"));
    match ended(&mut bench)? {
        End::Good => Ok(()),
        _ => Err("see above".to_owned()),
    }
}

fn ended(bench: &mut Command) -> Result<End, String> {
    match bench.status() {
        Ok(status) if status.success() => Ok(End::Good),
        Ok(status) if status.code() == Some(2) => Ok(End::Usage("bench: see above".to_owned())),
        Ok(status) => Err(format!("ended with {status}")),
        Err(error) => Err(format!("did not start: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_passed_on_with_their_values() {
        for text in
            ["--source mysql --lake null --scale 0.1", "--compare a b", "--flame load_narrow"]
        {
            assert_eq!(parsed(text).unwrap().join(" "), text);
        }
        for text in ["--source", "--scale --only", "--compare a", "fast", "--quick 1"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
