//! What a process costs: wall time, CPU time, peak memory, as `/proc` tells them.
//!
//! A process that has ended keeps its counters until it is waited for, so its CPU time is read then, whole, at the kernel's
//! tick of 10 ms. Its peak memory goes with it and is read every 5 ms while it lives. A server's CPU time is the sum over
//! its processes, of each its own and that of its children that ended. Deliberately absent: anything about the product.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lakeward_testkit::Result;

/// How often a running process is looked at: 0.2 % of a core.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The kernel's unit of CPU time in `/proc`, the same on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);

/// What a run of a process cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// User and kernel time of all its threads; at least one tick.
    pub(crate) cpu: Duration,
    /// The most resident memory that it had, in bytes.
    pub(crate) peak_rss: u64,
}

/// A running process under watch; killed if it is dropped.
pub(crate) struct Watched {
    child: Child,
    start: Instant,
    peak_rss: u64,
}

impl Watched {
    /// Starts it; both of its output streams are appended to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let start = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        Ok(Self { child, start, peak_rss: 0 })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Duration {
        stat(self.pid()).map_or(Duration::ZERO, |stat| stat.cpu)
    }

    /// Resident memory now, in bytes.
    pub(crate) fn rss(&self) -> u64 {
        status_bytes(self.pid(), "VmRSS:").unwrap_or(0)
    }

    /// True if it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        if let Some(peak) = status_bytes(self.pid(), "VmHWM:") {
            self.peak_rss = self.peak_rss.max(peak);
        }
        stat(self.pid()).is_none_or(|stat| stat.state == 'Z')
    }

    /// Waits for its end, which must come within `limit` from its start on, and with status 0.
    pub(crate) fn finish(mut self, limit: Duration, log: &Path) -> Result<Cost> {
        while !self.ended() {
            if self.start.elapsed() > limit {
                return Err(format!("no end within {limit:?}:\n{}", tail(log)).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let wall = self.start.elapsed();
        let cpu = self.cpu().max(TICK);
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("ended with {status}:\n{}", tail(log)).into());
        }
        Ok(Cost { wall, cpu, peak_rss: self.peak_rss })
    }

    /// Asks it to end (SIGTERM) and waits.
    pub(crate) fn stop(self, log: &Path) -> Result<Cost> {
        lakeward_testkit::host::signal(self.pid(), "TERM");
        let limit = self.start.elapsed() + Duration::from_secs(120);
        self.finish(limit, log)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<Cost> {
    Watched::start(command, log)?.finish(limit, log)
}

/// CPU time of a process, of all its descendants, and of those of them that ended and were waited for.
pub(crate) fn tree_cpu(root: u32) -> Duration {
    let Ok(entries) = fs::read_dir("/proc") else { return Duration::ZERO };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<(u32, Stat)> = pids.filter_map(|pid: u32| Some((pid, stat(pid)?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|(_, s)| s.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    all.iter().filter(|(pid, _)| family.contains(pid)).map(|(_, s)| s.cpu + s.children).sum()
}

struct Stat {
    state: char,
    parent: u32,
    cpu: Duration,
    children: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The fields behind the program's name, which may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok().map(|n| TICK * n);
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        cpu: ticks(11)? + ticks(12)?,
        children: ticks(13)? + ticks(14)?,
    })
}

fn status_bytes(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) Z 3 0 0 0 0 0 0 0 0 0 25 5 1 2 20 0 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.parent), ('Z', 3));
        assert_eq!(stat.cpu, Duration::from_millis(300));
        assert_eq!(stat.children, Duration::from_millis(30));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn a_process_is_measured_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let cost = run(Command::new("sh").args(["-c", busy]), &log, Duration::from_secs(60));
        let cost = cost.unwrap();
        assert!(cost.cpu >= TICK && cost.wall >= TICK && cost.peak_rss > 0, "{cost:?}");
        let failed = run(Command::new("sh").args(["-c", "echo no; exit 3"]), &log, TICK * 1000);
        assert!(failed.unwrap_err().to_string().contains("no"));
        assert!(tree_cpu(std::process::id()) > Duration::ZERO);
    }
}
