//! Tells the server what is durable, from a task of its own: however long the stream's reader is held up, the server
//! hears from us and does not cut the line.
//!
//! Deliberately absent: deciding what is durable (the engine's, by `confirm`).
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How often a new confirmed position is looked for. Sooner frees no log; later holds up whoever waits for it.
const LOOK: Duration = Duration::from_millis(100);
/// The server hears from us at least this often, and is asked to answer, so that a dead line is noticed.
const SPEAK: Duration = Duration::from_secs(5);
/// Seconds from 1970-01-01 to 2000-01-01.
const EPOCH_SECONDS: u64 = 946_684_800;

/// The running task; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Feedback {
    now: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Feedback {
    /// Starts the task. `confirmed` holds the LSN before which everything is durable; it is never told less than `from`.
    /// `patience` is the server's own limit of silence.
    pub(crate) fn start<W>(
        writer: W,
        confirmed: Arc<AtomicU64>,
        from: u64,
        patience: Option<Duration>,
    ) -> Self
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let now = Arc::new(Notify::new());
        let every = patience.map_or(SPEAK, |p| SPEAK.min(p / 4));
        let task = tokio::spawn(speak(writer, confirmed, from, every, Arc::clone(&now)));
        Self { now, task }
    }

    /// Speaks at once: the server asked.
    pub(crate) fn answer(&self) {
        self.now.notify_one();
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn speak<W: AsyncWrite + Unpin>(
    mut writer: W,
    confirmed: Arc<AtomicU64>,
    from: u64,
    every: Duration,
    now: Arc<Notify>,
) {
    let (mut said, mut at) = (0, None::<Instant>);
    loop {
        let lsn = confirmed.load(Ordering::Acquire).max(from);
        let asked = timeout(LOOK.min(every), now.notified()).await.is_ok();
        let due = at.is_none_or(|at| at.elapsed() >= every);
        if !(asked || due || lsn > said) {
            continue;
        }
        let message = status(lsn, SystemTime::now(), due);
        // A line that broke is the reader's to report.
        if writer.write_all(&message).await.is_err() || writer.flush().await.is_err() {
            return;
        }
        (said, at) = (lsn, if due { Some(Instant::now()) } else { at });
    }
}

/// A standby status update. Written, flushed and applied are the same: the server sends its own position whenever it
/// has gone past what we say, and an idle slot moves.
fn status(lsn: u64, now: SystemTime, ask: bool) -> [u8; 39] {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let micros = since.saturating_sub(Duration::from_secs(EPOCH_SECONDS)).as_micros() as u64;
    let mut message = [0; 39];
    message[0] = b'd';
    message[1..5].copy_from_slice(&38u32.to_be_bytes());
    message[5] = b'r';
    for place in [6, 14, 22] {
        message[place..place + 8].copy_from_slice(&lsn.to_be_bytes());
    }
    message[30..38].copy_from_slice(&micros.to_be_bytes());
    message[38] = u8::from(ask);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_speaks_by_itself_and_never_backwards() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let confirmed = Arc::new(AtomicU64::new(3));
        let patience = Some(Duration::from_secs(2));
        let feedback = Feedback::start(ours, Arc::clone(&confirmed), 10, patience);
        let mut message = [0u8; 39];
        use tokio::io::AsyncReadExt as _;
        theirs.read_exact(&mut message).await.unwrap();
        assert_eq!(&message[6..14], &10u64.to_be_bytes());
        confirmed.store(11, Ordering::Release);
        theirs.read_exact(&mut message).await.unwrap();
        assert_eq!(&message[6..14], &11u64.to_be_bytes());
        feedback.answer();
        theirs.read_exact(&mut message).await.unwrap();
        let before = Instant::now();
        theirs.read_exact(&mut message).await.unwrap();
        assert!(before.elapsed() <= Duration::from_millis(700));
    }
}
