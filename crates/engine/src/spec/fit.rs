//! Fits a node of the file to a JSON schema: all problems at once, each at its place.
//!
//! Understands what `schemars` generates for option types: objects, lists, scalars, enumerations, `$ref`, `Option`.
//! Deliberately not a general validator. Text patterns are the parsing type's business, except sizes and periods.
//!
//! A scalar may be written `{ env: NAME }`: it is then read from the environment, and never quoted in a message.
use lakeward_core::{Bytes, Period};
use serde_json::{Map, Value};

use super::nearest::{nearest, unknown};
use super::report::{Located, Place};
use super::yaml::{Data, Entry, Node, plain_node};

/// Where values of the environment come from.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value that fits as far as the problems allow.
pub(super) struct Fitted {
    pub(super) value: Value,
    pub(super) problems: Vec<Located>,
}

impl Fitted {
    fn good(value: Value) -> Self {
        Self { value, problems: Vec::new() }
    }

    fn bad(at: Place, message: impl Into<String>) -> Self {
        Self { value: Value::Null, problems: vec![Located::new(at, message)] }
    }
}

/// Fits `node` to `schema`, a root schema with its `$defs`.
pub(super) fn fit(node: &Node, schema: &Value, env: Lookup<'_>) -> Fitted {
    Fitter { root: schema, env }.node(node, schema)
}

struct Fitter<'a> {
    root: &'a Value,
    env: Lookup<'a>,
}

impl Fitter<'_> {
    fn node(&self, node: &Node, schema: &Value) -> Fitted {
        let (name, schema) = self.resolve(schema);
        match name {
            Some("Bytes") => return self.textual::<Bytes>(node, schema),
            Some("Period") => return self.textual::<Period>(node, schema),
            Some("SecretRef") if !matches!(node.data, Data::Map(_)) => {
                let message =
                    "a secret never stands in this file: write { env: NAME } or { file: PATH }";
                return Fitted::bad(node.at, message);
            }
            _ => {}
        }
        if let Some(branches) = array(schema, "oneOf").or_else(|| array(schema, "anyOf")) {
            return self.choice(node, branches);
        }
        if let Some(words) = words(schema) {
            return self.word(node, &words);
        }
        self.typed(node, schema)
    }

    /// Follows a reference; the name is that of the definition.
    fn resolve<'s>(&'s self, schema: &'s Value) -> (Option<&'s str>, &'s Value) {
        let name =
            schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
        let found = name.and_then(|name| self.root.get("$defs")?.get(name));
        (name, found.unwrap_or(schema))
    }

    fn typed(&self, node: &Node, schema: &Value) -> Fitted {
        let types = types(schema);
        if types.is_empty() {
            return Fitted::good(node.to_json());
        }
        if is_scalar(&types)
            && let Some(variable) = env_reference(node)
        {
            return match self.read_env(node, variable, types.contains(&"string")) {
                Ok(read) => without_quoting(self.typed(&read, schema), node.at, variable),
                Err(problem) => *problem,
            };
        }
        if !types.iter().any(|t| is_of(&node.data, t)) {
            return Fitted::bad(node.at, mismatch(&node.data, &types));
        }
        match &node.data {
            Data::Map(entries) => self.object(node.at, entries, schema),
            Data::List(items) => self.list(node.at, items, schema),
            Data::Integer(_) | Data::Float(_) => number(node, schema),
            _ => Fitted::good(node.to_json()),
        }
    }

    /// The node that the variable holds; as text where text is wanted, else as it would be read in the file.
    fn read_env(&self, node: &Node, variable: &str, as_text: bool) -> Result<Node, Box<Fitted>> {
        match (self.env)(variable) {
            Some(text) if as_text => Ok(Node { at: node.at, data: Data::Text(text) }),
            Some(text) => Ok(plain_node(node.at, &text)),
            None => {
                let message = format!("the environment variable `{variable}` is not set");
                Err(Box::new(Fitted::bad(node.at, message)))
            }
        }
    }

    fn object(&self, at: Place, entries: &[Entry], schema: &Value) -> Fitted {
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let mut out = Fitted::good(Value::Null);
        let mut object = Map::new();
        for Entry { key, at, value } in entries {
            let schema = known.get(key).or_else(|| schema.get("additionalProperties"));
            match schema {
                Some(Value::Bool(false)) => {
                    let message = unknown("key", key, known.keys().map(String::as_str));
                    out.problems.push(Located::new(*at, message));
                }
                None => _ = object.insert(key.clone(), value.to_json()),
                Some(schema) => {
                    let fitted = self.node(value, schema);
                    out.problems.extend(fitted.problems);
                    object.insert(key.clone(), fitted.value);
                }
            }
        }
        for key in array(schema, "required").unwrap_or_default().iter().filter_map(Value::as_str) {
            if !entries.iter().any(|entry| entry.key == key) {
                out.problems.push(Located::new(at, format!("key `{key}` is missing")));
            }
        }
        out.value = Value::Object(object);
        out
    }

    fn list(&self, at: Place, items: &[Node], schema: &Value) -> Fitted {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            return Fitted::bad(at, format!("the list must have at least {least} entries"));
        }
        let any = Value::Bool(true);
        let schema = schema.get("items").unwrap_or(&any);
        let mut out = Fitted::good(Value::Null);
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let fitted = self.node(item, schema);
            out.problems.extend(fitted.problems);
            values.push(fitted.value);
        }
        out.value = Value::Array(values);
        out
    }

    /// One of several shapes: `Option`, an enumeration, or an enumeration with data.
    fn choice(&self, node: &Node, branches: &[Value]) -> Fitted {
        let (null, shapes): (Vec<_>, Vec<_>) =
            branches.iter().partition(|branch| types(branch) == ["null"]);
        if node.data == Data::Null && !null.is_empty() {
            return Fitted::good(Value::Null);
        }
        if let [only] = shapes[..] {
            return self.node(node, only);
        }
        let all_words: Option<Vec<_>> = shapes.iter().map(|shape| words(shape)).collect();
        if let Some(all_words) = all_words {
            return self.word(node, &all_words.concat());
        }
        let fitted: Vec<_> = shapes.iter().map(|shape| self.node(node, shape)).collect();
        if let Some(good) = fitted.iter().position(|f| f.problems.is_empty()) {
            return Fitted::good(fitted.into_iter().nth(good).map_or(Value::Null, |f| f.value));
        }
        self.nearest_shape(node, &shapes, fitted)
    }

    /// No shape fits: the problems of the shape that was most likely meant.
    fn nearest_shape(&self, node: &Node, shapes: &[&Value], fitted: Vec<Fitted>) -> Fitted {
        let keys: Vec<Vec<&str>> =
            shapes.iter().map(|s| property_names(self.resolve(s).1)).collect();
        let shared = |keys: &[&str]| {
            node.entries().iter().filter(|e| keys.contains(&e.key.as_str())).count()
        };
        let best = keys.iter().map(|keys| shared(keys)).enumerate().max_by_key(|(_, n)| *n);
        match (best, &node.data) {
            (Some((best, 1..)), _) => {
                fitted.into_iter().nth(best).unwrap_or_else(|| Fitted::bad(node.at, "does not fit"))
            }
            (_, Data::Map(entries)) if !entries.is_empty() => {
                let message = unknown("key", &entries[0].key, keys.concat());
                Fitted::bad(entries[0].at, message)
            }
            _ => {
                let keys = keys.concat().join("`, `");
                Fitted::bad(node.at, format!("expected a mapping with one of the keys `{keys}`"))
            }
        }
    }

    fn word(&self, node: &Node, words: &[&str]) -> Fitted {
        if let Some(variable) = env_reference(node) {
            return match self.read_env(node, variable, true) {
                Ok(read) => without_quoting(self.word(&read, words), node.at, variable),
                Err(problem) => *problem,
            };
        }
        let list = words.join(", ");
        match node.text() {
            Some(text) if words.contains(&text) => Fitted::good(Value::from(text)),
            Some(text) => match nearest(text, words.iter().copied()) {
                Some(near) => Fitted::bad(
                    node.at,
                    format!("`{text}` is not allowed; did you mean `{near}`? (one of: {list})"),
                ),
                None => Fitted::bad(node.at, format!("`{text}` is not allowed; one of: {list}")),
            },
            None => Fitted::bad(node.at, format!("expected one of: {list}")),
        }
    }

    /// Sizes and periods: a text with a unit that only its own type can judge.
    fn textual<T: serde::de::DeserializeOwned>(&self, node: &Node, schema: &Value) -> Fitted {
        let read = match env_reference(node).map(|variable| self.read_env(node, variable, true)) {
            Some(Err(problem)) => return *problem,
            Some(Ok(read)) => read,
            None => node.clone(),
        };
        let value = read.to_json();
        match serde_json::from_value::<T>(value.clone()) {
            Ok(_) => Fitted::good(value),
            Err(_) => {
                let expected = schema.get("description").and_then(Value::as_str);
                let expected = expected.unwrap_or("a value of its type");
                Fitted::bad(node.at, format!("expected {expected}"))
            }
        }
    }
}

/// `{ env: NAME }`.
fn env_reference(node: &Node) -> Option<&str> {
    match node.entries() {
        [entry] if entry.key == "env" => entry.value.text(),
        _ => None,
    }
}

fn without_quoting(fitted: Fitted, at: Place, variable: &str) -> Fitted {
    if fitted.problems.is_empty() {
        return fitted;
    }
    Fitted::bad(at, format!("the environment variable `{variable}` does not hold a fitting value"))
}

fn array<'s>(schema: &'s Value, key: &str) -> Option<&'s [Value]> {
    schema.get(key).and_then(Value::as_array).map(Vec::as_slice)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The allowed words of an enumeration.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    array(schema, "enum")?.iter().map(Value::as_str).collect()
}

fn property_names(schema: &Value) -> Vec<&str> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn is_scalar(types: &[&str]) -> bool {
    !types.iter().any(|t| matches!(*t, "object" | "array"))
}

fn is_of(data: &Data, wanted: &str) -> bool {
    matches!(
        (data, wanted),
        (Data::Null, "null")
            | (Data::Bool(_), "boolean")
            | (Data::Integer(_), "integer" | "number")
            | (Data::Float(_), "number")
            | (Data::Text(_), "string")
            | (Data::List(_), "array")
            | (Data::Map(_), "object")
    )
}

fn mismatch(data: &Data, types: &[&str]) -> String {
    let found = match data {
        Data::Null => "nothing",
        Data::Bool(_) => "true or false",
        Data::Integer(_) | Data::Float(_) => "a number",
        Data::Text(_) => "text",
        Data::List(_) => "a list",
        Data::Map(_) => "a mapping",
    };
    let expected: Vec<_> = types.iter().filter(|t| **t != "null").map(|t| type_name(t)).collect();
    let hint = match data {
        Data::Bool(_) | Data::Integer(_) | Data::Float(_) if types.contains(&"string") => {
            ": put it in quotes"
        }
        _ => "",
    };
    format!("expected {}, found {found}{hint}", expected.join(" or "))
}

fn type_name(json: &str) -> &'static str {
    match json {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "a mapping",
    }
}

fn number(node: &Node, schema: &Value) -> Fitted {
    let value = node.to_json();
    let bound = |key| schema.get(key).and_then(Value::as_f64);
    let is = value.as_f64().unwrap_or(0.0);
    if let Some(least) = bound("minimum").filter(|least| is < *least) {
        return Fitted::bad(node.at, format!("must be at least {least}"));
    }
    if let Some(most) = bound("maximum").filter(|most| is > *most) {
        return Fitted::bad(node.at, format!("must be at most {most}"));
    }
    Fitted::good(value)
}
