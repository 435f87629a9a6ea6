//! Tests that may be skipped in CI: `docs/gaps/skips.toml`, a name and a reason a line.

use std::collections::BTreeMap;

/// The declared skips: name to reason.
pub(crate) fn declared(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut skips = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once('=').map(|(name, reason)| (unquote(name), unquote(reason)));
        match parts {
            Some((Some(name), Some(reason))) => skips.insert(name, reason),
            _ => return Err(format!("skips.toml:{}: expected \"test\" = \"reason\"", number + 1)),
        };
    }
    Ok(skips)
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix('"')?.strip_suffix('"')?;
    (!inner.is_empty()).then(|| inner.to_owned())
}

/// The name of the test that a line of output says was skipped.
pub(crate) fn skipped(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("SKIPPED ")?;
    Some(rest.split_once(": ").map_or(rest, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_needs_a_reason() {
        let skips = declared("# why\n\"a::b\" = \"no disk\"\n").unwrap();
        assert_eq!(skips.get("a::b").map(String::as_str), Some("no disk"));
        assert!(declared("\"a::b\" = \"\"").is_err());
        assert!(declared("a::b").is_err());
    }

    #[test]
    fn a_skip_is_read_from_the_output() {
        assert_eq!(skipped("test x ... SKIPPED a::b: no disk"), Some("a::b"));
        assert_eq!(skipped("test x ... ok"), None);
    }
}
