//! The acts that measure: each group of cases has a file of its own here.

mod backlog;
mod bigtx;
mod build;
mod commits;
mod fresh;
mod idle;
mod load;
mod log;
mod micro;
mod start;

use lakeward_testkit::Result;

use crate::cases::Group;
use crate::results::Samples;
use crate::world::server::{Product, Shape};
use crate::world::{Bench, Server};

/// The server of a run, and what stands on it.
pub(crate) struct Stage {
    pub(crate) bench: Bench,
    pub(crate) product: Product,
    server: Option<Server>,
    filled: Vec<(Shape, u64)>,
    /// Where the next writer begins, so that no change is made twice.
    next_step: u64,
}

impl Stage {
    pub(crate) fn new(bench: Bench, product: Product) -> Self {
        Self { bench, product, server: None, filled: Vec::new(), next_step: 1 }
    }

    /// Measures a group.
    pub(crate) async fn measure(&mut self, group: Group) -> Result<Samples> {
        match group {
            Group::LoadNarrow => load::narrow(self).await,
            Group::LoadOneReader => load::one_reader(self).await,
            Group::LoadTaxi => {
                load::shape(self, Shape::Taxi, "load_taxi_rows_per_cpu_second").await
            }
            Group::LoadWide => {
                load::shape(self, Shape::Wide, "load_wide_rows_per_cpu_second").await
            }
            Group::Log => log::log(self).await,
            Group::BigTransaction => bigtx::bigtx(self).await,
            Group::Start => start::start(self).await,
            Group::Fresh => fresh::fresh(self, "1s", ["fresh_p50_s", "fresh_p99_s"]).await,
            Group::Fresh200 => fresh::fresh(self, "200ms", ["fresh200_p50_s", ""]).await,
            Group::Commits => commits::commits(self).await,
            Group::Idle => idle::idle(self).await,
            Group::MySqlLog => log::mysql(&self.bench).await,
            Group::Decode => micro::decode(&self.bench),
            Group::Index => micro::index(&self.bench),
            Group::Release => build::release(&self.bench),
            Group::Edit => build::edit(&self.bench),
        }
    }

    /// Instructions of the micro benches.
    pub(crate) fn instructions(&self) -> Result<Vec<(&'static str, u64)>> {
        micro::instructions(&self.bench)
    }

    /// The server, started by whoever asks first, with a table of this shape on it, and its rows.
    pub(crate) async fn with(&mut self, shape: Shape) -> Result<(&Bench, &Server, u64)> {
        let rows = match shape {
            Shape::Narrow => self.bench.scaled(10_000_000, 4_000),
            Shape::Taxi => self.bench.scaled(3_000_000, 1_000),
            Shape::Wide => self.bench.scaled(200_000, 200),
        };
        if self.server.is_none() {
            self.server = Some(Server::start(self.product).await?);
        }
        let server = self.server.as_ref().ok_or("no server")?;
        if !self.filled.contains(&(shape, rows)) {
            println!("  filling {} with {rows} rows", shape.table());
            server.fill(shape, rows).await?;
            self.filled.push((shape, rows));
        }
        Ok((&self.bench, server, rows))
    }

    /// A server with nothing on it, for what must not see what came before.
    pub(crate) fn anew(&mut self) {
        (self.server, self.filled, self.next_step) = (None, Vec::new(), 1);
    }

    /// Sets steps of ten changes aside for writers.
    pub(crate) fn take_steps(&mut self, steps: u64) -> u64 {
        let first = self.next_step;
        self.next_step += steps;
        first
    }
}

/// A quotient that is finite.
pub(crate) fn per(amount: f64, of: f64) -> f64 {
    amount / of.max(1e-9)
}
