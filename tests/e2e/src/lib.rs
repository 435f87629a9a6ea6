//! Real servers in, foreign readers out: the programs that `cargo x` runs, and the laws' test.
//!
//! The laws themselves are in the test kit. Nothing here links a source or a lake.

use std::sync::Arc;

use lakeward_testkit::Result;
use lakeward_testkit::world::SourceServer;
use tokio::sync::OnceCell;

/// A server that tests of this process share, once it has been asked for. It ends with the process.
pub struct Shared<S: SourceServer> {
    version: S::Version,
    server: OnceCell<Arc<S>>,
}

impl<S: SourceServer> Shared<S> {
    /// The version.
    pub fn version(&self) -> S::Version {
        self.version
    }

    /// A server of this version; not started yet.
    pub const fn new(version: S::Version) -> Shared<S> {
        Shared { version, server: OnceCell::const_new() }
    }

    /// The server, started by the first who asks.
    ///
    /// # Errors
    /// The server cannot be fetched or started.
    pub async fn get(&self) -> Result<Arc<S>> {
        let start = || async { S::begin(self.version, &[]).await.map(Arc::new) };
        self.server.get_or_try_init(start).await.map(Arc::clone)
    }
}
