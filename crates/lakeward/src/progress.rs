//! How far a pipeline has come: a live table on a terminal, a line in the log elsewhere.
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakeward_engine::supervise::{Phase, StatusSnapshot, Statuses, TablePhase, TableStatus};

use crate::screen::Screen;

/// How often the table is drawn: as fast as one can read.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// How often a line is logged where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Speeds are averaged over this time.
const SPEED_OVER: Duration = Duration::from_secs(5);

/// More tables than this do not fit on a screen; those that need attention come first.
const TABLES_SHOWN_MAX: usize = 20;

/// Shows progress until it is dropped.
pub(crate) async fn show(pipeline: String, statuses: Arc<Statuses>, screen: Option<Screen>) {
    let every = if screen.is_some() { DRAW_EVERY } else { LOG_EVERY };
    // A state is drawn at once; a log line has something to say only after a while.
    let first = if screen.is_some() { Duration::ZERO } else { LOG_EVERY };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, every);
    let mut speeds: Vec<Speeds> = Vec::new();
    loop {
        ticks.tick().await;
        let sinks = statuses.snapshots();
        speeds.resize_with(sinks.len(), Speeds::default);
        for (speeds, snapshot) in speeds.iter_mut().zip(&sinks) {
            speeds.sample(Instant::now(), snapshot);
        }
        match &screen {
            Some(screen) => screen.show(render_all(&pipeline, &sinks, &speeds)),
            None => sinks.iter().zip(&speeds).for_each(|(s, speeds)| log(s, speeds)),
        }
    }
}

/// The last state, drawn once more when the pipeline has ended.
pub(crate) fn show_end(pipeline: &str, statuses: &Statuses, screen: Option<&Screen>) {
    if let Some(screen) = screen {
        let sinks = statuses.snapshots();
        let speeds: Vec<_> = sinks.iter().map(|_| Speeds::default()).collect();
        screen.show(render_all(pipeline, &sinks, &speeds));
    }
}

/// One table a sink; a sink of several is named.
fn render_all(pipeline: &str, sinks: &[StatusSnapshot], speeds: &[Speeds]) -> Vec<String> {
    let name = |s: &StatusSnapshot| match sinks.len() {
        0 | 1 => pipeline.to_owned(),
        _ => format!("{pipeline} → {}", s.sink),
    };
    sinks.iter().zip(speeds).flat_map(|(s, speeds)| render(&name(s), s, speeds)).collect()
}

fn log(s: &StatusSnapshot, speeds: &Speeds) {
    let following = s.tables.iter().filter(|t| t.phase == TablePhase::Following).count();
    tracing::info!(
        sink = s.sink,
        phase = phase_name(s.phase),
        epoch = s.epoch,
        position = s.position.as_deref().unwrap_or_default(),
        lag_bytes = s.lag_bytes,
        lag_seconds = s.lag_seconds,
        changes = s.changes,
        bytes = s.bytes,
        rows_per_second = speeds.all_rows(s),
        tables = s.tables.len(),
        tables_following = following,
        "progress"
    );
}

/// A look at the counters.
struct Sample {
    at: Instant,
    bytes: u64,
    rows: HashMap<String, u64>,
}

/// Speeds, from counters that only grow.
#[derive(Default)]
struct Speeds {
    samples: VecDeque<Sample>,
}

impl Speeds {
    fn sample(&mut self, at: Instant, s: &StatusSnapshot) {
        let rows = s.tables.iter().map(|t| (t.table.clone(), t.rows_written)).collect();
        self.samples.push_back(Sample { at, bytes: s.bytes, rows });
        while self.samples.len() > 2 && at.duration_since(self.samples[1].at) >= SPEED_OVER {
            self.samples.pop_front();
        }
    }

    fn per_second(&self, counter: impl Fn(&Sample) -> u64) -> Option<u64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        (seconds > 0.0)
            .then(|| (counter(last).saturating_sub(counter(first)) as f64 / seconds) as u64)
    }

    fn rows(&self, table: &str) -> Option<u64> {
        self.per_second(|sample| sample.rows.get(table).copied().unwrap_or(0))
    }

    fn all_rows(&self, s: &StatusSnapshot) -> Option<u64> {
        let names = || s.tables.iter().map(|t| t.table.as_str());
        self.per_second(|sample| names().filter_map(|name| sample.rows.get(name)).sum())
    }

    fn bytes(&self) -> Option<u64> {
        self.per_second(|sample| sample.bytes)
    }
}

/// The table's lines: one for the pipeline, one a table.
fn render(pipeline: &str, s: &StatusSnapshot, speeds: &Speeds) -> Vec<String> {
    let mut lines = vec![summary(pipeline, s, speeds)];
    if let Some(error) =
        s.last_error.as_deref().filter(|_| matches!(s.phase, Phase::Retrying | Phase::Stopped))
    {
        lines.push(format!("  {error}"));
    }
    let mut tables: Vec<&TableStatus> = s.tables.iter().collect();
    tables.sort_by_key(|t| t.phase == TablePhase::Following);
    let rows = tables.iter().take(TABLES_SHOWN_MAX).map(|t| table_row(t, speeds));
    let head = ["TABLE", "PHASE", "ROWS", "ROWS/S", "CHUNKS", "ETA", "NOTE"].map(str::to_owned);
    let grid: Vec<_> = std::iter::once(head).chain(rows).collect();
    lines.extend(align(&grid));
    if tables.len() > TABLES_SHOWN_MAX {
        lines.push(format!("  and {} more tables", tables.len() - TABLES_SHOWN_MAX));
    }
    lines
}

fn summary(pipeline: &str, s: &StatusSnapshot, speeds: &Speeds) -> String {
    let mut parts = vec![pipeline.to_owned(), phase_name(s.phase).to_owned()];
    parts.push(format!("epoch {}", s.epoch));
    if let Some(bytes) = s.lag_bytes {
        let seconds = s.lag_seconds.map(|n| format!(", {n:.1} s")).unwrap_or_default();
        parts.push(format!("lag {}{seconds}", human_bytes(bytes)));
    }
    if let Some(rows) = speeds.all_rows(s) {
        parts.push(format!("{} rows/s", grouped(rows)));
    }
    if let Some(bytes) = speeds.bytes() {
        parts.push(format!("{}/s", human_bytes(bytes)));
    }
    parts.push(format!("{} written", human_bytes(s.bytes)));
    if s.spilled_bytes > 0 {
        parts.push(format!("{} spilled", human_bytes(s.spilled_bytes)));
    }
    parts.join(" · ")
}

fn table_row(t: &TableStatus, speeds: &Speeds) -> [String; 7] {
    let unknown = || "-".to_owned();
    [
        t.table.clone(),
        table_phase_name(t.phase).to_owned(),
        grouped(t.rows_written),
        speeds.rows(&t.table).map_or_else(unknown, grouped),
        t.chunks.map_or_else(unknown, |(done, all)| format!("{done}/{all}")),
        t.load_eta_seconds.map_or_else(unknown, human_seconds),
        t.note.clone().unwrap_or_default(),
    ]
}

/// Columns as wide as their widest cell, numbers to the right; the first row is the head.
pub(crate) fn align<const N: usize>(grid: &[[String; N]]) -> Vec<String> {
    let width =
        |column: usize| grid.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let is_number = |cell: &str| cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
    let is_right = |column: usize| grid.iter().skip(1).all(|row| is_number(&row[column]));
    let right: [bool; N] = std::array::from_fn(is_right);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(right).map(|((cell, width), right)| {
            if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    grid.iter().map(line).collect()
}

/// The phase as it is printed everywhere.
pub(crate) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Recovering => "recovering",
        Phase::Running => "running",
        Phase::Retrying => "retrying",
        Phase::Stopped => "stopped",
        Phase::Draining => "draining",
        Phase::Ended => "ended",
    }
}

fn table_phase_name(phase: TablePhase) -> &'static str {
    match phase {
        TablePhase::Planning => "planning",
        TablePhase::Loading => "loading",
        TablePhase::Following => "following",
        TablePhase::Resyncing => "resyncing",
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn human_bytes(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", bytes as f64 / *factor as f64),
        None => format!("{bytes} B"),
    }
}

fn human_seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, phase: TablePhase, rows: u64) -> TableStatus {
        TableStatus {
            table: name.into(),
            phase,
            chunks: (phase == TablePhase::Loading).then_some((3, 10)),
            rows_loaded: rows,
            rows_written: rows,
            load_eta_seconds: (phase == TablePhase::Loading).then_some(75),
            version: None,
            note: None,
            index_bytes: 0,
        }
    }

    fn snapshot(rows: u64) -> StatusSnapshot {
        StatusSnapshot {
            phase: Phase::Running,
            epoch: 12,
            lag_bytes: Some(3 << 20),
            lag_seconds: Some(0.84),
            bytes: rows * 100,
            tables: vec![
                table("public.a", TablePhase::Following, 10),
                table("public.orders", TablePhase::Loading, rows),
            ],
            ..StatusSnapshot::default()
        }
    }

    #[test]
    fn the_table_shows_phase_rows_speed_lag_and_eta() {
        let (mut speeds, start) = (Speeds::default(), Instant::now());
        speeds.sample(start, &snapshot(1_000));
        speeds.sample(start + Duration::from_secs(2), &snapshot(1_234_000));
        let lines = render("shop", &snapshot(1_234_000), &speeds);
        assert_eq!(
            lines,
            [
                "shop · running · epoch 12 · lag 3.0 MiB, 0.8 s · 616,500 rows/s · 58.8 MiB/s · 117.7 MiB written",
                "  TABLE          PHASE           ROWS   ROWS/S  CHUNKS    ETA  NOTE",
                "  public.orders  loading    1,234,000  616,500    3/10  1m15s",
                "  public.a       following         10        0       -      -",
            ]
        );
    }

    #[test]
    fn speeds_forget_what_is_old() {
        let (mut speeds, start) = (Speeds::default(), Instant::now());
        for second in 0..20 {
            speeds.sample(start + Duration::from_secs(second), &snapshot(second.min(10) * 100));
        }
        assert_eq!(speeds.rows("public.orders"), Some(0));
        assert!(speeds.samples.len() <= 7);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_000_000)),
            ("0".into(), "999".into(), "1,000,000".into())
        );
        assert_eq!((human_bytes(512), human_bytes(1 << 30)), ("512 B".into(), "1.0 GiB".into()));
        assert_eq!((human_seconds(59), human_seconds(7_260)), ("59s".into(), "2h01m".into()));
    }
}
