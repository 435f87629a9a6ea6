//! `lakeward check`: every finding of source and lake with its remedy. Changes nothing.
use clap::Args;
use lakeward_core::{CheckReport, Finding, Severity};
use serde_json::json;

use super::{FileArg, out};
use crate::exit::{Failure, OPERATOR};
use crate::loaded::{self, OpenedSink};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lakeward check shop.yaml
  lakeward check shop.yaml --json

Exit status 1 when a finding is `refused`: the pipeline would not start.")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: FileArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: CheckArgs) -> Result<(), Failure> {
    let opened = loaded::load(&args.file.file)?.open().await?;
    let source = opened.source.check().await?;
    let mut reports = vec![("source".to_owned(), source)];
    for OpenedSink { sink, env } in &opened.sinks {
        let part =
            if opened.sinks.len() > 1 { format!("sink {}", env.name) } else { "sink".into() };
        reports.push((part, sink.check().await?));
    }
    if args.json {
        let report: serde_json::Map<_, _> =
            reports.iter().map(|(part, report)| (part.clone(), json!(report))).collect();
        out::json(&report)?;
    } else {
        print(&reports);
    }
    if refused(&reports).next().is_some() { Err(Failure::Told(OPERATOR)) } else { Ok(()) }
}

type Reports = [(String, CheckReport)];

fn refused(reports: &Reports) -> impl Iterator<Item = &Finding> {
    let findings = reports.iter().flat_map(|(_, report)| &report.findings);
    findings.filter(|f| f.severity == Severity::Refused)
}

fn print(reports: &Reports) {
    for (part, report) in reports {
        out::line(&format!("{part}: {}", report.server));
        for text in report.findings.iter().map(words) {
            out::line(&text);
        }
    }
    let n = refused(reports).count();
    let verdict = if n == 0 { "nothing in the way".to_owned() } else { format!("{n} refused") };
    out::line(&verdict);
}

/// A finding as people read it.
fn words(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Refused => "refused",
    };
    let Finding { about, message, remedy, .. } = finding;
    let remedy = if remedy.is_empty() { String::new() } else { format!("\n    remedy: {remedy}") };
    format!("  {severity}: {about}: {message}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_to_type() {
        let finding = Finding {
            severity: Severity::Refused,
            about: "public.t".into(),
            message: "has no replica identity".into(),
            remedy: "ALTER TABLE public.t REPLICA IDENTITY FULL".into(),
        };
        assert_eq!(
            words(&finding),
            "  refused: public.t: has no replica identity\n    remedy: ALTER TABLE public.t REPLICA IDENTITY FULL"
        );
    }
}
