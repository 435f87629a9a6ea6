//! The program as a person types it: everything that works without a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_lakeward");

/// Where a snapshot differs, this variable makes the test write it anew.
const BLESS: &str = "LAKEWARD_BLESS";

fn lakeward(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).env("LC_ALL", "C").output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A port where nobody listens.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// A pipeline file for a server that is not there.
    fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        let (lake, state) = (project.path("lake"), project.path("state"));
        project.write(&format!(
            "source:
  type: postgres
  host: 127.0.0.1
  port: {}
  database: shop
  user: shop
  password: {{ env: LAKEWARD_TEST_PASSWORD }}
  tables: [\"public.*\"]
sink:
  type: iceberg
  warehouse: {}
pipeline:
  name: shop
  state_dir: {}
  retry_limit: 1s
",
            dead_port(),
            lake.display(),
            state.display()
        ));
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> String {
        self.path("shop.yaml").display().to_string()
    }

    fn write(&self, text: &str) {
        fs::write(self.path("shop.yaml"), text).unwrap();
    }

    fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from), "{from}");
        self.write(&text.replace(from, to));
    }

    fn run(&self, args: &[&str]) -> Output {
        let file = self.file();
        let args = args.iter().map(|arg| if *arg == "FILE" { &file } else { *arg });
        Command::new(BINARY)
            .args(args)
            .env("LAKEWARD_TEST_PASSWORD", "open sesame 4711")
            .env("SHOP_PASSWORD", "open sesame 4711")
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }
}

fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name} differs; look at it, then run with {BLESS}=1:\n{text}");
}

#[test]
fn help_is_as_reviewed() {
    let verbs: [&[&str]; 12] = [
        &[],
        &["check"],
        &["run"],
        &["tables"],
        &["inspect"],
        &["inspect", "points"],
        &["inspect", "ledger"],
        &["inspect", "table"],
        &["resync"],
        &["compact"],
        &["drop"],
        &["schema"],
    ];
    let mut text = String::new();
    for verb in verbs {
        let output = lakeward(&[verb, &["--help"]].concat());
        assert_eq!(code(&output), 0);
        text += &format!("$ lakeward {} --help\n{}\n", verb.join(" "), stdout(&output));
    }
    snapshot("help.txt", &text);
}

#[test]
fn a_wrong_command_line_is_status_2_and_says_what_is_right() {
    for args in [&[][..], &["rum", "x.yaml"], &["run"], &["run", "x.yaml", "--fast"]] {
        let output = lakeward(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(stderr(&output).contains("Usage:"), "{args:?}");
    }
    assert!(stderr(&lakeward(&["rum", "x.yaml"])).contains("'run'"));
}

#[test]
fn every_problem_of_a_file_is_told_at_once_before_anything_is_made() {
    let project = Project::new();
    project.change("type: iceberg", "type: iceburg");
    project.change("name: shop", "name: shop\n  comit_interval: 1s\n  rows_per_chunk: many");
    project.change("{ env: LAKEWARD_TEST_PASSWORD }", "hunter2");
    for verb in [&["check", "FILE"][..], &["run", "FILE"], &["tables", "FILE"]] {
        let output = project.run(verb);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        let said = stderr(&output);
        for words in [
            "shop.yaml:7:13: a secret never stands in this file",
            "shop.yaml:10:9: unknown type `iceburg`; did you mean `iceberg`?",
            "shop.yaml:14:3: unknown key `comit_interval`; did you mean `commit_interval`?",
            "shop.yaml:15:19: expected a whole number, found text",
            "error: 4 problems in the pipeline file",
        ] {
            assert!(said.contains(words), "{words}\n{said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(!project.path("state").exists() && !project.path("lake").exists());
}

#[test]
fn a_file_that_is_not_there_is_status_2() {
    let output = lakeward(&["check", "no-such-file.yaml"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no-such-file.yaml:1:1: the file cannot be read"));
}

#[test]
fn an_unreachable_source_is_status_4_after_the_retry_limit() {
    let project = Project::new();
    let output = project.run(&["run", "FILE", "--until-caught-up", "--log-format", "text"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert!(stderr(&output).contains("remedy: "), "{}", stderr(&output));
    assert!(!project.path("state").join("control.sock").exists());
}

#[test]
fn the_log_is_json_where_there_is_no_terminal_and_shows_no_secret() {
    let project = Project::new();
    let output = project.run(&["run", "FILE", "--until-caught-up", "--log-level", "trace"]);
    assert_eq!(code(&output), 4);
    let said = stderr(&output);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = lines.last().unwrap();
    assert_eq!((&last["level"], &last["kind"]), (&"ERROR".into(), &"Unreachable".into()));
    assert!(last["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
    assert!(!said.contains("sesame") && !stdout(&output).contains("sesame"), "{said}");
}

#[test]
fn a_secret_that_is_not_set_is_named_and_nothing_runs() {
    let project = Project::new();
    project.change("LAKEWARD_TEST_PASSWORD", "LAKEWARD_TEST_NOT_SET");
    let output = project.run(&["check", "FILE"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("LAKEWARD_TEST_NOT_SET"), "{}", stderr(&output));
}

#[test]
fn a_pipeline_that_never_ran_has_no_tables_and_no_points() {
    let project = Project::new();
    for args in [&["tables", "FILE", "--json"][..], &["inspect", "points", "--json", "FILE"]] {
        let output = project.run(args);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, ""), "{}", stderr(&output));
    }
    let output = project.run(&["inspect", "table", "FILE", "public.t"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("lakeward tables"), "{}", stderr(&output));
    let output = project.run(&["resync", "FILE", "--all"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("lakeward run"), "{}", stderr(&output));
}

#[test]
fn the_state_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new();
    project.run(&["tables", "FILE"]);
    let mode = fs::metadata(project.path("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_generated_pages_are_up_to_date() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/book");
    let output = lakeward(&["schema", "--check", &book.display().to_string()]);
    assert_eq!(code(&output), 0, "{}", stdout(&output));
}

#[test]
fn stale_pages_are_status_1_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let output = lakeward(&["schema", "--check", &path]);
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("remedy: lakeward schema --write"), "{}", stdout(&output));
    assert_eq!(code(&lakeward(&["schema", "--write", &path])), 0);
    assert_eq!(code(&lakeward(&["schema", "--check", &path])), 0);
    let schema = fs::read_to_string(dir.path().join("pipeline.schema.json")).unwrap();
    assert_eq!(schema, stdout(&lakeward(&["schema"])));
    serde_json::from_str::<serde_json::Value>(&schema).unwrap();
}

#[test]
fn the_readme_pipeline_file_is_a_good_one() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let yaml = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let project = Project::new();
    project.write(&yaml.replace("/srv/lake", &project.path("lake").display().to_string()));
    let output = project.run(&["tables", "FILE"]);
    assert_ne!(code(&output), 2, "{}", stderr(&output));
}
