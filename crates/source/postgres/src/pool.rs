//! A few connections for reading, kept between chunks.
//!
//! It does not bound how many are open: the engine's number of readers does. It bounds how many wait unused.
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use lakeward_core::Result;

use crate::config::Settings;

/// More than this many unused connections are closed.
const IDLE_MAX: usize = 4;

/// What can be kept.
pub(crate) trait Connection: Sized {
    /// A new one.
    async fn open(settings: &Arc<Settings>) -> Result<Self>;
    /// Whether one that was kept is as it was.
    async fn is_idle(&mut self) -> bool;
}

/// The unused connections.
#[derive(Debug)]
pub(crate) struct Pool<C> {
    settings: Arc<Settings>,
    idle: Arc<Mutex<Vec<C>>>,
}

/// A connection in use. Dropped, it is closed; only [`give_back`](Pooled::give_back) keeps it.
#[derive(Debug)]
pub(crate) struct Pooled<C> {
    connection: C,
    idle: Arc<Mutex<Vec<C>>>,
}

impl<C: Connection> Pool<C> {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, idle: Arc::default() }
    }

    /// An unused connection, or a new one.
    pub(crate) async fn get(&self) -> Result<Pooled<C>> {
        let connection = loop {
            let Some(mut kept) = self.kept() else { break C::open(&self.settings).await? };
            if kept.is_idle().await {
                break kept;
            }
        };
        Ok(Pooled { connection, idle: Arc::clone(&self.idle) })
    }

    fn kept(&self) -> Option<C> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl<C> Pooled<C> {
    /// Keeps the connection for the next use. It must be outside any transaction.
    pub(crate) fn give_back(self) {
        let Self { connection, idle } = self;
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

impl<C> Deref for Pooled<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.connection
    }
}

impl<C> DerefMut for Pooled<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.connection
    }
}
