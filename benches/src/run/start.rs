//! How long a start takes on the large table, with its key index in place and without it. One change waits in the log, so
//! that the index is really asked.

use std::fs;

use lakeward_testkit::Result;

use super::Stage;
use super::log::loaded;
use crate::results::Samples;
use crate::world::server::Shape;

/// From the start of the process to its end, all that was waiting committed.
pub(crate) async fn start(stage: &mut Stage) -> Result<Samples> {
    let first = stage.take_steps(1);
    let (bench, server, rows) = stage.with(Shape::Narrow).await?;
    let pipeline = loaded(bench, server, "start", bench.lake).await?;
    server.execute(&format!("CALL ten_changes({first}, 0, 4, {rows})")).await?;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        pipeline.restore(server).await?;
        let cost = pipeline.catch_up()?;
        samples.push("start_clean_s", cost.wall.as_secs_f64(), cost);
        pipeline.restore(server).await?;
        fs::remove_dir_all(pipeline.state())?;
        let cost = pipeline.catch_up()?;
        samples.push("start_lost_index_s", cost.wall.as_secs_f64(), cost);
    }
    pipeline.end(server).await?;
    Ok(samples)
}
