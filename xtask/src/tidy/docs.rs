//! The written pages: links that lead somewhere, and generated pages that are up to date.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command;

/// The folder with the generated pages.
const BOOK: &str = "docs/book";

/// Links to files that are not there.
pub(super) fn check_links(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let pages = files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "md"));
    pages.flat_map(|page| dead_links(root, page)).collect()
}

fn dead_links(root: &Path, page: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(page)).unwrap_or_default();
    let folder = page.parent().unwrap_or(Path::new(""));
    let dead = |target: &&str| !root.join(folder).join(target).exists();
    links(&text)
        .into_iter()
        .filter(dead)
        .map(|target| format!("{}: dead link {target}", page.display()))
        .collect()
}

/// Relative targets of `[text](target)`, without anchors. Code blocks are left out.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or("");
            let path = target.split('#').next().unwrap_or("");
            if !path.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(path);
            }
        }
    }
    found
}

/// The pages that the product writes from its own types must be what it would write now.
pub(super) fn check_generated() -> Vec<String> {
    if command::run(&mut command::cargo(&[
        "build",
        "--quiet",
        "--workspace",
        "--locked",
        "--bin",
        "lakeward",
    ]))
    .is_err()
    {
        return vec![format!("{BOOK}: not checked: lakeward does not build")];
    }
    let mut schema = std::process::Command::new(command::target().join("debug/lakeward"));
    schema.args(["schema", "--check", BOOK]).current_dir(command::workspace());
    match command::run(&mut schema) {
        Ok(()) => Vec::new(),
        Err(_) => vec![format!(
            "{BOOK}: not up to date: type `cargo run -p lakeward -- schema --write {BOOK}`"
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_outside_code_count() {
        let text = "[a](b.md) [c](https://x.org) [d](#e)\n```\n[f](g.md)\n```\n![h](i/j.png#k)";
        assert_eq!(links(text), ["b.md", "i/j.png"]);
    }
}
