//! Statements as far as they matter to whoever follows rows: which kind, which tables, which columns moved.
//!
//! Tolerant: text that is not understood is [`Statement::Other`]. Never the only source of a schema: types come from
//! the log's own table maps.
mod alter;
mod token;

use lakeward_core::TableId;

use crate::binlog::event::XaId;
use crate::follow::Alter;
use token::{Token, Tokens};

/// A statement, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A transaction begins.
    Begin,
    /// It is committed.
    Commit,
    /// It is rolled back: what it did to tables that can be rolled back is undone.
    Rollback,
    /// A part of it is rolled back.
    RollbackTo,
    /// A transaction begins that will be prepared.
    XaStart,
    /// A prepared transaction is committed.
    XaCommit(XaId),
    /// A prepared transaction is rolled back.
    XaRollback(XaId),
    /// `ALTER TABLE`.
    Alter(AlterTable),
    /// Tables get other names, in this order.
    Rename(Vec<(TableId, TableId)>),
    /// All rows of a table go.
    Truncate(TableId),
    /// Tables go.
    Drop(Vec<TableId>),
    /// A table comes; one of that name that was there before is gone.
    Create(TableId),
    /// A database goes, with all its tables.
    DropDatabase(String),
    /// Rows changed by text: every name in it that could be a table.
    Changes(Vec<TableId>),
    /// Nothing of these.
    Other,
}

/// What an `ALTER TABLE` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable {
    /// The table.
    pub table: TableId,
    /// What became of its columns and rows.
    pub alter: Alter,
    /// Its other name, from now on.
    pub renamed_to: Option<TableId>,
    /// Another table whose rows moved in or out (`EXCHANGE PARTITION`).
    pub exchanged: Option<TableId>,
}

/// What the session was told that ran a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session<'a> {
    /// Its default database.
    pub database: &'a str,
    /// Values that do not fit are errors; otherwise they are changed until they fit.
    pub strict: bool,
    /// Names of tables and databases are kept in lower case.
    pub lower_case: bool,
}

/// Sorts a statement.
pub fn classify(text: &str, session: Session<'_>) -> Statement {
    let mut tokens = Tokens::new(text, session);
    let Some(Token::Word(first)) = tokens.next() else { return Statement::Other };
    let first = first.to_ascii_uppercase();
    match first.as_str() {
        "BEGIN" => Statement::Begin,
        "START" if tokens.word("TRANSACTION") => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" if tokens.any(|token| token.is("TO")) => Statement::RollbackTo,
        "ROLLBACK" => Statement::Rollback,
        "XA" => xa(&mut tokens),
        "ALTER" => alter::alter(&mut tokens).map_or(Statement::Other, Statement::Alter),
        "RENAME" => rename(&mut tokens).unwrap_or(Statement::Other),
        "TRUNCATE" => {
            tokens.word("TABLE");
            tokens.table().map_or(Statement::Other, Statement::Truncate)
        }
        "DROP" => drop(&mut tokens).unwrap_or(Statement::Other),
        "CREATE" => create(&mut tokens).unwrap_or(Statement::Other),
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "WITH" | "SELECT" | "CALL" | "DO" => {
            Statement::Changes(mentioned(&mut tokens))
        }
        _ => Statement::Other,
    }
}

fn xa(tokens: &mut Tokens<'_>) -> Statement {
    let commits = match tokens.next() {
        Some(token) if token.is("START") || token.is("BEGIN") => return Statement::XaStart,
        Some(token) if token.is("COMMIT") => true,
        Some(token) if token.is("ROLLBACK") => false,
        _ => return Statement::Other,
    };
    let Some(first) = tokens.bytes() else { return Statement::Other };
    let second = if tokens.punct(',') { tokens.bytes() } else { Some(Vec::new()) };
    let format = if tokens.punct(',') { tokens.number() } else { Some(1) };
    let (Some(second), Some(format)) = (second, format) else { return Statement::Other };
    let xid = XaId::new(format, &first, &second);
    if commits { Statement::XaCommit(xid) } else { Statement::XaRollback(xid) }
}

fn rename(tokens: &mut Tokens<'_>) -> Option<Statement> {
    if !tokens.word("TABLE") && !tokens.word("TABLES") {
        return None;
    }
    tokens.if_exists();
    let mut pairs = Vec::new();
    loop {
        let from = tokens.table()?;
        tokens.wait();
        if !tokens.word("TO") {
            return None;
        }
        pairs.push((from, tokens.table()?));
        if !tokens.punct(',') {
            return Some(Statement::Rename(pairs));
        }
    }
}

fn drop(tokens: &mut Tokens<'_>) -> Option<Statement> {
    if tokens.word("DATABASE") || tokens.word("SCHEMA") {
        tokens.if_exists();
        return tokens.name().map(Statement::DropDatabase);
    }
    if !tokens.word("TABLE") && !tokens.word("TABLES") {
        return None;
    }
    tokens.if_exists();
    let mut tables = Vec::new();
    loop {
        tables.push(tokens.table()?);
        if !tokens.punct(',') {
            return Some(Statement::Drop(tables));
        }
    }
}

fn create(tokens: &mut Tokens<'_>) -> Option<Statement> {
    if tokens.word("OR") && !tokens.word("REPLACE") {
        return None;
    }
    if !tokens.word("TABLE") {
        return None;
    }
    // With IF NOT EXISTS the server logs the statement only when it made the table, or cannot tell.
    let guarded = tokens.if_exists();
    let table = tokens.table()?;
    (!guarded).then_some(Statement::Create(table))
}

/// Every name in a statement that could be a table's.
fn mentioned(tokens: &mut Tokens<'_>) -> Vec<TableId> {
    let mut tables = Vec::new();
    while let Some(token) = tokens.peek() {
        let table = if token.is_name() { tokens.table() } else { None };
        match table {
            Some(table) if !tables.contains(&table) => tables.push(table),
            Some(_) => {}
            None => {
                tokens.next();
            }
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Statement {
        classify(text, Session { database: "d", strict: true, lower_case: false })
    }

    fn table(name: &str) -> TableId {
        let (database, name) = name.split_once('.').unwrap_or(("d", name));
        TableId::new(database, name)
    }

    #[test]
    fn statements_are_sorted() {
        let pairs = |pairs: &[(&str, &str)]| {
            Statement::Rename(pairs.iter().map(|(a, b)| (table(a), table(b))).collect())
        };
        let tables = |names: &[&str]| names.iter().map(|name| table(name)).collect::<Vec<_>>();
        let cases = [
            ("BEGIN", Statement::Begin),
            ("start transaction", Statement::Begin),
            ("COMMIT", Statement::Commit),
            ("ROLLBACK", Statement::Rollback),
            ("ROLLBACK TO `s1`", Statement::RollbackTo),
            ("SAVEPOINT `s1`", Statement::Other),
            ("truncate table t", Statement::Truncate(table("t"))),
            ("TRUNCATE `a b`.`c``d` WAIT 5", Statement::Truncate(table("a b.c`d"))),
            ("/* hi */ truncate /*!50000 table */ t -- end", Statement::Truncate(table("t"))),
            ("# x\n-- y\ntruncate t", Statement::Truncate(table("t"))),
            (
                "DROP TABLE `t`,`t2` /* generated by server */",
                Statement::Drop(tables(&["t", "t2"])),
            ),
            ("drop table if exists x.t", Statement::Drop(tables(&["x.t"]))),
            ("DROP TEMPORARY TABLE IF EXISTS t", Statement::Other),
            ("drop index i on t", Statement::Other),
            ("drop database if exists `x`", Statement::DropDatabase("x".into())),
            ("rename table a to b, b to x.c", pairs(&[("a", "b"), ("b", "x.c")])),
            ("RENAME TABLE IF EXISTS a NOWAIT TO b", pairs(&[("a", "b")])),
            ("rename user a to b", Statement::Other),
            ("create table t (a int)", Statement::Create(table("t"))),
            ("create or replace table t (a int)", Statement::Create(table("t"))),
            ("create table if not exists t (a int)", Statement::Other),
            ("create temporary table t (a int)", Statement::Other),
            ("create unique index i on t(a)", Statement::Other),
            ("", Statement::Other),
            ("'", Statement::Other),
            ("`", Statement::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn xa_identities_are_read() {
        let xid = XaId::new(1, b"q2", b"");
        assert_eq!(of("XA COMMIT X'7132',X'',1"), Statement::XaCommit(xid.clone()));
        assert_eq!(of("XA ROLLBACK X'7132',X'',1"), Statement::XaRollback(xid));
        assert_eq!(of("XA END X'7132',X'',1"), Statement::Other);
        assert_eq!(of("XA COMMIT X'7'"), Statement::Other);
    }

    #[test]
    fn rows_changed_by_text_name_their_tables() {
        let named = |text: &str| match of(text) {
            Statement::Changes(tables) => tables,
            other => panic!("{other:?}"),
        };
        assert!(named("insert into t(id) values('x')").contains(&table("t")));
        assert!(named("update a.t1, `t2` set x=1").contains(&table("a.t1")));
        assert!(named("update a.t1, `t2` set x=1").contains(&table("t2")));
        assert!(named("delete from x.y where z = 't'").contains(&table("x.y")));
        assert!(!named("delete from x.y where z = 't'").contains(&table("t")));
    }

    #[test]
    fn lower_case_servers_compare_in_lower_case() {
        let session = Session { database: "D", strict: true, lower_case: true };
        assert_eq!(classify("truncate T", session), Statement::Truncate(table("d.t")));
    }

    #[test]
    fn no_text_can_cause_a_panic() {
        const PIECES: [&str; 30] = [
            "ALTER", "TABLE", "t", "`", "'", "\"", "\\", ",", "(", ")", ".", "ADD", "COLUMN",
            "DROP", "RENAME", "TO", "DEFAULT", "1", "e", "X'", "/*!", "*/", "--", " ", "CHANGE",
            "é", "XA", "COMMIT", "INSERT", "/*",
        ];
        let mut seed = 7u64;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push_str(PIECES[(seed >> 33) as usize % PIECES.len()]);
                text.push_str(if seed >> 63 == 0 { " " } else { "" });
            }
            let _ = of(&text);
        }
    }
}
