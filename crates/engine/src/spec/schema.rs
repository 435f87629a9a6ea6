//! The JSON schema of a whole pipeline file, and the reference page made from it.
//!
//! Both are generated from the option types, so that nothing is written twice.
use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, schema_for};
use serde_json::{Map, Value, json};

use super::options::PipelineOptions;

/// A connector as the schema shows it.
#[derive(Debug, Clone)]
pub struct Connector {
    /// The `type`.
    pub kind: &'static str,
    /// The schema of its options.
    pub options: Schema,
}

impl Connector {
    /// A connector whose options have the type `C`.
    pub fn of<C: JsonSchema>(kind: &'static str) -> Self {
        Self { kind, options: schema_for!(C) }
    }
}

/// The schema of a pipeline file with these connectors. Keys are sorted: equal types give equal text.
pub fn file_schema(sources: &[Connector], sinks: &[Connector]) -> Value {
    let mut definitions = Map::new();
    let sources = connectors(sources, "source", &mut definitions);
    let sinks = connectors(sinks, "sink", &mut definitions);
    let pipeline = lift(schema_for!(PipelineOptions), &mut definitions);
    definitions.insert("pipeline".into(), pipeline);
    sorted(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lakeward pipeline",
        "type": "object",
        "additionalProperties": false,
        "required": ["source", "sink", "pipeline"],
        "properties": {
            "source": { "description": "Where changes come from.", "oneOf": sources },
            "sink": {
                "description": "Where they land: one mapping, or a list of them, each with its own `name`. The log is read once for all.",
                "oneOf": [
                    { "oneOf": sinks.clone() },
                    { "type": "array", "minItems": 1, "items": { "oneOf": sinks } }
                ]
            },
            "route": empty_list("Where tables land under other names. Not supported yet: must be empty."),
            "transform": empty_list("How rows are changed on the way. Not supported yet: must be empty."),
            "pipeline": { "$ref": "#/$defs/pipeline" }
        },
        "$defs": definitions
    }))
}

fn empty_list(description: &str) -> Value {
    json!({ "description": description, "type": "array", "maxItems": 0 })
}

/// Moves each connector's schema into the shared definitions; gives the references.
fn connectors(list: &[Connector], role: &str, definitions: &mut Map<String, Value>) -> Vec<Value> {
    list.iter()
        .map(|connector| {
            let mut schema = lift(connector.options.clone(), definitions);
            add_common_keys(&mut schema, connector.kind);
            let name = format!("{role}.{}", connector.kind);
            let reference = json!({ "$ref": format!("#/$defs/{name}") });
            definitions.insert(name, schema);
            reference
        })
        .collect()
}

/// `type` and `name`, which every connector has.
fn add_common_keys(schema: &mut Value, kind: &str) {
    let kind_schema = json!({ "const": kind, "description": "The connector." });
    let name = json!({
        "type": "string",
        "default": kind,
        "description": "Its name within the pipeline: a sink's ledger stands under it."
    });
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("type".into(), kind_schema);
        properties.insert("name".into(), name);
    }
    match schema.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.push("type".into()),
        None => schema["required"] = json!(["type"]),
    }
}

/// Takes the definitions out of a root schema into the shared ones.
fn lift(schema: Schema, definitions: &mut Map<String, Value>) -> Value {
    let mut value = schema.to_value();
    if let Some(object) = value.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(own)) = object.remove("$defs") {
            definitions.extend(own);
        }
    }
    value
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

/// The reference page, in Markdown, of a schema that [`file_schema`] made.
pub fn reference_page(schema: &Value) -> String {
    let mut page = String::from(PREFACE);
    let definitions = schema.get("$defs").and_then(Value::as_object);
    for (name, definition) in definitions.into_iter().flatten() {
        let title = match name.split_once('.') {
            Some((role, kind)) => format!("`{role}` of type `{kind}`"),
            None if name == "pipeline" => "`pipeline`".to_owned(),
            None => continue,
        };
        _ = writeln!(page, "\n## {title}\n");
        describe(&mut page, schema, definition, "");
    }
    page
}

const PREFACE: &str = "# Configuration

This page is generated from the option types by `lakeward schema --write`; do not edit it by hand.

A pipeline file is one YAML document with the keys `source`, `route`, `transform`, `sink` and `pipeline`.
`route` and `transform` may be left out and must be empty for now. Unknown keys are refused.
`lakeward check FILE` reports all problems at once, each as `file:line:column: message`.

- A **size** is written `64MiB`, `1GiB`, `500KB`, or as a number of bytes.
- A **period** is written `200ms`, `1s`, `5m`, `2h` or `7d`.
- A **secret** never stands in the file: write `{ env: NAME }` for an environment variable, or `{ file: PATH }`.
- Any other single value may be written `{ env: NAME }` too: it is read from the environment when the file is read.
- Relative paths are relative to the working directory.
";

/// One table of options; options of nested mappings follow with their dotted names.
fn describe(page: &mut String, root: &Value, definition: &Value, prefix: &str) {
    if prefix.is_empty() {
        if let Some(text) = definition.get("description").and_then(Value::as_str) {
            _ = writeln!(page, "{}\n", one_line(text));
        }
        page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    }
    let none = Map::new();
    let properties = definition.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = |key: &str| {
        let list = definition.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|r| r == key))
    };
    let mut keys: Vec<_> = properties.iter().collect();
    keys.sort_by_key(|(key, _)| (*key != "type", !required(key), (*key).clone()));
    for (key, property) in keys {
        row(page, root, &format!("{prefix}{key}"), property, required(key));
    }
}

fn row(page: &mut String, root: &Value, key: &str, property: &Value, required: bool) {
    let shape = shape(root, property);
    let default = match property.get("default") {
        _ if required => "required".to_owned(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::Object(_)) => "see below".to_owned(),
        Some(Value::Array(items)) if items.is_empty() => "empty".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    };
    let description = property.get("description").and_then(Value::as_str);
    let description =
        description.or_else(|| shape.schema.get("description").and_then(Value::as_str));
    let mut meaning = one_line(description.unwrap_or_default());
    for (word, text) in variants(shape.schema) {
        _ = write!(meaning, "<br>`{word}`: {text}");
    }
    _ = writeln!(
        page,
        "| `{key}` | {} | {default} | {} |",
        shape.name,
        meaning.replace('|', "\\|")
    );
    if shape.schema.get("properties").is_some() {
        let prefix = if shape.name == "list" { format!("{key}[].") } else { format!("{key}.") };
        describe(page, root, shape.schema, &prefix);
    }
}

struct Shape<'s> {
    name: &'static str,
    schema: &'s Value,
}

/// What a property is, in a word, and the schema that describes it (for a list: its items').
fn shape<'s>(root: &'s Value, property: &'s Value) -> Shape<'s> {
    let reference = property.get("$ref").and_then(Value::as_str);
    if let Some(name) = reference.and_then(|r| r.strip_prefix("#/$defs/")) {
        let schema = root.get("$defs").and_then(|d| d.get(name)).unwrap_or(property);
        return match name {
            "Bytes" => Shape { name: "size", schema: &Value::Null },
            "Period" => Shape { name: "period", schema: &Value::Null },
            "SecretRef" => Shape { name: "secret", schema: &Value::Null },
            _ => shape(root, schema),
        };
    }
    if let Some(Value::Array(branches)) = property.get("anyOf") {
        let some = branches.iter().find(|b| b.get("type") != Some(&Value::from("null")));
        return shape(root, some.unwrap_or(property));
    }
    if property.get("oneOf").is_some() || property.get("enum").is_some() {
        return Shape { name: "word", schema: property };
    }
    let first = match property.get("type") {
        Some(Value::Array(several)) => several.first().and_then(Value::as_str),
        other => other.and_then(Value::as_str),
    };
    match first {
        Some("array") => {
            let items = property.get("items").map(|items| shape(root, items).schema);
            Shape { name: "list", schema: items.unwrap_or(property) }
        }
        Some("object") => Shape { name: "mapping", schema: property },
        Some("integer") => Shape { name: "whole number", schema: property },
        Some("number") => Shape { name: "number", schema: property },
        Some("boolean") => Shape { name: "true or false", schema: property },
        _ => Shape { name: "text", schema: property },
    }
}

/// The words of an enumeration with their meanings.
fn variants(schema: &Value) -> Vec<(&str, String)> {
    let Some(Value::Array(branches)) = schema.get("oneOf") else { return Vec::new() };
    branches.iter().filter_map(variant).collect()
}

fn variant(branch: &Value) -> Option<(&str, String)> {
    let word = branch.get("const").and_then(Value::as_str)?;
    let text = branch.get("description").and_then(Value::as_str).unwrap_or_default();
    Some((word, one_line(text)))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
