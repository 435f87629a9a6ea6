//! What the server itself, its settings and the user's rights stand in the way of.
use std::collections::HashMap;

use lakeward_core::{Finding, Result};

use super::{refused, warning};
use crate::binlog::Flavour;
use crate::catalog::{Server, cell, rows};
use crate::config::Settings;
use crate::wire::Conn;

/// The oldest version whose log is understood: it has XA transactions whole.
const OLDEST: (u16, u16) = (10, 6);

/// A log that is kept for less may be gone after a weekend.
const KEPT_SECONDS_MIN: f64 = 86_400.0;

/// What decides whether the server can be followed.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Global variables by name, in lower case.
    variables: HashMap<String, String>,
    grants: Vec<String>,
}

impl Facts {
    fn value(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.value(name).eq_ignore_ascii_case(value)
    }

    fn on(&self, name: &str) -> bool {
        self.is(name, "ON") || self.is(name, "1")
    }

    fn number(&self, name: &str) -> f64 {
        self.value(name).parse().unwrap_or(0.0)
    }

    fn granted(&self, privileges: &[&str]) -> bool {
        self.grants.iter().any(|grant| {
            let Some((listed, _)) = grant.split_once(" ON *.* ") else { return false };
            privileges.iter().any(|privilege| {
                listed.strip_prefix("GRANT ").unwrap_or(listed).split(", ").any(|p| p == *privilege)
            })
        })
    }

    /// Whether rights come by a role, whose grants are not listed.
    fn by_role(&self) -> bool {
        self.grants.iter().any(|grant| !grant.contains(" ON "))
    }
}

/// Products and versions that are not understood.
pub(super) fn unfit(server: &Server) -> Option<Finding> {
    if server.flavour == Flavour::MySql {
        return Some(refused(
            "server",
            format!("{} is not supported: snapshots of MySQL are not read yet", server.product),
            "use a MariaDB server, 10.11 or 11.8",
        ));
    }
    (server.version < OLDEST).then(|| {
        let (major, minor) = OLDEST;
        refused(
            "server",
            format!("{} is older than {major}.{minor}", server.product),
            format!("upgrade the server to {major}.{minor} or later; 10.11 and 11.8 are tested"),
        )
    })
}

/// Asks for everything that [`judge`] wants to know.
pub(super) async fn gather(session: &mut Conn) -> Result<Facts> {
    let names = "'log_bin', 'binlog_format', 'binlog_row_metadata', 'binlog_row_image', 'server_id', \
        'gtid_strict_mode', 'binlog_expire_logs_seconds', 'expire_logs_days', 'max_binlog_total_size', \
        'sync_binlog', 'innodb_flush_log_at_trx_commit', 'wsrep_on', 'binlog_checksum'";
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
    let mut facts = Facts::default();
    for row in rows(session, &sql).await? {
        let (name, value): (String, String) = (cell(&row, 0)?, cell(&row, 1)?);
        facts.variables.insert(name.to_ascii_lowercase(), value);
    }
    for row in rows(session, "SHOW GRANTS").await? {
        facts.grants.push(cell(&row, 0)?);
    }
    Ok(facts)
}

/// What the facts mean.
pub(super) fn judge(facts: &Facts, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    log(facts, &mut findings);
    images(facts, &mut findings);
    keeping(facts, &mut findings);
    durability(facts, &mut findings);
    if facts.value("server_id") == settings.server_id.to_string() {
        findings.push(refused(
            "server_id",
            "the server itself has the number of the log's reader",
            "set another `server_id` in the source's options",
        ));
    }
    let privileges = ["REPLICATION SLAVE", "REPLICATION REPLICA", "SUPER", "ALL PRIVILEGES"];
    if !facts.granted(&privileges) && !facts.by_role() {
        findings.push(refused(
            "user",
            format!("{} may not read the log", settings.user),
            format!("GRANT REPLICATION SLAVE ON *.* TO '{}'@'…';", settings.user),
        ));
    }
    findings
}

fn log(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.on("log_bin") {
        findings.push(refused(
            "log_bin",
            "the server writes no binary log",
            "set `log_bin` in the server's configuration and restart it",
        ));
    }
    if !facts.is("binlog_format", "ROW") {
        findings.push(refused(
            "binlog_format",
            format!(
                "is {}: the log holds statements instead of rows",
                facts.value("binlog_format")
            ),
            "SET GLOBAL binlog_format = ROW; and reconnect every session that writes",
        ));
    }
    if !facts.on("gtid_strict_mode") {
        findings.push(warning(
            "gtid_strict_mode",
            "is off: a replica that was written to can number transactions out of order",
            "SET GLOBAL gtid_strict_mode = ON; and put it into the server's configuration",
        ));
    }
    if facts.on("wsrep_on") {
        findings.push(warning(
            "wsrep_on",
            "a Galera cluster was never tested as a source",
            "follow a replica of the cluster that is no member of it",
        ));
    }
}

fn images(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.is("binlog_row_metadata", "FULL") {
        findings.push(refused(
            "binlog_row_metadata",
            format!("is {}: the log does not name columns", facts.value("binlog_row_metadata")),
            "SET GLOBAL binlog_row_metadata = FULL; and put it into the server's configuration",
        ));
    }
    match facts.value("binlog_row_image").to_ascii_uppercase().as_str() {
        "FULL" => {}
        "MINIMAL" => findings.push(refused(
            "binlog_row_image",
            "is MINIMAL: columns that REPLACE and INSERT reset to their defaults are not in the log",
            "SET GLOBAL binlog_row_image = FULL; and reconnect every session that writes",
        )),
        other => findings.push(warning(
            "binlog_row_image",
            format!("is {other}: what the log leaves out is taken from the lake, which costs reads"),
            "SET GLOBAL binlog_row_image = FULL; and reconnect every session that writes",
        )),
    }
}

fn keeping(facts: &Facts, findings: &mut Vec<Finding>) {
    let seconds = match facts.number("binlog_expire_logs_seconds") {
        0.0 => facts.number("expire_logs_days") * 86_400.0,
        seconds => seconds,
    };
    if seconds > 0.0 && seconds < KEPT_SECONDS_MIN {
        findings.push(warning(
            "binlog_expire_logs_seconds",
            format!("the log is kept for {seconds} s: after a longer stop all tables must be loaded again"),
            "SET GLOBAL binlog_expire_logs_seconds = 604800;",
        ));
    }
    if facts.number("max_binlog_total_size") > 0.0 {
        findings.push(warning(
            "max_binlog_total_size",
            "the server removes its log by size, whether it was read or not",
            "make it large enough for the longest stop of the pipeline, or SET GLOBAL max_binlog_total_size = 0;",
        ));
    }
}

fn durability(facts: &Facts, findings: &mut Vec<Finding>) {
    for name in ["sync_binlog", "innodb_flush_log_at_trx_commit"] {
        if facts.value(name) != "1" {
            findings.push(warning(
                name,
                format!(
                    "is {}: a crash of the server's machine can lose transactions that the lake already has",
                    facts.value(name)
                ),
                format!("SET GLOBAL {name} = 1; and put it into the server's configuration"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use lakeward_core::Severity;

    use super::*;
    use crate::config::settings_with;

    fn facts(change: &[(&str, &str)]) -> Facts {
        let good = [
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_metadata", "FULL"),
            ("binlog_row_image", "FULL"),
            ("gtid_strict_mode", "ON"),
            ("server_id", "1"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
        ];
        let variables = good.iter().chain(change);
        Facts {
            variables: variables.map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            grants: vec!["GRANT SELECT, REPLICATION SLAVE ON *.* TO `u`@`%`".into()],
        }
    }

    fn found(facts: &Facts) -> Vec<(Severity, String)> {
        let settings = settings_with(serde_json::json!({}));
        judge(facts, &settings).into_iter().map(|f| (f.severity, f.about)).collect()
    }

    #[test]
    fn a_well_kept_server_has_no_findings() {
        assert_eq!(found(&facts(&[])), vec![]);
    }

    #[test]
    fn every_setting_that_loses_something_is_refused() {
        for (name, value) in [
            ("log_bin", "OFF"),
            ("binlog_format", "MIXED"),
            ("binlog_row_metadata", "NO_LOG"),
            ("binlog_row_image", "MINIMAL"),
        ] {
            assert_eq!(found(&facts(&[(name, value)])), [(Severity::Refused, name.to_owned())]);
        }
    }

    #[test]
    fn what_may_go_wrong_later_is_warned_of() {
        for (name, value) in [
            ("gtid_strict_mode", "OFF"),
            ("binlog_expire_logs_seconds", "600"),
            ("max_binlog_total_size", "1048576"),
            ("sync_binlog", "0"),
            ("binlog_row_image", "NOBLOB"),
        ] {
            assert_eq!(found(&facts(&[(name, value)])), [(Severity::Warning, name.to_owned())]);
        }
    }

    #[test]
    fn rights_are_read_from_grants_on_everything() {
        let with = |grant: &str| Facts { grants: vec![grant.into()], ..facts(&[]) };
        assert_eq!(found(&with("GRANT ALL PRIVILEGES ON *.* TO `u`@`%`")), vec![]);
        assert_eq!(found(&with("GRANT `reader` TO `u`@`%`")), vec![]);
        let refused = vec![(Severity::Refused, "user".to_owned())];
        assert_eq!(found(&with("GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`")), refused);
        assert_eq!(found(&with("GRANT USAGE ON *.* TO `u`@`%`")), refused);
    }
}
