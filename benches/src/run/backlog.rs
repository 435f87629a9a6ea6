//! A backlog of changes on the large table: made by several writers, and read by those who throw it away.

use std::process::Command;
use std::time::Duration;

use lakeward_testkit::Result;

use crate::measure;
use crate::raw::walsender::{self, Backlog};
use crate::raw::{Taken, binlog};
use crate::world::postgres::{PUBLICATION, copy_slot};
use crate::world::server::DATABASE;
use crate::world::{Bench, Server};

/// Writers at the same time: making a backlog should not take longer than reading it.
pub(crate) const WRITERS: u64 = 4;

/// A slot that raw readers may use up.
const SLOT: &str = "raw";

/// Where a backlog ends, or begins.
pub(crate) enum Place {
    Lsn(u64),
    File(String, u32),
}

/// Writes `steps` times ten changes for each writer, all at the same time, in transactions of 10 to 1,000.
pub(crate) async fn write(server: &Server, rows: u64, first: u64, steps: u64) -> Result<()> {
    let churn = |writer: u64| async move {
        server.execute(&format!("CALL churn({writer}, {WRITERS}, {rows}, {first}, {steps})")).await
    };
    tokio::try_join!(churn(0), churn(1), churn(2), churn(3)).map(|_| ())
}

/// Where the log ends now.
pub(crate) async fn end(server: &Server) -> Result<Place> {
    Ok(match server {
        Server::Postgres(_) => {
            let text = server.text("SELECT pg_current_wal_flush_lsn()").await?;
            Place::Lsn(walsender::parse_lsn(&text).ok_or("not a place of the log")?)
        }
        Server::MariaDb(server) => {
            let rows = server.rows(DATABASE, "SHOW MASTER STATUS").await?;
            let cell = |index: usize| rows.first()?.get(index)?.clone();
            let (Some(file), Some(offset)) = (cell(0), cell(1)) else {
                return Err("the server keeps no log".into());
            };
            Place::File(file, offset.parse()?)
        }
    })
}

/// Reads the backlog with the nap, and what that costs the server. `base` is the slot that stands at its beginning.
pub(crate) async fn read_raw(server: &Server, base: &str, until: u64) -> Result<(Taken, Duration)> {
    let Server::Postgres(postgres) = server else { return Err("not a PostgreSQL".into()) };
    server.forget(SLOT).await?;
    server.execute(&copy_slot(base, SLOT)).await?;
    let before = server.cpu();
    let (port, database, publication) = (postgres.port(), DATABASE, PUBLICATION);
    let backlog = Backlog { port, database, slot: SLOT, publication, until };
    let taken = tokio::task::block_in_place(|| walsender::read(&backlog))?;
    let cpu = server.cpu() - before;
    server.forget(SLOT).await?;
    Ok((taken, cpu))
}

/// Reads the backlog with the server's own client. Returns the wall time.
pub(crate) async fn read_recvlogical(
    bench: &Bench,
    server: &Server,
    base: &str,
    until: u64,
) -> Result<Duration> {
    let Server::Postgres(postgres) = server else { return Err("not a PostgreSQL".into()) };
    server.forget(SLOT).await?;
    server.execute(&copy_slot(base, SLOT)).await?;
    let programs = postgres.programs();
    let mut command = Command::new(programs.bin.join("pg_recvlogical"));
    if let Some(lib) = &programs.lib {
        command.env("LD_LIBRARY_PATH", lib);
    }
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-d", DATABASE, "--no-loop", "--start"]);
    command.args(["-f", "/dev/null", "-S", SLOT, "-o", "proto_version=2", "-o", "streaming=on"]);
    command.args(["-p", &postgres.port().to_string()]);
    command.args(["-o", &format!("publication_names={PUBLICATION}")]);
    command.args(["-E", &format!("{:X}/{:X}", until >> 32, until & 0xFFFF_FFFF)]);
    let log = bench.home.path().join("recvlogical.log");
    let limit = crate::world::RUN_LIMIT;
    let cost = tokio::task::block_in_place(|| measure::run(&mut command, &log, limit))?;
    server.forget(SLOT).await?;
    Ok(cost.wall)
}

/// Reads MariaDB's log from a place to its end.
pub(crate) fn read_binlog(server: &Server, from: &Place, changes: u64) -> Result<Taken> {
    let (Server::MariaDb(maria), Place::File(file, offset)) = (server, from) else {
        return Err("not a MariaDB".into());
    };
    tokio::task::block_in_place(|| binlog::read(maria.port(), file, *offset, changes))
}
