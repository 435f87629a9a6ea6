//! A real server with the bench's tables on it, whichever product it is. The languages are in `postgres` and `maria`.

use std::time::Duration;

use lakeward_testkit::Result;
use lakeward_testkit::mariadb::{self, MariaDb};
use lakeward_testkit::postgres::Postgres;
use lakeward_testkit::servers::Version;

use super::{maria, postgres};
use crate::measure::tree_cpu;
use crate::raw::{self, Taken};

/// The database that holds the bench's tables.
pub(crate) const DATABASE: &str = "bench";

/// A table of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Six columns: bigint key, two integers, an amount, a time, a text of 20.
    Narrow,
    /// Nineteen columns as of a taxi ride, most of them numbers.
    Taxi,
    /// A hundred and twenty columns, with texts and JSON.
    Wide,
}

impl Shape {
    /// The table's name.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Narrow => "narrow",
            Self::Taxi => "taxi",
            Self::Wide => "wide",
        }
    }
}

/// Several columns of one kind: how many, the beginning of their names, their type, and the value that a salt makes.
pub(crate) type Columns<'a> = (usize, &'a str, &'a str, &'a dyn Fn(u32) -> String);

/// Which server is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    Postgres(Version),
    MariaDb(mariadb::Version),
}

impl Product {
    /// As `--source` names it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "postgres" | "postgres-18" => Self::Postgres(Version::V18),
            "postgres-15" => Self::Postgres(Version::V15),
            "mysql" | "mariadb-11.8" => Self::MariaDb(mariadb::Version::V11_8),
            "mariadb-10.11" => Self::MariaDb(mariadb::Version::V10_11),
            _ => return None,
        })
    }
}

/// A running server.
pub(crate) enum Server {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Server {
    /// Starts one with settings as of a small production server, without syncing.
    pub(crate) async fn start(product: Product) -> Result<Self> {
        let server = match product {
            Product::Postgres(version) => {
                Self::Postgres(Postgres::start_with(version, postgres::SETTINGS).await?)
            }
            Product::MariaDb(version) => {
                Self::MariaDb(MariaDb::start_with(version, maria::SETTINGS).await?)
            }
        };
        server.administer(&format!("CREATE DATABASE {DATABASE}")).await?;
        Ok(server)
    }

    async fn administer(&self, sql: &str) -> Result<()> {
        match self {
            Self::Postgres(server) => server.execute(sql).await,
            Self::MariaDb(server) => server.execute(sql).await,
        }
    }

    /// Runs statements in the bench's database.
    pub(crate) async fn execute(&self, sql: &str) -> Result<()> {
        match self {
            Self::Postgres(server) => server.execute_in(DATABASE, sql).await,
            Self::MariaDb(server) => server.execute_in(DATABASE, sql).await,
        }
    }

    /// The only cell of a query's answer.
    pub(crate) async fn text(&self, sql: &str) -> Result<String> {
        let answer = match self {
            Self::Postgres(server) => server.text(DATABASE, sql).await?,
            Self::MariaDb(server) => server.text(DATABASE, sql).await?,
        };
        answer.ok_or_else(|| format!("no answer to {sql}").into())
    }

    /// CPU time of all its processes so far.
    pub(crate) fn cpu(&self) -> Duration {
        let pid = match self {
            Self::Postgres(server) => server.pid(),
            Self::MariaDb(server) => server.pid(),
        };
        pid.map_or(Duration::ZERO, tree_cpu)
    }

    /// Makes a table and fills it, and what changes it later.
    pub(crate) async fn fill(&self, shape: Shape, rows: u64) -> Result<()> {
        let statements = match self {
            Self::Postgres(_) => postgres::fill(shape, rows),
            Self::MariaDb(_) => maria::fill(shape, rows),
        };
        for statement in statements {
            self.execute(&statement).await?;
        }
        Ok(())
    }

    /// The tables' lines in a pipeline file.
    pub(crate) fn source_lines(&self, pipeline: &str, tables: &str) -> Vec<String> {
        match self {
            Self::Postgres(server) => postgres::source_lines(server.port(), pipeline, tables),
            Self::MariaDb(server) => maria::source_lines(server.port(), tables),
        }
    }

    /// Reads a whole table and throws it away.
    pub(crate) fn read_raw(&self, shape: Shape) -> Result<Taken> {
        tokio::task::block_in_place(|| match self {
            Self::Postgres(server) => raw::copy::read(server.port(), DATABASE, shape.table()),
            Self::MariaDb(server) => {
                raw::mysql::read(server.port(), &format!("{DATABASE}.{}", shape.table()))
            }
        })
    }

    /// Removes what a pipeline left on the server.
    pub(crate) async fn forget(&self, pipeline: &str) -> Result<()> {
        match self {
            Self::Postgres(server) => {
                server.execute_in(DATABASE, &postgres::drop_slot(pipeline)).await
            }
            Self::MariaDb(_) => Ok(()),
        }
    }
}
