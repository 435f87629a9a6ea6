//! The options of `type: null`.
use std::path::Path;

use lakeward_core::{Problem, Validate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Throws every row away and remembers how far it has come. For benchmarks and trials: there is nothing to read afterwards.
/// Write the type in quotes, `type: "null"`: without them YAML reads it as no value.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory for the marks and the ledger, an absolute path; it is made when missing. Default: none, they are kept in
    /// memory and every start is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

impl Validate for Config {
    fn validate(&self) -> Vec<Problem> {
        let relative = self.directory.as_deref().is_some_and(|dir| !Path::new(dir).is_absolute());
        let message = "write an absolute path of a directory of its own".to_owned();
        let problem = Problem { path: "directory".to_owned(), message };
        if relative { vec![problem] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_absolute() {
        let parse = |json: &str| serde_json::from_str::<Config>(json);
        assert!(parse("{}").unwrap().validate().is_empty());
        assert!(parse(r#"{"directory": "/a"}"#).unwrap().validate().is_empty());
        assert_eq!(parse(r#"{"directory": "a"}"#).unwrap().validate()[0].path, "directory");
        assert!(parse(r#"{"dir": "/a"}"#).is_err());
    }
}
