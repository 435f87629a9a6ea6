//! Iceberg tables (format versions 2 and 3) as a sink: a local warehouse under a SQLite catalogue that every engine opens.
//!
//! ```text
//!  ChangeBatch ─▶ write ─▶ lakeward-files: data files, key index ─▶ stage: delete files
//!                                                                     │
//!        catalogue ◀─ swap ─ commit: manifests, list, metadata ◀──────┘   mark inside, one act
//! ```
//!
//! Deliberately absent: scans (readers bring their own), partitioned tables, equality deletes, other catalogues.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

mod avro;
mod catalog;
mod commit;
mod config;
mod datafile;
mod deletes;
mod folder;
mod lineage;
mod maintain;
mod manifests;
mod metadata;
mod puffin;
mod schema;
mod sink;
mod stage;
mod summary;
mod table;
mod types;
mod write;

pub use config::Config;
pub use sink::Iceberg;
