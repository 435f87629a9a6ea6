//! The options of a pipeline: what the engine may use, how it cuts epochs, what it does with a changed schema.
//!
//! The reference page and the JSON schema are generated from these types.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lakeward_core::{Bytes, Period, Problem, TableId, Validate, wildcard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Below this the log's share would hold no full batch.
pub(super) const MEMORY_MIN: u64 = 32 << 20;

/// Longer periods mean nothing, and moments that far away cannot be reckoned with.
const PERIOD_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// The `pipeline` part of a pipeline file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineOptions {
    /// The pipeline's name, 1 to 40 of `a-z 0-9 _ -`. It names slot, publication and ledger: another name is another
    /// pipeline, which loads everything again.
    pub name: String,

    /// Local directory for spilled transactions and the control socket. It may be lost: what counts stands in the lake.
    /// Relative to the working directory.
    #[serde(default)]
    #[schemars(extend("default" = "./<name>.state"))]
    pub state_dir: PathBuf,

    /// How long changes gather before an epoch is committed. Shorter: fresher tables, more and smaller files. Up to four times
    /// as long while nothing but rows of initial loads comes.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Period,

    /// An epoch is also cut when it holds this many bytes, so that a backlog is committed in pieces.
    #[serde(default = "default_commit_bytes")]
    pub commit_bytes: Bytes,

    /// An epoch is also cut when it holds this many changes.
    #[serde(default = "default_commit_rows")]
    #[schemars(range(min = 1))]
    pub commit_rows: u64,

    /// The cap for all rows held in memory, at least 32MiB for each sink. A share is kept back for the log.
    #[serde(default = "default_memory")]
    pub memory: Bytes,

    /// The cap on disk for open transactions that did not fit into memory. Past it the pipeline stops and says so.
    #[serde(default = "default_spill_max")]
    pub spill_max: Bytes,

    /// Rows that one read of the initial load takes. Smaller: less is read again after a crash; larger: fewer queries.
    #[serde(default = "default_rows_per_chunk")]
    #[schemars(range(min = 1))]
    pub rows_per_chunk: u64,

    /// How many chunks are read at the same time, for each sink. Each takes one connection of the source.
    #[serde(default = "default_chunk_readers")]
    #[schemars(range(min = 1, max = 64))]
    pub chunk_readers: u32,

    /// What happens when a table's columns change.
    #[serde(default)]
    pub schema_change: SchemaBehaviour,

    /// How long a source or lake may stay unreachable before the pipeline gives up with exit status 4.
    #[serde(default = "default_retry_limit")]
    pub retry_limit: Period,

    /// How long a stopping pipeline may finish what it has accepted. Past it the rest is read again at the next start.
    #[serde(default = "default_drain_timeout")]
    pub drain_timeout: Period,

    /// Rewriting of small and much-deleted files.
    #[serde(default)]
    pub compaction: CompactionOptions,

    /// Removal of old table versions. A version that a kept consistent point names always stays.
    #[serde(default)]
    pub expiry: ExpiryOptions,

    /// Metrics and health over HTTP; nothing listens without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOptions>,

    /// Options of single tables; the first entry that matches a table counts.
    #[serde(default)]
    pub tables: Vec<TableOptions>,

    /// Hash of selection and routing, made when the file is read: a torn epoch is finished under the definition that
    /// began it. Never stands in the file.
    #[serde(skip)]
    #[schemars(skip)]
    pub routing_hash: String,
}

/// What happens when a table's columns change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaBehaviour {
    /// The lake's table takes every change; after one that it cannot take in place the table is loaded again.
    #[default]
    Evolve,
    /// As `evolve`.
    TryEvolve,
    /// Columns are added and widened, never dropped or renamed: a dropped column stays and gets NULL.
    Lenient,
    /// The lake's table keeps its columns; new ones are left out.
    Ignore,
    /// Any change stops the pipeline.
    Exception,
}

/// Options of the tables that a pattern matches.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// `schema.table`; `*` stands for any text.
    #[serde(rename = "match")]
    pub pattern: String,

    /// As `schema_change` of the pipeline, for these tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_change: Option<SchemaBehaviour>,
}

/// When files are rewritten.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompactionOptions {
    /// Whether the pipeline compacts by itself. `lakeward compact` works either way.
    pub enabled: bool,
    /// How often each table is looked at; one that had commits also a commit interval later, a second at most.
    pub interval: Period,
    /// Data files aim at this size. Larger: fewer files to open; smaller: less is rewritten at a time.
    pub target_file_size: Bytes,
}

/// When old table versions go.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpiryOptions {
    /// Whether the pipeline expires old versions by itself.
    pub enabled: bool,
    /// How often each table is looked at.
    pub interval: Period,
    /// The time a reader may take, and how far back one can read: files of versions younger than this stay. Of the versions
    /// themselves the newest stay and one for each twentieth part of it.
    pub retain: Period,
}

/// Where metrics are served.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpOptions {
    /// Address and port of `/metrics` and `/healthz`, such as `127.0.0.1:9464`. Loopback only: neither asks who reads.
    pub listen: String,
}

impl HttpOptions {
    /// The address.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let address: SocketAddr = self
            .listen
            .parse()
            .map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:9464".to_owned())?;
        if !address.ip().is_loopback() {
            return Err("only a loopback address is allowed, such as 127.0.0.1".to_owned());
        }
        Ok(address)
    }
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self { enabled: true, interval: seconds(60), target_file_size: Bytes(128 << 20) }
    }
}

impl Default for ExpiryOptions {
    fn default() -> Self {
        Self { enabled: true, interval: seconds(60), retain: seconds(900) }
    }
}

impl PipelineOptions {
    /// The options that a file gets which holds only this name.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            state_dir: default_state_dir(&name),
            name,
            commit_interval: default_commit_interval(),
            commit_bytes: default_commit_bytes(),
            commit_rows: default_commit_rows(),
            memory: default_memory(),
            spill_max: default_spill_max(),
            rows_per_chunk: default_rows_per_chunk(),
            chunk_readers: default_chunk_readers(),
            schema_change: SchemaBehaviour::default(),
            retry_limit: default_retry_limit(),
            drain_timeout: default_drain_timeout(),
            compaction: CompactionOptions::default(),
            expiry: ExpiryOptions::default(),
            http: None,
            tables: Vec::new(),
            routing_hash: String::new(),
        }
    }

    /// The options of one table: the first entry whose pattern matches it.
    pub fn table(&self, table: &TableId) -> Option<&TableOptions> {
        self.tables.iter().find(|options| wildcard(&options.pattern, &table.to_string()))
    }

    /// What happens when this table's columns change.
    pub fn schema_change(&self, table: &TableId) -> SchemaBehaviour {
        self.table(table).and_then(|options| options.schema_change).unwrap_or(self.schema_change)
    }
}

impl Validate for PipelineOptions {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |path: String, wrong: bool, message: &str| {
            if wrong {
                problems.push(Problem { path, message: message.to_owned() });
            }
        };
        let name_message = "a name has 1 to 40 characters of a-z, 0-9, _ and -";
        refuse("name".into(), !is_name(&self.name), name_message);
        let at_least = "must be at least 32MiB";
        refuse("memory".into(), self.memory.0 < MEMORY_MIN, at_least);
        refuse("commit_bytes".into(), self.commit_bytes.0 == 0, "must be more than nothing");
        for (path, period) in [
            ("commit_interval", self.commit_interval),
            ("compaction.interval", self.compaction.interval),
            ("expiry.interval", self.expiry.interval),
        ] {
            let short = period.0 < Duration::from_millis(10);
            refuse(path.into(), short, "must be at least 10ms");
        }
        for (path, period) in [
            ("commit_interval", self.commit_interval),
            ("retry_limit", self.retry_limit),
            ("drain_timeout", self.drain_timeout),
            ("compaction.interval", self.compaction.interval),
            ("expiry.interval", self.expiry.interval),
            ("expiry.retain", self.expiry.retain),
        ] {
            refuse(path.into(), period.0 > PERIOD_MAX, "must be at most 36500d");
        }
        let small = self.compaction.target_file_size.0 < 1 << 20;
        refuse("compaction.target_file_size".into(), small, "must be at least 1MiB");
        if let Some(Err(message)) = self.http.as_ref().map(HttpOptions::address) {
            refuse("http.listen".into(), true, &message);
        }
        for (i, table) in self.tables.iter().enumerate() {
            let message = "expected a pattern such as public.orders or public.*";
            refuse(format!("tables.{i}.match"), !table.pattern.contains('.'), message);
        }
        problems
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=40).contains(&name.len()) && name.bytes().all(allowed)
}

pub(super) fn default_state_dir(name: &str) -> PathBuf {
    PathBuf::from(format!("./{name}.state"))
}

const fn seconds(n: u64) -> Period {
    Period(Duration::from_secs(n))
}

fn default_commit_interval() -> Period {
    seconds(1)
}

fn default_commit_bytes() -> Bytes {
    Bytes(128 << 20)
}

fn default_commit_rows() -> u64 {
    1_000_000
}

fn default_memory() -> Bytes {
    Bytes(512 << 20)
}

fn default_spill_max() -> Bytes {
    Bytes(10 << 30)
}

fn default_rows_per_chunk() -> u64 {
    200_000
}

fn default_chunk_readers() -> u32 {
    2
}

fn default_retry_limit() -> Period {
    seconds(300)
}

fn default_drain_timeout() -> Period {
    seconds(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_entry_counts() {
        let mut options = PipelineOptions::named("shop");
        options.tables = ["public.order*", "*.orders", "a.*b*c"]
            .map(|pattern| TableOptions { pattern: pattern.into(), schema_change: None })
            .to_vec();
        let pattern = |namespace: &str, name: &str| {
            options.table(&TableId::new(namespace, name)).map(|t| t.pattern.clone())
        };
        assert_eq!(pattern("public", "orders").as_deref(), Some("public.order*"));
        assert_eq!(pattern("x", "orders").as_deref(), Some("*.orders"));
        assert_eq!(pattern("a", "xxbyyc").as_deref(), Some("a.*b*c"));
        assert_eq!(pattern("a", "xxbyyd"), None);
    }

    #[test]
    fn a_period_beyond_all_reckoning_is_refused_at_its_place() {
        let mut options = PipelineOptions::named("shop");
        assert_eq!(options.validate(), []);
        let far = Period(Duration::from_secs(u64::MAX));
        (options.commit_interval, options.drain_timeout, options.expiry.retain) = (far, far, far);
        let paths: Vec<_> = options.validate().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["commit_interval", "drain_timeout", "expiry.retain"]);
    }

    #[test]
    fn only_loopback_is_served() {
        for (listen, good) in
            [("127.0.0.1:9464", true), ("[::1]:1", true), ("0.0.0.0:9464", false), ("9464", false)]
        {
            assert_eq!(HttpOptions { listen: listen.into() }.address().is_ok(), good, "{listen}");
        }
    }
}
