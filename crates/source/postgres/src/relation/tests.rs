//! Tables of what was told, what the log says, what the catalogue says, and the answer.
use arrow_schema::DataType;
use lakeward_core::{Column, TableIdentity};

use super::change::rewrites_nothing;
use super::*;
use crate::decode::RelationColumn;
use crate::types::Transfer;

const INT: u32 = 23;
const TEXT: u32 = 25;

fn pg_type(oid: u32) -> PgType {
    let (declared, data_type) = match oid {
        INT => ("integer", DataType::Int32),
        20 => ("bigint", DataType::Int64),
        _ => ("text", DataType::Utf8),
    };
    PgType {
        declared: declared.into(),
        data_type,
        transfer: Transfer::Text,
        as_text: false,
        ordered: true,
    }
}

/// `-` stands for a dropped attribute; `a:t` is text, `a` an integer, `a:b` a bigint.
fn typed(text: &str) -> (&str, u32) {
    match text.split_once(':') {
        Some((name, "t")) => (name, TEXT),
        Some((name, _)) => (name, 20),
        None => (text, INT),
    }
}

fn now(attributes: &str) -> Described {
    let attribute = |(index, text): (usize, &str)| {
        let (name, oid) = typed(text);
        let dropped = name == "-";
        Attribute {
            number: index as i16 + 1,
            name: name.into(),
            type_oid: if dropped { 0 } else { oid },
            type_modifier: -1,
            pg_type: (!dropped).then(|| pg_type(oid)),
            not_null: false,
            has_default: false,
            dropped,
            generated: false,
            has_missing: false,
            missing: None,
            xmin: 5,
        }
    };
    Described {
        oid: 7,
        table: TableId::new("public", "t"),
        file_node: 7,
        replica_identity: 'd',
        attributes: attributes.split(' ').enumerate().map(attribute).collect(),
        key: vec![1],
    }
}

fn relation(columns: &str) -> RelationMessage {
    let column = |(index, text): (usize, &str)| {
        let (name, type_oid) = typed(text);
        RelationColumn { key: index == 0, name: name.into(), type_oid, typmod: -1 }
    };
    RelationMessage {
        relid: 7,
        namespace: "public".into(),
        name: "t".into(),
        identity: b'd',
        columns: columns.split(' ').enumerate().map(column).collect(),
    }
}

/// `1=id 3=c:t`
fn told(columns: &str) -> TableSchema {
    let column = |text: &str| {
        let (number, name) = text.split_once('=').unwrap();
        let (name, oid) = typed(name);
        let pg_type = pg_type(oid);
        Column {
            id: ColumnId(number.parse().unwrap()),
            name: name.into(),
            data_type: pg_type.data_type,
            declared: pg_type.declared,
            nullable: true,
        }
    };
    let note = serde_json::to_string(&Note { file_node: 7, ..Note::default() }).unwrap();
    let columns = columns.split(' ').map(column).collect();
    TableSchema::new(TableId::new("public", "t"), TableIdentity("7".into()), columns, vec![0], note)
}

/// `1,3 changed`, with `?` where nobody can say, `-` for a column that is not followed.
fn answer(
    told_columns: &str,
    relation_columns: &str,
    attributes: &str,
    unseen_ddl: bool,
) -> String {
    let (relation, now) = (relation(relation_columns), now(attributes));
    let told = (!told_columns.is_empty()).then(|| told(told_columns));
    let types: Vec<_> = relation.columns.iter().map(|c| pg_type(c.type_oid)).collect();
    let known = Known {
        told: told.as_ref(),
        relation: &relation,
        types: &types,
        now: &now,
        told_may_be_newer: true,
        unseen_ddl,
    };
    let resolved = resolve(known);
    let number = |slot: &Option<u32>| match slot {
        Some(slot) => resolved.schema.columns[*slot as usize].id.0.to_string(),
        None => "-".to_owned(),
    };
    let numbers: Vec<_> = resolved.slots.iter().map(number).collect();
    let step = match resolved.step {
        Step::First => "first",
        Step::Same => "same",
        Step::Behind => "behind",
        Step::Changed(_) => "changed",
    };
    let doubt = match resolved.diverged {
        Some(Divergence::SchemaUnknown) => " ?",
        Some(_) => " !",
        None => "",
    };
    format!("{} {step}{doubt}", numbers.join(","))
}

#[test]
fn columns_find_their_numbers() {
    let table = [
        // told, the log, the catalogue, the answer
        ("", "id a", "id a", "1,2 first"),
        ("1=id 2=a", "id a", "id a", "1,2 same"),
        // Renamed, swapped, named later.
        ("1=id 2=a", "id b", "id b", "1,2 changed"),
        ("1=id 2=a 3=b", "id b a", "id b a", "1,2,3 changed"),
        ("1=id 2=a 3=b", "id a b", "id b a", "1,2,3 same"),
        ("1=id 2=a", "id b", "id c", "1,2 changed"),
        // Added, dropped.
        ("1=id 2=a", "id a c", "id a c", "1,2,3 changed"),
        ("1=id 2=a", "id a", "id a c", "1,2 same"),
        ("1=id 2=a 3=b", "id b", "id - b", "1,3 changed"),
        ("1=id 2=a 3=b", "id a b", "id - b", "1,2,3 same"),
        ("1=id 3=b", "id b", "id - b", "1,3 same"),
        // Dropped and added again: another type says which, the same type does not.
        ("1=id 2=a", "id a:t", "id - a:t", "1,3 changed"),
        ("1=id 2=a", "id a", "id - a:t", "1,2 same"),
        ("1=id 2=a", "id a", "id - a", "1,3 changed ?"),
        ("1=id 3=a", "id a", "id - a", "1,3 same"),
        ("1=id 2=a 3=b", "id a b", "id - b a", "1,2,3 same"),
        ("1=id 2=a 3=b", "id b a", "id - b a", "1,3,4 changed"),
        // Dropped, another added.
        ("1=id 2=a", "id c", "id - c", "1,3 changed"),
        ("1=id 2=a", "id a", "id - c", "1,2 same"),
        // Came and went between: not followed.
        ("1=id 2=a", "id a x:t", "id a -", "1,2,- same"),
        // A rewrite by type.
        ("1=id 2=a", "id a:b", "id a:b", "1,2 changed !"),
        // What was told is newer.
        ("1=id 2=a 3=c", "id a", "id a c", "1,2 behind"),
        ("1=id 3=c", "id a", "id - c", "1,- behind ?"),
        ("1=id 3=c", "id a:t", "id - c", "1,- behind"),
        ("1=id 2=a:b", "id a", "id a:b", "1,2 behind"),
    ];
    for (told, log, catalogue, expected) in table {
        let got = answer(told, log, catalogue, false);
        assert_eq!(got, expected, "told [{told}], log [{log}], catalogue [{catalogue}]");
    }
}

#[test]
fn an_open_transactions_own_ddl_is_guessed() {
    let table = [
        ("1=id 2=a", "id a c", "id a", "1,2,3 changed"),
        ("1=id 2=a", "id b", "id a", "1,2 changed ?"),
        ("1=id 2=a 3=b:t", "id a", "id a b:t", "1,2 changed"),
        ("1=id 2=a", "id a", "id a", "1,2 same"),
    ];
    for (told, log, catalogue, expected) in table {
        let got = answer(told, log, catalogue, true);
        assert_eq!(got, expected, "told [{told}], log [{log}], catalogue [{catalogue}]");
    }
}

#[test]
fn more_columns_than_the_catalogue_has_are_doubtful() {
    assert_eq!(answer("1=id", "id a", "id", false), "1,2 changed ?");
}

#[test]
fn only_harmless_type_changes_rewrite_nothing() {
    let table = [
        ("character varying(5)", "character varying(9)", true),
        ("character varying(9)", "character varying(5)", false),
        ("character varying(9)", "text", true),
        ("text", "character varying", true),
        ("text", "character varying(9)", false),
        ("numeric(8,2)", "numeric(12,2)", true),
        ("numeric(8,2)", "numeric(12,3)", false),
        ("numeric(8,2)", "numeric", true),
        ("integer", "bigint", false),
    ];
    for (from, to, harmless) in table {
        assert_eq!(rewrites_nothing(from, to), harmless, "{from} -> {to}");
    }
}
