//! A server process that ends with its owner. It knows no server.
//!
//! A small shell watches a pipe that this process holds. When the pipe closes, for whatever
//! reason, `kill -9` of the test included, the server ends and its folder is removed.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::{Result, host};

/// Ends the server when the pipe closes. With `keep` read from it the folder stays, with `stay`
/// the server too.
const WATCHER: &str = r#"dir=$1; signal=$2; shift 2
"$@" >>"$dir/server.log" 2>&1 &
server=$!
read -r word
[ "$word" = stay ] && exit 0
kill -$signal $server 2>/dev/null
wait $server
[ "$word" = keep ] || rm -rf "$dir"
"#;

/// The watcher of one server, while there is one.
#[derive(Default)]
pub(crate) struct Watched(Mutex<Option<Child>>);

impl Watched {
    /// Starts `server` with the folder `home`; its output goes to `server.log` there. It is ended by this signal.
    pub(crate) fn spawn(&self, home: &Path, signal: &str, server: &Command) -> Result<()> {
        let mut shell = unprivileged(Path::new("/bin/sh"), home)?;
        shell.args(["-c", WATCHER, "watcher"]).arg(home).arg(signal);
        shell.arg(server.get_program()).args(server.get_args());
        for (name, value) in server.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = shell.process_group(0).spawn()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Tells the watcher to end the server (if it lives) and waits for it. `keep` keeps the folder,
    /// `stay` the server too, any other word neither.
    pub(crate) fn release(&self, word: &str) {
        let child = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return };
        if let Some(mut pipe) = child.stdin.take() {
            let _ = pipe.write_all(format!("{word}\n").as_bytes());
        }
        let _ = child.wait();
    }
}

/// A command in the folder `home`; as root it runs as the unprivileged user.
pub(crate) fn unprivileged(program: &Path, home: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(home);
    if let Some((uid, gid)) = host::unprivileged()? {
        command.uid(uid).gid(gid).env("HOME", home);
    }
    Ok(command)
}
