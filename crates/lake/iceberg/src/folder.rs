//! Where a new table's files go: a readable folder name that no other table ever had.
//!
//! Deliberately absent: moving a table. Its location is fixed when it is made.
use lakeward_core::{Result, TableId};
use uuid::Uuid;

use crate::commit::Committer;

/// The folder of a table that does not exist yet. A folder in which a table was committed before is not used again.
pub(crate) async fn choose(committer: &Committer) -> Result<String> {
    let folder = usual(&committer.table);
    let taken = committer.store.list(&format!("{folder}/metadata")).await?;
    if taken.is_empty() {
        return Ok(folder);
    }
    Ok(format!("{folder}-{}", &Uuid::new_v4().simple().to_string()[..8]))
}

/// The folder that a table gets when nothing stands in its way.
pub(crate) fn usual(table: &TableId) -> String {
    format!("{}/{}", part(&table.namespace), part(&table.name))
}

/// A name as one part of a path: letters, digits and `_ -` stay. Another character becomes `_`, and a fingerprint of the
/// whole name keeps different names apart.
fn part(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain: String = name.chars().map(|c| if keep(c) { c } else { '_' }).take(100).collect();
    let reserved = name.is_empty() || name.starts_with('_') || name == "metadata" || name == "data";
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
        assert_eq!(usual(&TableId::new("public", "order_items")), "public/order_items");
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
