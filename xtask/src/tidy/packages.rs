//! What we depend on: one version of each key crate, and licences that we may ship.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::command;

/// Two versions of one of these would be two incompatible worlds of types.
const ONE_VERSION: &[&str] = &[
    "parquet",
    "object_store",
    "iceberg",
    "tokio",
    "rustls",
    "serde_json",
    "tokio-postgres",
    "lakeward-core",
];

/// Licences that a program under Apache-2.0 may contain.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "bzip2-1.0.6",
];

/// What cargo knows of the workspace and all it depends on.
pub(super) fn metadata() -> Result<Value, String> {
    let host = host()?;
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", &host];
    let text = command::output(&mut command::cargo(&args))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

/// This machine's target: packages of others are not fetched.
fn host() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = command::output(std::process::Command::new(rustc).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// Findings about foreign packages.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let mut findings = duplicates(&packages);
    findings.extend(packages.iter().filter_map(licence));
    findings
}

fn duplicates(packages: &[Value]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        if let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str())
            && (ONE_VERSION.contains(&name) || name == "arrow" || name.starts_with("arrow-"))
        {
            versions.entry(name).or_default().insert(version);
        }
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several
        .map(|(name, versions)| format!("{name}: several versions {versions:?}; keep one"))
        .collect()
}

fn licence(package: &Value) -> Option<String> {
    let name = package["name"].as_str()?;
    match package["license"].as_str() {
        Some(expression) if accepted(expression) => None,
        Some(expression) => Some(format!("{name}: licence {expression} is not on the list")),
        None => Some(format!("{name}: no licence is named")),
    }
}

/// True if one of the alternatives holds only licences of the list.
fn accepted(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let conjunctions = flat.split(" AND ");
    // `(A OR B) AND C`: every conjunct needs an accepted alternative
    conjunctions
        .into_iter()
        .all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_accepted_alternative_is_enough() {
        assert!(accepted("MIT OR GPL-3.0"));
        assert!(accepted("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(accepted("MIT/Apache-2.0"));
        assert!(!accepted("GPL-3.0"));
        assert!(!accepted("MIT AND GPL-3.0"));
    }
}
