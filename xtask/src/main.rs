//! `cargo x`: every developer command. It starts programs and reads files; the product's logic,
//! the laws and the demonstration are elsewhere.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it speaks to a person")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic"))]

mod bench;
mod command;
mod demo;
mod prerequisites;
mod skips;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo x VERB

  demo [--source S] [--lake L] [--keep]
        a shop that keeps changing, followed into a lake, killed once, compared by foreign readers
        S: postgres (postgres-15, postgres-18) or mysql (mariadb-10.11, mariadb-11.8)
        L: iceberg, delta, or iceberg,delta for both from one log
  test [FILTER] [--full]
        everything a fresh clone can prove; with FILTER only the tests that match; --full: the whole matrix
  bench [--source S] [--lake L] [--only CASE] [--scale F] [--rounds N] | --flame CASE | --heap CASE
        every case beside its physical limit, a table, target/bench/S-L.json and .svg; or where a case's time or memory goes
        L may be null: rows are thrown away; CASE: a name, or how several begin
  bench --compare A.json B.json
  tidy  walls, module docs, banned calls, licences, duplicate versions, links, generated docs";

/// How a verb ended.
enum End {
    /// All is well.
    Good,
    /// Something is wrong; it has been told.
    Bad,
    /// The call itself was wrong; what was wrong about it.
    Usage(String),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((verb, rest)) = args.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let end = match verb.as_str() {
        "demo" => demo::demo(rest),
        "test" => test::test(rest),
        "bench" => bench::bench(rest),
        "tidy" => tidy::verb(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            End::Good
        }
        other => End::Usage(format!("unknown verb {other}")),
    };
    match end {
        End::Good => ExitCode::SUCCESS,
        End::Bad => ExitCode::FAILURE,
        End::Usage(problem) => {
            eprintln!("cargo x: {problem}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
