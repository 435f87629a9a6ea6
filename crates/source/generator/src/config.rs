//! The options of `type: generator`.
use lakeward_core::{Problem, Validate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fewer rows cannot take every kind of change.
const ROWS_MIN: u64 = 10;

/// Changes in a transaction must fit into a batch.
const TRANSACTION_MAX: u64 = 1_000;

/// Makes a table and its changes without a server, the same in every run. For benchmarks and trials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the table looks like. It is called `generated.narrow`, `generated.taxi` or `generated.wide`.
    #[serde(default)]
    pub shape: Shape,
    /// Rows that the table has when the log begins, at least 10.
    #[serde(default = "default_rows")]
    #[schemars(range(min = 10))]
    pub rows: u64,
    /// Changes in the log: of ten six updates, three inserts, one delete. Then nothing more comes.
    #[serde(default)]
    pub changes: u64,
    /// Changes in one transaction, 1 to 1000.
    #[serde(default = "default_transaction_changes")]
    #[schemars(range(min = 1, max = 1000))]
    pub transaction_changes: u64,
    /// Another seed makes another table: load again after changing it.
    #[serde(default)]
    pub seed: u64,
}

/// What a generated table looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Six columns: a key, two integers, an amount, a time, a text of 20 letters.
    #[default]
    Narrow,
    /// Nineteen columns as of a taxi ride, most of them numbers.
    Taxi,
    /// A hundred and twenty columns, fifteen of them texts.
    Wide,
}

fn default_rows() -> u64 {
    1_000_000
}

fn default_transaction_changes() -> u64 {
    100
}

impl Validate for Config {
    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |path: &str, wrong: bool, message: &str| {
            if wrong {
                problems.push(Problem { path: path.into(), message: message.into() });
            }
        };
        let most = i64::MAX as u64 / 8;
        refuse("rows", self.rows < ROWS_MIN, "write at least 10");
        refuse("rows", self.rows > most, "write fewer: keys would not fit into 64 bits");
        refuse("changes", self.changes > most, "write fewer: keys would not fit into 64 bits");
        let fits = (1..=TRANSACTION_MAX).contains(&self.transaction_changes);
        refuse("transaction_changes", !fits, "write 1 to 1000");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_at_its_path() {
        let config = Config {
            shape: Shape::Narrow,
            rows: 3,
            changes: u64::MAX,
            transaction_changes: 0,
            seed: 0,
        };
        let paths: Vec<String> = config.validate().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["rows", "changes", "transaction_changes"]);
        let good = Config { rows: 10, changes: 7, transaction_changes: 1, ..config };
        assert!(good.validate().is_empty());
    }
}
