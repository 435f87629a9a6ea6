//! What the source text itself must and must not contain.

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are more than one thought.
const LINES_MAX: usize = 900;

/// Folders whose code ships.
const PRODUCT: &[&str] = &[
    "crates/core",
    "crates/source",
    "crates/engine",
    "crates/lake",
    "crates/sink",
    "crates/lakeward",
];

/// A text that must not stand in code, where it is allowed all the same, and why.
struct Banned {
    text: &'static str,
    except: &'static [&'static str],
    product_only: bool,
    why: &'static str,
}

const BANNED: &[Banned] = &[
    Banned {
        text: concat!("process::", "exit("),
        except: &["crates/lakeward/src/exit.rs", "crates/lakeward/src/main.rs", "xtask/"],
        product_only: false,
        why: "return an exit code to main: destructors must run",
    },
    Banned {
        text: concat!("process::", "abort("),
        except: &["crates/core/src/kill.rs", "crates/lakeward/src/main.rs"],
        product_only: false,
        why: "only a kill point dies like this",
    },
    Banned {
        text: concat!("unbounded_", "channel("),
        except: &[],
        product_only: false,
        why: "every queue has a bound",
    },
    Banned {
        text: concat!("std::sync::", "mpsc::channel("),
        except: &[],
        product_only: false,
        why: "every queue has a bound",
    },
    Banned {
        text: concat!("std::thread::", "sleep("),
        except: &["crates/core/src/kill.rs"],
        product_only: true,
        why: "it blocks a worker of the runtime",
    },
    Banned {
        text: concat!("TO", "DO"),
        except: &[],
        product_only: false,
        why: "a known gap is a page in docs/gaps",
    },
    Banned {
        text: concat!("FIX", "ME"),
        except: &[],
        product_only: false,
        why: "a known gap is a page in docs/gaps",
    },
];

/// Findings in all files.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let code =
        files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs" || ext == "py"));
    code.flat_map(|file| match fs::read_to_string(root.join(file)) {
        Ok(text) => check_file(&file.to_string_lossy(), &text),
        Err(error) => vec![format!("{}: {error}", file.display())],
    })
    .collect()
}

fn check_file(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let (opening, opened) = if file.ends_with(".py") {
        ("\"\"\"", text.starts_with("\"\"\""))
    } else {
        ("//!", text.starts_with("//!"))
    };
    if !opened {
        findings.push(format!(
            "{file}: does not open with {opening}: what it is for, and what it does not do"
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(format!("{file}: {lines} lines, more than {LINES_MAX}"));
    }
    findings.extend(banned(file, text));
    findings.extend(allows(file, text));
    findings
}

fn banned(file: &str, text: &str) -> Vec<String> {
    let product = PRODUCT.iter().any(|room| file.starts_with(room)) && !file.contains("/tests/");
    let applies = |ban: &&Banned| {
        (product || !ban.product_only) && !ban.except.iter().any(|place| file.starts_with(place))
    };
    let hits = BANNED.iter().filter(applies).flat_map(|ban| {
        text.lines()
            .enumerate()
            .filter(|(_, line)| line.contains(ban.text))
            .map(|(n, _)| format!("{file}:{}: {}: {}", n + 1, ban.text, ban.why))
    });
    hits.collect()
}

/// Every `allow` or `expect` of a lint says why.
fn allows(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for word in [concat!("al", "low("), concat!("ex", "pect(")] {
        for (at, _) in text.match_indices(word) {
            let before = &text[..at];
            let line_start = before.rfind('\n').map_or(0, |n| n + 1);
            let in_attribute = is_attribute(&text[..at], line_start);
            let end = text[at..].find(")]").map_or(text.len(), |n| at + n);
            if in_attribute && !text[at..end].contains("reason") {
                let line = before.matches('\n').count() + 1;
                findings.push(format!("{file}:{line}: {word}…) without a reason"));
            }
        }
    }
    findings
}

/// True if the text up to here ends inside an attribute: `#[…`, `#![…`, or `cfg_attr(…,` lines above.
fn is_attribute(before: &str, line_start: usize) -> bool {
    let line = before[line_start..].trim_start();
    if line.starts_with("#[") || line.starts_with("#![") {
        return true;
    }
    line.is_empty()
        && before
            .rfind("#![cfg_attr(")
            .or(before.rfind("#[cfg_attr("))
            .is_some_and(|at| !before[at..].contains(")]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_is_for() {
        assert!(check_file("crates/core/src/a.rs", "//! It is.\n").is_empty());
        assert_eq!(check_file("crates/core/src/a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(check_file("tests/a.py", "import os\n").len(), 1);
    }

    #[test]
    fn a_banned_call_is_found_where_it_is_banned() {
        let text = format!("//! x\nfn a() {{ std::{}1) }}\n", BANNED[0].text);
        assert_eq!(check_file("crates/engine/src/a.rs", &text).len(), 1);
        assert!(check_file("xtask/src/a.rs", &text).is_empty());
    }

    #[test]
    fn an_allow_needs_a_reason() {
        let bare = "//! x\n#[allow(dead_code)]\nfn a() {}\n";
        let told = "//! x\n#[allow(dead_code, reason = \"kept\")]\nfn a() {}\n";
        let outer = "//! x\n#![cfg_attr(\n    test,\n    allow(clippy::panic)\n)]\n";
        assert_eq!(check_file("crates/core/src/a.rs", bare).len(), 1);
        assert!(check_file("crates/core/src/a.rs", told).is_empty());
        assert_eq!(check_file("crates/core/src/a.rs", outer).len(), 1);
        assert!(
            check_file("crates/core/src/a.rs", "//! x\nfn a() { b.expect(\"x\") }\n").is_empty()
        );
    }
}
