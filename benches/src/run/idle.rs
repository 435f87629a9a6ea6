//! What a pipeline costs that has nothing to do: twenty tables, loaded, and nobody writes.

use std::time::Duration;

use lakeward_testkit::Result;

use super::{Stage, per};
use crate::measure::Cost;
use crate::results::Samples;
use crate::world::Pipeline;
use crate::world::server::Shape;

const TABLES: u32 = 20;

/// Memory and share of a core.
pub(crate) async fn idle(stage: &mut Stage) -> Result<Samples> {
    let (bench, server, _) = stage.with(Shape::Narrow).await?;
    for n in 0..TABLES {
        let columns = "id bigint PRIMARY KEY, note varchar(20)";
        server.execute(&format!("CREATE TABLE idle_{n} ({columns})")).await?;
        server.execute(&format!("INSERT INTO idle_{n} VALUES ({n}, 'quiet')")).await?;
    }
    let pipeline = Pipeline::new(bench, server, "idle", "idle_*", bench.lake, &[])?;
    pipeline.clear(server).await?;
    pipeline.catch_up()?;
    let window = Duration::from_secs(if bench.form_only() { 2 } else { 20 });
    let mut running = pipeline.follow()?;
    tokio::time::sleep(window).await;
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        let before = running.cpu();
        tokio::time::sleep(window).await;
        if running.ended() {
            return Err(format!("it ended:\n{}", crate::measure::tail(&pipeline.log())).into());
        }
        let (cpu, rss) = (running.cpu() - before, running.rss());
        let cost = Cost { wall: window, cpu, peak_rss: rss };
        samples.push("idle_rss_bytes", rss as f64, cost);
        // less than a tick of the kernel's clock cannot be seen
        let seen = cpu.max(Duration::from_millis(1)).as_secs_f64();
        samples.push("idle_core_ratio", per(seen, window.as_secs_f64()), cost);
    }
    running.stop(&pipeline.log())?;
    pipeline.end(server).await?;
    Ok(samples)
}
