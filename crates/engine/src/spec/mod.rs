//! The pipeline definition: a YAML file, read once into checked types; after that nobody validates again.
//!
//! ```text
//! text ──yaml──▶ nodes with places ──fit to the types' JSON schema──▶ values ──serde──▶ PipelineOptions
//!                                                                       └──▶ Raw (a connector's part)
//! ```
//! Connectors are unknown here: their parts stay [`Raw`] until the registry gives them a type.
mod definition;
mod fit;
mod nearest;
mod options;
mod report;
mod schema;
mod yaml;

pub use definition::{Definition, Part, Raw, Spec};
pub use nearest::{nearest, unknown};
pub use options::{
    CompactionOptions, ExpiryOptions, HttpOptions, PipelineOptions, SchemaBehaviour, TableOptions,
};
pub use report::{Located, Place, Problems};
pub use schema::{Connector, file_schema, reference_page};
