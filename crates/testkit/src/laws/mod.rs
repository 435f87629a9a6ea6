//! The laws: what must hold for every source and every lake, written once.
//!
//! A law gets a running server, makes its own worlds on it, and returns an error that says what
//! broke and where the evidence lies.

pub mod bad_input;
pub mod bank;
pub mod fence;
pub mod foreign;
pub mod kill;
pub mod limits;
pub mod log;
pub mod restart;
pub mod sinks;
pub mod traps;
pub mod types;

use std::time::Duration;

use crate::Result;
use crate::workload::{Random, shop};
use crate::world::{LakeTarget, SourceServer, World};

/// How much of a law is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What fits into the time of a change's test.
    Ci,
    /// Everything, for the night.
    Full,
}

impl Extent {
    /// `LAKEWARD_FULL=1` asks for everything.
    pub fn from_env() -> Extent {
        match std::env::var("LAKEWARD_FULL").as_deref() {
            Ok("1") => Extent::Full,
            _ => Extent::Ci,
        }
    }

    /// The number for this extent.
    pub fn choose<T>(self, ci: T, full: T) -> T {
        match self {
            Extent::Ci => ci,
            Extent::Full => full,
        }
    }
}

/// Makes and fills the shop in a world's database.
async fn open_shop<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    size: shop::Size,
) -> Result<()> {
    let mut session = world.session().await?;
    let shop = world.source.dialect().shop();
    session.run(shop.schema).await?;
    for fill in shop.fill(size) {
        session.run(&fill).await?;
    }
    Ok(())
}

/// Waits until a query's only cell is true.
async fn until<S: SourceServer, L: LakeTarget>(
    world: &World<S, L>,
    sql: &str,
    limit: Duration,
) -> Result<()> {
    let end = tokio::time::Instant::now() + limit;
    while !["t", "1"].contains(&world.value(sql).await?.as_str()) {
        if tokio::time::Instant::now() > end {
            crate::fail!("not true within {limit:?}: {sql}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A period between two bounds.
fn some_millis(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}
