//! What the open log tells the chunk readers: which transactions it has handed out.
//!
//! A snapshot that does not contain all of them would bring rows back to an older state than the log has told.
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::binlog::event::XaId;
use crate::position::{Gtid, GtidSet};

/// State between the log and the readers of chunks.
#[derive(Debug, Default)]
pub struct Shared {
    handed_out: Mutex<Option<GtidSet>>,
    /// Oldest first.
    completed: Mutex<VecDeque<XaId>>,
}

/// More cannot be committing at once: the server has fewer connections.
const COMPLETED_MAX: usize = 1 << 17;

impl Shared {
    /// All transactions of which the log has handed out, or is about to hand out, anything. `None`: the log was not opened.
    pub fn handed_out(&self) -> Option<GtidSet> {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log was opened behind this place: all of it was handed out by somebody.
    pub fn opened_at(&self, at: &GtidSet) {
        let mut handed_out = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
        if handed_out.as_ref().is_none_or(|known| !known.covers(at)) {
            *handed_out = Some(at.clone());
        }
    }

    /// The log is about to hand out a transaction.
    pub fn hand_out(&self, gtid: &Gtid) {
        let mut handed_out = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = handed_out.as_mut().filter(|known| !known.contains(gtid)) {
            known.add(gtid);
        }
    }

    /// The log is about to hand out the commit of a prepared transaction. Unlike others it is in the log, and in the place
    /// that a snapshot names, before new snapshots see it.
    pub fn complete(&self, xid: XaId) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        completed.push_back(xid);
        if completed.len() > COMPLETED_MAX {
            completed.pop_front();
        }
    }

    /// Prepared transactions whose commit was handed out, and that nobody has found to be over.
    pub fn completed(&self) -> Vec<XaId> {
        let completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        completed.iter().cloned().collect()
    }

    /// The server no longer lists these as prepared: every later snapshot sees them.
    pub fn over(&self, xids: &[XaId]) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        completed.retain(|xid| !xids.contains(xid));
    }
}
