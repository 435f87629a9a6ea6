//! The source's language. The laws and workloads speak the small SQL that all servers share, and
//! `$word(…)` for what each server spells in its own way; a [`Dialect`] spells the words and says
//! what its server can do. It runs nothing.
//!
//! | word | is |
//! |---|---|
//! | `$series(a, b)` | rows with one column `i`, from a to b |
//! | `$instant`, `$double`, `$key_text`, `$list` | types: a moment, a double, a text that can be a key, several texts |
//! | `$instant_at(ms)` | a moment, some milliseconds after a fixed one |
//! | `$large(i, n)` | a text of 32 times n bytes that depends on i |
//! | `$beside_large` | the connection leaves large values out of the log where they did not change |
//! | `$out_of_line(t, c)`, `$whole_rows(t)` | settings of a table, where the server has them |
//! | `$delete_some(t, where, n)`, `$update_some(t, set, where, n)` | only n of the rows |
//! | `$retype(t, c, type)` | another type, no value changes |
//! | `$rewrite(t, c)` | another type of a whole number; values of 200 and more change |
//! | `$add_computed(t, c)` | a new column with a different value in each row |
//! | `$swap_columns(t, a, b)`, `$swap_tables(a, b)` | names, at once |
//! | `$begin_open`, `$commit_open` | a transaction whose rows come to the log before its end |
//! | `$begin_prepared`, `$prepare`, `$commit_prepared`, `$rollback_prepared` | a transaction in two phases |
//! | `$rotate_log`, `$lose_log` | a new file of the log; the log that the pipeline still needs is gone |
//! | `$log_end`, `$kept_from`, `$kept_past(at)`, `$confirmed_at`, `$confirmed_past(at)` | queries where a server keeps its log: its end, what it keeps, what was confirmed |
//! | `$end_log_readers` | ends the connections that read this database's log |
//! | `$hold_commits`, `$release_commits`, `$apply_settings` | commits that are in the log wait; a setting takes effect |
//! | `$commits_held` | a query, true while one commit waits |
//! | `$uuid(text)`, `$negative_zero` | values |
//! | `$as_statement` | from now on the connection's changes are logged as statements |
//! | `$grant_log(user)`, `$forget_user(user)` | a user that may read the log, and no table |

pub mod mariadb;
pub mod postgres;

use crate::workload::shop::Shop;
use crate::{Result, fail};

/// What a server may have, which some laws need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Definitions change inside transactions, and are rolled back with them.
    TransactionalDdl,
    /// Commits can be made to wait when the log already has them.
    HoldsCommits,
    /// Transactions in two phases.
    PreparesTransactions,
    /// Changes can be logged as statements.
    LogsStatements,
    /// The server keeps its log until it is confirmed.
    KeepsLog,
    /// The log can be taken from a pipeline without its server.
    LosesLog,
}

/// Types and their edge values, as the server reads them.
pub struct Edges {
    /// Statements before the tables.
    pub prepare: &'static str,
    /// A type and six of its values each.
    pub values: &'static [Edge],
    /// True if every type has arrays, which get the same values.
    pub arrays: bool,
}

/// A type and six of its edge values.
pub type Edge = (&'static str, [&'static str; 6]);

/// How one server spells what the laws say.
pub trait Dialect: Send + Sync {
    /// True if the server has it. A law that needs it says so when it is absent.
    fn has(&self, ability: Ability) -> bool;

    /// Spells a word for a database; `None` if the server has nothing like it.
    fn spell(&self, database: &str, word: &str, args: &[&str]) -> Option<String>;

    /// What a session runs first. A writer waits for a lock for some seconds only.
    fn prelude(&self) -> &'static str;

    /// True if a transaction lost: a deadlock, or a lock that did not come in time.
    fn lost_a_lock(&self, error: &str) -> bool;

    /// The shop.
    fn shop(&self) -> &'static Shop;

    /// The edge values of types.
    fn edges(&self) -> Edges;

    /// A literal of a type.
    fn literal(&self, kind: &str, value: &str) -> String;
}

/// Spells every `$word` and `$word(…)` of a text.
pub fn spell(dialect: &dyn Dialect, database: &str, text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let end =
            after.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(after.len());
        let (word, tail) = after.split_at(end);
        if word.is_empty() {
            out.push('$');
            rest = tail;
            continue;
        }
        let (args, tail) = arguments(tail)?;
        let Some(spelled) = dialect.spell(database, word, &args) else {
            fail!("this server has no ${word} of {} parts", args.len());
        };
        out.push_str(&spell(dialect, database, &spelled)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// The parts in the parentheses that a text begins with, if it does, and what follows them.
fn arguments(text: &str) -> Result<(Vec<&str>, &str)> {
    if !text.starts_with('(') {
        return Ok((Vec::new(), text));
    }
    let (mut depth, mut quoted, mut begin) = (0, false, 1);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ',' if depth == 1 => {
                parts.push(text[begin..at].trim());
                begin = at + 1;
            }
            ')' if depth == 1 => {
                parts.push(text[begin..at].trim());
                return Ok((parts, &text[at + 1..]));
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    fail!("a word's parentheses do not close: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::MariaDb;
    use crate::postgres::Postgres;
    use crate::servers;
    use crate::world::{SourceServer, speak};

    /// One statement after the other; none may be refused.
    const SAID: &[&str] = &[
        "CREATE TABLE a (id int PRIMARY KEY, v int, w $double, x $instant NULL, y $list, z text)",
        "INSERT INTO a SELECT i, i, $negative_zero, $instant_at(i), NULL, $large(i, 2) FROM $series(1, 300)",
        "CREATE TABLE b (k $key_text PRIMARY KEY, v int); $out_of_line(b, k); $whole_rows(b)",
        "$delete_some(a, id > 5, 3); $update_some(a, w = 1, id > 5, 3)",
        "$rewrite(a, v); INSERT INTO a (id, v) VALUES (1000, 5000000000)",
        "$add_computed(a, more); $swap_columns(a, w, v); $swap_tables(a, b)",
        "CREATE TABLE c (id int PRIMARY KEY, v varchar(3)); $retype(c, v, varchar(9))",
        "$begin_open; INSERT INTO c VALUES (1, 'a'); $commit_open",
        "$rotate_log",
        "$end_log_readers",
    ];

    async fn understands<S: SourceServer>(version: S::Version) {
        let server = S::begin(version, &[]).await.unwrap();
        server.create_database("words").await.unwrap();
        let mut session = speak(&server, "words").await.unwrap();
        for said in SAID {
            session.run(said).await.unwrap();
        }
        session.run("$begin_prepared; INSERT INTO c VALUES (2, 'b'); $prepare").await.unwrap();
        drop(session);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let mut session = speak(&server, "words").await.unwrap();
        session.run("$commit_prepared").await.unwrap();
        session.run("$lose_log").await.unwrap();
        let rows = server.query("words", "SELECT count(*) FROM c").await.unwrap();
        assert_eq!(rows, [[Some("2".to_owned())]]);
    }

    #[tokio::test]
    async fn postgres_understands_every_word() {
        understands::<Postgres>(servers::Version::V18).await;
    }

    #[tokio::test]
    async fn mariadb_understands_every_word_and_its_log_can_be_lost() {
        understands::<MariaDb>(crate::mariadb::Version::V11_8).await;
        let server = MariaDb::start(crate::mariadb::Version::V10_11).await.unwrap();
        let mut session = speak(&server, "mysql").await.unwrap();
        session
            .run("CREATE DATABASE d; CREATE TABLE d.t (a int); INSERT INTO d.t VALUES (1)")
            .await
            .unwrap();
        session.run("$lose_log").await.unwrap();
        assert_eq!(server.rows("mysql", "SHOW BINARY LOGS").await.unwrap().len(), 1);
    }

    #[test]
    fn words_are_spelled_wherever_they_stand() {
        let said = "INSERT INTO t SELECT i, f('a, (', $large(i + (1), 2)) FROM $series(1, 9) s;$rotate_log";
        let postgres = spell(&postgres::Spoken, "d", said).unwrap();
        assert!(postgres.starts_with("INSERT INTO t SELECT i, f('a, (', (SELECT"), "{postgres}");
        assert!(
            postgres.contains("FROM generate_series(1, 9) i s;SELECT pg_switch_wal()"),
            "{postgres}"
        );
        let mariadb = spell(&mariadb::Spoken, "d", "$delete_some(t, a IN (1, 2), 5)").unwrap();
        assert_eq!(mariadb, "DELETE FROM t WHERE a IN (1, 2) LIMIT 5");
        assert!(spell(&mariadb::Spoken, "d", "$nonsense(1)").is_err());
    }
}
