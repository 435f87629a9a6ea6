//! What the server's catalogue says of tables, and of the server itself.
use std::collections::BTreeMap;
use std::sync::Arc;

use lakeward_core::{Error, ErrorKind, Result, TableId};
use tokio::sync::OnceCell;

use crate::binlog::Flavour;
use crate::config::Settings;
use crate::connect::sql_error;
use crate::follow::{ColumnNow, Look};
use crate::pool::{Pool, Pooled};
use crate::position::GtidSet;
use crate::quote;
use crate::types::{Charsets, Kind, Unsupported};
use crate::wire::answer::FromCell;
use crate::wire::{Conn, Row};

/// The catalogue, and the connections to ask it over.
#[derive(Debug)]
pub struct Catalog {
    settings: Arc<Settings>,
    pool: Pool,
    server: OnceCell<Server>,
    charsets: OnceCell<Charsets>,
}

/// What the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Product and version, as it names itself.
    pub product: String,
    /// Whose.
    pub flavour: Flavour,
    /// Major and minor version.
    pub version: (u16, u16),
}

/// A table as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub table: TableId,
    /// `BASE TABLE`, `VIEW`, `SYSTEM VERSIONED`, `SEQUENCE` …
    pub table_type: String,
    /// Its storage engine; empty: none.
    pub engine: String,
    /// Its columns in order.
    pub columns: Vec<CatalogColumn>,
    /// Names of the columns that identify a row: of the primary key, else of the first unique index that has neither
    /// columns that may be NULL nor parts of columns. It is what the log takes for the key too.
    pub key: Vec<String>,
}

/// A column as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Result<Kind, Unsupported>,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// Whether it is computed from others.
    pub generated: bool,
}

impl Described {
    /// Columns that are followed.
    pub fn followed(&self) -> impl Iterator<Item = (&CatalogColumn, &Kind)> {
        self.columns
            .iter()
            .filter(|column| !column.generated)
            .filter_map(|column| Some((column, column.kind.as_ref().ok()?)))
    }

    /// As what it is followed.
    pub fn look(&self) -> Look {
        let columns: Vec<ColumnNow> = self
            .followed()
            .map(|(column, kind)| ColumnNow {
                name: column.name.clone(),
                kind: kind.clone(),
                nullable: column.nullable,
            })
            .collect();
        let left_out = |c: &&CatalogColumn| c.generated || c.kind.is_err();
        let ignored = self.columns.iter().filter(left_out).map(|c| c.name.clone()).collect();
        Look { columns, key: self.key.clone(), ignored }
    }
}

const TABLES: &str = "\
    SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, '') \
      FROM information_schema.TABLES";

const COLUMNS: &str = "\
    SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, IS_NULLABLE = 'YES', \
           COALESCE(GENERATION_EXPRESSION, '') <> '' OR EXTRA LIKE '%GENERATED%' \
      FROM information_schema.COLUMNS";

/// The rows of one index stand together, and indices in the server's own order: no ORDER BY.
const KEYS: &str = "\
    SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART IS NOT NULL, NULLABLE = 'YES' \
      FROM information_schema.STATISTICS";

impl Catalog {
    /// Nothing is opened yet.
    pub fn new(settings: Arc<Settings>) -> Self {
        let pool = Pool::new(Arc::clone(&settings));
        Self { settings, pool, server: OnceCell::new(), charsets: OnceCell::new() }
    }

    /// The settings that it works with.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// A connection that nobody uses now.
    pub(crate) async fn session(&self) -> Result<Pooled> {
        self.pool.get().await
    }

    /// What the server is.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`.
    pub async fn server(&self) -> Result<Server> {
        let asked = async {
            let mut session = self.session().await?;
            let server = server(&mut session).await?;
            session.give_back();
            Ok(server)
        };
        self.server.get_or_try_init(|| asked).await.cloned()
    }

    /// Which character set the log's collations belong to.
    ///
    /// # Errors
    /// `Unreachable`, `Auth`.
    pub async fn charsets(&self) -> Result<Charsets> {
        let asked = async {
            let mut session = self.session().await?;
            let charsets = charsets(&mut session).await?;
            session.give_back();
            Ok(charsets)
        };
        self.charsets.get_or_try_init(|| asked).await.cloned()
    }

    /// Everything with a selected name, tables or not, by name.
    pub(crate) async fn selected(&self, session: &mut Conn) -> Result<Vec<Described>> {
        let selection = &self.settings.selection;
        let mut found = Vec::new();
        for database in databases(session).await? {
            if selection.takes_namespace(&database) {
                let condition = format!("TABLE_SCHEMA = {}", quote::text(&database));
                let all = describe(session, &condition).await?;
                found.extend(all.into_iter().filter(|d| selection.takes(&d.table)));
            }
        }
        found.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(found)
    }
}

/// A table as it is now; `None`: it is not there.
pub(crate) async fn describe_one(session: &mut Conn, table: &TableId) -> Result<Option<Described>> {
    let condition = format!(
        "TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        quote::text(&table.namespace),
        quote::text(&table.name)
    );
    Ok(describe(session, &condition).await?.into_iter().find(|d| d.table == *table))
}

async fn describe(session: &mut Conn, condition: &str) -> Result<Vec<Described>> {
    let mut found: BTreeMap<TableId, Described> = BTreeMap::new();
    for row in rows(session, &format!("{TABLES} WHERE {condition}")).await? {
        let table = table_id(&row)?;
        let described = Described {
            table: table.clone(),
            table_type: cell(&row, 2)?,
            engine: cell(&row, 3)?,
            columns: Vec::new(),
            key: Vec::new(),
        };
        found.insert(table, described);
    }
    let sql =
        format!("{COLUMNS} WHERE {condition} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION");
    for row in rows(session, &sql).await? {
        if let Some(described) = found.get_mut(&table_id(&row)?) {
            described.columns.push(column(&row)?);
        }
    }
    let mut indices: BTreeMap<TableId, Vec<Index>> = BTreeMap::new();
    for row in rows(session, &format!("{KEYS} WHERE {condition} AND NON_UNIQUE = 0")).await? {
        add_to_index(indices.entry(table_id(&row)?).or_default(), &row)?;
    }
    for (table, indices) in indices {
        if let Some(described) = found.get_mut(&table) {
            described.key = key(indices);
        }
    }
    Ok(found.into_values().collect())
}

/// A unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    name: String,
    columns: Vec<String>,
    partial: bool,
    nullable: bool,
}

fn add_to_index(indices: &mut Vec<Index>, row: &Row) -> Result<()> {
    let name: String = cell(row, 2)?;
    if indices.last().is_none_or(|last| last.name != name) {
        indices.push(Index { name, columns: Vec::new(), partial: false, nullable: false });
    }
    if let Some(index) = indices.last_mut() {
        let column: Option<String> = cell(row, 3)?;
        // An index over an expression has no column.
        index.partial |= column.is_none() || cell::<bool>(row, 4)?;
        index.nullable |= cell::<bool>(row, 5)?;
        index.columns.extend(column);
    }
    Ok(())
}

fn key(indices: Vec<Index>) -> Vec<String> {
    let primary = indices.iter().position(|index| index.name == "PRIMARY");
    let unique = || indices.iter().position(|index| !index.partial && !index.nullable);
    let chosen = primary.or_else(unique);
    chosen.and_then(|at| indices.into_iter().nth(at)).map(|i| i.columns).unwrap_or_default()
}

fn table_id(row: &Row) -> Result<TableId> {
    Ok(TableId::new(cell::<String>(row, 0)?, cell::<String>(row, 1)?))
}

fn column(row: &Row) -> Result<CatalogColumn> {
    let column_type: String = cell(row, 3)?;
    let charset: Option<String> = cell(row, 4)?;
    Ok(CatalogColumn {
        name: cell(row, 2)?,
        kind: Kind::of_catalogue(&column_type, charset.as_deref()),
        nullable: cell(row, 5)?,
        generated: cell(row, 6)?,
    })
}

async fn databases(session: &mut Conn) -> Result<Vec<String>> {
    let found = rows(session, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA").await?;
    found.iter().map(|row| cell(row, 0)).collect()
}

async fn server(session: &mut Conn) -> Result<Server> {
    let row = row(session, "SELECT VERSION(), @@version_comment").await?;
    let (version, comment): (String, String) = (cell(&row, 0)?, cell(&row, 1)?);
    let maria = version.contains("MariaDB") || comment.contains("MariaDB");
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse().ok());
    let numbers = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (name, flavour) =
        if maria { ("MariaDB", Flavour::MariaDb) } else { ("MySQL", Flavour::MySql) };
    let version_text = version.split('-').next().unwrap_or(&version);
    Ok(Server { product: format!("{name} {version_text}"), flavour, version: numbers })
}

async fn charsets(session: &mut Conn) -> Result<Charsets> {
    // 10.10 and later have collations that no other list gives a number.
    let newer = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
    let older = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS";
    let found = match session.rows(newer).await {
        Ok(found) => found,
        Err(_) => rows(session, older).await?,
    };
    let pair = |row: &Row| {
        let id: Option<u64> = cell(row, 0)?;
        let name: Option<String> = cell(row, 1)?;
        Ok(id.and_then(|id| u16::try_from(id).ok()).zip(name))
    };
    let pairs = found.iter().map(pair).collect::<Result<Vec<_>>>()?;
    Ok(Charsets::new(pairs.into_iter().flatten()))
}

/// All transactions that stand in the server's log: a place behind everything that was committed before the call.
pub(crate) async fn head(session: &mut Conn, flavour: Flavour) -> Result<GtidSet> {
    let sql = match flavour {
        Flavour::MariaDb => "SELECT @@GLOBAL.gtid_binlog_pos",
        Flavour::MySql => "SELECT @@GLOBAL.gtid_executed",
    };
    let text: String = cell(&row(session, sql).await?, 0)?;
    gtids(flavour, &text)
}

/// The server's text of a set.
pub(crate) fn gtids(flavour: Flavour, text: &str) -> Result<GtidSet> {
    let parsed = match flavour {
        Flavour::MariaDb => GtidSet::parse_mariadb(text),
        Flavour::MySql => GtidSet::parse_mysql(text),
    };
    parsed.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the server gave a set of transactions that cannot be read")
    })
}

/// The rows of a query without parameters.
pub(crate) async fn rows(session: &mut Conn, sql: &str) -> Result<Vec<Row>> {
    session.rows(sql).await.map_err(sql_error)
}

/// The only row of a query.
pub(crate) async fn row(session: &mut Conn, sql: &str) -> Result<Row> {
    rows(session, sql).await?.pop().ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the server answered nothing to a question about itself")
    })
}

/// A cell of a catalogue query, by its place.
pub(crate) fn cell<T: FromCell>(row: &Row, at: usize) -> Result<T> {
    row.cell(at).ok_or_else(|| {
        Error::new(ErrorKind::Bug, "a catalogue query gave another type than expected")
            .with("column", at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str, columns: &[&str], partial: bool, nullable: bool) -> Index {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Index { name: name.into(), columns, partial, nullable }
    }

    #[test]
    fn the_key_is_what_the_log_takes_for_it() {
        let unique = index("u", &["b"], false, false);
        let primary = index("PRIMARY", &["a", "c"], true, false);
        assert_eq!(key(vec![unique.clone(), primary]), ["a", "c"]);
        let nullable = index("n", &["x"], false, true);
        let partial = index("p", &["y"], true, false);
        assert_eq!(key(vec![nullable, partial, unique]), ["b"]);
        assert!(key(Vec::new()).is_empty());
    }
}
