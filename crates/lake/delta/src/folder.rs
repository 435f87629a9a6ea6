//! Where a table's files go: its name as a path, safe for any name.
//!
//! Deliberately absent: moving a table. Readers know it by its folder.
use lakeward_core::TableId;

/// The folder of a table in the warehouse.
pub(crate) fn of(table: &TableId) -> String {
    format!("{}/{}", part(&table.namespace), part(&table.name))
}

/// A name as one part of a path: ASCII letters, digits and `_ -` stay. Another character becomes `_`, and a fingerprint of the
/// whole name keeps different names apart.
fn part(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain: String = name.chars().map(|c| if keep(c) { c } else { '_' }).take(100).collect();
    let reserved = name.is_empty() || name.starts_with('_') || name == "data";
    if plain == name && !reserved {
        return plain;
    }
    let print = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("t{plain}-{print:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart_and_inside_the_warehouse() {
        assert_eq!(of(&TableId::new("public", "order_items")), "public/order_items");
        let odd = ["a b", "a_b", "a/b", "..", "", "_lakeward", "é", "A b"];
        let parts: Vec<String> = odd.iter().map(|n| part(n)).collect();
        let apart: std::collections::HashSet<&String> = parts.iter().collect();
        assert_eq!(apart.len(), odd.len(), "{parts:?}");
        assert!(
            parts
                .iter()
                .all(|p| !p.is_empty() && !p.contains(['/', '.', ' ']) && !p.starts_with('_')),
            "{parts:?}"
        );
    }
}
