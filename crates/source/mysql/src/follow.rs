//! What a table becomes, column by column: the one place where column ids are given. Pure.
//!
//! The server has no ids of columns, so they are ours: a column keeps its id by its name, a rename that the log tells
//! moves the id to the new name, a dropped column's id is never given again. Discovery, drift and the log all come
//! through here, so that they say the same of the same columns.
use std::collections::BTreeMap;
use std::sync::Arc;

use lakeward_core::{
    Column, ColumnId, Divergence, Fill, SchemaChange, TableId, TableIdentity, TableSchema,
};
use serde::{Deserialize, Serialize};

use crate::types::{ColumnBuilder, Kind, Text, Unrepresentable, Value};

/// A column as the catalogue or the log shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnNow {
    /// Its name.
    pub name: String,
    /// Its type. The log hides some: [`Kind::unhidden`].
    pub kind: Kind,
    /// Whether it may hold NULL.
    pub nullable: bool,
}

/// A table as the catalogue or the log shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its columns, without those that are not followed.
    pub columns: Vec<ColumnNow>,
    /// Names of the columns that identify a row, in the key's order.
    pub key: Vec<String>,
    /// Names of the columns that are not followed.
    pub ignored: Vec<String>,
}

/// What one `ALTER TABLE` says, as far as it is understood. Names are those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alter {
    /// Columns with a new name: from, to.
    pub renamed: Vec<(String, String)>,
    /// Columns that went.
    pub dropped: Vec<String>,
    /// Columns that came.
    pub added: Vec<Added>,
    /// Whether rows may have changed in another way than by their columns' types.
    pub rewritten: bool,
}

/// A column that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its name.
    pub name: String,
    /// What its DEFAULT clause says.
    pub default: AddedDefault,
    /// Whether it is computed from others: such columns are not followed.
    pub generated: bool,
}

/// What rows that were there before show in a new column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddedDefault {
    /// No DEFAULT clause: NULL, or the type's zero.
    Absent,
    /// NULL.
    Null,
    /// A literal: its value, without quotes and escapes.
    Literal(String),
    /// An expression, a function, a number that counts up.
    Other,
}

/// What [`TableSchema::note`] of this source holds, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The highest column id that was ever given in this table.
    #[serde(default)]
    pub highest: i32,
    /// How many ALTERs the log has told since the table is followed: what was found out before one of them is void.
    #[serde(default)]
    pub alters: u64,
    /// A set of transactions all of which every snapshot of this table has seen, and whose DDL the schema shows: the log
    /// up to here says nothing new of the table. As the server's text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub seen: String,
    /// Columns that came while the table was followed: ids by name, and what older rows show.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub added: BTreeMap<String, AddedNote>,
    /// Columns that are there and are not followed: generated ones, and those of types that cannot be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A column that came while the table was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedNote {
    /// Its id.
    pub id: i32,
    /// What older rows show in it.
    pub default: AddedDefault,
}

impl Note {
    /// Reads a schema's note; an empty one where there is none.
    pub fn of(schema: &TableSchema) -> Self {
        serde_json::from_str(&schema.note).unwrap_or_default()
    }

    /// As text.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The first schema of a table: ids in the columns' order.
pub fn first(
    table: TableId,
    identity: TableIdentity,
    look: &Look,
    seen: String,
    policy: Unrepresentable,
) -> TableSchema {
    let columns: Vec<Column> =
        (1..).zip(&look.columns).map(|(id, column)| made(ColumnId(id), column, policy)).collect();
    let key = key_of(&columns, &look.key);
    let highest = i32::try_from(columns.len()).unwrap_or(i32::MAX);
    let note = Note { highest, seen, ignored: sorted(&look.ignored), ..Note::default() };
    TableSchema::new(table, identity, columns, key, note.text())
}

/// What `told` has become when `look` shows it now.
pub fn follow(told: &TableSchema, look: &Look, policy: Unrepresentable) -> TableSchema {
    let mut note = Note::of(told);
    let columns: Vec<Column> = look
        .columns
        .iter()
        .map(|column| match told.columns.iter().find(|c| c.name == column.name) {
            Some(known) => kept(known, column, policy),
            None => made(new_id(&mut note, &column.name), column, policy),
        })
        .collect();
    note.ignored = sorted(&look.ignored);
    let key = key_of(&columns, &look.key);
    TableSchema::new(told.table.clone(), told.identity.clone(), columns, key, note.text())
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

fn new_id(note: &mut Note, name: &str) -> ColumnId {
    if let Some(added) = note.added.get(name) {
        return ColumnId(added.id);
    }
    note.highest = note.highest.saturating_add(1);
    ColumnId(note.highest)
}

fn made(id: ColumnId, now: &ColumnNow, policy: Unrepresentable) -> Column {
    Column {
        id,
        name: now.name.clone(),
        data_type: now.kind.data_type(policy),
        declared: now.kind.to_string(),
        nullable: now.nullable,
    }
}

fn kept(known: &Column, now: &ColumnNow, policy: Unrepresentable) -> Column {
    let kind = match Kind::of_declared(&known.declared) {
        Some(told) => now.kind.clone().unhidden(&told),
        None => now.kind.clone(),
    };
    made(known.id, &ColumnNow { kind, ..now.clone() }, policy)
}

fn key_of(columns: &[Column], names: &[String]) -> Vec<u32> {
    let index = |name: &String| {
        columns.iter().position(|c| c.name == *name).and_then(|at| u32::try_from(at).ok())
    };
    // A key of which a column is missing is no key.
    names.iter().map(index).collect::<Option<Vec<u32>>>().unwrap_or_default()
}

/// What `told` is right behind an ALTER, before its new columns and types are known: renamed and dropped columns are.
pub fn altered(told: &TableSchema, alter: &Alter) -> TableSchema {
    let mut note = Note::of(told);
    note.alters = note.alters.saturating_add(1);
    let in_key = |name: &str| told.key_columns().any(|c| c.name == name);
    let dropped = |name: &str| alter.dropped.iter().any(|d| same_name(d, name));
    let renamed = |name: &str| {
        alter.renamed.iter().find(|(from, _)| same_name(from, name)).map(|(_, to)| to.clone())
    };
    let kept: Vec<&Column> =
        told.columns.iter().filter(|c| !dropped(&c.name) || in_key(&c.name)).collect();
    let columns: Vec<Column> = kept
        .iter()
        .map(|c| Column {
            name: renamed(&c.name).unwrap_or_else(|| c.name.clone()),
            ..(*c).clone()
        })
        .collect();
    let key: Option<Vec<u32>> = told
        .key_columns()
        .map(|k| kept.iter().position(|c| c.id == k.id).and_then(|at| u32::try_from(at).ok()))
        .collect();
    note.ignored.retain(|name| !dropped(name));
    for name in &mut note.ignored {
        if let Some(to) = renamed(name) {
            *name = to;
        }
    }
    let added = std::mem::take(&mut note.added);
    note.added = added
        .into_iter()
        .filter(|(name, _)| !dropped(name))
        .map(|(name, note)| (renamed(&name).unwrap_or(name), note))
        .collect();
    for column in &alter.added {
        add(&mut note, &columns, column);
    }
    note.ignored = sorted(&note.ignored);
    TableSchema::new(
        told.table.clone(),
        told.identity.clone(),
        columns,
        key.unwrap_or_default(),
        note.text(),
    )
}

/// Column names are compared without case by the server.
fn same_name(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

fn add(note: &mut Note, columns: &[Column], added: &Added) {
    let known = columns.iter().any(|c| same_name(&c.name, &added.name))
        || note.ignored.iter().any(|name| same_name(name, &added.name))
        || note.added.contains_key(&added.name);
    if known {
        // ADD COLUMN IF NOT EXISTS.
        return;
    }
    if added.generated {
        note.ignored.push(added.name.clone());
        return;
    }
    note.highest = note.highest.saturating_add(1);
    let default = added.default.clone();
    note.added.insert(added.name.clone(), AddedNote { id: note.highest, default });
}

/// From `before` to `after`, with what older rows show in new columns, and whether rows changed that the log did not
/// carry.
pub fn change(
    before: &Arc<TableSchema>,
    after: Arc<TableSchema>,
) -> (SchemaChange, Option<Divergence>) {
    let note = Note::of(&after);
    let fill: Vec<Fill> = after
        .columns
        .iter()
        .map(|column| match before.column(column.id) {
            Some(_) => Fill::Null,
            None => fill(column, &note),
        })
        .collect();
    let unknown = fill.iter().any(|fill| matches!(fill, Fill::Unknown));
    let diverged = unknown || rewritten(before, &after);
    let change = SchemaChange { before: Arc::clone(before), after, fill, transaction: None };
    (change, diverged.then_some(Divergence::Rewritten))
}

/// Whether a column that stays changed its values.
fn rewritten(before: &TableSchema, after: &TableSchema) -> bool {
    after.columns.iter().any(|column| {
        let Some((_, was)) = before.column(column.id) else { return false };
        let kinds = Kind::of_declared(&was.declared).zip(Kind::of_declared(&column.declared));
        !kinds.is_some_and(|(was, is)| was.widens_to(&is))
    })
}

fn fill(column: &Column, note: &Note) -> Fill {
    let added = note.added.get(&column.name).filter(|added| added.id == column.id.0);
    match added.map(|added| &added.default) {
        Some(AddedDefault::Null) => Fill::Null,
        Some(AddedDefault::Absent) if column.nullable => Fill::Null,
        Some(AddedDefault::Absent) => zero(column),
        Some(AddedDefault::Literal(text)) => constant(column, Value::Text(text.as_bytes())),
        Some(AddedDefault::Other) | None => Fill::Unknown,
    }
}

/// What the server writes into old rows of a column that is NOT NULL and has no default.
fn zero(column: &Column) -> Fill {
    match Kind::of_declared(&column.declared) {
        Some(Kind::Integer { .. } | Kind::Decimal { .. } | Kind::Float | Kind::Double) => {
            constant(column, Value::Text(b"0"))
        }
        Some(Kind::Text(..)) => constant(column, Value::Text(b"")),
        Some(Kind::Binary(_)) => constant(column, Value::Bytes(b"")),
        Some(Kind::Enum(_)) => constant(column, Value::Enum(1)),
        Some(Kind::Set(_)) => constant(column, Value::Set(0)),
        _ => Fill::Unknown,
    }
}

fn constant(column: &Column, value: Value<'_>) -> Fill {
    let known = Kind::of_declared(&column.declared).and_then(|kind| {
        let value = literal(&kind, value)?;
        let mut builder = ColumnBuilder::new(&kind, &column.data_type, false).ok()?;
        builder.push(value).ok()?;
        builder.finish().ok()
    });
    known.map_or(Fill::Unknown, Fill::Constant)
}

/// A literal of DDL as a value, where it says the value without the server's help: the server also rounds, converts and
/// reckons with time zones.
fn literal<'a>(kind: &Kind, value: Value<'a>) -> Option<Value<'a>> {
    let Value::Text(text) = value else { return Some(value) };
    match kind {
        Kind::Integer { .. } | Kind::Decimal { .. } | Kind::Float | Kind::Double | Kind::Date => {
            Some(value)
        }
        Kind::DateTime(digits) if *digits == 6 || !text.contains(&b'.') => Some(value),
        Kind::Text(Text::Fixed(_), _) => Some(Value::Text(trimmed(text))),
        Kind::Text(..) | Kind::Binary(_) => Some(value),
        Kind::Enum(labels) | Kind::Set(labels) => {
            let known = labels.iter().any(|label| label.as_bytes() == text);
            known.then_some(value)
        }
        _ => None,
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let spaces = text.iter().rev().take_while(|b| **b == b' ').count();
    text.get(..text.len() - spaces).unwrap_or_default()
}

#[cfg(test)]
mod tests;
