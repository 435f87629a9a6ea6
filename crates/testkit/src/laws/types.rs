//! The type law: what the load reads and what the log brings are the server's own text, for six
//! edge values of every type, as a scalar, as an element of an array (where there are arrays), and
//! NULL. The types and values are the source's.

use std::sync::Arc;

use crate::Result;
use crate::dialect::{Dialect, Edge};
use crate::judge::Judge;
use crate::world::{LakeTarget, SourceServer, World};

/// The law.
pub async fn law<S: SourceServer, L: LakeTarget>(source: Arc<S>) -> Result<()> {
    let mut world = World::<S, L>::create(source, "types").await?;
    world.options.rows_per_chunk = 10_000;
    let dialect = world.source.dialect();
    let edges = dialect.edges();
    let mut session = world.session().await?;
    session.run(edges.prepare).await?;
    for (place, edge) in edges.values.iter().enumerate() {
        let table = Table { dialect, place, edge, arrays: edges.arrays };
        session.run(&table.create()).await.map_err(|error| format!("{}: {error}", edge.0))?;
        session.run(&table.rows(0)).await.map_err(|error| format!("{}: {error}", edge.0))?;
    }
    let mut judge = Judge::start().await?;
    world.catch_up().await?;
    world.judge(&mut judge).await.map_err(|error| format!("after the load: {error}"))?;
    for (place, edge) in edges.values.iter().enumerate() {
        let table = Table { dialect, place, edge, arrays: edges.arrays };
        session.run(&table.rows(100)).await?;
        session.run(&table.rotate()).await?;
    }
    world.catch_up().await?;
    let verdict =
        world.judge(&mut judge).await.map_err(|error| format!("after the log: {error}"))?;
    println!(
        "type law, {} -> {}: {} types, {} rows agree",
        world.source.title(),
        L::title(),
        verdict.tables,
        verdict.rows
    );
    world.done().await
}

/// The table of one type.
struct Table<'a> {
    dialect: &'a dyn Dialect,
    place: usize,
    edge: &'a Edge,
    arrays: bool,
}

impl Table<'_> {
    fn create(&self) -> String {
        let (place, kind) = (self.place, self.edge.0);
        let array = if self.arrays { format!(", a {kind}[]") } else { String::new() };
        format!("CREATE TABLE edge_{place} (id int PRIMARY KEY, v {kind} NULL{array})")
    }

    /// Each value alone, beside NULL and all others in an array; then NULLs and an empty array.
    fn rows(&self, from: usize) -> String {
        let (kind, values) = self.edge;
        let said: Vec<String> =
            values.iter().map(|value| self.dialect.literal(kind, value)).collect();
        let all = said.join(", ");
        let insert = |n: usize, value: &str, array: String| {
            let array = if self.arrays { format!(", {array}") } else { String::new() };
            format!("INSERT INTO edge_{} VALUES ({}, {value}{array});", self.place, from + n)
        };
        let each = said.iter().enumerate();
        let each = each.map(|(n, value)| insert(n, value, format!("ARRAY[{value}, NULL, {all}]")));
        let nulls = [
            insert(10, "NULL", "NULL".to_owned()),
            insert(11, "NULL", "'{}'".to_owned()),
            insert(12, "NULL", format!("ARRAY[NULL::{kind}]")),
        ];
        each.chain(nulls).collect()
    }

    /// Updates that bring every value of the first rows to another row, by the log.
    fn rotate(&self) -> String {
        let table = format!("edge_{}", self.place);
        let columns = if self.arrays { ["v", "a"].as_slice() } else { &["v"] };
        let from = |source: &str, place: &str| {
            let set = columns.iter().map(|column| {
                format!("{column} = (SELECT s.{column} FROM {table} s WHERE s.id = {source})")
            });
            let set = set.collect::<Vec<_>>().join(", ");
            format!("UPDATE {table} SET {set} WHERE {place};")
        };
        let rotated = from(&format!("100 + ({table}.id + 1) % 6"), "id < 6");
        let nulled = format!("UPDATE {table} SET v = NULL WHERE id = 100;");
        let emptied = format!("UPDATE {table} SET a = NULL WHERE id = 101;");
        let emptied = if self.arrays { emptied } else { String::new() };
        rotated + &nulled + &emptied + &from("102", "id = 10")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::{self, MariaDb};
    use crate::postgres::Postgres;
    use crate::servers::Version;
    use crate::world::speak;

    async fn are_values<S: SourceServer>(version: S::Version) {
        let server = S::begin(version, &[]).await.unwrap();
        server.create_database("edges").await.unwrap();
        let mut session = speak(&server, "edges").await.unwrap();
        let edges = server.dialect().edges();
        session.run(edges.prepare).await.unwrap();
        for (place, edge) in edges.values.iter().enumerate() {
            let dialect = server.dialect();
            let table = Table { dialect, place, edge, arrays: edges.arrays };
            session.run(&table.create()).await.unwrap();
            session.run(&table.rows(0)).await.unwrap();
            session.run(&table.rows(100)).await.unwrap();
            session.run(&table.rotate()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_edge_values_are_values_on_every_postgres() {
        for version in Version::ALL {
            are_values::<Postgres>(version).await;
        }
    }

    #[tokio::test]
    async fn the_edge_values_are_values_on_every_mariadb() {
        for version in mariadb::Version::ALL {
            are_values::<MariaDb>(version).await;
        }
    }
}
