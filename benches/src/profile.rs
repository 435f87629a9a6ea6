//! Where the time or the memory of a case goes: its runs under `perf` or under valgrind's massif, and what those wrote, as a
//! picture or a list. It measures nothing: a profiled run is slower.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lakeward_testkit::{Result, host};

use crate::flame;

/// Allocation sites that are shown of a heap.
const SITES_MAX: usize = 25;

/// How deep a site's callers are shown: each lies one space further in.
const DEPTH_MAX: usize = 3;

/// Which profiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Stacks by `perf`, drawn as a flame graph.
    Flame,
    /// Allocations at the moment of the highest use, by massif.
    Heap,
}

/// Runs under a profiler, each pipeline's last one kept.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) tool: Tool,
    pub(crate) folder: PathBuf,
}

impl Tool {
    /// An error that says what to type where the profiler is missing.
    pub(crate) fn check(self) -> Result<()> {
        let (program, package) = match self {
            Self::Flame => ("perf", "linux-perf"),
            Self::Heap => ("valgrind", "valgrind"),
        };
        let mut asked = Command::new(program);
        asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        match asked.status() {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("no {program} here: type `apt-get install {package}`").into()),
        }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Flame => "perf",
            Self::Heap => "massif",
        }
    }
}

impl Profile {
    /// The call that runs `binary` under the profiler.
    pub(crate) fn wrap(&self, binary: &Path, name: &str) -> Command {
        let to = self.folder.join(format!("{name}.{}", self.tool.end()));
        match self.tool {
            Tool::Flame => {
                let mut command = Command::new("perf");
                command.args(["record", "-q", "-F", "199", "--call-graph", "dwarf,16384", "-o"]);
                command.arg(to).arg("--").arg(binary);
                command
            }
            Tool::Heap => {
                let mut command = Command::new("valgrind");
                command.args(["-q", "--tool=massif", "--threshold=0.5"]);
                command.arg(format!("--massif-out-file={}", to.display())).arg(binary);
                command
            }
        }
    }

    /// Makes pictures or lists of all that was recorded; returns what a person should read.
    pub(crate) fn show(&self) -> Result<String> {
        let mut told = String::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == self.tool.end()) {
                told += &match self.tool {
                    Tool::Flame => drawn(&path)?,
                    Tool::Heap => listed(&path)?,
                };
            }
        }
        Ok(told)
    }
}

fn drawn(recorded: &Path) -> Result<String> {
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(recorded);
    let stacks = flame::fold(&host::run(&mut script)?);
    let picture = recorded.with_extension("svg");
    fs::write(&picture, flame::svg(&stacks))?;
    fs::remove_file(recorded)?;
    Ok(format!("{}: {} samples\n", picture.display(), flame::samples(&stacks)))
}

fn listed(recorded: &Path) -> Result<String> {
    let text = fs::read_to_string(recorded)?;
    Ok(format!("{}\n{}", recorded.display(), peak(&text)))
}

/// The allocation sites of the snapshot that massif calls the peak.
fn peak(text: &str) -> String {
    let Some((_, peak)) = text.split_once("heap_tree=peak\n") else {
        return "  no peak was recorded\n".to_owned();
    };
    let depth = |line: &&str| line.len() - line.trim_start().len();
    let sites = peak.lines().take_while(|line| !line.starts_with('#'));
    let sites = sites.filter(|line| depth(line) <= DEPTH_MAX);
    sites.take(SITES_MAX).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_snapshot_that_says_so() {
        let text = "#-----------\nsnapshot=0\n#-----------\ntime=9\nheap_tree=empty\n#-----------\n\
                    snapshot=1\n#-----------\ntime=9\nheap_tree=peak\nn1: 900 all\n n0: 900 f (a.rs:3)\n#--\nx";
        assert_eq!(peak(text), "n1: 900 all\n n0: 900 f (a.rs:3)\n");
        assert!(peak("").contains("no peak"));
    }
}
