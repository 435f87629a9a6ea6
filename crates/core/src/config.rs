//! Values that every definition uses: sizes, periods, secrets. Each is parsed once; nobody validates it again.
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// A problem that only a look at several fields together shows. `path` is dotted: `tables.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, relative to the config: `slot`, `tables.0`; empty for the whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Checks that a type's shape cannot express.
pub trait Validate {
    /// All problems at once; empty: fine.
    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// A size in bytes, written `64MiB`, `1GiB`, `500KB` or as a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl Bytes {
    fn parse(text: &str) -> Option<u64> {
        let text = text.trim();
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
            .unwrap_or((text, 1));
        digits.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A period, written `200ms`, `1s`, `5m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    fn parse(text: &str) -> Option<Duration> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..split].parse().ok()?;
        Some(match text[split..].trim() {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if millis >= factor && millis.is_multiple_of(factor) {
                return write!(f, "{}{unit}", millis / factor);
            }
        }
        write!(f, "{millis}ms")
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

macro_rules! textual {
    ($type:ident, $name:literal, $inner:expr, $expect:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match NumberOrText::deserialize(deserializer) {
                    Ok(NumberOrText::Number(number)) => number.to_string(),
                    Ok(NumberOrText::Text(text)) => text,
                    Err(_) => return Err(serde::de::Error::custom($expect)),
                };
                $type::parse(&text).map($inner).ok_or_else(|| serde::de::Error::custom($expect))
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "integer"], "pattern": $pattern, "description": $expect })
            }
        }
    };
}

textual!(
    Bytes,
    "Bytes",
    Bytes,
    "a size such as 64MiB, 1GiB or a number of bytes",
    r"^[0-9]+ *([KMGT]iB|[KMG]B|B)?$"
);
textual!(
    Period,
    "Period",
    Period,
    "a period such as 200ms, 1s, 5m, 2h or 7d",
    r"^[0-9]+ *(ms|s|m|h|d)$"
);

/// A secret's value. Prints as `***`; cannot be serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret is found. The definition never holds the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// Name of an environment variable that holds it.
    Env(String),
    /// Path of a file that holds it; one trailing line break is ignored.
    File(PathBuf),
}

impl SecretRef {
    /// Reads the secret now.
    ///
    /// # Errors
    /// `Config` when the variable is not set or the file cannot be read; the message names it, never its content.
    pub fn read(&self) -> Result<Secret> {
        match self {
            Self::Env(name) => std::env::var(name).map(Secret).map_err(|_| {
                Error::new(ErrorKind::Config, "the secret's environment variable is not set")
                    .with("env", name)
            }),
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| {
                    let line = text.strip_suffix('\n').unwrap_or(&text);
                    Secret(line.strip_suffix('\r').unwrap_or(line).to_owned())
                })
                .map_err(|error| {
                    Error::new(ErrorKind::Config, "the secret's file cannot be read")
                        .with("file", path.display())
                        .caused_by(error)
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_periods_read_as_people_write_them() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("12", 12), ("5KB", 5_000)] {
            assert_eq!(Bytes::parse(text), Some(bytes), "{text}");
        }
        assert_eq!(Bytes::parse("64 parsecs"), None);
        assert_eq!(Period::parse("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(Period::parse("10"), None);
        assert_eq!(Bytes(64 << 20).to_string(), "64MiB");
        assert_eq!(Period(Duration::from_secs(90)).to_string(), "90s");
        assert_eq!(serde_json::from_str::<Bytes>("\"1KiB\"").unwrap(), Bytes(1024));
        assert_eq!(serde_json::from_str::<Bytes>("7").unwrap(), Bytes(7));
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
        assert!(serde_json::from_str::<SecretRef>(r#""plain""#).is_err());
    }
}
