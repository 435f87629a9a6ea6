//! What a change of a table did to its rows: rewritten, retyped, filled.
use lakeward_core::{Fill, TableSchema};

use crate::catalog::{Attribute, Described, Note};
use crate::types::ColumnBuilder;

/// Whether the output text of every value of `from` is a value of `to` that a rewrite would have given.
pub(super) fn holds(to: &arrow_schema::DataType, from: &arrow_schema::DataType) -> bool {
    use arrow_schema::DataType::{Decimal128, Int16, Int32, Int64};
    match (from, to) {
        (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Decimal128(p, s), Decimal128(q, t)) => {
            t >= s && i16::from(*q) - i16::from(*t) >= i16::from(*p) - i16::from(*s)
        }
        _ => from == to,
    }
}

/// The table's file and its columns' catalogue rows both changed: a rewrite by DDL. `VACUUM FULL`, `CLUSTER` and
/// `TRUNCATE` change the file alone.
pub(crate) fn rewritten(told: &TableSchema, now: &Described) -> bool {
    Note::of(told).is_some_and(|note| {
        let same_columns = now.attributes.len() == note.attributes.len()
            && now.attributes.iter().all(|a| note.attributes.get(&a.number) == Some(&a.xmin));
        note.file_node != now.file_node && !same_columns
    })
}

/// A column changed its type in a way that rewrites its values.
pub(crate) fn retyped(told: &TableSchema, schema: &TableSchema) -> bool {
    schema.columns.iter().any(|c| {
        told.column(c.id).is_some_and(|(_, was)| {
            was.declared != c.declared && !rewrites_nothing(&was.declared, &c.declared)
        })
    })
}

/// Type changes that leave every stored value as it is.
pub(super) fn rewrites_nothing(from: &str, to: &str) -> bool {
    let (from, to) = (Declared::parse(from), Declared::parse(to));
    match (from.name, to.name) {
        ("character varying", "text") => true,
        ("text", "character varying") => to.modifier.is_none(),
        ("character varying", "character varying") => to.at_least(&from),
        ("numeric", "numeric") => {
            to.modifier.is_none() || (to.at_least(&from) && to.scale() == from.scale())
        }
        _ => false,
    }
}

/// `name(a,b)` as the server prints it.
struct Declared<'a> {
    name: &'a str,
    modifier: Option<(u32, u32)>,
}

impl<'a> Declared<'a> {
    fn parse(text: &'a str) -> Self {
        let Some((name, rest)) = text.split_once('(') else {
            return Self { name: text, modifier: None };
        };
        let mut numbers = rest.trim_end_matches(')').split(',').map(|n| n.trim().parse().ok());
        let first = numbers.next().flatten();
        let second = numbers.next().flatten().unwrap_or(0);
        Self { name, modifier: first.map(|first| (first, second)) }
    }

    fn at_least(&self, other: &Self) -> bool {
        match (self.modifier, other.modifier) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => a.0 >= b.0,
        }
    }

    fn scale(&self) -> Option<u32> {
        self.modifier.map(|(_, scale)| scale)
    }
}

pub(crate) fn fills(
    told: &TableSchema,
    schema: &TableSchema,
    now: &Described,
    rewritten: bool,
) -> Vec<Fill> {
    schema
        .columns
        .iter()
        .map(|column| {
            if told.column(column.id).is_some() {
                return Fill::Null;
            }
            let attribute = i16::try_from(column.id.0).ok().and_then(|n| now.attribute(n));
            match attribute {
                Some(a) if a.has_missing => constant(a, &column.data_type),
                Some(_) if rewritten => Fill::Unknown,
                _ => Fill::Null,
            }
        })
        .collect()
}

fn constant(attribute: &Attribute, data_type: &arrow_schema::DataType) -> Fill {
    let value = attribute.missing.as_ref().and_then(|text| {
        let mut builder = ColumnBuilder::new(data_type, false).ok()?;
        builder.push_text(text.as_bytes()).ok()?;
        builder.finish().ok()
    });
    value.map_or(Fill::Unknown, Fill::Constant)
}
