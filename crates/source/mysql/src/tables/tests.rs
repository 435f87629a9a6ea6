//! One memory for log, catalogue and chunks: who is told what, and from when on.
use super::*;
use crate::follow::{Added, AddedDefault};

const TABLE: &str = "t";

fn id() -> TableId {
    TableId::new("shop", TABLE)
}

fn look(names: &[&str]) -> Look {
    let column = |name: &&str| ColumnNow {
        name: (*name).into(),
        kind: Kind::of_declared("int").unwrap(),
        nullable: true,
    };
    Look {
        columns: names.iter().map(column).collect(),
        key: vec!["id".into()],
        ignored: Vec::new(),
    }
}

fn log_columns(names: &[&str]) -> Vec<LogColumn> {
    let column = |(at, name): (usize, &&str)| LogColumn {
        name: Some((*name).into()),
        code: crate::binlog::table_map::code::LONG,
        meta: 0,
        nullable: true,
        unsigned: false,
        collation: 0,
        labels: None,
        in_key: (at == 0).then_some(0),
    };
    names.iter().enumerate().map(column).collect()
}

fn set(text: &str) -> GtidSet {
    GtidSet::parse_mariadb(text).unwrap()
}

fn gtid(sequence: u64) -> Gtid {
    Gtid::MariaDb { domain: 0, server: 1, sequence }
}

fn tables() -> Tables {
    let tables = Tables::new(Unrepresentable::Fail);
    tables.looked(&id(), &look(&["id", "a"]), "0-1-5");
    tables
}

fn names(schema: &TableSchema) -> Vec<(&str, i32)> {
    schema.columns.iter().map(|c| (c.name.as_str(), c.id.0)).collect()
}

fn adds(name: &str) -> Alter {
    let added = Added { name: name.into(), default: AddedDefault::Absent, generated: false };
    Alter { added: vec![added], ..Alter::default() }
}

#[test]
fn what_every_snapshot_has_seen_is_skipped() {
    let tables = tables();
    assert!(tables.skips(&id(), &gtid(5)) && !tables.skips(&id(), &gtid(6)));
    assert!(!tables.skips(&TableId::new("shop", "other"), &gtid(1)));
}

#[test]
fn a_table_that_nobody_looked_at_is_not_followed() {
    let tables = Tables::new(Unrepresentable::Fail);
    let nothing = Charsets::default();
    assert!(tables.mapped(&id(), &log_columns(&["id"]), &nothing, &set("")).is_none());
    assert!(tables.get(&id()).is_none());
}

#[test]
fn a_later_look_keeps_the_identity_until_the_table_is_gone() {
    let tables = tables();
    let before = tables.get(&id()).unwrap();
    let again = tables.looked(&id(), &look(&["id", "a"]), "0-1-9");
    assert_eq!((&again.identity, &again.note), (&before.identity, &before.note));
    assert!(tables.gone(&id()) && !tables.gone(&id()));
    let other = tables.looked(&id(), &look(&["id", "a"]), "0-1-9");
    assert_ne!(other.identity, before.identity);
}

#[test]
fn a_look_that_is_ahead_of_a_rename_is_void_when_the_log_tells_it() {
    let tables = tables();
    let lane = tables.get(&id()).unwrap();
    let ahead = tables.as_looked(&lane, &look(&["id", "b"]));
    assert_eq!(names(&ahead), [("id", 1), ("b", 3)]);
    tables.drifted(&ahead, set("0-1-7"));
    let rename = Alter { renamed: vec![("a".into(), "b".into())], ..Alter::default() };
    let (change, diverged) = tables.altered(&id(), &rename, &set("0-1-6")).unwrap();
    assert_eq!((names(&change.after), diverged), (vec![("id", 1), ("b", 2)], None));
    assert_ne!(change.after.note, lane.note);
    let mapped =
        tables.mapped(&id(), &log_columns(&["id", "b"]), &Charsets::default(), &set("0-1-8"));
    assert!(mapped.unwrap().change.is_none());
}

#[test]
fn an_added_column_has_one_id_whoever_sees_it_first() {
    let tables = tables();
    let (told, _) = tables.altered(&id(), &adds("c"), &set("0-1-6")).unwrap();
    let looked = tables.as_looked(&told.after, &look(&["id", "a", "c"]));
    tables.drifted(&looked, set("0-1-7"));
    let none = Charsets::default();
    let mapped =
        tables.mapped(&id(), &log_columns(&["id", "a", "c"]), &none, &set("0-1-9")).unwrap();
    assert_eq!(mapped.schema, looked);
    assert_eq!(names(&looked), [("id", 1), ("a", 2), ("c", 3)]);
    assert!(mapped.diverged.is_none());
    let slots: Vec<_> = mapped.slots.iter().map(|slot| slot.as_ref().map(|s| s.0)).collect();
    assert_eq!(slots, [Some(0), Some(1), Some(2)]);
}

#[test]
fn what_a_look_showed_is_kept_through_the_next_alter() {
    let tables = tables();
    let (told, _) = tables.altered(&id(), &adds("c"), &set("0-1-6")).unwrap();
    tables.drifted(&tables.as_looked(&told.after, &look(&["id", "a", "c"])), set("0-1-8"));
    let (change, diverged) = tables.altered(&id(), &adds("d"), &set("0-1-9")).unwrap();
    assert_eq!(names(&change.after), [("id", 1), ("a", 2), ("c", 3)]);
    assert_eq!(diverged, None);
}

#[test]
fn a_renamed_table_is_forgotten_under_both_names() {
    let tables = tables();
    let other = TableId::new("shop", "other");
    tables.looked(&other, &look(&["id"]), "0-1-5");
    let change = tables.renamed(&id(), &other).unwrap();
    assert_eq!((&change.before.table, &change.after.table), (&id(), &other));
    assert_eq!(change.before.identity, change.after.identity);
    assert!(tables.get(&id()).is_none() && tables.get(&other).is_none());
}

#[test]
fn a_seeded_table_goes_on_where_it_was() {
    let tables = tables();
    let known = tables.get(&id()).unwrap();
    let next = Tables::new(Unrepresentable::Fail);
    next.seed(&[Arc::clone(&known)]);
    assert!(next.skips(&id(), &gtid(5)));
    assert_eq!(next.looked(&id(), &look(&["id", "a"]), "0-1-9"), known);
    assert_eq!(next.database_gone("shop", &gtid(5)), []);
    assert_eq!(next.database_gone("shop", &gtid(10)), [id()]);
}
