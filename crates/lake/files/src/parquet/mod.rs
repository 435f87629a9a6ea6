//! Parquet files from Arrow batches, with the statistics that table formats keep.
mod column;
mod desk;
mod encoder;
mod encoding;
mod metrics;
mod writer;

pub use metrics::{Bound, ColumnMetrics};
pub use writer::{DataFile, FileWriter, WriterOptions};
