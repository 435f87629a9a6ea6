//! Which tables are meant: patterns of names, and what a definition takes and leaves out by them.
//!
//! Deliberately absent: regular expressions. A name with a dot or a star in it needs no escape, and no pattern is slow.
use std::fmt;

use crate::schema::TableId;

/// `namespace.table`, each with `*` for any characters. The first dot divides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    namespace: String,
    name: String,
}

impl TablePattern {
    /// Reads a pattern; `None` when one of its two parts is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('.')?;
        let pattern = Self { namespace: namespace.into(), name: name.into() };
        (!namespace.is_empty() && !name.is_empty()).then_some(pattern)
    }

    /// Whether a table's name fits.
    pub fn matches(&self, table: &TableId) -> bool {
        self.matches_namespace(&table.namespace) && wildcard(&self.name, &table.name)
    }

    /// Whether a table of this namespace could fit.
    pub fn matches_namespace(&self, namespace: &str) -> bool {
        wildcard(&self.namespace, namespace)
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// Which tables a source follows.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// What is taken.
    pub tables: Vec<TablePattern>,
    /// What is left out of it.
    pub exclude: Vec<TablePattern>,
    /// Namespaces of the server itself, which no pattern takes.
    pub reserved: &'static [&'static str],
}

impl Selection {
    /// Whether a table is followed.
    pub fn takes(&self, table: &TableId) -> bool {
        !self.reserved.contains(&table.namespace.as_str())
            && self.tables.iter().any(|p| p.matches(table))
            && !self.exclude.iter().any(|p| p.matches(table))
    }

    /// Whether a namespace may hold followed tables.
    pub fn takes_namespace(&self, namespace: &str) -> bool {
        !self.reserved.contains(&namespace)
            && self.tables.iter().any(|p| p.matches_namespace(namespace))
    }
}

/// Whether a text fits a pattern in which `*` stands for any characters. It goes back to the last `*` only, so its time
/// is bounded by the product of the lengths.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match retry {
                Some((star, from)) => {
                    (p, t) = (star + 1, from + 1);
                    retry = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TablePattern {
        TablePattern::parse(text).unwrap()
    }

    #[test]
    fn patterns_match_as_written() {
        let matches = |text: &str, namespace: &str, name: &str| {
            pattern(text).matches(&TableId::new(namespace, name))
        };
        assert!(matches("public.*", "public", "orders"));
        assert!(matches("*.*_2024*", "a", "orders_2024_01"));
        assert!(matches("public.a.b", "public", "a.b"));
        assert!(!matches("public.order", "public", "orders"));
        assert!(!matches("public.*s*x", "public", "orders"));
        assert!(matches("p*.o*r*s", "public", "orders"));
        assert!(matches("*.späti", "x", "späti"));
    }

    #[test]
    fn a_pattern_has_two_parts() {
        for text in ["orders", ".orders", "public.", ""] {
            assert_eq!(TablePattern::parse(text), None, "{text}");
        }
        assert_eq!(pattern("a.b.c").to_string(), "a.b.c");
    }

    #[test]
    fn what_is_left_out_or_the_servers_own_is_not_taken() {
        let selection = Selection {
            tables: vec![pattern("*.*")],
            exclude: vec![pattern("shop.tmp_*")],
            reserved: &["sys"],
        };
        let takes = |namespace: &str, name: &str| selection.takes(&TableId::new(namespace, name));
        assert!(takes("shop", "orders") && !takes("shop", "tmp_1") && !takes("sys", "user"));
        assert!(selection.takes_namespace("shop") && !selection.takes_namespace("sys"));
    }
}
