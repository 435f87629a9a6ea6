//! What the server itself, its settings, and an existing slot or publication stand in the way of.
use lakeward_core::{Finding, Result};

use super::{note, refused, warning};
use crate::catalog::cell;
use crate::config::Settings;
use crate::connect::{Session, sql_error};
use crate::quote::ident;
use crate::setup::{self, Publication, Slot};

/// The oldest version whose `pgoutput` streams open transactions.
const OLDEST: i32 = 14;

/// What the server says it is.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) product: String,
    pub(super) major: i32,
}

/// What decides whether it can be followed.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    version: Version,
    wal_level: String,
    standby: bool,
    slots_free: i64,
    senders_free: i64,
    may_replicate: bool,
    may_create: bool,
    /// MiB; -1: without limit.
    slot_keep_mib: i64,
    /// `idle_replication_slot_timeout`, as the server prints it; `0`: never.
    idle_timeout: String,
    slot: Option<Slot>,
    publication: Option<Publication>,
}

/// Asks for the version.
pub(super) async fn version(session: &Session) -> Result<Version> {
    let sql = "SELECT 'PostgreSQL ' || current_setting('server_version')";
    let row = session.query_one(sql, &[]).await.map_err(sql_error)?;
    Ok(Version { product: cell(&row, 0)?, major: setup::major(session).await? })
}

/// Older servers lack what the other questions ask for.
pub(super) fn too_old(version: &Version) -> Option<Finding> {
    (version.major < OLDEST).then(|| {
        refused(
            "server",
            format!("{} is older than {OLDEST}", version.product),
            format!("upgrade the server to {OLDEST} or later"),
        )
    })
}

const FACTS: &str = "\
    SELECT current_setting('wal_level') AS wal_level, pg_is_in_recovery() AS standby, \
           current_setting('max_replication_slots')::int8 \
             - (SELECT count(*) FROM pg_replication_slots) AS slots_free, \
           current_setting('max_wal_senders')::int8 \
             - (SELECT count(*) FROM pg_stat_replication) AS senders_free, \
           (SELECT r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_roles g \
                WHERE g.rolname = 'rds_replication' AND pg_has_role(g.oid, 'USAGE')) \
              FROM pg_roles r WHERE r.rolname = current_user) AS may_replicate, \
           has_database_privilege(current_database(), 'CREATE') AS may_create, \
           (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS slot_keep_mib, \
           coalesce(current_setting('idle_replication_slot_timeout', true), '0') AS idle_timeout";

/// Asks for everything that [`judge`] wants to know.
pub(super) async fn gather(
    session: &Session,
    settings: &Settings,
    version: Version,
) -> Result<Facts> {
    let row = session.query_one(FACTS, &[]).await.map_err(sql_error)?;
    Ok(Facts {
        version,
        wal_level: cell(&row, "wal_level")?,
        standby: cell(&row, "standby")?,
        slots_free: cell(&row, "slots_free")?,
        senders_free: cell(&row, "senders_free")?,
        may_replicate: cell(&row, "may_replicate")?,
        may_create: cell(&row, "may_create")?,
        slot_keep_mib: cell(&row, "slot_keep_mib")?,
        idle_timeout: cell(&row, "idle_timeout")?,
        slot: setup::slot(session, &settings.slot).await?,
        publication: setup::publication(session, &settings.publication).await?,
    })
}

/// What the facts mean.
pub(super) fn judge(facts: &Facts, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    settings_of_server(facts, &mut findings);
    rights(facts, settings, &mut findings);
    if let Some(slot) = &facts.slot {
        existing_slot(slot, settings, &mut findings);
    }
    if let Some(publication) = &facts.publication {
        existing_publication(publication, settings, &mut findings);
    }
    findings
}

fn settings_of_server(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.standby {
        let message =
            format!("{} is a standby; a publication needs its primary", facts.version.product);
        findings.push(refused("server", message, "set `host` to the primary"));
    }
    if facts.wal_level != "logical" {
        findings.push(refused(
            "wal_level",
            format!("is `{}`: the log lacks what decoding needs", facts.wal_level),
            "ALTER SYSTEM SET wal_level = logical; then restart the server",
        ));
    }
    if facts.slots_free < 1 && facts.slot.is_none() {
        findings.push(refused(
            "max_replication_slots",
            "all replication slots are in use",
            "drop unused slots (pg_replication_slots), or raise max_replication_slots and restart the server",
        ));
    }
    if facts.senders_free < 1 && facts.slot.as_ref().is_none_or(|s| s.active_pid.is_none()) {
        findings.push(refused(
            "max_wal_senders",
            "all walsender processes are in use",
            "raise max_wal_senders and restart the server",
        ));
    }
    if facts.slot_keep_mib < 0 {
        findings.push(note(
            "max_slot_wal_keep_size",
            "is not set: while the pipeline stands still, the server keeps log without limit",
            "watch the disk, or ALTER SYSTEM SET max_slot_wal_keep_size = '100GB' (past it tables are loaded again)",
        ));
    } else {
        findings.push(note(
            "max_slot_wal_keep_size",
            format!(
                "a pipeline that falls {} MiB behind must load its tables again",
                facts.slot_keep_mib
            ),
            "raise max_slot_wal_keep_size if that is less than a day of log",
        ));
    }
    if !facts.idle_timeout.starts_with('0') {
        findings.push(warning(
            "idle_replication_slot_timeout",
            format!(
                "a pipeline that stands still for {} must load its tables again",
                facts.idle_timeout
            ),
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0",
        ));
    }
}

fn rights(facts: &Facts, settings: &Settings, findings: &mut Vec<Finding>) {
    if !facts.may_replicate {
        findings.push(refused(
            "user",
            format!("`{}` may not read the log", settings.user),
            format!("ALTER ROLE {} REPLICATION", ident(&settings.user)),
        ));
    }
    if !facts.may_create && facts.publication.is_none() {
        findings.push(refused(
            "user",
            format!("`{}` may not make the publication `{}`", settings.user, settings.publication),
            format!(
                "GRANT CREATE ON DATABASE {} TO {}, or make the publication as another user",
                ident(&settings.database),
                ident(&settings.user)
            ),
        ));
    }
}

fn existing_slot(slot: &Slot, settings: &Settings, findings: &mut Vec<Finding>) {
    let about = format!("slot {}", settings.slot);
    let remedy = format!(
        "set another `slot`, or drop it: SELECT pg_drop_replication_slot('{}')",
        settings.slot
    );
    if let Some(why) = slot.misfit(&settings.database) {
        return findings.push(refused(about, format!("cannot be used: {why}"), remedy));
    }
    if slot.is_lost() {
        return findings.push(refused(
            about,
            "the server has removed log that the pipeline needed",
            "drop the slot as `lakeward drop` does, then load again: `lakeward resync`",
        ));
    }
    if slot.wal_status.as_deref() == Some("unreserved") {
        findings.push(warning(
            about.clone(),
            "the server is about to remove log that the pipeline needs",
            "run the pipeline now, or raise max_slot_wal_keep_size",
        ));
    }
    if let Some(pid) = slot.active_pid {
        findings.push(warning(
            about,
            format!("is being read by process {pid}"),
            "stop the other pipeline before this one is started",
        ));
    }
}

fn existing_publication(found: &Publication, settings: &Settings, findings: &mut Vec<Finding>) {
    let Some(why) = found.misfit() else { return };
    let tables: Vec<String> = found.partial.iter().map(ToString::to_string).collect();
    let list = if tables.is_empty() { String::new() } else { format!(": {}", tables.join(", ")) };
    findings.push(refused(
        format!("publication {}", settings.publication),
        format!("cannot be used: {why}{list}"),
        "set another `publication`, or drop this one and let the pipeline make its own",
    ));
}

#[cfg(test)]
mod tests {
    use lakeward_core::Severity;
    use serde_json::json;

    use super::*;
    use crate::config::settings_with;

    fn fit() -> Facts {
        Facts {
            version: Version { product: "PostgreSQL 16.1".into(), major: 16 },
            wal_level: "logical".into(),
            standby: false,
            slots_free: 1,
            senders_free: 1,
            may_replicate: true,
            may_create: true,
            slot_keep_mib: 1024,
            idle_timeout: "0".into(),
            slot: None,
            publication: None,
        }
    }

    fn slot() -> Slot {
        Slot {
            plugin: Some("pgoutput".into()),
            database: Some("postgres".into()),
            temporary: false,
            two_phase: false,
            active_pid: None,
            wal_status: Some("reserved".into()),
            confirmed: Some(7),
        }
    }

    /// What is worse than a note, by what it is about.
    fn worse(facts: &Facts) -> Vec<(String, Severity)> {
        let findings = judge(facts, &settings_with(json!({})));
        assert!(findings.iter().all(|f| !f.remedy.is_empty()));
        let worse = findings.into_iter().filter(|f| f.severity != Severity::Note);
        worse.map(|f| (f.about, f.severity)).collect()
    }

    /// What a fit server becomes.
    type Change = fn(&mut Facts);

    #[test]
    fn each_fact_has_its_finding() {
        assert_eq!(worse(&fit()), []);
        let (refused, warning) = (Severity::Refused, Severity::Warning);
        let cases: [(Change, &str, Severity); 10] = [
            (|f| f.standby = true, "server", refused),
            (|f| f.wal_level = "replica".into(), "wal_level", refused),
            (|f| f.slots_free = 0, "max_replication_slots", refused),
            (|f| f.senders_free = 0, "max_wal_senders", refused),
            (|f| f.may_replicate = false, "user", refused),
            (|f| f.may_create = false, "user", refused),
            (|f| f.idle_timeout = "1d".into(), "idle_replication_slot_timeout", warning),
            (|f| f.slot = Some(Slot { temporary: true, ..slot() }), "slot lakeward_shop", refused),
            (
                |f| f.slot = Some(Slot { wal_status: Some("lost".into()), ..slot() }),
                "slot lakeward_shop",
                refused,
            ),
            (
                |f| f.slot = Some(Slot { wal_status: Some("unreserved".into()), ..slot() }),
                "slot lakeward_shop",
                warning,
            ),
        ];
        for (change, about, severity) in cases {
            let mut facts = fit();
            change(&mut facts);
            assert_eq!(worse(&facts), [(about.to_owned(), severity)]);
        }
    }

    #[test]
    fn a_slot_that_is_ours_needs_no_free_one() {
        let facts = Facts { slots_free: 0, slot: Some(slot()), ..fit() };
        assert_eq!(worse(&facts), []);
    }

    #[test]
    fn old_servers_are_refused() {
        let version = |major| Version { product: format!("PostgreSQL {major}.1"), major };
        assert_eq!(too_old(&version(13)).map(|f| f.severity), Some(Severity::Refused));
        assert_eq!(too_old(&version(14)), None);
    }
}
