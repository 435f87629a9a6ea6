//! Waiting for the server: growing pauses, and a word in the log every few seconds.
use std::time::{Duration, Instant};

/// Waiting longer than this is worth a line in the log, and again after as long.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Growing pauses between attempts.
pub(crate) struct Wait {
    began: Instant,
    said: Instant,
    pause: Duration,
}

impl Wait {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, said: now, pause: PAUSE_FIRST }
    }

    /// Sleeps. When it is time to say so, returns how long it has been in all.
    pub(crate) async fn pause(&mut self) -> Option<Duration> {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        if self.said.elapsed() < PATIENCE {
            return None;
        }
        self.said = Instant::now();
        Some(self.began.elapsed())
    }
}
