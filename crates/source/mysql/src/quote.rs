//! Names and values in SQL.
use std::fmt::Write as _;

use lakeward_core::TableId;

/// A name.
pub(crate) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table's full name.
pub(crate) fn table(table: &TableId) -> String {
    format!("{}.{}", ident(&table.namespace), ident(&table.name))
}

/// Bytes as a literal. No character needs an escape in it.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + 3);
    out.push_str("X'");
    for byte in bytes {
        let _ = write!(out, "{byte:02X}");
    }
    out.push('\'');
    out
}

/// Text as a literal.
pub(crate) fn text(text: &str) -> String {
    format!("_utf8mb4 {}", bytes(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        assert_eq!(table(&TableId::new("a`b", "c.d")), "`a``b`.`c.d`");
        assert_eq!(text("'\\"), "_utf8mb4 X'275C'");
        assert_eq!(bytes(b""), "X''");
    }
}
