//! Real servers in, foreign readers out: the programs that `cargo x` runs, and the laws' test.
//!
//! The laws themselves are in the test kit. Nothing here links a source or a lake.

use std::sync::Arc;

use lakeward_testkit::Result;
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;
use tokio::sync::OnceCell;

static V15: OnceCell<Arc<Postgres>> = OnceCell::const_new();
static V18: OnceCell<Arc<Postgres>> = OnceCell::const_new();

/// A server that tests of this process share. It ends with the process.
///
/// # Errors
/// The server cannot be fetched or started.
pub async fn shared(version: Version) -> Result<Arc<Postgres>> {
    let cell = match version {
        Version::V15 => &V15,
        Version::V18 => &V18,
    };
    let start =
        || async { Ok::<_, lakeward_testkit::Error>(Arc::new(Postgres::start(version).await?)) };
    Ok(Arc::clone(cell.get_or_try_init(start).await?))
}
