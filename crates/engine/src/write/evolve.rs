//! What a pipeline does with a changed schema. Pure.
use std::sync::Arc;

use lakeward_core::{Column, Error, ErrorKind, Fill, Result, SchemaChange, TableSchema};

use crate::spec::SchemaBehaviour;

/// What the lake's table is asked to become.
#[derive(Debug)]
pub enum Answer {
    /// The change, perhaps with less in it.
    Apply(SchemaChange),
    /// Nothing: the table keeps its columns, the rows are fitted by column id.
    Keep,
}

/// Decides by the pipeline's behaviour.
///
/// # Errors
/// `Unsupported` under `exception`, naming the table.
pub fn answer(
    behaviour: SchemaBehaviour,
    change: &SchemaChange,
    lake: &TableSchema,
) -> Result<Answer> {
    if change.after.version == lake.version {
        return Ok(Answer::Keep);
    }
    match behaviour {
        SchemaBehaviour::Evolve | SchemaBehaviour::TryEvolve => Ok(Answer::Apply(change.clone())),
        SchemaBehaviour::Lenient => Ok(Answer::Apply(keep_dropped(change, lake))),
        SchemaBehaviour::Ignore => Ok(Answer::Keep),
        SchemaBehaviour::Exception => Err(Error::new(
            ErrorKind::Unsupported,
            "the table's columns changed at the source",
        )
        .with("table", &change.after.table)
        .remedied(
            "set `pipeline.schema_change: evolve`, or `lakeward resync` the table after the change",
        )),
    }
}

/// The change without drops and renames: the lake's own columns stay, under their own names.
fn keep_dropped(change: &SchemaChange, lake: &TableSchema) -> SchemaChange {
    let mut columns: Vec<Column> = Vec::new();
    let mut fill = Vec::new();
    for (column, how) in change.after.columns.iter().zip(&change.fill) {
        let name = match lake.column(column.id) {
            Some((_, old)) => old.name.clone(),
            None => column.name.clone(),
        };
        columns.push(Column { name, ..column.clone() });
        fill.push(how.clone());
    }
    for old in &lake.columns {
        if change.after.column(old.id).is_none() {
            columns.push(Column { nullable: true, ..old.clone() });
            fill.push(Fill::Null);
        }
    }
    let after = TableSchema::new(
        change.after.table.clone(),
        change.after.identity.clone(),
        columns,
        change.after.key.clone(),
        change.after.note.clone(),
    );
    SchemaChange {
        before: Arc::clone(&change.before),
        after: Arc::new(after),
        fill,
        transaction: change.transaction,
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;
    use lakeward_core::{ColumnId, TableId, TableIdentity};

    use super::*;

    fn schema(columns: &[(i32, &str)]) -> Arc<TableSchema> {
        let columns = columns
            .iter()
            .map(|(id, name)| Column {
                id: ColumnId(*id),
                name: (*name).into(),
                data_type: DataType::Int64,
                declared: "bigint".into(),
                nullable: true,
            })
            .collect();
        let identity = TableIdentity("1".into());
        Arc::new(TableSchema::new(
            TableId::new("public", "t"),
            identity,
            columns,
            vec![0],
            String::new(),
        ))
    }

    #[test]
    fn lenient_neither_drops_nor_renames() {
        let before = schema(&[(1, "id"), (2, "a"), (3, "b")]);
        let after = schema(&[(1, "id"), (2, "renamed"), (4, "new")]);
        let change = SchemaChange {
            before: Arc::clone(&before),
            after,
            fill: vec![Fill::Null, Fill::Null, Fill::Null],
            transaction: None,
        };
        let Answer::Apply(kept) = answer(SchemaBehaviour::Lenient, &change, &before).unwrap()
        else {
            panic!("a column came");
        };
        let names: Vec<_> = kept.after.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["id", "a", "new", "b"]);
        assert!(answer(SchemaBehaviour::Exception, &change, &before).is_err());
        assert!(matches!(answer(SchemaBehaviour::Ignore, &change, &before).unwrap(), Answer::Keep));
    }
}
