//! The sink: where its ledger and its tables' records stand.
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lakeward_core::{
    CheckReport, Env, LedgerStore, Result, Sink, SinkKind, SinkTable, Slot, TableSchema,
};

use crate::config::Config;
use crate::storage::Storage;
use crate::table::{NullTable, Record, record_name};

/// The null sink.
pub struct Null {
    records: Storage,
    ledger: Storage,
}

impl SinkKind for Null {
    const NAME: &'static str = "null";
    type Config = Config;

    async fn open(config: Config, env: Env) -> Result<Arc<dyn Sink>> {
        let root = Storage::open(config.directory.map(PathBuf::from)).await?;
        let own =
            root.below("_lakeward").await?.below(&env.pipeline).await?.below(&env.name).await?;
        Ok(Arc::new(Self { records: root, ledger: own }))
    }
}

#[async_trait]
impl Sink for Null {
    async fn check(&self) -> Result<CheckReport> {
        Ok(CheckReport { server: "nowhere: rows are thrown away".to_owned(), findings: Vec::new() })
    }

    fn ledger(&self) -> Arc<dyn LedgerStore> {
        Arc::new(self.ledger.clone())
    }

    async fn open_table(
        &self,
        schema: &Arc<TableSchema>,
        slot: Slot,
    ) -> Result<Box<dyn SinkTable>> {
        Ok(Box::new(NullTable::open(self.records.clone(), schema, slot).await?))
    }

    async fn drop_copy(&self, schema: &TableSchema, generation: u32) -> Result<()> {
        let mut record = Record::load(&self.records, &schema.table).await?;
        if record.copies.remove(&generation).is_some() {
            record.store(&self.records, &schema.table).await?;
        }
        Ok(())
    }

    async fn drop_table(&self, schema: &TableSchema) -> Result<()> {
        self.records.delete(&record_name(&schema.table)).await
    }
}
