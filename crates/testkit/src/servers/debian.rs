//! Programs of another Debian release, unpacked into a folder with all the libraries they need.
//! Nothing is installed: apt gets a state of its own, and the programs run through their own loader.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, fail, host};

/// The keys that Debian signs its releases with.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks packages of a release, with everything they depend on, below `folder`.
pub(super) fn unpack(release: &str, packages: &[&str], folder: &Path) -> Result<()> {
    let state = tempfile::tempdir()?;
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.path().join(part))?;
    }
    fs::write(state.path().join("status"), "")?;
    let source = format!("deb [signed-by={KEYS}] {} {release} main\n", mirror()?);
    fs::write(state.path().join("sources.list"), source)?;
    let settings = state.path().join("apt.conf");
    fs::write(&settings, apt_settings(state.path()))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.arg("-qq").env("APT_CONFIG", &settings).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    host::run(apt().arg("update"))?;
    let fetch = ["install", "-y", "--no-install-recommends", "--download-only"];
    host::run(apt().args(fetch).args(packages))?;
    for entry in fs::read_dir(state.path().join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            host::run(Command::new("dpkg-deb").arg("-x").arg(path).arg(folder))?;
        }
    }
    host::run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder)).map(|_| ())
}

fn apt_settings(state: &Path) -> String {
    let state = state.display();
    format!(
        "Dir::Etc::sourcelist \"{state}/sources.list\";\nDir::Etc::sourceparts \"/nonexistent\";\n\
         Dir::Etc::preferencesparts \"/nonexistent\";\nDir::State::lists \"{state}/lists\";\n\
         Dir::State::status \"{state}/status\";\nDir::Cache \"{state}/cache\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nAPT::Sandbox::User \"root\";\n"
    )
}

/// The mirror that this machine gets its own Debian packages from.
fn mirror() -> Result<String> {
    let format = "$(ORIGIN) $(REPO_URI)";
    let lines = host::run(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    let debian = lines.lines().filter_map(|line| line.strip_prefix("Debian "));
    let main = debian.map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian"));
    match main {
        Some(uri) => Ok(uri.to_owned()),
        None => fail!("apt knows no Debian mirror: type `apt-get update`, or this is no Debian"),
    }
}

/// The folders with the libraries of an unpacked tree, and the loader among them.
struct Loader {
    program: PathBuf,
    libraries: Vec<PathBuf>,
}

fn loader(tree: &Path) -> Result<Loader> {
    let mut found = Loader { program: PathBuf::new(), libraries: Vec::new() };
    for top in ["lib", "usr/lib"] {
        let Ok(entries) = fs::read_dir(tree.join(top)) else { continue };
        for folder in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            if !folder.to_string_lossy().ends_with("-linux-gnu") {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let file = file?;
                if file.file_name().to_string_lossy().starts_with("ld-linux-") {
                    found.program = file.path();
                }
            }
            found.libraries.push(folder);
        }
    }
    if found.program.as_os_str().is_empty() {
        fail!("no loader in {}", tree.display());
    }
    Ok(found)
}

/// Writes a script at `script` that runs `program` with the libraries of its tree.
pub(super) fn wrap(tree: &Path, program: &Path, script: &Path) -> Result<()> {
    let loader = loader(tree)?;
    let libraries: Vec<String> =
        loader.libraries.iter().map(|path| path.display().to_string()).collect();
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.program.display(),
        libraries.join(":"),
        program.display()
    );
    fs::write(script, text)?;
    host::run(Command::new("chmod").arg("755").arg(script)).map(|_| ())
}
