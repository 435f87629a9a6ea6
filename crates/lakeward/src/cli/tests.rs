//! The command line as a person meets it.
use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split(' '))
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_teaches_by_example() {
    for verb in Cli::command().get_subcommands_mut() {
        let name = verb.get_name().to_owned();
        let help = verb.render_long_help().to_string();
        let examples = help.contains("Example") || verb.has_subcommands();
        assert!(examples, "{name} has no example");
        for inner in verb.get_subcommands_mut().filter(|v| v.get_name() != "help") {
            assert!(inner.render_long_help().to_string().contains("Example"), "{name}");
        }
    }
}

#[test]
fn the_usual_lines_are_understood() {
    for line in [
        "lakeward check p.yaml --json",
        "lakeward run p.yaml",
        "lakeward run p.yaml --until-caught-up --log-format json --log-level debug --take-over",
        "lakeward --log-format text run p.yaml",
        "lakeward tables p.yaml",
        "lakeward inspect points --json p.yaml",
        "lakeward inspect points p.yaml --last 3",
        "lakeward inspect ledger p.yaml",
        "lakeward inspect table p.yaml public.t",
        "lakeward resync p.yaml public.t public.u",
        "lakeward resync p.yaml --all",
        "lakeward compact p.yaml",
        "lakeward compact p.yaml public.t",
        "lakeward drop p.yaml --tables",
        "lakeward schema --write d",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "lakeward",
        "lakeward run",
        "lakeward resync p.yaml",
        "lakeward resync p.yaml public.t --all",
        "lakeward schema --write a --check b",
        "lakeward run p.yaml --log-format yaml",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}
