//! What stands in the way of following each selected table.
use lakeward_core::{Finding, Result, Selection, TablePattern};

use super::{note, refused, warning};
use crate::catalog::{Catalog, CatalogColumn, Described};
use crate::config::Settings;
use crate::discover::{Obstacle, cascades, obstacle, readable};
use crate::wire::Conn;

/// A selected table, and what must be asked of it alone.
#[derive(Debug, Clone)]
pub(super) struct Found {
    described: Described,
    readable: bool,
    cascades: bool,
}

/// Asks.
pub(super) async fn gather(catalog: &Catalog, session: &mut Conn) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for described in catalog.selected(session).await? {
        let is_table = obstacle(&described).is_none();
        let readable = !is_table || readable(session, &described.table).await?;
        let cascades = is_table && readable && cascades(session, &described.table).await?;
        found.push(Found { described, readable, cascades });
    }
    Ok(found)
}

/// What that means.
pub(super) fn judge(found: &[Found], settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in found {
        match obstacle(&one.described) {
            Some(obstacle) => findings.push(hindered(&one.described, &obstacle)),
            None => table(one, settings, &mut findings),
        }
    }
    findings
}

fn hindered(described: &Described, obstacle: &Obstacle) -> Finding {
    let about = described.table.to_string();
    match obstacle {
        Obstacle::NotATable => note(
            about,
            format!(
                "is no plain table ({}) and is not followed",
                described.table_type.to_lowercase()
            ),
            "nothing, or exclude it to silence this note",
        ),
        Obstacle::Engine(engine) => refused(
            about,
            format!("its engine {engine} gives no snapshot that fits the log"),
            format!("ALTER TABLE {} ENGINE = InnoDB; or exclude the table", described.table),
        ),
        Obstacle::NoColumns => {
            note(about, "has no column that can be followed", "exclude it to silence this note")
        }
        Obstacle::Cascades => cascading(about, false),
    }
}

fn cascading(about: String, allowed: bool) -> Finding {
    let message = "foreign keys of it change its rows (CASCADE, SET NULL, SET DEFAULT), and the server does not log that";
    if allowed {
        let remedy = "nothing: `allow_cascades` is set. The lake keeps such rows as they were until the table is loaded again";
        return warning(about, message, remedy);
    }
    let remedy = "drop the rule and delete the rows by statements, exclude the table, or set `allow_cascades: true`";
    refused(about, message, remedy)
}

fn table(one: &Found, settings: &Settings, findings: &mut Vec<Finding>) {
    let described = &one.described;
    let about = || described.table.to_string();
    if !one.readable {
        findings.push(refused(
            about(),
            format!("{} may not read it", settings.user),
            format!("GRANT SELECT ON {} TO '{}'@'…';", described.table, settings.user),
        ));
    }
    if one.cascades {
        findings.push(cascading(about(), settings.allow_cascades));
    }
    if described.key.is_empty() {
        findings.push(note(
            about(),
            "has no key: a row is told from others by all its values, and the load cannot be resumed",
            "add a primary key",
        ));
    }
    for column in &described.columns {
        findings.extend(self::column(described, column, settings));
    }
}

fn column(described: &Described, column: &CatalogColumn, settings: &Settings) -> Option<Finding> {
    let about = format!("{}.{}", described.table, column.name);
    let in_key = described.key.contains(&column.name);
    if column.generated {
        return Some(match in_key {
            true => warning(
                about,
                "is computed and part of the key: computed columns are not followed, so the table has no key",
                "choose a key of stored columns",
            ),
            false => note(about, "is computed from other columns and not followed", "nothing"),
        });
    }
    match &column.kind {
        Err(unsupported) => Some(refused(
            about,
            unsupported.to_string(),
            "convert the column (text: CHARACTER SET utf8mb4), or exclude the table",
        )),
        Ok(kind) if kind.lands_as_text(settings.unrepresentable) => {
            Some(note(about, format!("{kind} lands as text"), "nothing"))
        }
        Ok(_) => None,
    }
}

/// Patterns that match nothing.
pub(super) fn patterns(found: &[Found], selection: &Selection) -> Vec<Finding> {
    let idle =
        |pattern: &&TablePattern| !found.iter().any(|one| pattern.matches(&one.described.table));
    selection
        .tables
        .iter()
        .filter(idle)
        .map(|pattern| {
            let (about, message) = (format!("tables: {pattern}"), "no table matches this pattern");
            let remedy = "correct the pattern, create the table (it is followed when it comes), or grant SELECT on it";
            if pattern.to_string().contains('*') {
                warning(about, message, remedy)
            } else {
                refused(about, message, remedy)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use lakeward_core::{Severity, TableId};

    use super::*;
    use crate::config::settings_with;
    use crate::types::Kind;

    fn found(change: impl FnOnce(&mut Found)) -> Found {
        let column = |name: &str, declared: &str| CatalogColumn {
            name: name.into(),
            kind: Kind::of_catalogue(declared, None),
            nullable: false,
            generated: false,
        };
        let described = Described {
            table: TableId::new("shop", "t"),
            table_type: "BASE TABLE".into(),
            engine: "InnoDB".into(),
            columns: vec![column("id", "int"), column("a", "varchar(9)")],
            key: vec!["id".into()],
        };
        let mut found = Found { described, readable: true, cascades: false };
        change(&mut found);
        found
    }

    fn worst(found: Found, options: serde_json::Value) -> Option<Severity> {
        judge(&[found], &settings_with(options))
            .into_iter()
            .map(|f| f.severity)
            .max_by_key(|s| *s as u8)
    }

    #[test]
    fn each_trap_has_its_severity() {
        let none = || serde_json::json!({});
        assert_eq!(worst(found(|_| ()), none()), None);
        assert_eq!(worst(found(|f| f.cascades = true), none()), Some(Severity::Refused));
        let allowed = serde_json::json!({"allow_cascades": true});
        assert_eq!(worst(found(|f| f.cascades = true), allowed), Some(Severity::Warning));
        assert_eq!(worst(found(|f| f.readable = false), none()), Some(Severity::Refused));
        let engine = found(|f| f.described.engine = "Aria".into());
        assert_eq!(worst(engine, none()), Some(Severity::Refused));
        let view = found(|f| f.described.table_type = "VIEW".into());
        assert_eq!(worst(view, none()), Some(Severity::Note));
        assert_eq!(worst(found(|f| f.described.key.clear()), none()), Some(Severity::Note));
        let generated_key = found(|f| f.described.columns[0].generated = true);
        assert_eq!(worst(generated_key, none()), Some(Severity::Warning));
        let odd =
            found(|f| f.described.columns[1].kind = Kind::of_catalogue("char(3)", Some("sjis")));
        assert_eq!(worst(odd, none()), Some(Severity::Refused));
    }

    #[test]
    fn a_pattern_without_a_table_is_found() {
        let settings = settings_with(serde_json::json!({"tables": ["shop.t", "shop.x", "y.*"]}));
        let severities: Vec<_> =
            patterns(&[found(|_| ())], &settings.selection).iter().map(|f| f.severity).collect();
        assert_eq!(severities, [Severity::Refused, Severity::Warning]);
    }
}
