//! Every trap that can be seen before anything runs, with what to type.
//!
//! Facts are gathered first; what they mean is decided by pure functions. Changes nothing on the server.
mod server;
mod tables;

use lakeward_core::{CheckReport, Finding, Result, Severity};

use crate::catalog::Catalog;

/// Gathers and judges. A server that cannot be reached, or refuses the login, is an error: its kind says whether to wait.
pub(crate) async fn check(catalog: &Catalog) -> Result<CheckReport> {
    let server = catalog.server().await?;
    let mut report = CheckReport { server: server.product.clone(), findings: Vec::new() };
    if let Some(finding) = server::unfit(&server) {
        report.findings.push(finding);
        return Ok(report);
    }
    let settings = catalog.settings();
    let mut session = catalog.session().await?;
    let facts = server::gather(&mut session).await?;
    report.findings.extend(server::judge(&facts, settings));
    let found = tables::gather(catalog, &mut session).await?;
    session.give_back();
    report.findings.extend(tables::judge(&found, settings));
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
