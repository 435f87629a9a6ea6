//! A backlog of the log: 60 % updates, 30 % inserts, 10 % deletes over the large table, in transactions of 10 to 1,000
//! changes. Each format follows it from the same place, in turns with the raw readers.

use lakeward_testkit::Result;
use lakeward_testkit::mariadb::Version;

use super::backlog::{self, Place, WRITERS};
use super::{Stage, per};
use crate::results::Samples;
use crate::world::server::{Product, Shape};
use crate::world::{Bench, Lake, Pipeline, Server};

/// The formats, the cases of their efficiency, and their pipelines' names.
const FORMATS: [(Lake, Option<&str>, &str); 4] = [
    (Lake::Iceberg2, Some("log_changes_per_cpu_second_v2"), "log_v2"),
    (Lake::Iceberg3, Some("log_changes_per_cpu_second_v3"), "log_v3"),
    (Lake::Delta, Some("log_changes_per_cpu_second_delta"), "log_delta"),
    (Lake::Null, None, "log_null"),
];

/// A pipeline that has loaded and waits for the backlog.
struct Follower {
    pipeline: Pipeline,
    lake: Lake,
    /// The case of its efficiency.
    case: Option<&'static str>,
}

/// All cases of PostgreSQL's log; of MariaDB's the efficiency of each format.
pub(crate) async fn log(stage: &mut Stage) -> Result<Samples> {
    let steps = stage.bench.scaled(50_000, 30);
    let first = stage.take_steps(steps);
    let (bench, server, rows) = stage.with(Shape::Narrow).await?;
    let mut followers = Vec::new();
    let formats =
        FORMATS.into_iter().filter(|(lake, case, _)| case.is_some() || *lake == bench.lake);
    for (lake, case, name) in formats {
        match loaded(bench, server, name, lake).await {
            Ok(pipeline) => followers.push(Follower { pipeline, lake, case }),
            Err(error) => println!("  {name}: cannot be measured: {error}"),
        }
    }
    let begin = backlog::end(server).await?;
    backlog::write(server, rows, first, steps).await?;
    let end = backlog::end(server).await?;
    let changes = 10 * WRITERS * steps;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        match &end {
            Place::Lsn(until) => round(bench, server, &followers, *until, &mut samples).await?,
            Place::File(..) => {
                let raw = backlog::read_binlog(server, &begin, changes)?.rate();
                for follower in &followers {
                    follower.pipeline.restore(server).await?;
                    let cost = follower.pipeline.catch_up()?;
                    let value = per(changes as f64, cost.cpu.as_secs_f64());
                    if let Some(case) = follower.case {
                        samples.push_beside(case, value, cost, raw);
                    }
                }
            }
        }
    }
    for follower in followers {
        follower.pipeline.end(server).await?;
    }
    Ok(samples)
}

/// A pipeline that holds the whole table, kept so that it can begin there again.
pub(crate) async fn loaded(
    bench: &Bench,
    server: &Server,
    name: &str,
    lake: Lake,
) -> Result<Pipeline> {
    let pipeline = Pipeline::new(bench, server, name, Shape::Narrow.table(), lake, &[])?;
    pipeline.clear(server).await?;
    pipeline.catch_up()?;
    pipeline.keep(server).await?;
    Ok(pipeline)
}

async fn round(
    bench: &Bench,
    server: &Server,
    followers: &[Follower],
    until: u64,
    samples: &mut Samples,
) -> Result<()> {
    let Some(first) = followers.first() else { return Err("no format could load".into()) };
    let base = first.pipeline.base_slot();
    let theirs = backlog::read_recvlogical(bench, server, &base, until).await?;
    let (raw, raw_cpu) = backlog::read_raw(server, &base, until).await?;
    let changes = raw.rows as f64;
    for follower in followers {
        follower.pipeline.restore(server).await?;
        let before = server.cpu();
        let cost = follower.pipeline.catch_up()?;
        let server_cpu = server.cpu() - before;
        let efficiency = per(changes, cost.cpu.as_secs_f64());
        if let Some(case) = follower.case {
            samples.push_beside(case, efficiency, cost, raw.rate());
        }
        if follower.lake == bench.lake {
            let rate = per(changes, cost.wall.as_secs_f64());
            let recvlogical = per(changes, theirs.as_secs_f64());
            samples.push_beside("log_vs_recvlogical", per(rate, recvlogical), cost, recvlogical);
            samples.push_beside("log_vs_raw", per(rate, raw.rate()), cost, raw.rate());
            let ratio = per(server_cpu.as_secs_f64(), raw_cpu.as_secs_f64().max(0.01));
            samples.push_beside("log_server_cpu_ratio", ratio.max(1e-3), cost, raw.rate());
        }
    }
    Ok(())
}

/// MariaDB's log into Iceberg 3, on a server of its own.
pub(crate) async fn mysql(bench: &Bench) -> Result<Samples> {
    let server = Server::start(Product::MariaDb(Version::V11_8)).await?;
    let (rows, steps) = (bench.scaled(2_000_000, 4_000), bench.scaled(25_000, 30));
    server.fill(Shape::Narrow, rows).await?;
    let pipeline = loaded(bench, &server, "mysql_v3", Lake::Iceberg3).await?;
    let begin = backlog::end(&server).await?;
    backlog::write(&server, rows, 1, steps).await?;
    let changes = 10 * WRITERS * steps;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        let raw = backlog::read_binlog(&server, &begin, changes)?.rate();
        pipeline.restore(&server).await?;
        let cost = pipeline.catch_up()?;
        let value = per(changes as f64, cost.cpu.as_secs_f64());
        samples.push_beside("mysql_log_changes_per_cpu_second_v3", value, cost, raw);
    }
    pipeline.end(&server).await?;
    Ok(samples)
}
