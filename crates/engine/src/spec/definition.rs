//! A pipeline file as it was read: the parts that every pipeline has, and the connectors' options, still raw.
use std::path::Path;

use lakeward_core::Validate;
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fit::fit;
use super::nearest::unknown;
use super::options::{MEMORY_MIN, PipelineOptions, default_state_dir};
use super::report::{Located, Place, Problems};
use super::yaml::{self, Data, Node};

/// The parts of a pipeline file, in the order in which data passes them.
const PARTS: [&str; 5] = ["source", "route", "transform", "sink", "pipeline"];

/// The keys of a connector's options that select tables. Every source that selects tables names them so.
const SELECTION: [&str; 3] = ["tables", "exclude", "columns"];

/// A connector's part of the file: its kind and name, and options that only the connector can read.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The `type`.
    pub kind: String,
    /// Where the `type` stands.
    pub kind_at: Place,
    /// The `name`, or the kind: under it a sink's ledger stands.
    pub name: String,
    options: Node,
}

/// A pipeline file that has been read. It may have problems; [`Definition::finish`] tells.
#[derive(Debug)]
pub struct Definition {
    file: String,
    problems: Vec<Located>,
    source: Option<Raw>,
    sinks: Vec<Raw>,
    pipeline: Option<PipelineOptions>,
}

/// A pipeline file without problems.
#[derive(Debug, Clone)]
pub struct Spec<S, K> {
    /// Where changes come from.
    pub source: Part<S>,
    /// Where they land: at least one, their names all different.
    pub sinks: Vec<Part<K>>,
    /// The pipeline's own options, [`routing_hash`](PipelineOptions::routing_hash) included.
    pub pipeline: PipelineOptions,
}

/// A connector's part of the file, as the connector read it.
#[derive(Debug, Clone)]
pub struct Part<T> {
    /// Its name within the pipeline.
    pub name: String,
    /// What the connector made of its options.
    pub parsed: T,
}

impl Raw {
    /// The options as their type: shape, values and what only several fields together show, all problems at once.
    ///
    /// # Errors
    /// Every problem with its place.
    pub fn parse<C: DeserializeOwned + JsonSchema + Validate>(&self) -> Result<C, Vec<Located>> {
        parse(&self.options, &environment)
    }

    /// The problem that no connector of this kind exists.
    pub fn unknown_kind<'a>(&self, known: impl IntoIterator<Item = &'a str>) -> Located {
        Located::new(self.kind_at, unknown("type", &self.kind, known))
    }

    /// What selects tables, as JSON.
    fn selection(&self) -> Value {
        let entries = self.options.entries().iter().filter(|e| SELECTION.contains(&e.key.as_str()));
        Value::Object(entries.map(|e| (e.key.clone(), e.value.to_json())).collect())
    }
}

impl Definition {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub fn open(path: &Path) -> Result<Self, Problems> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::read(&file, &text)),
            Err(error) => {
                let message = format!("the file cannot be read: {error}");
                Err(Problems::new(file, vec![Located::new(Place::START, message)]))
            }
        }
    }

    /// Reads the text of a file; `file` is its name for messages.
    pub fn read(file: &str, text: &str) -> Self {
        Self::read_in(file, text, &environment)
    }

    fn read_in(file: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut problems = Vec::new();
        let root = yaml::read(text, &mut problems);
        let mut definition = Self {
            file: file.to_owned(),
            problems,
            source: None,
            sinks: Vec::new(),
            pipeline: None,
        };
        match root {
            Some(root) if matches!(root.data, Data::Map(_)) => definition.take(&root, env),
            _ if definition.problems.is_empty() => {
                let message = "expected a mapping with the keys source, sink and pipeline";
                definition.refuse(Place::START, message);
            }
            _ => {}
        }
        definition
    }

    fn refuse(&mut self, at: Place, message: impl Into<String>) {
        self.problems.push(Located::new(at, message));
    }

    fn take(&mut self, root: &Node, env: &dyn Fn(&str) -> Option<String>) {
        for entry in root.entries().iter().filter(|e| !PARTS.contains(&e.key.as_str())) {
            self.refuse(entry.at, unknown("key", &entry.key, PARTS));
        }
        for key in ["source", "sink", "pipeline"].iter().filter(|key| root.entry(key).is_none()) {
            self.refuse(root.at, format!("key `{key}` is missing"));
        }
        self.source = root.entry("source").and_then(|entry| self.connector(&entry.value));
        if let Some(entry) = root.entry("sink") {
            self.take_sinks(&entry.value);
        }
        for key in ["route", "transform"] {
            if let Some(entry) = root.entry(key) {
                self.refuse_steps(key, &entry.value);
            }
        }
        self.pipeline = root.entry("pipeline").and_then(|entry| self.options(&entry.value, env));
        if let (Some(pipeline), Some(source)) = (&mut self.pipeline, &self.source) {
            pipeline.routing_hash = routing_hash(source);
        }
        self.share_memory(root);
    }

    /// One mapping, or a list of them with different names.
    fn take_sinks(&mut self, node: &Node) {
        let nodes = match &node.data {
            Data::List(sinks) if sinks.is_empty() => {
                self.refuse(node.at, "expected a sink");
                return;
            }
            Data::List(sinks) => sinks.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for node in nodes {
            let Some(sink) = self.connector(node) else { continue };
            if self.sinks.iter().any(|other| other.name == sink.name) {
                let message = format!(
                    "two sinks are called `{}`: give one another `name`; its ledger stands under it",
                    sink.name
                );
                self.refuse(node.place_of("name"), message);
            }
            self.sinks.push(sink);
        }
    }

    /// Several sinks share the memory: each needs as much as a single one must have.
    fn share_memory(&mut self, root: &Node) {
        let (sinks, memory) = (self.sinks.len() as u64, self.pipeline.as_ref().map(|p| p.memory.0));
        if sinks > 1 && memory.is_some_and(|memory| memory < sinks * MEMORY_MIN) {
            let message =
                format!("must be at least 32MiB for each of the {sinks} sinks, which share it");
            self.refuse(root.place_of("pipeline.memory"), message);
        }
    }

    /// Takes `type` and `name`; everything else is the connector's.
    fn connector(&mut self, node: &Node) -> Option<Raw> {
        let Data::Map(entries) = &node.data else {
            self.refuse(node.at, "expected a mapping with the key `type`");
            return None;
        };
        let Some(kind) = node.entry("type") else {
            self.refuse(node.at, "key `type` is missing");
            return None;
        };
        let Some(kind_text) = kind.value.text() else {
            self.refuse(kind.value.at, "expected text");
            return None;
        };
        let name = node.entry("name").map_or(Some(kind_text), |entry| entry.value.text());
        let Some(name) = name.filter(|name| super::options::is_name(name)) else {
            let at = node.place_of("name");
            self.refuse(at, "a name has 1 to 40 characters of a-z, 0-9, _ and -");
            return None;
        };
        let rest = entries.iter().filter(|e| e.key != "type" && e.key != "name").cloned().collect();
        Some(Raw {
            kind: kind_text.to_owned(),
            kind_at: kind.value.at,
            name: name.to_owned(),
            options: Node { at: node.at, data: Data::Map(rest) },
        })
    }

    fn refuse_steps(&mut self, key: &str, node: &Node) {
        match &node.data {
            Data::List(steps) if steps.is_empty() => {}
            Data::Null => {}
            Data::List(_) => {
                self.refuse(node.at, format!("`{key}` is not supported yet: leave the list empty"));
            }
            _ => self.refuse(node.at, "expected a list"),
        }
    }

    fn options(
        &mut self,
        node: &Node,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<PipelineOptions> {
        match parse::<PipelineOptions>(node, env) {
            Ok(mut options) => {
                if options.state_dir.as_os_str().is_empty() {
                    options.state_dir = default_state_dir(&options.name);
                }
                Some(options)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// The definition, if nothing is wrong with it: all connectors read their parts, and all problems come together.
    ///
    /// # Errors
    /// All problems, in the file's order.
    pub fn finish<S, K>(
        mut self,
        source: impl FnOnce(&Raw) -> Result<S, Vec<Located>>,
        sink: impl Fn(&Raw) -> Result<K, Vec<Located>>,
    ) -> Result<Spec<S, K>, Problems> {
        let source = self.source.take().and_then(|raw| self.part(raw, source));
        let raw = std::mem::take(&mut self.sinks);
        let sinks: Vec<_> = raw.into_iter().filter_map(|raw| self.part(raw, &sink)).collect();
        match (source, self.pipeline) {
            (Some(source), Some(pipeline)) if self.problems.is_empty() => {
                Ok(Spec { source, sinks, pipeline })
            }
            _ => Err(Problems::new(self.file, self.problems)),
        }
    }

    fn part<T>(
        &mut self,
        raw: Raw,
        read: impl FnOnce(&Raw) -> Result<T, Vec<Located>>,
    ) -> Option<Part<T>> {
        match read(&raw) {
            Ok(parsed) => Some(Part { name: raw.name, parsed }),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn parse<C: DeserializeOwned + JsonSchema + Validate>(
    node: &Node,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<C, Vec<Located>> {
    let fitted = fit(node, schema_for!(C).as_value(), env);
    if !fitted.problems.is_empty() {
        return Err(fitted.problems);
    }
    let config: C = serde_json::from_value(fitted.value)
        .map_err(|error| vec![Located::new(node.at, error.to_string())])?;
    let problems = config.validate();
    if problems.is_empty() {
        return Ok(config);
    }
    let located = |p: lakeward_core::Problem| Located::new(node.place_of(&p.path), p.message);
    Err(problems.into_iter().map(located).collect())
}

/// A hash of everything that decides which rows land in which table.
fn routing_hash(source: &Raw) -> String {
    let content = json!({ "source": source.kind, "selection": source.selection() });
    format!("{:032x}", fnv1a(canonical(&content).as_bytes()))
}

/// The same text for equal values, whatever the order of keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<_> = entries
                .iter()
                .map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// FNV-1a with 128 bits: stable in every build, and only compared for equality.
fn fnv1a(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests;
