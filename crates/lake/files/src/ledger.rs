//! The ledger's objects, below one prefix of a store.
use async_trait::async_trait;
use lakeward_core::{LedgerStore, Result};

use crate::store::Store;

/// Ledger objects `prefix/name` in a store.
#[derive(Debug, Clone)]
pub struct StoreLedger {
    store: Store,
    prefix: String,
}

impl StoreLedger {
    /// A ledger below `prefix` (no slash at either end).
    pub fn new(store: Store, prefix: impl Into<String>) -> Self {
        Self { store, prefix: prefix.into() }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}

#[async_trait]
impl LedgerStore for StoreLedger {
    async fn create(&self, name: &str, content: Vec<u8>) -> Result<bool> {
        self.store.create(&self.path(name), content.into()).await
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.store.get(&self.path(name)).await?.map(|bytes| bytes.to_vec()))
    }

    async fn list(&self) -> Result<Vec<String>> {
        let paths = self.store.list(&self.prefix).await?;
        let start = self.prefix.len() + 1;
        Ok(paths.into_iter().filter_map(|path| path.get(start..).map(str::to_owned)).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(&self.path(name)).await
    }
}
