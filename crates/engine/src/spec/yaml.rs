//! A YAML document as a small tree in which every node knows its line and column.
//!
//! Deliberately absent: anchors, aliases, tags, several documents. A pipeline file needs none of them, and each hides
//! from the reader what a value is. Nesting is bounded, so that no input can exhaust the stack.
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_json::Value;

use super::report::{Located, Place};

/// Deeper nesting is refused. A pipeline file needs about six levels.
const DEPTH_MAX: usize = 32;

/// Larger files are refused: a definition is written by people.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) data: Data,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) value: Node,
}

impl Node {
    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of this key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of a dotted path (`tables.0.match`), as deep as it exists.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.at;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let next = match &node.data {
                Data::Map(_) => node.entry(part).map(|entry| (entry.at, &entry.value)),
                Data::List(items) => {
                    part.parse().ok().and_then(|i: usize| items.get(i)).map(|item| (item.at, item))
                }
                _ => None,
            };
            let Some((at, value)) = next else { break };
            (place, node) = (at, value);
        }
        place
    }

    /// The same value without places.
    pub(super) fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::from(*value),
            Data::Integer(value) => Value::from(*value),
            Data::Float(value) => Value::from(*value),
            Data::Text(value) => Value::from(value.as_str()),
            Data::List(items) => items.iter().map(Self::to_json).collect(),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect())
            }
        }
    }
}

/// Reads one document. The tree is as complete as the problems allow; `None` when nothing could be read.
pub(super) fn read(text: &str, problems: &mut Vec<Located>) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        problems.push(Located::new(Place::START, "the file is larger than 1 MiB"));
        return None;
    }
    let mut builder = Builder { stack: Vec::new(), root: None, problems };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let go_on = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let message = format!("not valid YAML: {}", error.info());
                builder.problems.push(Located::new(place(*error.marker()), message));
                false
            }
        };
        if !go_on {
            return None;
        }
    }
    builder.root
}

fn place(marker: Marker) -> Place {
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
    let column = u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1);
    Place { line: line.max(1), column }
}

struct Builder<'p> {
    stack: Vec<Open>,
    root: Option<Node>,
    problems: &'p mut Vec<Located>,
}

/// A collection whose end has not come yet.
enum Open {
    List(Place, Vec<Node>),
    Map(Place, Vec<Entry>, Option<(String, Place)>),
}

impl Builder<'_> {
    /// Takes one event in; `false` when reading on makes no sense.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let at = place(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                self.scalar(at, &text, style);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                return self.open(Open::List(at, Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                return self.open(Open::Map(at, Vec::new(), None));
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) => {
                self.problem(at, "aliases are not supported: write the value out");
                self.value(Node { at, data: Data::Null });
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                self.problem(at, "the file must hold one document");
                return false;
            }
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd => {}
        }
        true
    }

    fn problem(&mut self, at: Place, message: impl Into<String>) {
        self.problems.push(Located::new(at, message));
    }

    fn refuse_extras(&mut self, at: Place, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.problem(at, "anchors are not supported: write the value out");
        }
        if tagged {
            self.problem(at, "tags are not supported: write the plain value");
        }
    }

    fn open(&mut self, open: Open) -> bool {
        let at = match &open {
            Open::List(at, _) | Open::Map(at, _, _) => *at,
        };
        if self.stack.len() == DEPTH_MAX {
            self.problem(at, "nested too deeply");
            return false;
        }
        self.stack.push(open);
        true
    }

    fn close(&mut self) {
        match self.stack.pop() {
            Some(Open::List(at, items)) => self.value(Node { at, data: Data::List(items) }),
            Some(Open::Map(at, entries, _)) => self.value(Node { at, data: Data::Map(entries) }),
            None => {}
        }
    }

    fn scalar(&mut self, at: Place, text: &str, style: ScalarStyle) {
        if let Some(Open::Map(_, _, key @ None)) = self.stack.last_mut() {
            *key = Some((text.to_owned(), at));
            return;
        }
        let data = match style {
            ScalarStyle::Plain => plain(text),
            _ => Data::Text(text.to_owned()),
        };
        self.value(Node { at, data });
    }

    fn value(&mut self, node: Node) {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some((key, at)) => {
                    let first = entries.iter().find(|entry| entry.key == key).map(|e| e.at.line);
                    if let Some(line) = first {
                        self.problem(
                            at,
                            format!("key `{key}` is given twice, first in line {line}"),
                        );
                    } else {
                        // An empty value has no place of its own.
                        let at_value = if node.data == Data::Null { at } else { node.at };
                        entries.push(Entry {
                            key,
                            at,
                            value: Node { at: at_value, data: node.data },
                        });
                    }
                }
                None => {
                    *key = Some((String::new(), node.at));
                    self.problem(node.at, "a key must be plain text");
                }
            },
        }
    }
}

/// The core schema of YAML 1.2, without its rarer spellings.
fn plain(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Bool(true),
        "false" | "False" | "FALSE" => return Data::Bool(false),
        _ => {}
    }
    if let Ok(integer) = text.parse() {
        return Data::Integer(integer);
    }
    let numeric = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match text.parse::<f64>() {
        Ok(float) if numeric && float.is_finite() => Data::Float(float),
        _ => Data::Text(text.to_owned()),
    }
}

/// A value as it would be read if it stood plainly in the file: for values from the environment.
pub(super) fn plain_node(at: Place, text: &str) -> Node {
    Node { at, data: plain(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read(text, &mut problems);
        problems.iter().map(|p| format!("{}:{}: {}", p.at.line, p.at.column, p.message)).collect()
    }

    #[test]
    fn every_node_knows_its_place() {
        let node = read("a: 1\nb:\n  - x: \"2\"\n    y: [true, ~]\n", &mut Vec::new()).unwrap();
        let json = serde_json::json!({"a": 1, "b": [{"x": "2", "y": [true, null]}]});
        assert_eq!(node.to_json(), json);
        assert_eq!(node.place_of("b.0.y"), Place { line: 4, column: 5 });
        assert_eq!(node.place_of("b.0.y.1"), Place { line: 4, column: 15 });
        assert_eq!(node.place_of("b.0.z"), Place { line: 3, column: 5 });
    }

    #[test]
    fn what_hides_a_value_is_refused() {
        assert_eq!(problems("a: 1\na: 2\n"), ["2:1: key `a` is given twice, first in line 1"]);
        assert_eq!(
            problems("a: &x 1\nb: *x\n"),
            [
                "1:4: anchors are not supported: write the value out",
                "2:4: aliases are not supported: write the value out"
            ]
        );
        assert_eq!(problems("a: 1\n---\nb: 1\n"), ["2:1: the file must hold one document"]);
        assert_eq!(problems(&"[".repeat(100)), ["1:33: nested too deeply"]);
        assert_eq!(problems(&"- ".repeat(100_000)), ["1:65: nested too deeply"]);
        assert!(problems(&"[".repeat(100_000))[0].contains("not valid YAML"));
        assert!(problems("a: [1\nb: 2\n")[0].contains("not valid YAML"));
    }

    #[test]
    fn plain_scalars_read_as_people_expect() {
        assert_eq!(plain("12"), Data::Integer(12));
        assert_eq!(plain("-1.5e3"), Data::Float(-1500.0));
        assert_eq!(plain("64MiB"), Data::Text("64MiB".into()));
        assert_eq!(plain("nan"), Data::Text("nan".into()));
        assert_eq!(plain("on"), Data::Text("on".into()));
    }
}
