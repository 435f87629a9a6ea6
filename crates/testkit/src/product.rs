//! The product as a process: start it, arm it to die or to wait, watch it, end it.
//! It knows the command line and the exit codes, nothing of what runs inside.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{Result, fail, host};

/// The number of the signal that drains.
const SIGTERM: u32 = 15;

/// Exit codes the product promises.
pub mod exit {
    /// Done or drained.
    pub const DONE: i32 = 0;
    /// Stopped; an operator must act.
    pub const STOPPED: i32 = 1;
    /// Bad usage or definition.
    pub const USAGE: i32 = 2;
    /// Fenced by a newer writer.
    pub const FENCED: i32 = 3;
    /// Source or lake unreachable past the retry limit.
    pub const UNREACHABLE: i32 = 4;
    /// A bug: a panic.
    pub const BUG: i32 = 101;
}

/// The program under test: `LAKEWARD_BIN`, else the one in Cargo's target folder.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("LAKEWARD_BIN") {
        Some(path) => PathBuf::from(path),
        None => host::target().join("debug").join("lakeward"),
    };
    if !path.exists() {
        fail!(
            "no program {}: type `cargo build -p lakeward --features kill-points`",
            path.display()
        );
    }
    Ok(path)
}

/// A call of the product, before it starts.
pub struct Call {
    command: Command,
    log: PathBuf,
    shown: String,
    inherited: bool,
}

impl Call {
    /// `lakeward VERB DEFINITION …`; both output streams go to `log`.
    pub fn new(verb: &[&str], definition: &Path, log: PathBuf) -> Result<Call> {
        let mut command = Command::new(binary()?);
        command.args(verb).arg(definition).kill_on_drop(true).stdin(Stdio::null());
        for name in ["LAKEWARD_KILL", "LAKEWARD_KILL_LOG", "LAKEWARD_HOLD"] {
            command.env_remove(name);
        }
        Ok(Call { command, log, shown: verb.join(" "), inherited: false })
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: &str) -> Call {
        self.command.arg(arg);
        self.shown = format!("{} {arg}", self.shown);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Call {
        self.command.env(name, value);
        self
    }

    /// Writes to this process's own output instead of the log.
    pub fn visible(mut self) -> Call {
        self.inherited = true;
        self
    }

    /// Dies by its own hand at the `n`-th time the point is reached.
    pub fn kill_at(mut self, point: &str, n: u64) -> Call {
        self.shown = format!("{} [dies at {point} {n}]", self.shown);
        self.env("LAKEWARD_KILL", &format!("{point}:{n}"))
    }

    /// Appends the name of each point reached to `file`.
    pub fn log_points(self, file: &Path) -> Call {
        self.env("LAKEWARD_KILL_LOG", &file.to_string_lossy())
    }

    /// Waits at the `n`-th time the point is reached; see [`Hold`].
    pub fn hold_at(self, point: &str, n: u64, hold: &Hold) -> Call {
        self.env("LAKEWARD_HOLD", &format!("{point}:{n}:{}", hold.file.display()))
    }

    /// Starts it.
    pub fn spawn(mut self) -> Result<Running> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        if !self.inherited {
            self.command.stdout(log.try_clone()?).stderr(log);
        }
        let child = self.command.spawn()?;
        let peak = Arc::new(AtomicU64::new(0));
        let watch = child.id().map(|pid| tokio::spawn(watch_memory(pid, Arc::clone(&peak))));
        Ok(Running { child, log: self.log, shown: self.shown, peak, watch })
    }

    /// Starts it and waits for its end.
    pub async fn finish(self, limit: Duration) -> Result<Ended> {
        self.spawn()?.wait(limit).await
    }
}

/// A file by which a process waits at a point: it creates the file and goes on when it is gone.
pub struct Hold {
    file: PathBuf,
}

impl Hold {
    /// A hold by this file, which must not exist.
    pub fn new(file: PathBuf) -> Hold {
        Hold { file }
    }

    /// Waits until the process has arrived.
    pub async fn arrived(&self, limit: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + limit;
        while !self.file.exists() {
            if tokio::time::Instant::now() > end {
                fail!("the process did not arrive at its hold within {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Lets the process go on.
    pub fn release(&self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// A running product; killed if it is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
    shown: String,
    peak: Arc<AtomicU64>,
    watch: Option<JoinHandle<()>>,
}

impl Running {
    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it writes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// True if it has ended by itself.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether SIGTERM would drain it: a process that has only just begun it would end.
    fn hears_signals(&self) -> bool {
        let status =
            self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let caught = status.as_deref().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        });
        caught.is_some_and(|mask| mask >> (SIGTERM - 1) & 1 == 1)
    }

    /// Asks it to drain (SIGTERM). Returns at once.
    pub fn terminate(&self) {
        if let Some(pid) = self.pid() {
            host::signal(pid, "TERM");
        }
    }

    /// `kill -9`, and waits for the end.
    pub async fn kill9(mut self) -> Result<Ended> {
        let _ = self.child.start_kill();
        self.wait(Duration::from_secs(10)).await
    }

    /// SIGTERM as soon as it would be heard, then waits for the drained end.
    pub async fn drain(mut self, limit: Duration) -> Result<Ended> {
        let end = Instant::now() + limit;
        while !self.ended() && !self.hears_signals() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.terminate();
        self.wait(limit).await
    }

    /// Lets it run for a while, then drains it; it must end with 0.
    pub async fn drain_after(self, period: Duration) -> Result<Ended> {
        tokio::time::sleep(period).await;
        self.drain(Duration::from_secs(120)).await?.ensure(exit::DONE)
    }

    /// Waits for its end. Longer than `limit`, or exit code 101, is an error with the log's end.
    pub async fn wait(mut self, limit: Duration) -> Result<Ended> {
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
        let peak_rss = self.peak.load(Ordering::Relaxed);
        let (log, shown) = (self.log.clone(), self.shown.clone());
        let Ok(status) = status else {
            let stack = self.pid().map(stacks).unwrap_or_default();
            let _ = self.child.kill().await;
            fail!(
                "`lakeward {shown}` did not end within {limit:?}; threads: {stack}\n{}",
                tail(&log)
            );
        };
        let ended = Ended { status: status?, peak_rss, log, shown };
        if ended.status.code() == Some(exit::BUG) {
            fail!("`lakeward {}` exited with 101, a bug:\n{}", ended.shown, ended.tail());
        }
        Ok(ended)
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    status: ExitStatus,
    /// Peak resident memory in bytes, sampled every 50 ms.
    pub peak_rss: u64,
    log: PathBuf,
    shown: String,
}

impl Ended {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// True if a signal ended it.
    pub fn killed(&self) -> bool {
        self.status.signal().is_some()
    }

    /// The whole log of this call, and of earlier ones into the same file.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log's last lines.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// An error with the log's end unless the exit code is `code`.
    pub fn ensure(self, code: i32) -> Result<Ended> {
        if self.code() == Some(code) {
            return Ok(self);
        }
        fail!(
            "`lakeward {}` ended with {}, expected {code}:\n{}",
            self.shown,
            self.status,
            self.tail()
        )
    }

    /// An error unless the log contains each of `words`, whatever the case.
    pub fn says(self, words: &[&str]) -> Result<Ended> {
        let text = self.text().to_lowercase();
        match words.iter().find(|word| !text.contains(&word.to_lowercase())) {
            None => Ok(self),
            Some(word) => {
                fail!("`lakeward {}` does not say {word:?}:\n{}", self.shown, self.tail())
            }
        }
    }
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(40)..].join("\n");
    format!("--- {}\n{last}\n---", log.display())
}

/// What each thread waits for, to tell a hang from hard work.
fn stacks(pid: u32) -> String {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return String::new();
    };
    let states = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        Some(stat.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" "))
    });
    states.collect::<Vec<_>>().join(", ")
}

async fn watch_memory(pid: u32, peak: Arc<AtomicU64>) {
    while let Some(bytes) = peak_rss(pid) {
        peak.fetch_max(bytes, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn peak_rss(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
