//! The sink: one warehouse, its catalogue and the pipeline's ledger in it.
//!
//! Deliberately absent: anything about one table's rows.
use std::sync::Arc;

use async_trait::async_trait;
use lakeward_core::{
    CheckReport, Env, Error, ErrorKind, Finding, LedgerStore, Result, Severity, Sink, SinkKind,
    SinkTable, Slot, TableId, TableSchema,
};
use lakeward_files::{IndexFolders, Store, StoreLedger, orphans};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::commit::{Committer, Outcome};
use crate::config::Config;
use crate::metadata::{Line, TableHead, path_of};
use crate::table::{IcebergTable, owned_shape};

/// A metadata-only commit is tried this often against other writers of the table before it gives up.
const EDIT_ATTEMPTS: usize = 20;

/// The Iceberg sink.
pub struct Iceberg {
    store: Store,
    catalog: Catalog,
    config: Config,
    env: Env,
}

impl SinkKind for Iceberg {
    const NAME: &'static str = "iceberg";
    type Config = Config;

    async fn open(config: Config, env: Env) -> Result<Arc<dyn Sink>> {
        let directory = config.directory();
        let store = Store::local(&directory)?;
        let catalog = Catalog::open(
            directory.join("catalog.db"),
            config.catalog_name.clone(),
            config.catalog_timeout.0,
        )
        .await?;
        Ok(Arc::new(Self { store, catalog, config, env }))
    }
}

impl Iceberg {
    fn committer(&self, table: &TableId) -> Committer {
        Committer {
            store: self.store.clone(),
            catalog: self.catalog.clone(),
            table: table.clone(),
            owner: format!("{}/{}", self.env.pipeline, self.env.name),
            writer: orphans::plain(&self.env.writer),
            metadata_versions: self.config.metadata_versions,
            index: IndexFolders::of(&self.env, table),
            format: self.config.format(),
        }
    }

    async fn probe(&self) -> Result<()> {
        let path = format!("_lakeward/{}/probe-{}", self.env.pipeline, Uuid::new_v4());
        self.store.create(&path, bytes::Bytes::from_static(b"probe")).await?;
        self.store.delete(&path).await?;
        self.catalog.probe().await
    }
}

#[async_trait]
impl Sink for Iceberg {
    async fn check(&self) -> Result<CheckReport> {
        let mut report = CheckReport {
            server: format!(
                "Iceberg format {}, SQLite catalogue {}",
                self.config.format_version, self.config.catalog_name
            ),
            findings: Vec::new(),
        };
        if let Err(error) = self.probe().await {
            report.findings.push(Finding {
                severity: Severity::Refused,
                about: self.config.directory().display().to_string(),
                message: error.to_string(),
                remedy: error.remedy().to_owned(),
            });
        }
        Ok(report)
    }

    fn ledger(&self) -> Arc<dyn LedgerStore> {
        let prefix = format!("_lakeward/{}/{}", self.env.pipeline, self.env.name);
        Arc::new(StoreLedger::new(self.store.clone(), prefix))
    }

    async fn open_table(
        &self,
        schema: &Arc<TableSchema>,
        slot: Slot,
    ) -> Result<Box<dyn SinkTable>> {
        let committer = self.committer(&schema.table);
        let target = self.config.target_file_size.0;
        let table = IcebergTable::open(committer, schema, slot, target).await;
        Ok(Box::new(table.map_err(|error| error.with("table", &schema.table))?))
    }

    async fn drop_copy(&self, schema: &TableSchema, generation: u32) -> Result<()> {
        let committer = self.committer(&schema.table);
        let line = Line(Slot::Copy(generation));
        committer.index.home(line.0).remove();
        for _ in 0..EDIT_ATTEMPTS {
            let Some(head) = TableHead::load(&self.store, &self.catalog, &schema.table).await?
            else {
                return Ok(());
            };
            let properties = line.properties();
            let named = |p: &String| head.metadata.properties().contains_key(p);
            if head.snapshot(line).is_none() && !properties.iter().any(named) {
                return Ok(());
            }
            let attempt = committer
                .edit(&head, &|builder| {
                    builder.remove_ref(&line.reference()).remove_properties(&properties)
                })
                .await;
            match attempt.outcome {
                Outcome::Committed(_) => return Ok(()),
                Outcome::Lost => {}
                Outcome::Unknown(error) | Outcome::Failed(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "other writers of the table were always faster")
            .with("table", &schema.table))
    }

    async fn drop_table(&self, schema: &TableSchema) -> Result<()> {
        let Some(head) = TableHead::load(&self.store, &self.catalog, &schema.table).await? else {
            return Ok(());
        };
        owned_shape(&self.committer(&schema.table), &head, Line(Slot::Copy(0)))?;
        let folder = path_of(&self.store, head.metadata.location())?;
        IndexFolders::of(&self.env, &schema.table).remove();
        self.catalog.remove(&schema.table).await?;
        self.store.delete_all(&folder).await
    }
}
