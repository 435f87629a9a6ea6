//! From a pipeline file to opened connectors.
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakeward_core::{Env, Error, ErrorKind, LedgerStore, Result, Retry, Sink, Source};
use lakeward_engine::spec::{Definition, PipelineOptions, Problems};

use crate::exit::Failure;
use crate::registry::{self, Open};

/// How long a store that does not answer is left alone.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// A pipeline file without problems, its connectors parsed and not yet opened.
pub(crate) struct Loaded {
    pub(crate) options: PipelineOptions,
    source_name: String,
    sink_name: String,
    open_source: Open<dyn Source>,
    open_sink: Open<dyn Sink>,
}

/// A pipeline's connectors, opened.
pub(crate) struct Opened {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) options: PipelineOptions,
    /// For the engine: named after the sink, whose ledger it keeps.
    pub(crate) env: Env,
}

/// Reads a pipeline file, connectors' options included.
///
/// # Errors
/// All problems of all parts at once.
pub(crate) fn load(path: &Path) -> Result<Loaded, Problems> {
    let (sources, sinks) = (registry::sources(), registry::sinks());
    let definition = Definition::open(path)?;
    let spec = definition.finish(|raw| sources.parse(raw), |raw| sinks.parse(raw))?;
    Ok(Loaded {
        options: spec.pipeline,
        source_name: spec.source.name,
        sink_name: spec.sink.name,
        open_source: spec.source.parsed,
        open_sink: spec.sink.parsed,
    })
}

impl Loaded {
    /// Opens both connectors.
    ///
    /// # Errors
    /// Theirs; `Config` when the state directory cannot be made.
    pub(crate) async fn open(self) -> Result<Opened> {
        make_private(&self.options.state_dir)?;
        let writer = uuid::Uuid::now_v7().simple().to_string();
        let env = |name: String| Env {
            pipeline: self.options.name.clone(),
            name,
            writer: writer.clone(),
            state_dir: self.options.state_dir.clone(),
            memory_bytes: self.options.memory.0,
        };
        let (for_source, env) = (env(self.source_name), env(self.sink_name));
        let source = (self.open_source)(for_source).await?;
        let sink = (self.open_sink)(env.clone()).await?;
        Ok(Opened { source, sink, options: self.options, env })
    }
}

impl Opened {
    /// The ledger's objects.
    pub(crate) fn ledger(&self) -> Arc<dyn LedgerStore> {
        self.sink.ledger()
    }
}

/// Reads a pipeline file and opens its connectors; what is unreachable is tried again for as long as the file allows.
///
/// # Errors
/// As [`load`] and [`Loaded::open`].
pub(crate) async fn open_patiently(path: &Path) -> Result<Opened, Failure> {
    let since = Instant::now();
    loop {
        let loaded = load(path)?;
        let limit = loaded.options.retry_limit.0;
        match loaded.open().await {
            Err(error) if error.kind().retry() == Retry::Backoff && since.elapsed() < limit => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(RETRY_EVERY.min(limit)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// Makes a directory that only its owner may enter; one that is there stays as it is.
fn make_private(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Error::new(ErrorKind::Config, "the state directory cannot be made")
            .with("state_dir", directory.display())
            .caused_by(error)
            .remedied("make the directory, or name another as `pipeline.state_dir`")
    })
}
