//! Parquet files from Arrow batches, with the statistics that table formats keep.
pub(crate) mod encoding;
pub(crate) mod metrics;
pub(crate) mod writer;

pub use metrics::{Bound, ColumnMetrics};
pub use writer::{DataFile, FileWriter, WriterOptions};
