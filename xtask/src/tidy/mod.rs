//! `cargo x tidy`: what a reader of the whole tree would object to. Each check returns findings;
//! no finding, no output.

mod docs;
mod packages;
mod sources;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

use crate::{End, command};

/// The verb.
pub(crate) fn verb(args: &[String]) -> End {
    if let Some(arg) = args.first() {
        return End::Usage(format!("tidy: unknown argument {arg}"));
    }
    match check() {
        Ok(()) => End::Good,
        Err(findings) => {
            println!("{findings}");
            End::Bad
        }
    }
}

/// All findings as one error.
pub(crate) fn check() -> Result<(), String> {
    let root = command::workspace();
    let files = files(&root);
    let metadata = packages::metadata()?;
    let mut findings = walls::check(&metadata);
    findings.extend(packages::check(&metadata));
    findings.extend(sources::check(&root, &files));
    findings.extend(docs::check_links(&root, &files));
    findings.extend(docs::check_generated());
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

/// Every file that is ours, relative to the root.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(root, root, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let hidden =
            name == ".git" || name == "target" || name == "__pycache__" || name == "node_modules";
        if path.is_dir() && !hidden {
            collect(root, &path, found);
        } else if path.is_file()
            && let Ok(relative) = path.strip_prefix(root)
        {
            found.push(relative.to_path_buf());
        }
    }
}
