//! `cargo x demo`: builds the product and the demonstration, and runs it.

use crate::{End, command, prerequisites};

/// The verb.
pub(crate) fn demo(args: &[String]) -> End {
    let passed = match parse(args) {
        Ok(passed) => passed,
        Err(problem) => return End::Usage(problem),
    };
    match run(&passed) {
        Ok(end) => end,
        Err(problem) => {
            eprintln!("demo: {problem}");
            End::Bad
        }
    }
}

/// The flags that there are; what their values may be is the demonstration's to say.
fn parse(args: &[String]) -> Result<Vec<String>, String> {
    let mut passed = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--keep" => passed.push(arg.clone()),
            "--source" | "--lake" => match args.next() {
                Some(value) if !value.starts_with('-') => {
                    passed.extend([arg.clone(), value.clone()]);
                }
                _ => return Err(format!("demo: {arg} needs a value")),
            },
            other => return Err(format!("demo: unknown argument {other}")),
        }
    }
    Ok(passed)
}

fn run(passed: &[String]) -> Result<End, String> {
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
        Ok(status) if status.success() => Ok(End::Good),
        Ok(status) if status.code() == Some(2) => Ok(End::Usage("demo: see above".to_owned())),
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
    fn flags_are_passed_on_with_their_values() {
        let all = ["--source", "mysql", "--lake", "iceberg,delta", "--keep"];
        assert_eq!(parsed(&all).unwrap(), all);
        assert!(parsed(&["--source"]).is_err());
        assert!(parsed(&["--lake", "--keep"]).is_err());
        assert!(parsed(&["fast"]).is_err());
    }
}
