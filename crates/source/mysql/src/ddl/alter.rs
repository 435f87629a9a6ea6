//! `ALTER TABLE`, specification by specification.
use super::AlterTable;
use super::token::{Token, Tokens};
use crate::follow::{Added, AddedDefault, Alter};

/// Reads what follows `ALTER`; `None` when it is no table.
pub(super) fn alter(tokens: &mut Tokens<'_>) -> Option<AlterTable> {
    tokens.word("ONLINE");
    // Rows that a new unique key forbids are deleted, and nobody is told.
    let ignores = tokens.word("IGNORE");
    if !tokens.word("TABLE") {
        return None;
    }
    tokens.if_exists();
    let table = tokens.table()?;
    tokens.wait();
    let alter =
        Alter { renamed: Vec::new(), dropped: Vec::new(), added: Vec::new(), rewritten: ignores };
    let mut of = AlterTable { table, alter, renamed_to: None, exchanged: None };
    while let Some(mut part) = tokens.part() {
        specification(&mut part, &mut of);
    }
    Some(of)
}

fn specification(part: &mut Tokens<'_>, of: &mut AlterTable) -> Option<()> {
    let Some(Token::Word(verb)) = part.next() else { return None };
    match verb.to_ascii_uppercase().as_str() {
        "ADD" => add(part, &mut of.alter),
        "DROP" => dropped(part, &mut of.alter),
        "CHANGE" => {
            column_keyword(part);
            let (from, to) = (part.column()?, part.column()?);
            if from != to {
                of.alter.renamed.push((from, to));
            }
            of.alter.rewritten |= !part.session().strict;
            Some(())
        }
        "MODIFY" => {
            of.alter.rewritten |= !part.session().strict;
            Some(())
        }
        "RENAME" => rename(part, of),
        "CONVERT" => {
            of.alter.rewritten = true;
            Some(())
        }
        "IMPORT" | "DISCARD" | "TRUNCATE" => {
            of.alter.rewritten = true;
            Some(())
        }
        "EXCHANGE" => {
            of.alter.rewritten = true;
            let mut rest = part.skip_while(|token| !token.is("TABLE"));
            rest.next();
            of.exchanged = part.table();
            Some(())
        }
        _ => None,
    }
}

/// `COLUMN IF [NOT] EXISTS`, each if it is there.
fn column_keyword(part: &mut Tokens<'_>) {
    if part.peek().is_some_and(|token| token.is("COLUMN")) {
        part.next();
    }
    part.if_exists();
}

fn add(part: &mut Tokens<'_>, alter: &mut Alter) -> Option<()> {
    if !part.peek().is_some_and(|token| token.is("COLUMN")) && adds_no_column(part) {
        alter.rewritten |= part.word("SYSTEM");
        return None;
    }
    column_keyword(part);
    match part.bracketed() {
        Some(mut columns) => {
            while let Some(mut column) = columns.part() {
                if !adds_no_column(&column) {
                    alter.added.extend(added(&mut column));
                }
            }
        }
        None => alter.added.extend(added(part)),
    }
    Some(())
}

/// Whether the next piece is a keyword that says what is added instead of a column.
fn adds_no_column(part: &Tokens<'_>) -> bool {
    const OTHERS: [&str; 11] = [
        "INDEX",
        "KEY",
        "FULLTEXT",
        "SPATIAL",
        "UNIQUE",
        "PRIMARY",
        "CONSTRAINT",
        "FOREIGN",
        "CHECK",
        "PARTITION",
        "PERIOD",
    ];
    let Some(token) = part.peek() else { return true };
    let second = |keywords: [&str; 2]| {
        part.peek_second().is_some_and(|token| keywords.iter().any(|k| token.is(k)))
    };
    OTHERS.iter().any(|keyword| token.is(keyword))
        || (token.is("VECTOR") && second(["INDEX", "KEY"]))
        || (token.is("SYSTEM") && second(["VERSIONING", "VERSIONING"]))
}

fn added(column: &mut Tokens<'_>) -> Option<Added> {
    let name = column.column()?;
    let mut of = Added { name, default: AddedDefault::Absent, generated: false };
    let mut depth = 0usize;
    while let Some(token) = column.next() {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            _ if token.is("DEFAULT") => of.default = default(column),
            _ if token.is("AUTO_INCREMENT") || token.is("SERIAL") => {
                of.default = AddedDefault::Other;
            }
            _ if token.is("AS") || token.is("GENERATED") => of.generated = true,
            _ if token.is("COMMENT") => {
                column.next();
            }
            _ => {}
        }
    }
    Some(of)
}

/// What follows `DEFAULT`.
fn default(column: &mut Tokens<'_>) -> AddedDefault {
    let mut ahead = column.clone();
    let value = match ahead.next() {
        Some(Token::Text(text, quote)) => AddedDefault::Literal(unescaped(text, quote)),
        Some(Token::Sign(sign @ ('-' | '+'))) => match ahead.next() {
            Some(Token::Word(number)) if is_number(number) => {
                let sign = if sign == '-' { "-" } else { "" };
                AddedDefault::Literal(format!("{sign}{number}"))
            }
            _ => AddedDefault::Other,
        },
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("NULL") => AddedDefault::Null,
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("TRUE") => {
            AddedDefault::Literal("1".into())
        }
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("FALSE") => {
            AddedDefault::Literal("0".into())
        }
        Some(Token::Word(word)) if is_number(word) => AddedDefault::Literal(word.to_owned()),
        _ => AddedDefault::Other,
    };
    if matches!(value, AddedDefault::Other) {
        return value;
    }
    // What goes on behind a value is an expression: an exponent, a second string, an operator.
    let goes_on = match ahead.peek() {
        None | Some(Token::Word(_) | Token::Name(_)) => false,
        Some(_) => true,
    };
    *column = ahead;
    if goes_on { AddedDefault::Other } else { value }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A string as the server reads it.
fn unescaped(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c == quote {
            characters.next();
            out.push(quote);
        } else if c == '\\' {
            match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some('b') => out.push('\u{8}'),
                Some('Z') => out.push('\u{1a}'),
                Some(kept @ ('%' | '_')) => out.extend(['\\', kept]),
                Some(other) => out.push(other),
                None => {}
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn dropped(part: &mut Tokens<'_>, alter: &mut Alter) -> Option<()> {
    const OTHERS: [&str; 7] =
        ["INDEX", "KEY", "PRIMARY", "FOREIGN", "CONSTRAINT", "CHECK", "PERIOD"];
    let token = part.peek()?;
    if token.is("PARTITION") {
        alter.rewritten = true;
        return Some(());
    }
    let system = token.is("SYSTEM") && part.peek_second().is_some_and(|t| t.is("VERSIONING"));
    if OTHERS.iter().any(|keyword| token.is(keyword)) || system {
        alter.rewritten |= system;
        return None;
    }
    column_keyword(part);
    alter.dropped.push(part.column()?);
    Some(())
}

fn rename(part: &mut Tokens<'_>, of: &mut AlterTable) -> Option<()> {
    if part.word("COLUMN") {
        part.if_exists();
        let from = part.column()?;
        if !part.word("TO") {
            return None;
        }
        of.alter.renamed.push((from, part.column()?));
        return Some(());
    }
    let is_index = part.peek().is_some_and(|token| token.is("INDEX") || token.is("KEY"));
    if is_index && !matches!(part.peek_second(), None | Some(Token::Sign(_))) {
        return None;
    }
    if !part.word("TO") && !part.word("AS") {
        part.punct('=');
    }
    of.renamed_to = Some(part.table()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{Session, Statement, classify};
    use super::*;

    fn of(text: &str) -> AlterTable {
        of_session(text, true)
    }

    fn of_session(text: &str, strict: bool) -> AlterTable {
        match classify(text, Session { database: "d", strict, lower_case: false }) {
            Statement::Alter(of) => of,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn column(name: &str, default: AddedDefault) -> Added {
        Added { name: name.into(), default, generated: false }
    }

    #[test]
    fn columns_move_come_and_go() {
        let all =
            of("alter online table if exists `x`.t rename column a to `b c`, change d e int, \
                      change column f f bigint comment 'a, b', drop g, drop column if exists `h`, \
                      drop primary key, drop index i, add index j (k), rename index l to m");
        assert_eq!(all.table, lakeward_core::TableId::new("x", "t"));
        let renamed = [("a", "b c"), ("d", "e")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(all.alter.renamed, renamed);
        assert_eq!(all.alter.dropped, ["g", "h"]);
        assert_eq!(all.alter.added, []);
        assert!(!all.alter.rewritten);
        assert_eq!(all.renamed_to, None);
    }

    #[test]
    fn added_columns_tell_their_default() {
        use AddedDefault::{Absent, Literal, Null, Other};
        let literal = |text: &str| Literal(text.into());
        let cases = [
            ("add c int", Absent),
            ("add column c int not null", Absent),
            ("add c int default 7 after b", literal("7")),
            ("add if not exists c int default -7", literal("-7")),
            ("add c decimal(10,2) not null default 1.50", literal("1.50")),
            ("add c varchar(9) default 'it''s \\'x\\' \\n' first", literal("it's 'x' \n")),
            ("add c int default null comment 'default 5'", Null),
            ("add c int comment 'default 5'", Absent),
            ("add c bool default true", literal("1")),
            ("add c datetime default current_timestamp() on update now()", Other),
            ("add c int default (1 + 1)", Other),
            ("add c double default 1e-5", Other),
            ("add c int auto_increment", Other),
            ("add c bit(3) default b'101'", Other),
            ("add c varchar(10) default 'a' check (c <> 'default')", literal("a")),
            ("add c enum('default','b') default 'b'", literal("b")),
        ];
        for (text, default) in cases {
            let of = of(&format!("alter table t {text}"));
            assert_eq!(of.alter.added, [column("c", default)], "{text}");
        }
        let several = of("alter table t add (a int default 1, b char(2), key (a)), add d int");
        let names: Vec<_> = several.alter.added.iter().map(|added| added.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "d"]);
        let generated = of("alter table t add c int as (a + 1) stored");
        assert!(generated.alter.added[0].generated);
    }

    #[test]
    fn what_is_no_column_is_passed_over() {
        for text in [
            "add unique key (a)",
            "add constraint `x` foreign key (a) references b(c)",
            "add fulltext (a)",
            "add check (a > 1)",
            "add partition (partition p1 values less than (5))",
            "engine=InnoDB row_format=dynamic",
            "alter column a set default 5",
            "comment='x, add column y int'",
            "force",
            "auto_increment=7",
        ] {
            let of = of(&format!("alter table t {text}"));
            let empty = of.alter.added.is_empty() && of.alter.dropped.is_empty();
            assert!(empty && of.alter.renamed.is_empty() && !of.alter.rewritten, "{text}");
        }
    }

    #[test]
    fn rows_that_change_unsent_are_noticed() {
        for text in [
            "alter table t truncate partition p0",
            "alter table t drop partition p0, p1",
            "alter table t import tablespace",
            "alter table t convert to character set latin1",
            "alter ignore table t add unique (a)",
            "alter table t add system versioning",
        ] {
            assert!(of(text).alter.rewritten, "{text}");
        }
        assert!(!of("alter table t modify a smallint").alter.rewritten);
        assert!(of_session("alter table t modify a smallint", false).alter.rewritten);
        let exchange = of("alter table t exchange partition p0 with table x.u");
        assert_eq!(exchange.exchanged, Some(lakeward_core::TableId::new("x", "u")));
        assert!(exchange.alter.rewritten);
    }

    #[test]
    fn a_table_may_be_renamed() {
        for text in ["rename to u", "rename u", "rename as u", "rename = u", "add c int, rename u"]
        {
            let of = of(&format!("alter table t {text}"));
            assert_eq!(of.renamed_to, Some(lakeward_core::TableId::new("d", "u")), "{text}");
        }
    }
}
