//! The nouns and contracts of Lakeward: what a source gives, what the engine decides by, what a sink does.
//!
//! ```text
//!  source ──SourceEvent──▶ engine ──ChangeBatch──▶ sink table ──Staged──▶ commit (mark inside)
//!     ▲                      │  ledger: Takeover · Intent · Done               │
//!     └──────confirm─────────┴───────────────────◀──────CommitMark─────────────┘
//! ```
//!
//! Deliberately absent: I/O, a runtime, drivers, table formats, and any `match` on a connector's name.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

pub mod change;
pub mod commit;
pub mod config;
pub mod error;
pub mod key;
pub mod kill;
pub mod position;
pub mod schema;
pub mod selection;
pub mod sink;
pub mod source;

pub use change::{
    AbsentCells, AbsentColumn, BeforeImages, ChangeBatch, Divergence, Op, OriginId, PartId, Run,
    SourceEvent, TransactionEnd, TransactionId, TransactionInfo, TransactionRef,
};
pub use commit::{
    Admission, ChunkSet, CommitMark, CommitOutcome, CommitPermit, Intent, IntentTable, KeyText,
    LoadMark, admit,
};
pub use config::{Bytes, Period, Problem, Secret, SecretRef, Validate};
pub use error::{Error, ErrorKind, Result, Retry};
pub use key::{KeyHash, hash_keys};
pub use position::{Coverage, Position};
pub use schema::{
    Column, ColumnId, Fill, SchemaChange, SchemaVersion, TableId, TableIdentity, TableSchema,
};
pub use selection::{Selection, TablePattern, wildcard};
pub use sink::{
    Evolution, LedgerStore, Sink, SinkKind, SinkTable, Slot, Staged, TableVersion, Upkeep,
    UpkeepDone, UpkeepOutcome, UpkeepPolicy,
};
pub use source::{
    ChangeStream, CheckReport, Chunk, ChunkReader, Delivered, Drift, Env, Finding, Prepared,
    Severity, Source, SourceKind, StartAt,
};
