//! What the rounds of a case gave: medians and spread. Nothing here measures or prints.

use std::time::Duration;

use crate::cases::{self, Better, Case};
use crate::measure::Cost;

/// One round of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    /// What the process under test cost in that round.
    pub(crate) cost: Cost,
    /// What the physical limit gave in the same round, in rows or changes a second, or in the case's unit where little is good.
    pub(crate) limit: Option<f64>,
}

/// All rounds so far, by case.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(&'static str, Sample)>);

impl Samples {
    /// Takes a round of a case in.
    pub(crate) fn push(&mut self, name: &'static str, value: f64, cost: Cost) {
        self.0.push((name, Sample { value, cost, limit: None }));
    }

    /// Takes a round in that had a physical limit beside it.
    pub(crate) fn push_beside(&mut self, name: &'static str, value: f64, cost: Cost, limit: f64) {
        self.0.push((name, Sample { value, cost, limit: Some(limit) }));
    }

    /// Takes another's rounds in.
    pub(crate) fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// The outcome of every case that has a round, in the cases' order.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let of = |case: &'static Case| {
            let rounds = self.0.iter().filter(|(name, _)| *name == case.name);
            let rounds: Vec<Sample> = rounds.map(|(_, sample)| *sample).collect();
            Outcome::of(case, &rounds)
        };
        cases::CASES.iter().filter_map(of).collect()
    }
}

/// What a case came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: &'static Case,
    /// The median.
    pub(crate) value: f64,
    /// The physical limit's median.
    pub(crate) limit: Option<f64>,
    /// Median CPU time of the process under test.
    pub(crate) cpu: Duration,
    /// The largest of the rounds.
    pub(crate) peak_rss: u64,
    pub(crate) rounds: usize,
    /// (largest − smallest) ÷ median.
    pub(crate) spread: f64,
}

impl Outcome {
    fn of(case: &'static Case, rounds: &[Sample]) -> Option<Self> {
        let values: Vec<f64> = rounds.iter().map(|sample| sample.value).collect();
        let value = median(&values)?;
        let limits: Vec<f64> = rounds.iter().filter_map(|sample| sample.limit).collect();
        let cpu: Vec<f64> = rounds.iter().map(|sample| sample.cost.cpu.as_secs_f64()).collect();
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        Some(Self {
            case,
            value,
            limit: median(&limits),
            cpu: Duration::from_secs_f64(median(&cpu).unwrap_or(0.0)),
            peak_rss: rounds.iter().map(|sample| sample.cost.peak_rss).max().unwrap_or(0),
            rounds: rounds.len(),
            spread: if value == 0.0 { 0.0 } else { (most - least) / value },
        })
    }

    /// How far the value is on the way to its aim: at least 1 where it is met; `None` without an aim.
    pub(crate) fn share_of_aim(&self) -> Option<f64> {
        let aim = self.case.aim?;
        Some(match self.case.better {
            Better::Higher => self.value / aim,
            Better::Lower => aim / self.value,
        })
    }

    /// True if the figure is one.
    pub(crate) fn is_sound(&self) -> bool {
        self.value.is_finite() && self.value > 0.0
    }
}

/// The middle value; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value below which this share of the values lies, between neighbours in a straight line.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (sorted.get(at.floor() as usize)?, sorted.get(at.ceil() as usize)?);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_between_neighbours() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(quantile(&[0.0, 10.0], 0.9), Some(9.0));
    }

    #[test]
    fn an_outcome_is_the_median_and_its_share_of_the_aim() {
        let mut samples = Samples::default();
        for value in [0.5, 0.45, 0.9] {
            samples.push_beside("load_narrow_ratio", value, Cost::default(), value * 10.0);
        }
        let cost = Cost { cpu: Duration::from_secs(2), peak_rss: 7, ..Cost::default() };
        samples.push("fresh_p50_s", 1.4, cost);
        let outcomes = samples.outcomes();
        assert_eq!(outcomes.len(), 2);
        let ratio = &outcomes[0];
        assert_eq!((ratio.value, ratio.limit, ratio.rounds), (0.5, Some(5.0), 3));
        assert!((ratio.spread - 0.9).abs() < 1e-9 && ratio.is_sound());
        assert!((ratio.share_of_aim().unwrap() - 0.5 / 0.9).abs() < 1e-9);
        let fresh = &outcomes[1];
        assert!((fresh.share_of_aim().unwrap() - 0.5).abs() < 1e-9);
        assert_eq!((fresh.cpu, fresh.peak_rss), (Duration::from_secs(2), 7));
    }
}
