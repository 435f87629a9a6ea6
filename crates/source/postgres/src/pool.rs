//! A few connections for reading chunks, kept between chunks.
//!
//! It does not bound how many are open: the engine's number of readers does. It bounds how many wait unused.
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use lakeward_core::Result;

use crate::config::Settings;
use crate::connect::Session;

/// More than this many unused connections are closed.
const IDLE_MAX: usize = 4;

/// The unused connections.
#[derive(Debug)]
pub(crate) struct Pool {
    settings: Arc<Settings>,
    idle: Arc<Mutex<Vec<Session>>>,
}

/// A connection in use. Dropped, it is closed; only [`give_back`](Pooled::give_back) keeps it.
#[derive(Debug)]
pub(crate) struct Pooled {
    session: Session,
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Pool {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, idle: Arc::default() }
    }

    /// An unused connection, or a new one.
    pub(crate) async fn get(&self) -> Result<Pooled> {
        let kept = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|session| !session.is_closed());
            idle.pop()
        };
        let session = match kept {
            Some(session) => session,
            None => Session::open(&self.settings).await?,
        };
        Ok(Pooled { session, idle: Arc::clone(&self.idle) })
    }
}

impl Pooled {
    /// Keeps the connection for the next chunk. It must be outside any transaction.
    pub(crate) fn give_back(self) {
        let Self { session, idle } = self;
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !session.is_closed() {
            idle.push(session);
        }
    }
}

impl Deref for Pooled {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}
