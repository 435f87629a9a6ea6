//! Questions to the server about this moment, which the log cannot answer.
use lakeward_core::Result;

use crate::catalog::{Catalog, cell};
use crate::connect::sql_error;
use crate::log::lsn_cell;

impl Catalog {
    /// Where the server's log ends now. Every change that the catalogue shows lies before it.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(crate) async fn log_end(&self) -> Result<u64> {
        let sql = "SELECT pg_current_wal_insert_lsn()::text AS lsn";
        let row = self.session().await?.query_one(sql, &[]).await.map_err(sql_error)?;
        lsn_cell(cell::<Option<&str>>(&row, "lsn")?)
    }

    /// Whether a transaction still runs for others, although its commit may be in the log: it holds the lock on its own
    /// id until everybody sees it.
    ///
    /// # Errors
    /// `Unreachable`.
    pub(crate) async fn is_running(&self, xid: u32) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' \
                   AND transactionid::text = $1 AND mode = 'ExclusiveLock' AND granted) AS running";
        let session = self.session().await?;
        let row = session.query_one(sql, &[&xid.to_string()]).await.map_err(sql_error)?;
        cell(&row, "running")
    }
}
