//! From a pipeline file to opened connectors.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakeward_core::{Env, Error, ErrorKind, LedgerStore, Result, Retry, Sink, Source};
use lakeward_engine::spec::{Definition, Part, PipelineOptions, Problems};
use lakeward_engine::supervise::Landing;

use crate::exit::Failure;
use crate::registry::{self, Open};

/// How long a store that does not answer is left alone.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// A pipeline file without problems, its connectors parsed and not yet opened.
pub(crate) struct Loaded {
    pub(crate) options: PipelineOptions,
    source: Part<Open<dyn Source>>,
    sinks: Vec<Part<Open<dyn Sink>>>,
}

/// A pipeline's connectors, opened.
pub(crate) struct Opened {
    pub(crate) source: Arc<dyn Source>,
    /// At least one.
    pub(crate) sinks: Vec<OpenedSink>,
    pub(crate) options: PipelineOptions,
}

/// A sink, opened.
pub(crate) struct OpenedSink {
    pub(crate) sink: Arc<dyn Sink>,
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
    Ok(Loaded { options: spec.pipeline, source: spec.source, sinks: spec.sinks })
}

impl Loaded {
    /// Opens the connectors.
    ///
    /// # Errors
    /// Theirs; `Config` when the state directory cannot be made.
    pub(crate) async fn open(self) -> Result<Opened> {
        make_private(&self.options.state_dir)?;
        let writer = uuid::Uuid::now_v7().simple().to_string();
        let several = self.sinks.len() > 1;
        let env = |name: String, state_dir: PathBuf| Env {
            pipeline: self.options.name.clone(),
            name,
            writer: writer.clone(),
            state_dir,
            memory_bytes: self.options.memory.0,
        };
        let state_dir = &self.options.state_dir;
        let source = (self.source.parsed)(env(self.source.name, state_dir.clone())).await?;
        let mut sinks = Vec::with_capacity(self.sinks.len());
        for Part { name, parsed } in self.sinks {
            // Writers of one pipeline's sinks live side by side: each locks and spills in a place of its own.
            let own = if several { state_dir.join(&name) } else { state_dir.clone() };
            let env = env(name, own);
            let sink = parsed(env.clone()).await.map_err(|error| match several {
                true => error.with("sink", &env.name),
                false => error,
            })?;
            sinks.push(OpenedSink { sink, env });
        }
        Ok(Opened { source, sinks, options: self.options })
    }
}

impl Opened {
    /// The sink of this name; without a name the only one.
    ///
    /// # Errors
    /// `Config` when there is none of that name, or a name is needed.
    pub(crate) fn sink(&self, name: Option<&str>) -> Result<&OpenedSink> {
        let found = match (name, &self.sinks[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), sinks) => sinks.iter().find(|s| s.env.name == name),
        };
        found.ok_or_else(|| {
            let names: Vec<_> = self.sinks.iter().map(|s| s.env.name.as_str()).collect();
            let message = if name.is_some() {
                "the pipeline has no such sink"
            } else {
                "the pipeline has several sinks"
            };
            Error::new(ErrorKind::Config, message)
                .remedied(format!("add --sink with one of: {}", names.join(", ")))
        })
    }
}

impl OpenedSink {
    /// The ledger's objects.
    pub(crate) fn ledger(&self) -> Arc<dyn LedgerStore> {
        self.sink.ledger()
    }
}

impl From<OpenedSink> for Landing {
    fn from(OpenedSink { sink, env }: OpenedSink) -> Self {
        Self { sink, env }
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
