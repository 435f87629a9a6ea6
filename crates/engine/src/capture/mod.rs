//! The initial load beside the log, and its hand-over: once, for all sources.
pub mod filter;
pub mod load;
pub mod reader;
