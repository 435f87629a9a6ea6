//! How far each sink has come, and how far all have.
use lakeward_core::Position;

use super::view::Covers;

/// The last position that each sink confirmed.
pub(super) struct Confirmed {
    sinks: Vec<Option<Position>>,
}

impl Confirmed {
    /// No sink has said anything: nothing may be confirmed.
    pub(super) fn new(sinks: usize) -> Self {
        Self { sinks: vec![None; sinks] }
    }

    /// A sink has everything up to `position`. Returns what all sinks have; `None` while one has said nothing.
    pub(super) fn confirm(
        &mut self,
        sink: usize,
        position: &Position,
        covers: Covers<'_>,
    ) -> Option<Position> {
        *self.sinks.get_mut(sink)? = Some(position.clone());
        let all: Option<Vec<&Position>> = self.sinks.iter().map(Option::as_ref).collect();
        least(all?.into_iter(), covers).cloned()
    }
}

/// The position that all others cover.
pub(super) fn least<'a>(
    positions: impl Iterator<Item = &'a Position>,
    covers: Covers<'_>,
) -> Option<&'a Position> {
    use lakeward_core::Coverage::Covered;
    positions.reduce(|least, other| if covers(least, other) == Covered { other } else { least })
}

#[cfg(test)]
mod tests {
    use lakeward_core::Coverage;

    use super::*;

    fn at(n: u8) -> Position {
        Position { at: [n].into(), resume: [n].into() }
    }

    fn covers(through: &Position, other: &Position) -> Coverage {
        if other.at <= through.at { Coverage::Covered } else { Coverage::After }
    }

    #[test]
    fn nothing_is_confirmed_past_the_sink_that_has_least() {
        let mut confirmed = Confirmed::new(2);
        assert_eq!(confirmed.confirm(0, &at(5), &covers), None);
        assert_eq!(confirmed.confirm(1, &at(3), &covers), Some(at(3)));
        assert_eq!(confirmed.confirm(0, &at(9), &covers), Some(at(3)));
        assert_eq!(confirmed.confirm(1, &at(9), &covers), Some(at(9)));
        assert_eq!(confirmed.confirm(2, &at(1), &covers), None);
    }
}
