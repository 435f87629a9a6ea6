//! The fence law: of two writers the newer one wins, the older one exits 3, whoever of the two
//! commits first what both must commit. No row is lost and every point is true.

use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::product::exit;
use crate::workload::{Random, bank};
use crate::world::{CALL_LIMIT, LakeTarget, SourceServer, World};

/// Who commits the torn epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newcomer finishes everything, then the older one wakes.
    NewerFirst,
    /// The newcomer is held before its commit, the older one wakes and commits first.
    OlderFirst,
}

const HOLD_LIMIT: Duration = Duration::from_secs(40);

/// The law in one order.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>, order: Order) -> Result<()> {
    let name = match order {
        Order::NewerFirst => "fence_newer_first",
        Order::OlderFirst => "fence_older_first",
    };
    let mut world = World::<S, L>::create(source, name).await?;
    world.execute(&bank::create()).await?;
    for round in 0..12 {
        transfers(&world, round).await?;
        world.recover().await?;
    }
    let older_hold = world.hold("older.hold");
    let older =
        world.run()?.arg("--take-over").hold_at("before-table-commit", 1, &older_hold).spawn()?;
    transfers(&world, 100).await?;
    older_hold.arrived(HOLD_LIMIT).await?;
    transfers(&world, 101).await?;
    world.options.state = "state-newer".to_owned();
    match order {
        Order::NewerFirst => {
            world.recover().await?;
            older_hold.release();
        }
        Order::OlderFirst => {
            let newer_hold = world.hold("newer.hold");
            let newer = world.run()?.arg("--take-over").arg("--until-caught-up");
            let newer = newer.hold_at("before-table-commit", 1, &newer_hold).spawn()?;
            newer_hold.arrived(HOLD_LIMIT).await?;
            older_hold.release();
            tokio::time::sleep(Duration::from_secs(2)).await;
            newer_hold.release();
            newer.wait(CALL_LIMIT).await?.ensure(exit::DONE)?;
        }
    }
    older.wait(CALL_LIMIT).await?.ensure(exit::FENCED)?;
    transfers(&world, 102).await?;
    world.recover().await?;
    super::bank::check(&world, 0).await?;
    world.done().await
}

async fn transfers<S: SourceServer, L: LakeTarget>(world: &World<S, L>, round: u64) -> Result<()> {
    let (mut session, mut random) = (world.session().await?, Random::new(round));
    for _ in 0..20 {
        session.run(&bank::transfer(&mut random, 0, 1)).await?;
    }
    Ok(())
}
