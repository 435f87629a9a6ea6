//! Fan-out: what a table's changes do to each of its copies in the lake.
pub mod evolve;
pub mod lane;
mod moves;
