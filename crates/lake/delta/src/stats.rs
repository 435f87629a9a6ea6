//! Statistics of a data file in the format's own JSON, by physical column name.
//!
//! Bounds are left out where the format could not hold them exactly enough to skip by: NaN among the values, dates beyond four
//! digits of year, bytes, booleans, lists. Deliberately absent: reading them, but for the number of rows.
use std::collections::HashMap;
use std::fmt::Write as _;

use arrow_schema::{DataType, TimeUnit};
use lakeward_files::{Bound, ColumnMetrics, DataFile};

use crate::schema::Shape;

const TIGHT: &str = r#""tightBounds":true"#;
const WIDE: &str = r#""tightBounds":false"#;
/// 0001-01-01 and 9999-12-31 in days since 1970-01-01: what readers can parse.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// The statistics of a file that was just written.
pub(crate) fn of(file: &DataFile, shape: &Shape) -> String {
    let by_id: HashMap<i32, &ColumnMetrics> =
        file.columns.iter().map(|c| (c.field_id, c)).collect();
    let (mut lower, mut upper, mut nulls) = (Object::new(), Object::new(), Object::new());
    for field in &shape.fields {
        let Some(column) = by_id.get(&field.id) else { continue };
        if let Some(count) = column.nulls {
            nulls.put(&field.physical, &count.to_string());
        }
        let bound = |bound: &Option<Bound>, end| match (bound, column.nans) {
            (Some(bound), None | Some(0)) => literal(bound, &field.data_type, end),
            _ => None,
        };
        // A reader that sees one bound alone may take the other for unknown or for NULL: both or none.
        let both = bound(&column.lower, End::Lower).zip(bound(&column.upper, End::Upper));
        if let Some((min, max)) = both {
            lower.put(&field.physical, &min);
            upper.put(&field.physical, &max);
        }
    }
    format!(
        r#"{{"numRecords":{},{TIGHT},"minValues":{},"maxValues":{},"nullCount":{}}}"#,
        file.rows,
        lower.end(),
        upper.end(),
        nulls.end()
    )
}

/// The same statistics for a file of which rows are deleted: its bounds still hold, and need not be reached.
pub(crate) fn widened(stats: Option<&str>, rows: u64) -> String {
    let Some(stats) = stats.map(str::trim).filter(|text| text.len() > 2) else {
        return format!(r#"{{"numRecords":{rows},{WIDE}}}"#);
    };
    // Neither text can stand inside a JSON string: its quotes would be escaped.
    if stats.contains(WIDE) {
        stats.to_owned()
    } else if stats.contains(TIGHT) {
        stats.replacen(TIGHT, WIDE, 1)
    } else {
        format!("{},{WIDE}}}", stats.strip_suffix('}').unwrap_or(stats))
    }
}

/// The number of rows that statistics name, deleted ones included.
pub(crate) fn rows(stats: Option<&str>) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: u64,
    }
    serde_json::from_str::<Rows>(stats?).ok().map(|rows| rows.num_records)
}

struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".into())
    }

    fn put(&mut self, name: &str, value: &str) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{comma}{}:{value}", quoted(name));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Lower,
    Upper,
}

fn literal(bound: &Bound, data_type: &DataType, end: End) -> Option<String> {
    Some(match (bound, data_type) {
        (Bound::Int(days), DataType::Date32) => date(i64::from(*days))?,
        (Bound::Int(value), DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            value.to_string()
        }
        (Bound::Long(value), DataType::Int64) => value.to_string(),
        (Bound::Long(micros), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            moment(*micros, zone.is_some(), end)?
        }
        (Bound::Float(value), DataType::Float32) if value.is_finite() => number(f64::from(*value)),
        (Bound::Double(value), DataType::Float64) if value.is_finite() => number(*value),
        (Bound::Decimal(value), DataType::Decimal128(_, scale)) => {
            decimal(*value, (*scale).try_into().ok()?)
        }
        (Bound::Text(text), DataType::Utf8) => quoted(text),
        _ => return None,
    })
}

fn number(value: f64) -> String {
    serde_json::Number::from_f64(value).map_or_else(|| "0".into(), |n| n.to_string())
}

fn decimal(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn date(days: i64) -> Option<String> {
    let (year, month, day) = civil(days)?;
    Some(format!("\"{year:04}-{month:02}-{day:02}\""))
}

/// Milliseconds are all that every reader parses: bounds are moved outwards to the next.
fn moment(micros: i64, utc: bool, end: End) -> Option<String> {
    let up = i64::from(end == End::Upper && micros.rem_euclid(1000) != 0);
    let millis = micros.div_euclid(1000) + up;
    let (year, month, day) = civil(millis.div_euclid(86_400_000))?;
    let of_day = millis.rem_euclid(86_400_000);
    let (seconds, fraction) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let zone = if utc { "Z" } else { "" };
    Some(format!(
        "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}{zone}\""
    ))
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> Option<(i64, i64, i64)> {
    if !DAYS.contains(&days) {
        return None;
    }
    // Years begin in March here: the leap day is their last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Some((era * 400 + year_of_era + i64::from(month <= 2), month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_readers_parse_them() {
        let (ntz, utc) = (
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        );
        let cases = [
            (Bound::Int(-1), DataType::Date32, End::Lower, Some("\"1969-12-31\"")),
            (Bound::Int(11_016), DataType::Date32, End::Lower, Some("\"2000-02-29\"")),
            (Bound::Int(3_000_000), DataType::Date32, End::Upper, None),
            (Bound::Long(-1), ntz.clone(), End::Lower, Some("\"1969-12-31T23:59:59.999\"")),
            (Bound::Long(-1), ntz, End::Upper, Some("\"1970-01-01T00:00:00.000\"")),
            (
                Bound::Long(1_700_000_000_000_001),
                utc,
                End::Upper,
                Some("\"2023-11-14T22:13:20.001Z\""),
            ),
            (Bound::Decimal(-5), DataType::Decimal128(9, 2), End::Lower, Some("-0.05")),
            (
                Bound::Decimal(i128::from(u64::MAX)),
                DataType::Decimal128(38, 0),
                End::Upper,
                Some("18446744073709551615"),
            ),
            (Bound::Float(f32::INFINITY), DataType::Float32, End::Upper, None),
            (Bound::Text("a\"b".into()), DataType::Utf8, End::Upper, Some(r#""a\"b""#)),
            (Bound::Bytes(vec![1]), DataType::Binary, End::Upper, None),
        ];
        for (bound, kind, end, text) in cases {
            assert_eq!(literal(&bound, &kind, end).as_deref(), text, "{bound:?}");
        }
    }

    #[test]
    fn deleted_rows_make_bounds_wide_whoever_wrote_them() {
        let stats =
            r#"{"numRecords":3,"tightBounds":true,"minValues":{"a":"\"tightBounds\":true"}}"#;
        let wide = widened(Some(stats), 3);
        assert_eq!(
            wide,
            r#"{"numRecords":3,"tightBounds":false,"minValues":{"a":"\"tightBounds\":true"}}"#
        );
        assert_eq!(widened(Some(&wide), 3), wide);
        assert_eq!(
            widened(Some(r#"{"numRecords":3}"#), 3),
            r#"{"numRecords":3,"tightBounds":false}"#
        );
        assert_eq!(widened(None, 3), r#"{"numRecords":3,"tightBounds":false}"#);
        assert_eq!(rows(Some(&wide)), Some(3));
    }
}
