//! Rows on their way that may not be written yet: held in memory, spilled to disk, kept in order.
pub mod codec;
pub mod held;
pub mod queue;
