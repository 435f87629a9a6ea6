//! The sink: one warehouse, and the pipeline's ledger in it.
//!
//! Deliberately absent: anything about one table's rows.
use std::sync::Arc;

use async_trait::async_trait;
use lakeward_core::{
    CheckReport, Env, Finding, LedgerStore, Result, Severity, Sink, SinkKind, SinkTable, Slot,
    TableId, TableSchema,
};
use lakeward_files::{IndexFolders, Origin, Store, StoreLedger};
use uuid::Uuid;

use crate::commit::{Committer, delete_quietly};
use crate::config::Config;
use crate::log::{Log, copy_folder, copy_of};
use crate::open::owned_shape;
use crate::schema::Growth;
use crate::table::DeltaTable;
use crate::{folder, vectors};

/// The Delta sink.
pub struct Delta {
    store: Store,
    config: Config,
    env: Env,
}

impl SinkKind for Delta {
    const NAME: &'static str = "delta";
    type Config = Config;

    async fn open(config: Config, env: Env) -> Result<Arc<dyn Sink>> {
        let store = Store::local(&config.directory())?;
        Ok(Arc::new(Self { store, config, env }))
    }
}

impl Delta {
    fn committer(&self, table: &TableId) -> Committer {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        Committer {
            store: self.store.clone(),
            table: table.clone(),
            folder: folder::of(table),
            owner: format!("{}/{}", self.env.pipeline, self.env.name),
            writer: self.env.writer.chars().map(plain).collect(),
            checkpoint_interval: self.config.checkpoint_interval.max(1),
            index: IndexFolders::of(&self.env, table),
            growth: if self.config.widen_in_place { Growth::InPlace } else { Growth::Reload },
        }
    }

    async fn probe(&self) -> Result<()> {
        let path = format!("_lakeward/{}/probe-{}", self.env.pipeline, Uuid::new_v4());
        self.store.create(&path, bytes::Bytes::from_static(b"probe")).await?;
        self.store.delete(&path).await
    }
}

#[async_trait]
impl Sink for Delta {
    async fn check(&self) -> Result<CheckReport> {
        let mut report =
            CheckReport { server: "Delta Lake, local directory".into(), findings: Vec::new() };
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
        let table = DeltaTable::open(committer, schema, slot, target).await;
        Ok(Box::new(table.map_err(|error| error.with("table", &schema.table))?))
    }

    /// The copy's log goes first, the newest commit before the older ones: what a crash leaves of it is a log still. From
    /// then on nothing names its files; what is left of them goes with a later clean-up.
    async fn drop_copy(&self, schema: &TableSchema, generation: u32) -> Result<()> {
        let folder = folder::of(&schema.table);
        let log = |slot| Log::new(self.store.clone(), &folder, slot);
        IndexFolders::of(&self.env, &schema.table).home(Slot::Copy(generation)).remove();
        let Some(copy) = log(Slot::Copy(generation)).load().await? else { return Ok(()) };
        let visible = log(Slot::Visible).load().await?;
        let copy_folder = copy_folder(&folder, generation);
        let mut of_log = self.store.list(&copy_folder).await?;
        of_log.sort_unstable();
        for path in of_log.iter().rev() {
            self.store.delete(path).await?;
        }
        self.store.delete_all(&copy_folder).await?;
        let promoted = visible.and_then(|v| v.progress()).is_some_and(|(g, _)| g >= generation);
        if promoted {
            return Ok(());
        }
        let mut files = Vec::new();
        for add in copy.files.values() {
            files.push(format!("{folder}/{}", add.path));
            if let Some(name) =
                add.deletion_vector.as_ref().map(vectors::path).transpose()?.flatten()
            {
                files.push(format!("{folder}/{name}"));
            }
        }
        files.dedup();
        delete_quietly(&self.store, &files).await;
        Ok(())
    }

    async fn drop_table(&self, schema: &TableSchema) -> Result<()> {
        let committer = self.committer(&schema.table);
        let folder = &committer.folder;
        let log = Log::new(self.store.clone(), folder, Slot::Visible);
        if let Some(state) = log.load().await? {
            owned_shape(&committer, &state, Slot::Copy(0))?;
            committer.index.remove();
            return self.store.delete_all(folder).await;
        }
        // A load that never became visible.
        for path in self.store.list(folder).await? {
            let name =
                path.strip_prefix(folder.as_str()).unwrap_or_default().trim_start_matches('/');
            if copy_of(name).is_some()
                || Origin::of(name).is_some()
                || vectors::origin(name).is_some()
            {
                self.store.delete(&path).await?;
            }
        }
        Ok(())
    }
}
