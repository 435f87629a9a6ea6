//! One transaction of three million changes: it must not have to fit into memory.

use lakeward_testkit::Result;

use super::backlog::{self, Place, WRITERS};
use super::log::loaded;
use super::{Stage, per};
use crate::results::Samples;
use crate::world::server::Shape;

/// The product beside the raw reader.
pub(crate) async fn bigtx(stage: &mut Stage) -> Result<Samples> {
    let steps = stage.bench.scaled(75_000, 30);
    let first = stage.take_steps(steps);
    let (bench, server, rows) = stage.with(Shape::Narrow).await?;
    let pipeline = loaded(bench, server, "bigtx", bench.lake).await?;
    server.execute(&one_transaction(rows, first, steps)).await?;
    let Place::Lsn(until) = backlog::end(server).await? else {
        return Err("only PostgreSQL is measured".into());
    };
    let mut samples = Samples::default();
    for _ in 0..bench.rounds {
        let (raw, _) = backlog::read_raw(server, &pipeline.base_slot(), until).await?;
        pipeline.restore(server).await?;
        let cost = pipeline.catch_up()?;
        let rate = per(raw.rows as f64, cost.wall.as_secs_f64());
        samples.push_beside("bigtx_ratio", per(rate, raw.rate()), cost, raw.rate());
        samples.push("bigtx_peak_rss_bytes", cost.peak_rss as f64, cost);
    }
    pipeline.end(server).await?;
    Ok(samples)
}

/// All writers' changes in one transaction.
fn one_transaction(rows: u64, first: u64, steps: u64) -> String {
    format!(
        "DO $$ BEGIN FOR step IN {first}..{} LOOP FOR writer IN 0..{} LOOP \
         CALL ten_changes(step, writer, {WRITERS}, {rows}); END LOOP; END LOOP; END $$",
        first + steps - 1,
        WRITERS - 1
    )
}
