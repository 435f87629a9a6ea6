//! Every trap that can be seen before anything runs, with what to type.
//!
//! Facts are gathered first; what they mean is decided by pure functions. Changes nothing on the server.
mod server;
mod tables;

use lakeward_core::{CheckReport, Finding, Result, Severity};

use crate::catalog::Catalog;
use crate::discover;

/// Gathers and judges. A server that cannot be reached, or refuses the login, is an error: its kind says whether to wait.
pub(crate) async fn check(catalog: &Catalog) -> Result<CheckReport> {
    let session = catalog.session().await?;
    let settings = catalog.settings();
    let version = server::version(&session).await?;
    let mut report = CheckReport { server: version.product.clone(), findings: Vec::new() };
    if let Some(finding) = server::too_old(&version) {
        report.findings.push(finding);
        return Ok(report);
    }
    let facts = server::gather(&session, settings, version).await?;
    report.findings.extend(server::judge(&facts, settings));

    let found = discover::candidates(&session, &settings.selection).await?;
    let oids: Vec<u32> = found.iter().map(|c| c.oid).collect();
    let described = catalog.describe_by(&session, &oids).await?;
    let published = tables::published(&session, &settings.publication).await?;
    report.findings.extend(tables::judge(&found, &described, &published));
    report.findings.extend(tables::patterns(&found, &settings.selection));
    report.findings.sort_by_key(|f| std::cmp::Reverse(f.severity as u8));
    Ok(report)
}

fn finding(
    severity: Severity,
    about: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity, about: about.into(), message: message.into(), remedy: remedy.into() }
}

fn refused(
    about: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    finding(Severity::Refused, about, message, remedy)
}

fn warning(
    about: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    finding(Severity::Warning, about, message, remedy)
}

fn note(
    about: impl Into<String>,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    finding(Severity::Note, about, message, remedy)
}
