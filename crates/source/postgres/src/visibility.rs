//! Which transactions a snapshot sees.
//!
//! PostgreSQL writes a commit to the log, may then wait for a standby, and only then lets new snapshots see it. The log
//! can therefore be ahead of every new snapshot.
use lakeward_core::{Error, ErrorKind, Result, TransactionId};

/// `pg_current_snapshot()`: `xmin:xmax:in,progress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visible {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Visible {
    /// Reads the server's text.
    ///
    /// # Errors
    /// `Corrupt` when it is no snapshot.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::read(text).ok_or_else(|| Error::new(ErrorKind::Corrupt, "this is no snapshot"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|id| !id.is_empty());
        let running = running.map(|id| id.parse().ok()).collect::<Option<_>>()?;
        Some(Self { xmin, xmax, running })
    }

    /// Every transaction below it has ended.
    pub(crate) fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Whether the end of a committed transaction is seen. The log knows 32 bits of its id; it is taken to be within
    /// 2^31 of the snapshot, as the server itself does.
    pub(crate) fn sees(&self, id: TransactionId) -> bool {
        let low = id.0 as u32;
        let ahead = low.wrapping_sub(self.xmax as u32).cast_signed() >= 0;
        !ahead && !self.running.iter().any(|running| *running as u32 == low)
    }

    /// How many of these are not seen yet.
    pub(crate) fn unseen(&self, ids: &[TransactionId]) -> usize {
        ids.iter().filter(|id| !self.sees(**id)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_commit_is_not_seen() {
        let held = Visible::parse("725:725:").unwrap();
        assert!(!held.sees(TransactionId(725)));
        assert!(held.sees(TransactionId(724)));
        let between = Visible::parse("700:730:700,725").unwrap();
        assert_eq!(between.unseen(&[700, 701, 725, 729, 730].map(TransactionId)), 3);
        assert_eq!(between.xmin(), 700);
    }

    #[test]
    fn ids_wrap_around() {
        let epoch = 7u64 << 32;
        let after_wrap = Visible::parse(&format!("{0}:{1}:{0}", epoch + 5, epoch + 9)).unwrap();
        assert!(after_wrap.sees(TransactionId(0xFFFF_FFF0)));
        assert!(after_wrap.sees(TransactionId(8)));
        assert!(!after_wrap.sees(TransactionId(5)));
        assert!(!after_wrap.sees(TransactionId(9)));
        let before_wrap = Visible::parse(&format!("{0}:{0}:", epoch - 2)).unwrap();
        assert!(!before_wrap.sees(TransactionId(3)));
        assert!(before_wrap.sees(TransactionId(0xFFFF_FFF0)));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "1:2", "1:x:", "1:2:3,x"] {
            assert!(Visible::parse(text).is_err(), "{text}");
        }
    }
}
