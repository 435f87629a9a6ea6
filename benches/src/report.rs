//! The outcomes for people and for programs: a table, a JSON file, two files side by side.

use std::fmt::Write as _;
use std::path::Path;

use lakeward_testkit::Result;
use serde_json::{Value, json};

use crate::cases::{Better, Case};
use crate::results::Outcome;

/// The file's content: the machine and one object a case.
pub(crate) fn json(machine: &str, outcomes: &[Outcome]) -> Value {
    let cases: Vec<Value> = outcomes.iter().map(case).collect();
    json!({ "machine": machine, "cases": cases })
}

fn case(outcome: &Outcome) -> Value {
    json!({
        "name": outcome.case.name,
        "value": outcome.value,
        "unit": outcome.case.unit,
        "aim": outcome.case.aim,
        "better": match outcome.case.better { Better::Higher => "higher", Better::Lower => "lower" },
        "limit": outcome.limit,
        "cpu_seconds": outcome.cpu.as_secs_f64(),
        "peak_rss_bytes": outcome.peak_rss,
        "rounds": outcome.rounds,
        "spread": outcome.spread,
    })
}

/// The table for people.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let head = ["CASE", "VALUE", "AIM", "", "LIMIT", "CPU s", "PEAK RSS", "SPREAD", "AGAINST"];
    let rows = outcomes.iter().map(row);
    align(std::iter::once(head.map(str::to_owned)).chain(rows).collect())
}

fn row(outcome: &Outcome) -> [String; 9] {
    let case = outcome.case;
    let sign = if case.better == Better::Higher { "≥" } else { "≤" };
    [
        case.name.to_owned(),
        figure(outcome.value, case.unit),
        case.aim.map_or_else(
            || "stated".to_owned(),
            |aim| format!("{sign} {}", figure(aim, case.unit)),
        ),
        verdict(outcome),
        outcome.limit.map_or_else(|| "-".to_owned(), |limit| limit_of(outcome.case, limit)),
        format!("{:.2}", outcome.cpu.as_secs_f64()),
        figure(outcome.peak_rss as f64, "bytes"),
        format!("{:.0} %", outcome.spread * 100.0),
        case.against.to_owned(),
    ]
}

fn verdict(outcome: &Outcome) -> String {
    match outcome.share_of_aim() {
        None => String::new(),
        Some(share) if share >= 1.0 => "met".to_owned(),
        Some(share) => format!("missed: {:.0} % of it", share * 100.0),
    }
}

/// What the limit gave: a rate, but where little is good the same figure.
fn limit_of(case: &Case, limit: f64) -> String {
    match case.better {
        Better::Higher => format!("{}/s", figure(limit, "")),
        Better::Lower => figure(limit, case.unit),
    }
}

/// A number that people can read: `1.92 M`, `312 MiB`, `0.853`.
pub(crate) fn figure(value: f64, unit: &str) -> String {
    let scaled = |units: [(&str, f64); 3]| {
        units
            .into_iter()
            .find(|(_, factor)| value.abs() >= *factor)
            .map(|(name, factor)| format!("{:.2} {name}", value / factor))
    };
    let text = match unit {
        "bytes" => scaled([("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1024.0)]),
        _ => scaled([("G", 1e9), ("M", 1e6), ("k", 1e3)]),
    };
    text.unwrap_or_else(|| format!("{value:.3}"))
}

/// Columns as wide as their widest cell.
fn align<const N: usize>(rows: Vec<[String; N]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// Two files side by side, with the ratio of the second to the first.
pub(crate) fn compare(first: &Path, second: &Path) -> Result<String> {
    let read = |path: &Path| -> Result<Value> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    };
    Ok(compared(&read(first)?, &read(second)?))
}

fn compared(first: &Value, second: &Value) -> String {
    let cases = |file: &Value| file["cases"].as_array().cloned().unwrap_or_default();
    let mut rows = vec![["CASE", "FIRST", "SECOND", "RATIO", ""].map(str::to_owned)];
    let others = cases(second);
    for a in cases(first) {
        let Some(b) = others.iter().find(|b| b["name"] == a["name"]) else { continue };
        rows.push(pair(&a, b));
    }
    align(rows)
}

fn pair(a: &Value, b: &Value) -> [String; 5] {
    let number = |case: &Value| case["value"].as_f64().unwrap_or(f64::NAN);
    let text = |case: &Value, key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let ratio = number(b) / number(a);
    let gain = if text(a, "better") == "higher" { ratio } else { 1.0 / ratio };
    let noise = [a, b].iter().filter_map(|c| c["spread"].as_f64()).fold(0.0, f64::max);
    let word = match gain {
        gain if (gain - 1.0).abs() <= noise => "within the spread",
        gain if gain > 1.0 => "better",
        _ => "worse",
    };
    let unit = text(a, "unit");
    [
        text(a, "name"),
        figure(number(a), &unit),
        figure(number(b), &unit),
        format!("{ratio:.3}"),
        word.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;
    use crate::results::Samples;

    fn outcomes(value: f64) -> Vec<Outcome> {
        let mut samples = Samples::default();
        samples.push_beside("load_narrow_ratio", value, Cost::default(), 2e6);
        samples.push("fresh_p50_s", 0.5, Cost::default());
        samples.outcomes()
    }

    #[test]
    fn the_file_has_the_promised_keys() {
        let file = json("two cores", &outcomes(0.5));
        assert_eq!(file["machine"], "two cores");
        let case = file["cases"][0].as_object().unwrap();
        let keys: Vec<&str> = case.keys().map(String::as_str).collect();
        let promised = [
            "aim",
            "better",
            "cpu_seconds",
            "limit",
            "name",
            "peak_rss_bytes",
            "rounds",
            "spread",
            "unit",
            "value",
        ];
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, promised);
        assert!(file["cases"][1]["limit"].is_null());
    }

    #[test]
    fn people_see_by_how_much_an_aim_was_missed() {
        let table = table(&outcomes(0.45));
        assert!(table.contains("missed: 50 % of it"), "{table}");
        assert!(table.contains("≤ 0.700") && table.contains("met"), "{table}");
        assert!(table.contains("2.00 M/s"), "{table}");
    }

    #[test]
    fn two_files_are_put_side_by_side() {
        let (a, b) = (json("m", &outcomes(0.4)), json("m", &outcomes(0.6)));
        let text = compared(&a, &b);
        assert!(text.contains("1.500") && text.contains("better"), "{text}");
        assert!(text.contains("within the spread"), "{text}");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(figure(1_920_000.0, "rows/CPU-s"), "1.92 M");
        assert_eq!(figure(536_870_912.0, "bytes"), "512.00 MiB");
        assert_eq!(figure(0.8534, "ratio"), "0.853");
    }
}
