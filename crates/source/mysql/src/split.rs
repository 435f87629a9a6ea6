//! Cutting a keyed table into ranges of its key, each of about as many rows as asked for.
//!
//! Whatever the bounds are, the ranges cover every key: the first begins below all, the last ends above all, and each
//! begins where the one before ended. Bounds only decide how even the chunks are.
use std::sync::Arc;

use lakeward_core::{Chunk, Column, ColumnId, KeyText, Result, TableSchema};

use crate::catalog::{self, Described, cell};
use crate::connect::sql_error;
use crate::key::{KeySql, key_texts};
use crate::quote;
use crate::rows::Rows;
use crate::types::{Kind, Unrepresentable};
use crate::wire::Conn;

/// An integer key is dense when at least one in this many of its values is taken.
const DENSE: f64 = 2.0;

/// Cuts a table. One without a key is one whole.
pub(crate) async fn split(
    session: &mut Conn,
    described: &Described,
    rows_per_chunk: u64,
) -> Result<Vec<Chunk>> {
    let Some(key) = KeySql::of(described) else { return Ok(vec![Chunk::Whole]) };
    let rows_per_chunk = rows_per_chunk.max(1);
    let bounds = match even_steps(session, described, &key, rows_per_chunk).await? {
        Some(bounds) => bounds,
        None => walk(session, described, &key, rows_per_chunk).await?,
    };
    Ok(ranges(bounds))
}

fn ranges(bounds: Vec<KeyText>) -> Vec<Chunk> {
    let mut from = None;
    let mut chunks = Vec::with_capacity(bounds.len() + 1);
    for to in bounds {
        chunks.push(Chunk::Range { from: from.take(), to: Some(to.clone()) });
        from = Some(to);
    }
    chunks.push(Chunk::Range { from, to: None });
    chunks
}

/// For a dense integer key, bounds without reading the table. Keys are unique, so a chunk never holds more rows than
/// its range is wide.
async fn even_steps(
    session: &mut Conn,
    described: &Described,
    key: &KeySql,
    rows_per_chunk: u64,
) -> Result<Option<Vec<KeyText>>> {
    let Some((name, Kind::Integer { .. })) = key.single() else { return Ok(None) };
    let name = quote::ident(name);
    let sql = format!(
        "SELECT CAST(MIN({name}) AS DECIMAL(20)), CAST(MAX({name}) AS DECIMAL(20)), \
           (SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}) \
           FROM {}",
        quote::text(&described.table.namespace),
        quote::text(&described.table.name),
        quote::table(&described.table),
    );
    let row = catalog::row(session, &sql).await?;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i128>().ok());
    let (Some(least), Some(greatest)) = (number(cell(&row, 0)?), number(cell(&row, 1)?)) else {
        return Ok(Some(Vec::new()));
    };
    let rows: Option<u64> = cell(&row, 2)?;
    Ok(steps(least, greatest, rows.unwrap_or(0) as f64, rows_per_chunk))
}

fn steps(least: i128, greatest: i128, rows: f64, rows_per_chunk: u64) -> Option<Vec<KeyText>> {
    let width = greatest - least + 1;
    if width <= i128::from(rows_per_chunk) {
        return Some(Vec::new());
    }
    if rows < 1.0 || width as f64 > rows * DENSE {
        return None;
    }
    let step = (rows_per_chunk as f64 * (width as f64 / rows).max(1.0)) as usize;
    let first = least + step as i128 - 1;
    Some((first..greatest).step_by(step.max(1)).map(|bound| vec![bound.to_string()]).collect())
}

/// Every n-th key, in the order of the index, each looked for from the one before.
async fn walk(
    session: &mut Conn,
    described: &Described,
    key: &KeySql,
    rows: u64,
) -> Result<Vec<KeyText>> {
    let schema = Arc::new(key_schema(described));
    let mut bounds: Vec<KeyText> = Vec::new();
    loop {
        let above = bounds.last().map(|last| key.above(last)).transpose()?;
        let sql = format!(
            "SELECT {order} FROM {table} t WHERE {above} ORDER BY {order} LIMIT 1 OFFSET {skip}",
            order = key.order(),
            table = quote::table(&described.table),
            above = above.as_deref().unwrap_or("TRUE"),
            skip = rows - 1,
        );
        // A key is never NULL by policy: two would become one.
        let mut keys = Rows::new(Arc::clone(&schema), Unrepresentable::Text)?;
        let mut found = session.binary(&sql).await.map_err(sql_error)?;
        while let Some(row) = found.next().await.map_err(sql_error)? {
            keys.push(&row)?;
        }
        match keys.take()? {
            Some(batch) => bounds.extend(key_texts(&schema, &batch)?),
            None => return Ok(bounds),
        }
    }
}

/// The key's columns alone, as a table.
fn key_schema(described: &Described) -> TableSchema {
    let column = |(at, name): (usize, &String)| {
        let (column, kind) = described.followed().find(|(c, _)| c.name == *name)?;
        Some(Column {
            id: ColumnId(at as i32 + 1),
            name: column.name.clone(),
            data_type: kind.data_type(Unrepresentable::Text),
            declared: kind.to_string(),
            nullable: false,
        })
    };
    let columns: Vec<Column> = described.key.iter().enumerate().filter_map(column).collect();
    let key = (0..columns.len() as u32).collect();
    let identity = lakeward_core::TableIdentity(String::new());
    TableSchema::new(described.table.clone(), identity, columns, key, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_integers_are_cut_evenly() {
        let numbers = |steps: Option<Vec<KeyText>>| {
            steps.map(|s| s.into_iter().map(|k| k[0].parse::<i64>().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(numbers(steps(1, 10, 10.0, 4)), Some(vec![4, 8]));
        assert_eq!(numbers(steps(1, 8, 8.0, 4)), Some(vec![4]));
        assert_eq!(numbers(steps(1, 20, 10.0, 4)), Some(vec![8, 16]));
        assert_eq!(numbers(steps(5, 5, 0.0, 4)), Some(vec![]));
        assert_eq!(steps(1, 1000, 10.0, 4), None);
        assert_eq!(steps(0, i128::from(u64::MAX), 1e9, 4), None);
        assert_eq!(steps(1, 10, 0.0, 4), None);
    }

    #[test]
    fn ranges_join_without_a_gap() {
        let bound = |n: &str| vec![n.to_owned()];
        let chunks = ranges(vec![bound("a"), bound("b")]);
        let range = |from: Option<&str>, to: Option<&str>| Chunk::Range {
            from: from.map(bound),
            to: to.map(bound),
        };
        let expected =
            vec![range(None, Some("a")), range(Some("a"), Some("b")), range(Some("b"), None)];
        assert_eq!(chunks, expected);
        assert_eq!(ranges(vec![]), vec![range(None, None)]);
    }
}
