//! What schemas become: ids that stay, fills of new columns, changes that the log did not carry.
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;

use super::*;

fn now(name: &str, declared: &str) -> ColumnNow {
    ColumnNow { name: name.into(), kind: Kind::of_declared(declared).unwrap(), nullable: true }
}

fn look(columns: &[(&str, &str)]) -> Look {
    Look {
        columns: columns.iter().map(|(name, declared)| now(name, declared)).collect(),
        key: vec!["id".into()],
        ignored: Vec::new(),
    }
}

fn told(columns: &[(&str, &str)]) -> TableSchema {
    let (table, identity) = (TableId::new("shop", "t"), TableIdentity("i".into()));
    first(table, identity, &look(columns), "0-1-5".into(), Unrepresentable::Fail)
}

fn ids(schema: &TableSchema) -> Vec<(&str, i32)> {
    schema.columns.iter().map(|c| (c.name.as_str(), c.id.0)).collect()
}

fn alter(change: impl FnOnce(&mut Alter)) -> Alter {
    let mut alter = Alter::default();
    change(&mut alter);
    alter
}

fn added(name: &str, default: AddedDefault) -> Added {
    Added { name: name.into(), default, generated: false }
}

fn follow_look(told: &TableSchema, columns: &[(&str, &str)]) -> TableSchema {
    follow(told, &look(columns), Unrepresentable::Fail)
}

#[test]
fn the_same_columns_are_the_same_schema() {
    let told = told(&[("id", "int"), ("a", "text")]);
    assert_eq!(follow_look(&told, &[("id", "int"), ("a", "text")]), told);
    assert_eq!((ids(&told), told.key.clone()), (vec![("id", 1), ("a", 2)], vec![0]));
}

#[test]
fn a_rename_moves_the_id_and_loses_nothing() {
    let before = Arc::new(told(&[("id", "int"), ("a", "text")]));
    let rename = alter(|a| a.renamed = vec![("A".into(), "b".into())]);
    let after = Arc::new(altered(&before, &rename));
    assert_eq!(ids(&after), [("id", 1), ("b", 2)]);
    let (change, diverged) = change(&before, Arc::clone(&after));
    assert_eq!((change.fill.len(), diverged), (2, None));
    assert_eq!(follow_look(&after, &[("id", "int"), ("b", "text")]), *after);
}

#[test]
fn two_columns_swap_their_names() {
    let before = told(&[("id", "int"), ("a", "int"), ("b", "int")]);
    let swap = alter(|x| x.renamed = vec![("a".into(), "b".into()), ("b".into(), "a".into())]);
    assert_eq!(ids(&altered(&before, &swap)), [("id", 1), ("b", 2), ("a", 3)]);
}

#[test]
fn a_dropped_columns_id_is_never_given_again() {
    let before = told(&[("id", "int"), ("a", "int")]);
    let again = alter(|x| {
        x.dropped = vec!["a".into()];
        x.added = vec![added("a", AddedDefault::Absent)];
    });
    let between = altered(&before, &again);
    assert_eq!(ids(&between), [("id", 1)]);
    let after = follow_look(&between, &[("id", "int"), ("a", "int")]);
    assert_eq!(ids(&after), [("id", 1), ("a", 3)]);
    let without = altered(&after, &alter(|x| x.dropped = vec!["a".into()]));
    let later = follow_look(&without, &[("id", "int"), ("c", "int")]);
    assert_eq!(ids(&later), [("id", 1), ("c", 4)]);
}

#[test]
fn a_new_columns_default_fills_old_rows() {
    let before = Arc::new(told(&[("id", "int")]));
    let cases = [
        (AddedDefault::Absent, "int", None),
        (AddedDefault::Null, "int", None),
        (AddedDefault::Literal("7".into()), "int", Some(7)),
    ];
    for (default, declared, expected) in cases {
        let between = altered(&before, &alter(|x| x.added = vec![added("c", default)]));
        let after = Arc::new(follow_look(&between, &[("id", "int"), ("c", declared)]));
        let (change, diverged) = change(&before, after);
        assert_eq!(diverged, None);
        match (&change.fill[1], expected) {
            (Fill::Null, None) => {}
            (Fill::Constant(array), Some(value)) => {
                assert_eq!(array.as_primitive::<Int32Type>().value(0), value);
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_column_that_nobody_announced_has_diverged() {
    let before = Arc::new(told(&[("id", "int")]));
    let after = Arc::new(follow_look(&before, &[("id", "int"), ("c", "int")]));
    let (unannounced, diverged) = change(&before, after);
    assert!(matches!(unannounced.fill[1], Fill::Unknown));
    assert_eq!(diverged, Some(Divergence::Rewritten));
    let other = alter(|x| x.added = vec![added("c", AddedDefault::Other)]);
    let counted = follow_look(&altered(&before, &other), &[("id", "int"), ("c", "int")]);
    assert_eq!(change(&before, Arc::new(counted)).1, Some(Divergence::Rewritten));
}

#[test]
fn widening_keeps_rows_and_anything_else_rewrites_them() {
    let before = Arc::new(told(&[("id", "int"), ("a", "varchar(5)")]));
    let becomes = |columns: &[(&str, &str)]| {
        let after = follow_look(&before, columns);
        assert_eq!(ids(&after), [("id", 1), ("a", 2)]);
        change(&before, Arc::new(after)).1
    };
    assert_eq!(becomes(&[("id", "bigint"), ("a", "varchar(9)")]), None);
    assert_eq!(becomes(&[("id", "int"), ("a", "varchar(4)")]), Some(Divergence::Rewritten));
    assert_eq!(becomes(&[("id", "int"), ("a", "int")]), Some(Divergence::Rewritten));
}

#[test]
fn a_column_of_a_key_stays_until_the_log_shows_the_new_key() {
    let before = told(&[("id", "int"), ("a", "int")]);
    let without = altered(&before, &alter(|x| x.dropped = vec!["id".into()]));
    assert_eq!(ids(&without), [("id", 1), ("a", 2)]);
    assert_eq!(without.key, [0]);
}

#[test]
fn columns_that_are_not_followed_are_remembered() {
    let before = told(&[("id", "int")]);
    let generated = Added { name: "g".into(), default: AddedDefault::Absent, generated: true };
    let after = altered(&before, &alter(|x| x.added = vec![generated]));
    assert_eq!(Note::of(&after).ignored, ["g"]);
    let renamed = altered(&after, &alter(|x| x.renamed = vec![("g".into(), "h".into())]));
    assert_eq!(Note::of(&renamed).ignored, ["h"]);
    assert_eq!(Note::of(&renamed).alters, 2);
}

#[test]
fn a_literal_that_the_server_would_convert_is_not_guessed() {
    let fill_of = |declared: &str, text: &str| {
        let before = Arc::new(told(&[("id", "int")]));
        let new = added("c", AddedDefault::Literal(text.into()));
        let between = altered(&before, &alter(|x| x.added = vec![new]));
        let after = follow_look(&between, &[("id", "int"), ("c", declared)]);
        change(&before, Arc::new(after)).0.fill.remove(1)
    };
    for (declared, text) in [
        ("timestamp", "2024-01-01 00:00:00"),
        ("int", "7.5"),
        ("enum('a')", "A"),
        ("datetime", "2024-01-01 00:00:00.5"),
        ("decimal(5,2)", "1.005"),
        ("bit(1)", "1"),
    ] {
        assert!(matches!(fill_of(declared, text), Fill::Unknown), "{declared} {text}");
    }
    let Fill::Constant(trimmed) = fill_of("char(5)", "ab  ") else { panic!("a literal") };
    assert_eq!(trimmed.as_string::<i32>().value(0), "ab");
    assert!(matches!(fill_of("enum('a')", "a"), Fill::Constant(_)));
}
