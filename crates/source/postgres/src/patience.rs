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

/// Awaits one long act of the server, and calls `say` with the time so far every few seconds.
pub(crate) async fn saying<T>(act: impl Future<Output = T>, say: impl Fn(Duration)) -> T {
    let began = Instant::now();
    let mut act = std::pin::pin!(act);
    loop {
        match tokio::time::timeout(PATIENCE, &mut act).await {
            Ok(outcome) => return outcome,
            Err(_) => say(began.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_act_is_spoken_of_and_finished() {
        let said = Cell::new(0);
        let act = async {
            tokio::time::sleep(PATIENCE * 3 + PAUSE_MAX).await;
            7
        };
        assert_eq!(saying(act, |_| said.set(said.get() + 1)).await, 7);
        assert_eq!(said.get(), 3);
    }
}
