//! Stacks as `perf script` prints them, folded and drawn: width is the share of samples, depth the depth of calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::plot::escaped;

const WIDTH: f64 = 1200.0;
const LINE: f64 = 17.0;
/// Narrower boxes cannot be seen.
const BOX_MIN: f64 = 0.6;
/// A letter's width, for cutting names to their boxes.
const LETTER: f64 = 6.6;

/// How often each stack was seen, outermost call first.
pub(crate) type Stacks = BTreeMap<Vec<String>, u64>;

/// Folds what `perf script -F comm,ip,sym` prints: a line with the thread's name, lines of calls from the innermost out, an
/// empty line.
pub(crate) fn fold(script: &str) -> Stacks {
    let mut stacks = Stacks::new();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(thread) = lines.next() else { continue };
        let mut stack: Vec<String> = lines.map(call).collect();
        stack.push(thread.trim().to_owned());
        stack.reverse();
        *stacks.entry(stack).or_default() += 1;
    }
    stacks
}

/// The function of a line `address name`, without the hash that the compiler adds.
fn call(line: &str) -> String {
    let name = line.trim().split_once(' ').map_or("?", |(_, name)| name);
    let plain = name.rsplit_once("::h").filter(|(_, hash)| hash.len() == 16);
    plain.map_or(name, |(plain, _)| plain).to_owned()
}

/// How many samples there are.
pub(crate) fn samples(stacks: &Stacks) -> u64 {
    stacks.values().sum()
}

/// A call and what it called.
#[derive(Default)]
struct Node {
    samples: u64,
    calls: BTreeMap<String, Node>,
}

/// The picture.
pub(crate) fn svg(stacks: &Stacks) -> String {
    let mut root = Node::default();
    for (stack, count) in stacks {
        let mut node = &mut root;
        node.samples += count;
        for name in stack {
            node = node.calls.entry(name.clone()).or_default();
            node.samples += count;
        }
    }
    let depth = stacks.keys().map(Vec::len).max().unwrap_or(0);
    let height = LINE * (depth as f64 + 2.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let scale = WIDTH / (root.samples.max(1) as f64);
    draw(&mut out, &root, 0.0, height - LINE, scale);
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, node: &Node, left: f64, y: f64, scale: f64) {
    let mut x = left;
    for (name, call) in &node.calls {
        let width = call.samples as f64 * scale;
        if width >= BOX_MIN {
            let shown: String = name.chars().take((width / LETTER) as usize).collect();
            let share = width / WIDTH * 100.0;
            _ = writeln!(
                out,
                "<g><title>{} ({share:.1} %)</title><rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" \
                 height=\"16\" fill=\"{}\" stroke=\"white\"/><text x=\"{:.1}\" y=\"{:.0}\">{}</text></g>",
                escaped(name),
                colour(name),
                x + 2.0,
                y + 12.0,
                escaped(&shown)
            );
            draw(out, call, x, y - LINE, scale);
        }
        x += width;
    }
}

/// One colour a name, warm, the same in every picture.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(17u32, |hash, byte| hash.wrapping_mul(31) + u32::from(byte));
    format!("rgb({},{},{})", 205 + hash % 50, 90 + hash / 50 % 120, 60 + hash / 6000 % 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_become_one_box() {
        let script = "tokio-worker\n\t1f inner::h0123456789abcdef\n\t2f outer<T>\n\n\
                      tokio-worker\n\t1f inner::h0123456789abcdef\n\t2f outer<T>\n\nother\n\t3f alone\n";
        let stacks = fold(script);
        assert_eq!(samples(&stacks), 3);
        let stack = ["tokio-worker", "outer<T>", "inner"].map(str::to_owned).to_vec();
        assert_eq!(stacks.get(&stack), Some(&2));
        let svg = svg(&stacks);
        assert!(svg.contains("outer&lt;T&gt; (66.7 %)"), "{svg}");
        assert_eq!(svg.matches("<g>").count(), 5);
    }
}
