//! Each kind of problem, with its line and column.
use std::time::Duration;

use lakeward_core::{Bytes, Problem, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::spec::SchemaBehaviour;

/// A connector as any could be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Host.
    host: String,
    /// Port.
    #[serde(default)]
    port: u16,
    /// Secret.
    password: Option<SecretRef>,
    /// Patterns.
    tables: Vec<String>,
    /// Encryption.
    #[serde(default)]
    tls: Tls,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Tls {
    #[default]
    Disable,
    VerifyFull,
}

impl Validate for Options {
    fn validate(&self) -> Vec<Problem> {
        let empty = self.tables.iter().position(String::is_empty);
        empty
            .map(|i| Problem { path: format!("tables.{i}"), message: "empty".into() })
            .into_iter()
            .collect()
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("db.internal".into()),
        "PORT" => Some("6543".into()),
        "MODE" => Some("s3cret-in-the-wrong-place".into()),
        "INTERVAL" => Some("3s".into()),
        _ => None,
    }
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.to_string().lines().map(str::to_owned).collect()
}

type Read = Spec<Options, Raw>;

fn read(text: &str) -> Result<Read, Vec<String>> {
    let options = |raw: &Raw| parse::<Options>(&raw.options, &env);
    Definition::read_in("p.yaml", text, &env)
        .finish(options, |raw| Ok(raw.clone()))
        .map_err(|problems| lines(&problems))
}

const GOOD: &str = "\
source:
  type: db
  host: localhost
  tables: [\"public.*\"]
sink: { type: lake, warehouse: /lake }
pipeline:
  name: shop
";

fn with(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    read(&GOOD.replace(from, to)).expect_err("must be refused")
}

#[test]
fn a_short_file_gets_every_default() {
    let spec = read(GOOD).unwrap();
    assert_eq!((spec.source.name.as_str(), spec.sinks[0].name.as_str()), ("db", "lake"));
    let pipeline = spec.pipeline;
    assert_eq!(pipeline.state_dir, std::path::PathBuf::from("./shop.state"));
    assert_eq!(pipeline.commit_interval.0, Duration::from_secs(1));
    assert_eq!(pipeline.memory, Bytes(512 << 20));
    assert_eq!(pipeline.schema_change, SchemaBehaviour::Evolve);
    assert!(pipeline.compaction.enabled && pipeline.http.is_none());
}

#[test]
fn every_option_can_be_given() {
    let text = GOOD.to_owned()
        + "  state_dir: /s
  commit_interval: 200ms
  commit_bytes: 8MiB
  commit_rows: 10
  memory: 64MiB
  spill_max: 1GiB
  rows_per_chunk: 7
  chunk_readers: 3
  schema_change: try_evolve
  retry_limit: 1m
  drain_timeout: 2s
  compaction: { enabled: false, interval: 1h, target_file_size: 64MiB }
  expiry: { retain: 7d }
  http: { listen: \"127.0.0.1:9464\" }
  tables:
    - { match: public.t, schema_change: ignore }
route: []
transform:
";
    let pipeline = read(&text).unwrap().pipeline;
    assert_eq!((pipeline.commit_rows, pipeline.chunk_readers), (10, 3));
    assert_eq!(pipeline.tables[0].schema_change, Some(SchemaBehaviour::Ignore));
    assert!(!pipeline.compaction.enabled && pipeline.expiry.enabled);
    assert_eq!(pipeline.expiry.retain.0, Duration::from_secs(7 * 86_400));
}

#[test]
fn all_problems_come_at_once_and_in_order() {
    let text = "\
sorce: {}
source:
  type: db
  hots: x
  port: 70000
  password: hunter2
  tables: [public.t, \"\", 5]
  tls: verify_ful
sink: { type: lake }
pipeline:
  name: Shop
  memmory: 1GiB
  memory: 10 apples
  commit_interval: soon
  schema_change: evolv
  chunk_readers: two
  http: { listen: \"0.0.0.0:1\" }
";
    assert_eq!(
        read(text).unwrap_err(),
        [
            "p.yaml:1:1: unknown key `sorce`; did you mean `source`?",
            "p.yaml:3:3: key `host` is missing",
            "p.yaml:4:3: unknown key `hots`; did you mean `host`?",
            "p.yaml:5:9: must be at most 65535",
            "p.yaml:6:13: a secret never stands in this file: write { env: NAME } or { file: PATH }",
            "p.yaml:7:26: expected text, found a number: put it in quotes",
            "p.yaml:8:8: `verify_ful` is not allowed; did you mean `verify_full`? (one of: disable, verify_full)",
            "p.yaml:12:3: unknown key `memmory`; did you mean `memory`?",
            "p.yaml:13:11: expected a size such as 64MiB, 1GiB or a number of bytes",
            "p.yaml:14:20: expected a period such as 200ms, 1s, 5m, 2h or 7d",
            "p.yaml:15:18: `evolv` is not allowed; did you mean `evolve`? (one of: evolve, try_evolve, lenient, ignore, exception)",
            "p.yaml:16:18: expected a whole number, found text",
        ]
    );
}

#[test]
fn what_only_the_whole_shows_is_found_at_its_place() {
    assert_eq!(
        with("name: shop", "name: Shop\n  memory: 1MiB\n  http: { listen: \"0.0.0.0:1\" }"),
        [
            "p.yaml:7:3: a name has 1 to 40 characters of a-z, 0-9, _ and -",
            "p.yaml:8:3: must be at least 32MiB",
            "p.yaml:9:11: only a loopback address is allowed, such as 127.0.0.1",
        ]
    );
    assert_eq!(with("\"public.*\"", "a.b, \"\""), ["p.yaml:4:17: empty"]);
}

#[test]
fn missing_parts_are_named() {
    assert_eq!(
        read("route: []\n").unwrap_err(),
        [
            "p.yaml:1:1: key `source` is missing",
            "p.yaml:1:1: key `sink` is missing",
            "p.yaml:1:1: key `pipeline` is missing"
        ]
    );
    assert_eq!(with("type: lake, ", ""), ["p.yaml:5:7: key `type` is missing"]);
    assert_eq!(
        read("").unwrap_err(),
        ["p.yaml:1:1: expected a mapping with the keys source, sink and pipeline"]
    );
}

#[test]
fn what_is_not_there_yet_is_refused_clearly() {
    assert_eq!(
        with("sink:", "route: [{ from: a }]\nsink:"),
        ["p.yaml:5:8: `route` is not supported yet: leave the list empty"]
    );
}

#[test]
fn several_sinks_have_different_names() {
    let sinks = |list: &str| read(&GOOD.replace("{ type: lake, warehouse: /lake }", list));
    let two = sinks("[{ type: lake }, { type: lake, name: b }]").unwrap();
    let names: Vec<_> = two.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["lake", "b"]);
    let twice = sinks("[{ type: lake }, { type: other, name: lake }]").unwrap_err();
    let message = "p.yaml:5:39: two sinks are called `lake`: give one another `name`; its ledger stands under it";
    assert_eq!(twice, [message]);
    assert_eq!(sinks("[]").unwrap_err(), ["p.yaml:5:7: expected a sink"]);
    let text = GOOD.replace("{ type: lake, warehouse: /lake }", "[{ type: a }, { type: b }]");
    let little = read(&text.replace("name: shop", "name: shop\n  memory: 50MiB")).unwrap_err();
    assert_eq!(
        little,
        ["p.yaml:8:3: must be at least 32MiB for each of the 2 sinks, which share it"]
    );
}

#[test]
fn the_environment_is_read_only_where_asked_and_never_quoted() {
    let text = GOOD
        .replace("localhost", "{ env: HOST }")
        .replace("tables", "port: { env: PORT }\n  tables");
    let spec = read(&(text + "  commit_interval: { env: INTERVAL }\n")).unwrap();
    assert_eq!(spec.pipeline.commit_interval.0, Duration::from_secs(3));
    let options = spec.source.parsed;
    assert_eq!((options.host.as_str(), options.port), ("db.internal", 6543));
    assert_eq!(
        with("name: shop", "name: shop\n  schema_change: { env: MODE }\n  memory: { env: NONE }"),
        [
            "p.yaml:8:18: the environment variable `MODE` does not hold a fitting value",
            "p.yaml:9:11: the environment variable `NONE` is not set",
        ]
    );
    assert_eq!(read(&GOOD.replace("localhost", "$HOST")).unwrap().source.parsed.host, "$HOST");
}

#[test]
fn a_secret_is_a_reference_and_its_problems_do_not_show_it() {
    let text = GOOD.replace("tables", "password: { env: PW }\n  tables");
    let spec = read(&text).unwrap();
    let options = spec.source.parsed;
    assert_eq!((options.password, options.tls), (Some(SecretRef::Env("PW".into())), Tls::Disable));
    for wrong in ["hunter2", "[hunter2]", "12345", "{ enf: hunter2 }", "{ env: [hunter2] }"] {
        let problems = with("tables", &format!("password: {wrong}\n  tables")).join("\n");
        assert!(problems.starts_with("p.yaml:4:"), "{problems}");
        assert!(!problems.contains("hunter2") && !problems.contains("12345"), "{problems}");
    }
}

#[test]
fn the_routing_hash_knows_selection_and_nothing_else() {
    let hash = |text: &str| read(text).unwrap().pipeline.routing_hash;
    assert_eq!(hash(GOOD), hash(&GOOD.replace("localhost", "elsewhere")));
    assert_ne!(hash(GOOD), hash(&GOOD.replace("public.*", "public.a*")));
    assert_eq!(hash(GOOD).len(), 32);
}

#[test]
fn an_unknown_type_is_answered_with_the_nearest() {
    let problem = read(GOOD).unwrap().sinks[0].parsed.unknown_kind(["lakes", "iceberg"]);
    assert_eq!((problem.at.line, problem.at.column), (5, 15));
    assert_eq!(problem.message, "unknown type `lake`; did you mean `lakes`?");
}
