//! Cutting a keyed table into ranges of its key, each of about as many rows as asked for.
//!
//! Whatever the bounds are, the ranges cover every key: the first begins below all, the last ends above all, and each
//! begins where the one before ended. Bounds only decide how even the chunks are.
use lakeward_core::{Chunk, KeyText, Result};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::catalog::{Described, cell};
use crate::connect::sql_error;
use crate::key::KeySql;
use crate::quote;

/// Up to this size the key's index is walked, which gives even chunks; reading it takes seconds.
const WALKED_BYTES_MAX: i64 = 1 << 30;

/// A sample holds about this many rows per chunk: enough that chunks differ by some ten per cent.
const SAMPLED_ROWS_PER_CHUNK: f64 = 100.0;

/// An integer key is dense when at least one in this many of its values is taken.
const DENSE: f64 = 2.0;

/// Cuts a table. One without a key is one whole.
pub(crate) async fn split(
    client: &Client,
    described: &Described,
    rows_per_chunk: u64,
) -> Result<Vec<Chunk>> {
    let Some(key) = KeySql::of(described) else { return Ok(vec![Chunk::Whole]) };
    let rows_per_chunk = rows_per_chunk.max(1);
    let table = quote::table(&described.table);
    let size = size(client, described.oid).await?;
    if let Some(bounds) = even_steps(client, described, &table, &size, rows_per_chunk).await? {
        return Ok(ranges(bounds));
    }
    let bounds = if size.bytes <= WALKED_BYTES_MAX {
        walk(client, &table, &key, rows_per_chunk).await?
    } else {
        sample(client, &table, &key, &size, rows_per_chunk).await?
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

struct Size {
    bytes: i64,
    /// The planner's estimate; below 0 when it never looked.
    rows: f64,
}

async fn size(client: &Client, oid: u32) -> Result<Size> {
    let sql = "SELECT coalesce(pg_relation_size(oid), 0) AS bytes, reltuples::float8 AS rows \
               FROM pg_class WHERE oid = $1";
    let row = client.query_opt(sql, &[&oid]).await.map_err(sql_error)?;
    match row {
        Some(row) => Ok(Size { bytes: cell(&row, "bytes")?, rows: cell(&row, "rows")? }),
        None => Ok(Size { bytes: 0, rows: 0.0 }),
    }
}

/// For a dense integer key, bounds without reading the table. Keys are unique, so a chunk never holds more rows than
/// its range is wide.
async fn even_steps(
    client: &Client,
    described: &Described,
    table: &str,
    size: &Size,
    rows_per_chunk: u64,
) -> Result<Option<Vec<KeyText>>> {
    let [number] = described.key[..] else { return Ok(None) };
    let Some(column) = described.attribute(number) else { return Ok(None) };
    let declared = column.pg_type.as_ref().map_or("", |t| t.declared.as_str());
    if !matches!(declared, "smallint" | "integer" | "bigint") {
        return Ok(None);
    }
    let name = quote::ident(&column.name);
    let sql = format!("SELECT min({name})::int8, max({name})::int8 FROM ONLY {table}");
    let row = client.query_one(&sql, &[]).await.map_err(sql_error)?;
    let (Some(least), Some(greatest)) = (cell(&row, 0)?, cell(&row, 1)?) else {
        return Ok(Some(Vec::new()));
    };
    Ok(steps(least, greatest, size.rows, rows_per_chunk))
}

fn steps(least: i64, greatest: i64, rows: f64, rows_per_chunk: u64) -> Option<Vec<KeyText>> {
    let width = i128::from(greatest) - i128::from(least) + 1;
    if rows < 1.0 || width as f64 > rows * DENSE {
        return None;
    }
    let step = (rows_per_chunk as f64 * (width as f64 / rows).max(1.0)) as usize;
    let first = i128::from(least) + step as i128 - 1;
    let bounds = (first..i128::from(greatest)).step_by(step.max(1));
    Some(bounds.map(|bound| vec![bound.to_string()]).collect())
}

/// Every n-th key, in the order of the index.
async fn walk(client: &Client, table: &str, key: &KeySql, rows: u64) -> Result<Vec<KeyText>> {
    let mut bounds: Vec<KeyText> = Vec::new();
    loop {
        let above = bounds.last().map(|last| key.above(last)).transpose()?;
        let sql = format!(
            "SELECT {texts} FROM ONLY {table} t WHERE {above} ORDER BY {order} OFFSET {skip} LIMIT 1",
            texts = key.texts(),
            above = above.as_deref().unwrap_or("true"),
            order = key.order(),
            skip = rows - 1,
        );
        match keys(client, &sql, key.len()).await?.pop() {
            Some(bound) => bounds.push(bound),
            None => return Ok(bounds),
        }
    }
}

/// Quantiles of the keys on some of the table's pages.
async fn sample(
    client: &Client,
    table: &str,
    key: &KeySql,
    size: &Size,
    rows_per_chunk: u64,
) -> Result<Vec<KeyText>> {
    let (percent, every) = sampling(size, rows_per_chunk);
    let sql = format!(
        "SELECT {names} FROM (SELECT {texts}, row_number() OVER (ORDER BY {order}) AS place \
           FROM ONLY {table} t TABLESAMPLE SYSTEM ({percent})) s WHERE place % {every} = 0 ORDER BY place",
        names = (0..key.len()).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", "),
        texts = key.texts(),
        order = key.order(),
    );
    keys(client, &sql, key.len()).await
}

/// Per cent of the pages to read, and how many sampled rows make a chunk.
fn sampling(size: &Size, rows_per_chunk: u64) -> (f64, u64) {
    // Without an estimate, a row is taken to be of 100 bytes.
    let rows = if size.rows >= 1.0 { size.rows } else { (size.bytes as f64 / 100.0).max(1.0) };
    let chunks = (rows / rows_per_chunk as f64).max(1.0);
    let percent = (chunks * SAMPLED_ROWS_PER_CHUNK / rows * 100.0).clamp(0.01, 100.0);
    let every = (rows_per_chunk as f64 * percent / 100.0).max(1.0) as u64;
    (percent, every)
}

/// Keys as the server's text; all values of a simple query come so.
async fn keys(client: &Client, sql: &str, columns: usize) -> Result<Vec<KeyText>> {
    let messages = client.simple_query(sql).await.map_err(sql_error)?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let key = |row: &tokio_postgres::SimpleQueryRow| {
        (0..columns).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()
    };
    Ok(rows.map(key).collect())
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
        assert_eq!(numbers(steps(5, 5, 1.0, 4)), Some(vec![]));
        assert_eq!(steps(1, 1000, 10.0, 4), None);
        assert_eq!(steps(i64::MIN, i64::MAX, 1e9, 4), None);
        assert_eq!(steps(1, 10, -1.0, 4), None);
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

    #[test]
    fn a_sample_aims_at_the_asked_size() {
        let size = Size { bytes: 10 << 30, rows: 1e8 };
        let (percent, every) = sampling(&size, 50_000);
        assert!((percent - 0.2).abs() < 1e-9 && every == 100, "{percent} {every}");
        assert_eq!(sampling(&Size { bytes: 0, rows: -1.0 }, 50_000), (100.0, 50_000));
    }

    /// Tables large enough to be sampled are too large for a test, so the sample is asked for directly.
    #[tokio::test(flavor = "multi_thread")]
    async fn sampled_bounds_are_real_keys_in_order() {
        use lakeward_testkit::{postgres::Postgres, servers::Version};
        let server = Postgres::start(Version::V15).await.unwrap();
        let ddl = "CREATE TABLE t (k0 text, k1 int, PRIMARY KEY (k1, k0)); \
                   INSERT INTO t SELECT md5(i::text), i % 7 FROM generate_series(1, 20000) i; ANALYZE";
        server.execute(ddl).await.unwrap();
        let client = server.connect().await.unwrap();
        let settings = crate::config::settings_with(serde_json::json!({"port": server.port()}));
        let catalog = crate::catalog::Catalog::new(settings);
        let oid: u32 = client.query_one("SELECT 't'::regclass::oid", &[]).await.unwrap().get(0);
        let described = catalog.describe(oid).await.unwrap().unwrap();
        let key = KeySql::of(&described).unwrap();
        let size = Size { bytes: 1 << 31, rows: 20_000.0 };
        let bounds = sample(&client, "public.t", &key, &size, 1000).await.unwrap();
        assert!((10..=30).contains(&bounds.len()), "{}", bounds.len());
        let mut rows = Vec::new();
        for chunk in ranges(bounds) {
            let condition = crate::key::condition(&chunk, Some(&key)).unwrap();
            let sql = format!("SELECT count(*) FROM t WHERE {condition}");
            let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            rows.push(count);
        }
        assert_eq!(rows.iter().sum::<i64>(), 20_000);
        assert!(rows.iter().all(|count| *count < 4000), "{rows:?}");
    }
}
