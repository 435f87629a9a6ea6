//! The outcomes as a picture: one bar a case, its length the share of the aim. It knows no case.

use std::fmt::Write as _;

use crate::report::figure;
use crate::results::Outcome;

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 330.0;
const LINE: f64 = 22.0;
/// Where the aim stands; longer bars are cut at the right edge.
const AIM: f64 = 330.0;

/// An SVG of all cases that have an aim.
pub(crate) fn svg(title: &str, machine: &str, outcomes: &[Outcome]) -> String {
    let bars: Vec<(&Outcome, f64)> =
        outcomes.iter().filter_map(|o| Some((o, o.share_of_aim()?))).collect();
    let height = 70.0 + LINE * bars.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">{}</text>\n\
         <text x=\"10\" y=\"38\" fill=\"#666\">{}</text>\n",
        escaped(title),
        escaped(machine),
    );
    for (n, (outcome, share)) in bars.iter().enumerate() {
        bar(&mut out, 52.0 + LINE * n as f64, outcome, *share);
    }
    let aim = LABELS + AIM;
    _ = writeln!(
        out,
        "<line x1=\"{aim}\" y1=\"46\" x2=\"{aim}\" y2=\"{}\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>\n\
         <text x=\"{}\" y=\"42\" fill=\"#333\">aim</text>\n</svg>",
        height - 14.0,
        aim - 10.0
    );
    out
}

fn bar(out: &mut String, y: f64, outcome: &Outcome, share: f64) {
    let length = (share * AIM).clamp(1.0, WIDTH - LABELS - 130.0);
    let colour = if share >= 1.0 { "#3a7d44" } else { "#c8553d" };
    _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
         <rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"15\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{}\" fill=\"#333\">{}</text>",
        LABELS - 8.0,
        y + 12.0,
        escaped(outcome.case.name),
        LABELS + length + 6.0,
        y + 12.0,
        escaped(&figure(outcome.value, outcome.case.unit)),
    );
}

/// A text as it may stand in XML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;
    use crate::results::Samples;

    #[test]
    fn every_case_with_an_aim_has_a_bar() {
        let mut samples = Samples::default();
        samples.push("load_narrow_ratio", 0.45, Cost::default());
        samples.push("fresh_p50_s", 0.5, Cost::default());
        samples.push("total_amplification", 3.0, Cost::default());
        let svg = svg("a & b", "two cores", &samples.outcomes());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &amp; b") && svg.contains("width=\"165.0\""), "{svg}");
        assert_eq!(svg.matches("fill=\"#3a7d44\"").count(), 1);
        assert!(!svg.contains("total_amplification"));
    }
}
