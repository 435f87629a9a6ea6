//! Table features: what our tables ask of readers and writers, and which foreign additions we can live with.
//!
//! Deliberately absent: what each feature means. That is all over this crate.
use std::collections::BTreeSet;

use lakeward_core::{Error, ErrorKind, Result};

use crate::action::{Metadata, Protocol};
use crate::schema::Shape;

/// Reader versions below this know no features.
const READER: i32 = 3;
/// Writer versions below this know no features.
const WRITER: i32 = 7;
/// What readers of our tables must know.
const OF_READERS: [&str; 3] = ["columnMapping", "deletionVectors", "timestampNtz"];
/// What writers must know besides. The first two are what every writer of features is expected to list.
const OF_WRITERS: [&str; 3] = ["appendOnly", "invariants", "domainMetadata"];
/// Only where a column's type grew.
const WIDENING: &str = "typeWidening";
/// Harmless to our writes.
const TOLERATED: [&str; 1] = ["vacuumProtocolCheck"];

/// Properties of a new table.
pub(crate) fn properties(checkpoint_interval: u32) -> [(&'static str, String); 3] {
    [
        ("delta.columnMapping.mode", "name".into()),
        ("delta.enableDeletionVectors", "true".into()),
        ("delta.checkpointInterval", checkpoint_interval.to_string()),
    ]
}

/// The protocol that a table of this shape needs; it never asks for less than `before`.
pub(crate) fn protocol(shape: &Shape, before: Option<&Protocol>) -> Protocol {
    let widening = shape.is_widened().then_some(WIDENING);
    let known = |list: fn(&Protocol) -> &Option<Vec<String>>| {
        before.and_then(|p| list(p).clone()).unwrap_or_default()
    };
    let readers = OF_READERS.into_iter().chain(widening).map(str::to_owned);
    let readers: BTreeSet<String> = readers.chain(known(|p| &p.reader_features)).collect();
    let writers = OF_WRITERS.into_iter().map(str::to_owned).chain(readers.iter().cloned());
    let writers: BTreeSet<String> = writers.chain(known(|p| &p.writer_features)).collect();
    Protocol {
        min_reader_version: READER,
        min_writer_version: WRITER,
        reader_features: Some(readers.into_iter().collect()),
        writer_features: Some(writers.into_iter().collect()),
    }
}

/// Refuses tables that ask for what we cannot do.
///
/// # Errors
/// `Unsupported` naming the feature or property.
pub(crate) fn check(protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    if protocol.min_reader_version > READER || protocol.min_writer_version > WRITER {
        let version = format!("{}/{}", protocol.min_reader_version, protocol.min_writer_version);
        return Err(refused("protocol", &version));
    }
    let listed = protocol.reader_features.iter().chain(&protocol.writer_features).flatten();
    let known = |name: &str| {
        OF_READERS.contains(&name)
            || OF_WRITERS.contains(&name)
            || TOLERATED.contains(&name)
            || name == WIDENING
    };
    if let Some(feature) = listed.map(String::as_str).find(|name| !known(name)) {
        return Err(refused("feature", feature));
    }
    let is = |property: &str| metadata.configuration.get(property).is_some_and(|v| v == "true");
    if is("delta.appendOnly") {
        return Err(refused("property", "delta.appendOnly"));
    }
    if !metadata.partition_columns.is_empty() {
        return Err(refused("partitioned by", &metadata.partition_columns.join(", ")));
    }
    Ok(())
}

fn refused(what: &'static str, name: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "another writer gave the table what this sink cannot keep up",
    )
    .with(what, name)
    .remedied(
        "take that back with the engine that did it, or drop the table and `lakeward resync` it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            identity: lakeward_core::TableIdentity("1".into()),
            fields: vec![],
            key: vec![],
            last_id: 0,
        }
    }

    #[test]
    fn what_others_added_stays_and_what_we_cannot_do_is_refused() {
        let metadata = shape().metadata(None, Default::default(), "t".into(), 0).unwrap();
        let mut ours = protocol(&shape(), None);
        assert!(check(&ours, &metadata).is_ok());
        ours.writer_features.as_mut().unwrap().push("changeDataFeed".into());
        let error = check(&ours, &metadata).unwrap_err();
        assert_eq!(error.context("feature"), Some("changeDataFeed"));
        let grown = protocol(&shape(), Some(&ours));
        assert!(grown.writer_features.unwrap().contains(&"changeDataFeed".to_owned()));
    }
}
