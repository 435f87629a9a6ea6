//! The answer of a verb, on standard output.
use std::io::Write as _;

use lakeward_core::{Error, ErrorKind, Result};
use serde::Serialize;

/// Prints a line. A reader that has gone away (`| head`) is no error.
pub(super) fn line(text: &str) {
    _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| {
        Error::new(ErrorKind::Bug, "the answer cannot be printed as JSON").caused_by(error)
    })?;
    line(&text);
    Ok(())
}
