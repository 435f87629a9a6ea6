//! Names and values as SQL text. COPY takes no parameters, hence this.
use lakeward_core::TableId;

/// A name, always in quotes.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's qualified name.
pub(crate) fn table(table: &TableId) -> String {
    format!("{}.{}", ident(&table.namespace), ident(&table.name))
}

/// A literal of a type that the server finds out by itself. Sessions pin `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(table(&TableId::new("a\"b", "C d")), "\"a\"\"b\".\"C d\"");
        assert_eq!(literal("o'clock \\"), "'o''clock \\'");
    }
}
