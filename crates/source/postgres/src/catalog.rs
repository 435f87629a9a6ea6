//! What the server's catalogue says of tables and types, now.
//!
//! The catalogue is newer than any place of the log: [`crate::relation`] decides what held there. No row of a user's
//! table is read here.
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError};

use lakeward_core::{
    Column, ColumnId, Error, ErrorKind, Result, TableId, TableIdentity, TableSchema,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, Row};

use crate::config::Settings;
use crate::connect::{Session, sql_error};
use crate::types::{Base, PgType, Resolved, Unrepresentable};

/// Domains over domains, arrays of domains: deeper than this is no catalogue.
const TYPE_DEPTH_MAX: usize = 32;

/// The catalogue, over one connection that is opened when needed and again when it broke.
#[derive(Debug)]
pub struct Catalog {
    settings: Arc<Settings>,
    session: Mutex<Option<Arc<Session>>>,
    types: std::sync::Mutex<HashMap<u32, TypeRow>>,
}

/// A table as the catalogue describes it, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The table's oid.
    pub oid: u32,
    /// Its name now.
    pub table: TableId,
    /// `pg_class.relfilenode`: changes when the table is rewritten, truncated or vacuumed full.
    pub file_node: u32,
    /// `pg_class.relreplident`: `d`efault, `n`othing, `f`ull or `i`ndex.
    pub replica_identity: char,
    /// Every attribute that ever was, in `attnum` order.
    pub attributes: Vec<Attribute>,
    /// `attnum`s of the columns that identify a row, in the index's order; empty: the table has no key.
    pub key: Vec<i16>,
}

/// One attribute of a table, dropped ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `attnum`, from 1, never used again.
    pub number: i16,
    /// Name now.
    pub name: String,
    /// Type oid; 0 when dropped.
    pub type_oid: u32,
    /// Type modifier; -1: none.
    pub type_modifier: i32,
    /// Its type; `None` when dropped.
    pub pg_type: Option<PgType>,
    /// Whether it was declared NOT NULL.
    pub not_null: bool,
    /// Whether it has a default (or is generated).
    pub has_default: bool,
    /// Whether it was dropped.
    pub dropped: bool,
    /// Whether it is a generated column: never followed.
    pub generated: bool,
    /// Whether rows written before it came show a stored value.
    pub has_missing: bool,
    /// That value as the type's output text; `None` although `has_missing`: it cannot be told.
    pub missing: Option<String>,
    /// `xmin` of its catalogue row: changes whenever the attribute was altered.
    pub xmin: u32,
}

/// What [`TableSchema::note`] of this source holds, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// `pg_class.relfilenode` when the schema was read.
    pub file_node: u32,
    /// `xmin` of every attribute's catalogue row, dropped ones included, by `attnum`.
    pub attributes: BTreeMap<i16, u32>,
}

impl Note {
    /// Reads a schema's note; `None` for a note that another source wrote.
    pub fn of(schema: &TableSchema) -> Option<Self> {
        serde_json::from_str(&schema.note).ok()
    }
}

/// A column of a schema that is being put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenColumn {
    /// `attnum`.
    pub number: i16,
    /// Name at that version.
    pub name: String,
    /// Type at that version.
    pub pg_type: PgType,
}

impl Described {
    /// The attribute with this number.
    pub fn attribute(&self, number: i16) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.number == number)
    }

    /// Attributes that the log and the chunks carry: neither dropped nor generated.
    pub fn live(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|a| !a.dropped && !a.generated)
    }

    /// The schema as the catalogue has it now.
    pub fn schema(&self) -> TableSchema {
        let chosen = self.live().filter_map(|attribute| {
            Some(ChosenColumn {
                number: attribute.number,
                name: attribute.name.clone(),
                pg_type: attribute.pg_type.clone()?,
            })
        });
        self.schema_from(self.table.clone(), chosen)
    }

    /// A schema of other columns than today's, for an older place of the log. Nullability and key are today's; a key
    /// of which a column is missing is no key.
    pub fn schema_from(
        &self,
        table: TableId,
        chosen: impl IntoIterator<Item = ChosenColumn>,
    ) -> TableSchema {
        let columns: Vec<Column> = chosen
            .into_iter()
            .map(|column| Column {
                id: ColumnId(i32::from(column.number)),
                nullable: self.attribute(column.number).is_none_or(|a| !a.not_null),
                name: column.name,
                data_type: column.pg_type.data_type,
                declared: column.pg_type.declared,
            })
            .collect();
        let index_of = |number: &i16| {
            let at = columns.iter().position(|c| c.id.0 == i32::from(*number));
            at.and_then(|at| u32::try_from(at).ok())
        };
        let key: Option<Vec<u32>> = self.key.iter().map(index_of).collect();
        let identity = TableIdentity(self.oid.to_string());
        TableSchema::new(table, identity, columns, key.unwrap_or_default(), self.note())
    }

    fn note(&self) -> String {
        let attributes = self.attributes.iter().map(|a| (a.number, a.xmin)).collect();
        serde_json::to_string(&Note { file_node: self.file_node, attributes }).unwrap_or_default()
    }
}

/// The oid that a schema of this source stands for.
///
/// # Errors
/// `Corrupt` for an identity that another source wrote.
pub fn table_oid(schema: &TableSchema) -> Result<u32> {
    schema.identity.0.parse().map_err(|_| {
        Error::new(ErrorKind::Corrupt, "a table's identity is no oid").with("table", &schema.table)
    })
}

/// One statement: table and attributes come from one snapshot. A key is what can identify rows at any moment, so its
/// index must be unique, valid, whole, and checked at once.
const DESCRIBE: &str = "\
    SELECT c.oid, n.nspname, c.relname, c.relfilenode, c.relreplident, \
           a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.atthasdef, \
           a.attisdropped, a.attgenerated <> '' AS generated, a.atthasmissing, \
           CASE WHEN a.atthasmissing AND t.typdelim = ',' \
                THEN (a.attmissingval::text::text[])[1] END AS missing, \
           a.xmin::text::bigint AS xmin, k.key, k.key_columns \
      FROM pg_class c \
      JOIN pg_namespace n ON n.oid = c.relnamespace \
      CROSS JOIN LATERAL (SELECT \
           (SELECT string_to_array(i.indkey::text, ' ')::int2[] FROM pg_index i \
             WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate \
               AND i.indpred IS NULL AND i.indexprs IS NULL \
               AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident \
                        WHEN c.relreplident IN ('d', 'f') THEN i.indisprimary ELSE false END) AS key, \
           (SELECT i.indnkeyatts FROM pg_index i \
             WHERE i.indrelid = c.oid \
               AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident \
                        ELSE i.indisprimary END) AS key_columns OFFSET 0) k \
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
      LEFT JOIN pg_type t ON t.oid = a.atttypid \
     WHERE c.oid = ANY($1) \
     ORDER BY c.oid, a.attnum";

const TYPES: &str = "\
    SELECT t.oid, t.typtype, t.typelem, t.typbasetype, t.typtypmod, t.typdelim, \
           t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc AS is_array \
      FROM pg_type t WHERE t.oid = ANY($1)";

/// What `pg_type` says of a type, as far as it decides how values travel. Never changes while the type lives.
#[derive(Debug, Clone, Copy)]
struct TypeRow {
    class: char,
    element: u32,
    base: u32,
    base_modifier: i32,
    delimiter: u8,
    is_array: bool,
}

impl Catalog {
    /// Nothing is opened yet.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings, session: Mutex::new(None), types: std::sync::Mutex::new(HashMap::new()) }
    }

    /// The settings that it works with.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The control connection, opened again if it broke.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(Session::open(&self.settings).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    /// A table by its oid, as it is now; `None` when it is gone.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`.
    pub async fn describe(&self, oid: u32) -> Result<Option<Described>> {
        let session = self.session().await?;
        Ok(self.describe_by(&session, &[oid]).await?.pop())
    }

    /// Tables by oid in the snapshot of `client`, in oid order; those that are gone are left out.
    pub(crate) async fn describe_by(
        &self,
        client: &Client,
        oids: &[u32],
    ) -> Result<Vec<Described>> {
        let rows = client.query(DESCRIBE, &[&oids]).await.map_err(sql_error)?;
        let mut found: Vec<Described> = Vec::new();
        for row in &rows {
            let oid: u32 = cell(row, "oid")?;
            if found.last().is_none_or(|last| last.oid != oid) {
                found.push(described(row, oid)?);
            }
            let attribute = attribute(row)?;
            if let Some(table) = found.last_mut() {
                table.attributes.push(attribute);
            }
        }
        self.resolve_types(client, &mut found).await?;
        Ok(found)
    }

    async fn resolve_types(&self, client: &Client, tables: &mut [Described]) -> Result<()> {
        let attributes = || tables.iter().flat_map(|table| &table.attributes);
        let wanted: Vec<_> = attributes().map(|a| (a.type_oid, a.type_modifier)).collect();
        let types = self.types_by(client, &wanted).await?;
        let attributes = tables.iter_mut().flat_map(|table| &mut table.attributes);
        for (attribute, pg_type) in attributes.zip(types) {
            attribute.pg_type = (!attribute.dropped).then_some(pg_type);
        }
        Ok(())
    }

    /// Types by oid and modifier, in the given order. A type that is gone reads as text.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`.
    pub async fn pg_types(&self, wanted: &[(u32, i32)]) -> Result<Vec<PgType>> {
        let session = self.session().await?;
        self.types_by(&session, wanted).await
    }

    async fn types_by(&self, client: &Client, wanted: &[(u32, i32)]) -> Result<Vec<PgType>> {
        self.learn(client, wanted).await?;
        let names = declared(client, wanted).await?;
        let known = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = self.settings.unrepresentable;
        Ok(wanted.iter().zip(names).map(|(one, name)| map(&known, *one, name, policy)).collect())
    }

    /// Reads the types that are not known yet, and those that they are built on.
    async fn learn(&self, client: &Client, wanted: &[(u32, i32)]) -> Result<()> {
        let mut open: Vec<u32> = wanted.iter().map(|(oid, _)| *oid).collect();
        for _ in 0..TYPE_DEPTH_MAX {
            {
                let known = self.types.lock().unwrap_or_else(PoisonError::into_inner);
                open.retain(|oid| *oid != 0 && !known.contains_key(oid));
            }
            if open.is_empty() {
                return Ok(());
            }
            open.sort_unstable();
            open.dedup();
            let rows = client.query(TYPES, &[&open]).await.map_err(sql_error)?;
            open.clear();
            let mut known = self.types.lock().unwrap_or_else(PoisonError::into_inner);
            for row in &rows {
                let found = type_row(row)?;
                open.extend([found.element, found.base]);
                known.insert(cell(row, "oid")?, found);
            }
        }
        Ok(())
    }
}

async fn declared(client: &Client, wanted: &[(u32, i32)]) -> Result<Vec<String>> {
    let (oids, modifiers): (Vec<u32>, Vec<i32>) = wanted.iter().copied().unzip();
    let sql = "SELECT format_type(oid, modifier) FROM unnest($1::oid[], $2::int4[]) \
               WITH ORDINALITY AS t(oid, modifier, place) ORDER BY place";
    let rows = client.query(sql, &[&oids, &modifiers]).await.map_err(sql_error)?;
    rows.iter().map(|row| Ok(cell::<Option<String>>(row, 0)?.unwrap_or_default())).collect()
}

/// Follows domains down to their base, and one array on the way.
fn map(
    known: &HashMap<u32, TypeRow>,
    (mut oid, mut modifier): (u32, i32),
    declared: String,
    policy: Unrepresentable,
) -> PgType {
    let mut array_delimiter = None;
    let mut base = Base::Other;
    for _ in 0..TYPE_DEPTH_MAX {
        let Some(row) = known.get(&oid) else { break };
        if row.class == 'd' {
            // A domain's modifier counts; a column of a domain has none of its own.
            (oid, modifier) = (row.base, row.base_modifier);
        } else if row.is_array && array_delimiter.is_none() {
            array_delimiter = Some(known.get(&row.element).map_or(b',', |e| e.delimiter));
            oid = row.element;
        } else {
            base = match row.class {
                _ if row.is_array => Base::Other,
                'b' => Base::Scalar(oid),
                'e' => Base::Enum,
                _ => Base::Other,
            };
            break;
        }
    }
    PgType::new(Resolved { base, modifier, array_delimiter, declared }, policy)
}

fn described(row: &Row, oid: u32) -> Result<Described> {
    let key: Option<Vec<i16>> = cell(row, "key")?;
    let key_columns: Option<i16> = cell(row, "key_columns")?;
    let mut key = key.unwrap_or_default();
    // INCLUDE columns stand behind the key's own.
    key.truncate(usize::try_from(key_columns.unwrap_or_default()).unwrap_or_default());
    Ok(Described {
        oid,
        table: TableId::new(cell::<String>(row, "nspname")?, cell::<String>(row, "relname")?),
        file_node: cell(row, "relfilenode")?,
        replica_identity: character(row, "relreplident")?,
        attributes: Vec::new(),
        key,
    })
}

fn attribute(row: &Row) -> Result<Attribute> {
    Ok(Attribute {
        number: cell(row, "attnum")?,
        name: cell(row, "attname")?,
        type_oid: cell(row, "atttypid")?,
        type_modifier: cell(row, "atttypmod")?,
        pg_type: None,
        not_null: cell(row, "attnotnull")?,
        has_default: cell(row, "atthasdef")?,
        dropped: cell(row, "attisdropped")?,
        generated: cell(row, "generated")?,
        has_missing: cell(row, "atthasmissing")?,
        missing: cell(row, "missing")?,
        xmin: u32::try_from(cell::<i64>(row, "xmin")?).unwrap_or_default(),
    })
}

fn type_row(row: &Row) -> Result<TypeRow> {
    Ok(TypeRow {
        class: character(row, "typtype")?,
        element: cell(row, "typelem")?,
        base: cell(row, "typbasetype")?,
        base_modifier: cell(row, "typtypmod")?,
        delimiter: u8::try_from(character(row, "typdelim")?).unwrap_or(b','),
        is_array: cell(row, "is_array")?,
    })
}

/// A cell of the type `"char"`.
pub(crate) fn character(row: &Row, column: &str) -> Result<char> {
    Ok(char::from(cell::<i8>(row, column)?.cast_unsigned()))
}

/// A cell of a catalogue query, by its column's name or place.
pub(crate) fn cell<'a, T>(row: &'a Row, column: impl RowIndex + fmt::Display) -> Result<T>
where
    T: FromSql<'a>,
{
    row.try_get(column).map_err(|error| {
        Error::new(ErrorKind::Bug, "a catalogue query gave another type than expected")
            .caused_by(error)
    })
}
