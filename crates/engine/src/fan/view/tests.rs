//! What a view passes over, and the schemas with which it goes on.
use std::time::UNIX_EPOCH;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::DataType;
use lakeward_core::{Op, Run, TransactionEnd};

use super::*;

fn at(n: u8) -> Position {
    Position { at: [n].into(), resume: [n].into() }
}

fn covers(through: &Position, other: &Position) -> Coverage {
    if other.at <= through.at { Coverage::Covered } else { Coverage::After }
}

/// A table with as many columns as its version says.
fn version(n: i32) -> Arc<TableSchema> {
    let column = |id: i32| Column {
        id: ColumnId(id),
        name: format!("c{id}"),
        data_type: DataType::Int64,
        declared: "bigint".into(),
        nullable: true,
    };
    let columns = (1..=n).map(column).collect();
    let name = TableId::new("public", "t");
    Arc::new(TableSchema::new(name, TableIdentity("1".into()), columns, vec![0], String::new()))
}

fn info(id: u8, open: bool) -> Arc<TransactionInfo> {
    let end = TransactionEnd { position: at(id), committed_at: UNIX_EPOCH };
    let transaction = TransactionRef { id: TransactionId(id.into()), part: None };
    Arc::new(TransactionInfo { transaction, end: (!open).then_some(end) })
}

/// One row of each transaction.
fn rows(schema: &Arc<TableSchema>, transactions: &[u8], open: bool) -> SourceEvent {
    let cells = |_| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(transactions.iter().map(|t| i64::from(*t))))
    };
    let columns = schema.columns.iter().map(cells).collect();
    SourceEvent::Rows(ChangeBatch {
        schema: Arc::clone(schema),
        ops: vec![Op::Insert; transactions.len()],
        rows: RecordBatch::try_new(schema.arrow(), columns).unwrap(),
        before: None,
        absent: None,
        origin: None,
        runs: transactions.iter().map(|t| Run { rows: 1, transaction: info(*t, open) }).collect(),
    })
}

fn commit(id: u8) -> SourceEvent {
    let end = TransactionEnd { position: at(id), committed_at: UNIX_EPOCH };
    SourceEvent::Commit { transaction: TransactionId(id.into()), end }
}

fn change(before: i32, after: i32, open: Option<u8>) -> SourceEvent {
    let after = version(after);
    let constant: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    SourceEvent::Schema(SchemaChange {
        before: version(before),
        fill: after.columns.iter().map(|_| Fill::Constant(Arc::clone(&constant))).collect(),
        after,
        transaction: open.map(|id| TransactionRef { id: TransactionId(id.into()), part: None }),
    })
}

/// The view's answers in words.
fn told(view: &mut View, events: impl IntoIterator<Item = SourceEvent>) -> Vec<String> {
    let out = events.into_iter().flat_map(|event| view.offer(event, &covers)).collect::<Vec<_>>();
    out.iter().map(words).collect()
}

fn words(event: &SourceEvent) -> String {
    match event {
        SourceEvent::Rows(batch) => {
            let ids: Vec<_> = batch.runs.iter().map(|r| r.transaction.transaction.id.0).collect();
            format!("rows of {ids:?} with {} columns", batch.schema.columns.len())
        }
        SourceEvent::Schema(c) => {
            let (before, after) = (c.before.columns.len(), c.after.columns.len());
            let known = c.fill.iter().skip(before).all(|f| matches!(f, Fill::Constant(_)));
            format!("{before} to {after} columns{}", if known { "" } else { ", fill unknown" })
        }
        SourceEvent::Commit { transaction, .. } => format!("commit {}", transaction.0),
        SourceEvent::Abort(aborted) => format!("abort {}", aborted.id.0),
        SourceEvent::Idle { position } => format!("idle {position}"),
        SourceEvent::Truncate { .. } => "truncate".into(),
        SourceEvent::Diverged { .. } => "diverged".into(),
    }
}

#[test]
fn what_the_sink_has_is_passed_over() {
    let mut view = View::new(at(5), &[version(1)]);
    let log = [
        rows(&version(1), &[4], false),
        commit(4),
        SourceEvent::Idle { position: at(5) },
        rows(&version(1), &[5, 6], false),
        commit(6),
        rows(&version(1), &[7], false),
        commit(7),
    ];
    assert_eq!(
        told(&mut view, log),
        ["rows of [6] with 1 columns", "commit 6", "rows of [7] with 1 columns", "commit 7"]
    );
    assert_eq!(view.through(), &at(7));
}

#[test]
fn an_open_transaction_is_handed_on_and_taken_back_when_the_sink_has_it() {
    let mut view = View::new(at(5), &[version(1)]);
    let log = [
        rows(&version(1), &[3], true),
        rows(&version(1), &[8], true),
        commit(3),
        rows(&version(1), &[8], true),
        commit(8),
    ];
    let part = "rows of [8] with 1 columns";
    assert_eq!(
        told(&mut view, log),
        ["rows of [3] with 1 columns", part, "abort 3", part, "commit 8"]
    );
}

#[test]
fn a_rewind_gives_open_transactions_up_and_goes_on_where_the_sink_stands() {
    let mut view = View::new(at(1), &[version(1)]);
    let log = [rows(&version(1), &[9], true), rows(&version(1), &[2], false)];
    told(&mut view, log);
    assert!(!view.at_boundary());
    told(&mut view, [commit(2)]);
    assert!(view.at_boundary());
    assert_eq!(view.rewind().iter().map(words).collect::<Vec<_>>(), ["abort 9"]);
    let again =
        [rows(&version(1), &[2], false), commit(2), rows(&version(1), &[9], true), commit(9)];
    assert_eq!(told(&mut view, again), ["rows of [9] with 1 columns", "commit 9"]);
}

#[test]
fn schema_changes_that_the_sink_has_do_not_come_again() {
    let mut view = View::new(at(5), &[version(3)]);
    let log = [
        rows(&version(1), &[3], false),
        change(1, 2, None),
        commit(4),
        change(2, 3, None),
        rows(&version(3), &[5, 6], false),
        commit(6),
        change(3, 4, None),
        rows(&version(4), &[7], false),
    ];
    assert_eq!(
        told(&mut view, log),
        ["rows of [6] with 3 columns", "commit 6", "3 to 4 columns", "rows of [7] with 4 columns"]
    );
}

#[test]
fn a_change_between_two_transactions_comes_before_the_rows_that_need_it() {
    let mut view = View::new(at(5), &[version(1)]);
    let log = [change(1, 2, None), rows(&version(2), &[6], false), commit(6)];
    assert_eq!(told(&mut view, log), ["1 to 2 columns", "rows of [6] with 2 columns", "commit 6"]);
}

#[test]
fn rows_under_a_schema_that_nobody_announced_to_the_sink_bring_it_along() {
    let mut view = View::new(at(5), &[version(1)]);
    let log = [change(1, 2, None), commit(5), rows(&version(3), &[6], false)];
    assert_eq!(
        told(&mut view, log),
        ["1 to 3 columns, fill unknown", "rows of [6] with 3 columns"]
    );
    let mut view = View::new(at(5), &[version(1)]);
    let log = [change(1, 2, None), commit(5), rows(&version(2), &[6], false)];
    assert_eq!(told(&mut view, log), ["1 to 2 columns", "rows of [6] with 2 columns"]);
}

#[test]
fn the_schema_of_an_open_transaction_becomes_the_tables_with_its_commit() {
    let mut view = View::new(at(5), &[version(1)]);
    let log = [
        change(1, 2, Some(7)),
        rows(&version(2), &[7], true),
        rows(&version(1), &[6], false),
        commit(6),
        commit(7),
        rows(&version(2), &[8], false),
    ];
    assert_eq!(
        told(&mut view, log),
        [
            "1 to 2 columns",
            "rows of [7] with 2 columns",
            "rows of [6] with 1 columns",
            "commit 6",
            "commit 7",
            "rows of [8] with 2 columns"
        ]
    );
    let log = [change(2, 3, Some(9)), SourceEvent::Abort(whole(TransactionId(9)))];
    assert_eq!(told(&mut view, log), ["2 to 3 columns", "abort 9"]);
    assert_eq!(told(&mut view, [rows(&version(2), &[10], false)]), ["rows of [10] with 2 columns"]);
}

#[test]
fn a_divergence_is_told_unless_the_sink_has_dealt_with_it() {
    let diverged = || {
        let table = TableId::new("public", "t");
        SourceEvent::Diverged { table, why: Divergence::Rewritten }
    };
    let mut view = View::new(at(5), &[version(1)]);
    let log = [diverged(), commit(5), diverged(), commit(6), diverged()];
    assert_eq!(told(&mut view, log), ["diverged", "commit 6", "diverged"]);
}

#[test]
fn column_ids_that_the_sink_knows_under_other_names_are_not_believed() {
    let mut renamed = version(2).as_ref().clone();
    renamed.columns[1].name = "other".into();
    let TableSchema { table, identity, columns, key, note, .. } = renamed;
    let renamed = Arc::new(TableSchema::new(table, identity, columns, key, note));
    let mut view = View::new(at(5), &[Arc::clone(&renamed)]);
    let log = [rows(&version(1), &[4], false), change(1, 2, None), rows(&version(2), &[6], false)];
    assert_eq!(told(&mut view, log), ["2 to 2 columns", "diverged", "rows of [6] with 2 columns"]);
    // A rename that the log itself tells is one.
    let mut view = View::new(at(1), &[version(2)]);
    let change = SchemaChange {
        before: version(2),
        after: renamed,
        fill: vec![Fill::Null, Fill::Null],
        transaction: None,
    };
    let log = [rows(&version(2), &[2], false), commit(2), SourceEvent::Schema(change)];
    assert_eq!(told(&mut view, log).last().unwrap(), "2 to 2 columns");
}
