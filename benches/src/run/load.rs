//! Initial loads: the product beside a raw reader of the same table, in turns.

use lakeward_testkit::Result;

use super::{Stage, per};
use crate::measure::Cost;
use crate::report::figure;
use crate::results::Samples;
use crate::world::server::Shape;
use crate::world::{Bench, Pipeline, Server};

/// The narrow table with the options that a user gets.
pub(crate) async fn narrow(stage: &mut Stage) -> Result<Samples> {
    let (bench, server, rows) = stage.with(Shape::Narrow).await?;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        let raw = server.read_raw(Shape::Narrow)?;
        let cost = load(bench, server, Shape::Narrow, &[]).await?;
        println!("  raw reader {}; lakeward {}", raw.describe(), told(rows, cost));
        let rate = per(rows as f64, cost.wall.as_secs_f64());
        samples.push_beside("load_narrow_ratio", per(rate, raw.rate()), cost, raw.rate());
        let efficiency = per(rows as f64, cost.cpu.as_secs_f64());
        samples.push_beside("load_narrow_rows_per_cpu_second", efficiency, cost, raw.rate());
        samples.push("load_peak_rss_bytes", cost.peak_rss as f64, cost);
    }
    Ok(samples)
}

/// The narrow table with one reader: the least memory.
pub(crate) async fn one_reader(stage: &mut Stage) -> Result<Samples> {
    let (bench, server, _) = stage.with(Shape::Narrow).await?;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        let cost = load(bench, server, Shape::Narrow, &["chunk_readers: 1"]).await?;
        samples.push("load_one_reader_peak_rss_bytes", cost.peak_rss as f64, cost);
    }
    Ok(samples)
}

/// Another shape: rows a CPU-second.
pub(crate) async fn shape(stage: &mut Stage, shape: Shape, case: &'static str) -> Result<Samples> {
    let (bench, server, rows) = stage.with(shape).await?;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        let raw = server.read_raw(shape)?;
        let cost = load(bench, server, shape, &[]).await?;
        println!("  raw reader {}; lakeward {}", raw.describe(), told(rows, cost));
        samples.push_beside(case, per(rows as f64, cost.cpu.as_secs_f64()), cost, raw.rate());
    }
    Ok(samples)
}

fn told(rows: u64, cost: Cost) -> String {
    let rate = |seconds: f64| figure(per(rows as f64, seconds), "");
    format!("{}/s, {}/CPU-s", rate(cost.wall.as_secs_f64()), rate(cost.cpu.as_secs_f64()))
}

/// One load by a pipeline that has never run.
async fn load(bench: &Bench, server: &Server, shape: Shape, options: &[&str]) -> Result<Cost> {
    let pipeline = Pipeline::new(bench, server, "load", shape.table(), bench.lake, options)?;
    pipeline.clear(server).await?;
    let cost = pipeline.catch_up()?;
    pipeline.end(server).await?;
    Ok(cost)
}
