//! `cargo x demo`: builds the product and the demonstration, and runs it.

use crate::{End, command, prerequisites};

/// The verb.
pub(crate) fn demo(args: &[String]) -> End {
    let passed = match parse(args) {
        Ok(passed) => passed,
        Err(problem) => return End::Usage(problem),
    };
    match run(&passed) {
        Ok(()) => End::Good,
        Err(problem) => {
            eprintln!("demo: {problem}");
            End::Bad
        }
    }
}

fn parse(args: &[String]) -> Result<Vec<String>, String> {
    let mut passed = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => passed.push("--keep".to_owned()),
            "--source" => match args.next().map(String::as_str) {
                Some("postgres" | "postgres-18") => passed.push("postgres-18".to_owned()),
                Some("postgres-15") => passed.push("postgres-15".to_owned()),
                other => return Err(format!("--source {} is not there yet", other.unwrap_or(""))),
            },
            "--lake" => match args.next().map(String::as_str) {
                Some("iceberg") => {}
                other => return Err(format!("--lake {} is not there yet", other.unwrap_or(""))),
            },
            other => return Err(format!("demo: unknown argument {other}")),
        }
    }
    Ok(passed)
}

fn run(passed: &[String]) -> Result<(), String> {
    prerequisites::check()?;
    println!("building lakeward and the demonstration");
    command::run(&mut command::cargo(&[
        "build",
        "--workspace",
        "--locked",
        "--bin",
        "lakeward",
        "--bin",
        "demo",
    ]))?;
    let debug = command::target().join("debug");
    let mut demo = std::process::Command::new(debug.join("demo"));
    demo.args(passed).env("LAKEWARD_BIN", debug.join("lakeward"));
    match demo.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}")),
        Err(error) => Err(format!("did not start: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Vec<String>, String> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_what_exists_is_accepted() {
        assert_eq!(
            parsed(&["--source", "postgres-15", "--keep"]).unwrap(),
            ["postgres-15", "--keep"]
        );
        assert!(parsed(&["--lake", "iceberg"]).unwrap().is_empty());
        assert!(parsed(&["--lake", "delta"]).is_err());
        assert!(parsed(&["--source"]).is_err());
        assert!(parsed(&["fast"]).is_err());
    }
}
