//! Tables and columns as a source knows them, and how they change.
//!
//! Deliberately absent: DDL text. A change says what a table has become, so that applying it twice is harmless.
use std::fmt;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// A table's name: namespace (PostgreSQL schema, MySQL database) and name. May be reused by another table later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId {
    /// Schema or database.
    pub namespace: String,
    /// Table name.
    pub name: String,
}

impl TableId {
    /// A table's name from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// What stays when a table is renamed and differs when another takes its name (PostgreSQL: the oid).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableIdentity(pub String);

impl fmt::Display for TableIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The source's stable id of a column (PostgreSQL: attnum). Survives a rename, is never reused in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnId(pub i32);

/// A column of a source table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Stable id.
    pub id: ColumnId,
    /// Name at this version.
    pub name: String,
    /// The Arrow type in which its values travel, from the decoder to the file.
    pub data_type: DataType,
    /// The source's declared type, as the source prints it: `numeric(12,2)`, `text[]`.
    pub declared: String,
    /// Whether the source allows NULL.
    pub nullable: bool,
}

/// A fingerprint of a schema's content: equal content, equal version, in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaVersion(pub u64);

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A table's columns and key at one version. Made by [`TableSchema::new`], which computes the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Name at this version.
    pub table: TableId,
    /// Identity.
    pub identity: TableIdentity,
    /// Fingerprint of identity, name, columns and key.
    pub version: SchemaVersion,
    /// Columns in the source's order.
    pub columns: Vec<Column>,
    /// Indices into `columns` that identify a row; empty: the table has no key.
    pub key: Vec<u32>,
    /// The source's private note about this version (PostgreSQL: file node and catalogue fingerprints). Not part of the version.
    #[serde(default)]
    pub note: String,
}

impl TableSchema {
    /// A schema with its version computed from its content (not from `note`).
    pub fn new(
        table: TableId,
        identity: TableIdentity,
        columns: Vec<Column>,
        key: Vec<u32>,
        note: String,
    ) -> Self {
        let version = fingerprint(&table, &identity, &columns, &key);
        Self { table, identity, version, columns, key, note }
    }

    /// Arrow fields of all columns, in order. Every field is nullable: a deleted row carries only its key.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns
                .iter()
                .map(|c| Field::new(&c.name, c.data_type.clone(), true))
                .collect::<Vec<_>>(),
        ))
    }

    /// The column with this id, and its index.
    pub fn column(&self, id: ColumnId) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, c)| c.id == id)
    }

    /// The key's columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|i| self.columns.get(*i as usize))
    }
}

fn fingerprint(
    table: &TableId,
    identity: &TableIdentity,
    columns: &[Column],
    key: &[u32],
) -> SchemaVersion {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(table.namespace.as_bytes());
    part(table.name.as_bytes());
    part(identity.0.as_bytes());
    for column in columns {
        part(&column.id.0.to_le_bytes());
        part(column.name.as_bytes());
        part(column.data_type.to_string().as_bytes());
        part(&[u8::from(column.nullable)]);
    }
    for index in key {
        part(&index.to_le_bytes());
    }
    SchemaVersion(hash.digest())
}

/// What the rows that existed before a new column came hold in it.
#[derive(Debug, Clone)]
pub enum Fill {
    /// NULL.
    Null,
    /// One value: an array of exactly one element of the column's type.
    Constant(ArrayRef),
    /// Not known from the log: the table has diverged until it is loaded again.
    Unknown,
}

/// A table has become another version.
#[derive(Debug, Clone)]
pub struct SchemaChange {
    /// What it was, as far as the source knows.
    pub before: Arc<TableSchema>,
    /// What it is.
    pub after: Arc<TableSchema>,
    /// One entry per column of `after`; meaningful where `before` lacks the column's id.
    pub fill: Vec<Fill>,
    /// The open transaction in which it happened; `None` when it is committed already.
    pub transaction: Option<crate::change::TransactionRef>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(name: &str, note: &str) -> TableSchema {
        let column = Column {
            id: ColumnId(1),
            name: name.into(),
            data_type: DataType::Int64,
            declared: "bigint".into(),
            nullable: false,
        };
        TableSchema::new(
            TableId::new("public", "t"),
            TableIdentity("7".into()),
            vec![column],
            vec![0],
            note.into(),
        )
    }

    #[test]
    fn version_is_content() {
        assert_eq!(schema("a", "x").version, schema("a", "y").version);
        assert_ne!(schema("a", "").version, schema("b", "").version);
        let json = serde_json::to_string(&schema("a", "x")).unwrap();
        assert_eq!(serde_json::from_str::<TableSchema>(&json).unwrap(), schema("a", "x"));
    }
}
