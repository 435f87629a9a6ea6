//! What 3,600 commits of 2,000 changes cost with upkeep beside them: one JSON object on the last line.
//!
//! See `lakeward_testkit::commits` for the plan and the variables that change it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench reports to the person who runs it, and may panic"
)]
use lakeward_core::{Env, SinkKind as _};
use lakeward_delta::{Config, Delta};
use lakeward_testkit::commits::{Lake, Plan, run};

#[tokio::main]
async fn main() {
    let home = tempfile::tempdir().unwrap();
    let options = serde_json::json!({
        "warehouse": home.path(),
    });
    let config: Config = serde_json::from_value(options).unwrap();
    let env = Env {
        pipeline: "bench".into(),
        name: "lake".into(),
        writer: "bench-1".into(),
        state_dir: home.path().join("state"),
        memory_bytes: 512 << 20,
    };
    let sink = Delta::open(config, env).await.unwrap();
    let folder = home.path().join("public/narrow");
    let source = format!("source = \"delta_scan('file://{}')\"", folder.display());
    let lake = Lake { metadata: folder.join("_delta_log"), folder, source: source + "\n" };
    println!("{}", run(sink, lake, Plan::from_env()).await.unwrap());
}
