//! A few connections for look-ups and chunks, kept between uses.
//!
//! It does not bound how many are open: the engine's number of readers does. It bounds how many wait unused.
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lakeward_core::Result;

use crate::config::Settings;
use crate::connect;
use crate::wire::Conn;

/// More than this many unused connections are closed.
const IDLE_MAX: usize = 4;
/// One that was unused for longer is asked whether it still lives.
const TRUSTED: Duration = Duration::from_secs(2);

type Idle = Arc<Mutex<Vec<(Conn, Instant)>>>;

/// The unused connections.
#[derive(Debug)]
pub(crate) struct Pool {
    settings: Arc<Settings>,
    idle: Idle,
}

/// A connection in use. Dropped, it is closed; only [`give_back`](Pooled::give_back) keeps it.
#[derive(Debug)]
pub(crate) struct Pooled {
    connection: Conn,
    idle: Idle,
}

impl Pool {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, idle: Idle::default() }
    }

    fn kept(&self) -> Option<(Conn, Instant)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// An unused connection, or a new one.
    pub(crate) async fn get(&self) -> Result<Pooled> {
        while let Some((mut connection, since)) = self.kept() {
            if since.elapsed() < TRUSTED || connection.ping().await.is_ok() {
                return Ok(Pooled { connection, idle: Arc::clone(&self.idle) });
            }
        }
        let connection = connect::connect(&self.settings).await?;
        Ok(Pooled { connection, idle: Arc::clone(&self.idle) })
    }
}

impl Pooled {
    /// Keeps the connection for the next use. It must be outside any transaction, and everything must have been read.
    pub(crate) fn give_back(self) {
        let Self { connection, idle } = self;
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((connection, Instant::now()));
        }
    }
}

impl Deref for Pooled {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.connection
    }
}
