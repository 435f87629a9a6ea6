//! Lets the server note from where its log can be reopened, so that a slot releases what lies before.
//!
//! By itself a server writes such a note (`xl_running_xacts`) every 15 s, and a slot releases up to the note before the
//! last one. From version 16 on one can be asked for; before, the making of a logical slot writes one at its beginning,
//! whatever becomes of the slot. Positions and confirmation are not decided here.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lakeward_core::Result;
use tokio::sync::Mutex;

use crate::catalog::cell;
use crate::connect::{Session, sql_error};
use crate::quote;
use crate::snapshot::Snapshots;

/// A note costs a few hundred bytes of log; more often gives readers nothing.
const EVERY: Duration = Duration::from_secs(4);

/// A slot under construction waits for transactions that run. The note is written before that.
const SLOT_TIMEOUT: &str = "200ms";

/// The notes of one pipeline.
#[derive(Debug, Default)]
pub(crate) struct RestartPoints {
    noted_at: Mutex<Option<Instant>>,
    given_up: AtomicBool,
}

impl RestartPoints {
    /// Has a note written, if the last one is old enough and the user may ask. A server that refuses is not asked again.
    pub(crate) async fn note(&self, snapshots: &Snapshots, slot: &str) {
        let Ok(mut noted_at) = self.noted_at.try_lock() else { return };
        if self.given_up.load(Ordering::Relaxed) || noted_at.is_some_and(|at| at.elapsed() < EVERY)
        {
            return;
        }
        *noted_at = Some(Instant::now());
        if let Err(error) = ask(snapshots, slot).await {
            // The server's own notes do, more slowly.
            tracing::debug!(%error, "the server notes no restart point for us");
            self.given_up.store(true, Ordering::Relaxed);
        }
    }
}

async fn ask(snapshots: &Snapshots, slot: &str) -> Result<()> {
    let session = snapshots.session().await?;
    let sql = "SELECT to_regprocedure('pg_log_standby_snapshot()') IS NOT NULL AS direct";
    let row = session.query_one(sql, &[]).await.map_err(sql_error)?;
    if cell(&row, "direct")? {
        session.query("SELECT pg_log_standby_snapshot()", &[]).await.map_err(sql_error)?;
        session.give_back();
        return Ok(());
    }
    by_a_slot(&session, slot).await?;
    session.give_back();
    Ok(())
}

async fn by_a_slot(session: &Session, slot: &str) -> Result<()> {
    let name = quote::literal(&format!("{slot:.55}_note"));
    let make = format!(
        "SET statement_timeout = '{SLOT_TIMEOUT}'; \
         SELECT pg_create_logical_replication_slot({name}, 'pgoutput', true)"
    );
    let made = session.batch_execute(&make).await;
    session.batch_execute("RESET statement_timeout").await.map_err(sql_error)?;
    match made {
        Ok(()) => {
            let drop = format!("SELECT pg_drop_replication_slot({name})");
            session.batch_execute(&drop).await.map_err(sql_error)
        }
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) => {
            Ok(())
        }
        Err(error) => Err(sql_error(error)),
    }
}
