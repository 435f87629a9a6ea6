//! Epochs: the ledger that announces and closes them, and the table commits in between.
pub mod epoch;
pub mod ledger;
pub mod rebuild;
pub mod state;
