//! The pipeline's state in the text format of Prometheus. Names are an interface: they do not change.
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use lakeward_engine::supervise::{Phase, StatusSnapshot, TablePhase, TableStatus};

/// The format's media type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

type Value = fn(&StatusSnapshot) -> Option<f64>;
type TableValue = fn(&TableStatus) -> Option<f64>;

/// Pipeline metrics: name, kind, help, value.
const PIPELINE: [(&str, &str, &str, Value); 10] = [
    ("lakeward_up", "gauge", "1 while the pipeline follows its source.", |s| {
        Some(f64::from(u8::from(matches!(s.phase, Phase::Running | Phase::Recovering))))
    }),
    ("lakeward_epoch", "gauge", "Last complete epoch.", |s| Some(s.epoch as f64)),
    ("lakeward_lag_bytes", "gauge", "Log between the lake and the source's head.", |s| {
        s.lag_bytes.map(|n| n as f64)
    }),
    ("lakeward_lag_seconds", "gauge", "Age of the oldest commit not yet in the lake.", |s| {
        s.lag_seconds
    }),
    ("lakeward_changes_total", "counter", "Changes that the log brought.", |s| {
        Some(s.changes as f64)
    }),
    ("lakeward_committed_bytes_total", "counter", "Bytes of rows committed.", |s| {
        Some(s.bytes as f64)
    }),
    ("lakeward_held_bytes", "gauge", "Memory of open transactions' rows.", |s| {
        Some(s.held_bytes as f64)
    }),
    ("lakeward_spilled_bytes", "gauge", "Disk of open transactions' rows.", |s| {
        Some(s.spilled_bytes as f64)
    }),
    ("lakeward_committed_at_seconds", "gauge", "When the last epoch was completed.", |s| {
        Some(s.committed_at?.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
    }),
    ("lakeward_tables", "gauge", "Tables of the pipeline.", |s| Some(s.tables.len() as f64)),
];

/// Table metrics: name, kind, help, value.
const TABLE: [(&str, &str, &str, TableValue); 4] = [
    ("lakeward_table_following", "gauge", "1 while the table follows the log.", |t| {
        Some(f64::from(u8::from(t.phase == TablePhase::Following)))
    }),
    ("lakeward_table_loaded_rows_total", "counter", "Rows that loads brought.", |t| {
        Some(t.rows_loaded as f64)
    }),
    ("lakeward_table_written_rows_total", "counter", "Rows that loads and log brought.", |t| {
        Some(t.rows_written as f64)
    }),
    ("lakeward_table_index_bytes", "gauge", "Memory of the table's key index.", |t| {
        Some(t.index_bytes as f64)
    }),
];

/// All metrics of a pipeline's sinks at one moment. A value that is not known is left out.
pub(crate) fn render(pipeline: &str, sinks: &[StatusSnapshot]) -> String {
    let mut out = String::new();
    let labels = |s: &StatusSnapshot| {
        format!("pipeline=\"{}\",sink=\"{}\"", escaped(pipeline), escaped(&s.sink))
    };
    for (name, kind, help, value) in PIPELINE {
        let known = || sinks.iter().filter_map(|s| Some((labels(s), value(s)?)));
        if known().next().is_some() {
            head(&mut out, name, kind, help);
        }
        for (labels, value) in known() {
            _ = writeln!(out, "{name}{{{labels}}} {value}");
        }
    }
    for (name, kind, help, value) in TABLE {
        head(&mut out, name, kind, help);
        for (sink, table) in sinks.iter().flat_map(|s| s.tables.iter().map(move |t| (s, t))) {
            if let Some(value) = value(table) {
                let (labels, table) = (labels(sink), escaped(&table.table));
                _ = writeln!(out, "{name}{{{labels},table=\"{table}\"}} {value}");
            }
        }
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_labels_and_leave_out_what_is_unknown() {
        let status = StatusSnapshot {
            sink: "ice".into(),
            phase: Phase::Running,
            epoch: 7,
            lag_seconds: Some(0.5),
            tables: vec![TableStatus {
                table: "public.\"t\"".into(),
                phase: TablePhase::Loading,
                chunks: None,
                rows_loaded: 12,
                rows_written: 20,
                load_eta_seconds: None,
                version: None,
                note: None,
                index_bytes: 0,
            }],
            ..StatusSnapshot::default()
        };
        let text = render("shop", &[status]);
        assert!(text.contains("\nlakeward_epoch{pipeline=\"shop\",sink=\"ice\"} 7\n"), "{text}");
        assert!(text.contains("\nlakeward_lag_seconds{pipeline=\"shop\",sink=\"ice\"} 0.5\n"));
        assert!(!text.contains("lakeward_lag_bytes"));
        assert!(text.contains(
            "\nlakeward_table_written_rows_total{pipeline=\"shop\",sink=\"ice\",table=\"public.\\\"t\\\"\"} 20\n"
        ));
        let names = text.lines().filter(|l| l.starts_with("# TYPE")).collect::<Vec<_>>();
        assert_eq!(names.len(), names.iter().collect::<std::collections::HashSet<_>>().len());
    }
}
