//! What the two commands need from the machine. All that is missing is told at once, with what
//! to type. What can be fetched is not here: the tests fetch it.

use std::process::{Command, Stdio};

struct Need {
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    remedy: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        name: "a C compiler",
        program: "cc",
        args: &["--version"],
        remedy: "apt-get install -y gcc libc6-dev",
    },
    Need {
        name: "Python 3.10 or newer",
        program: "python3",
        args: &["-c", "import sys; sys.exit(sys.version_info < (3, 10))"],
        remedy: "apt-get install -y python3",
    },
    Need {
        name: "pip",
        program: "python3",
        args: &["-m", "pip", "--version"],
        remedy: "apt-get install -y python3-pip",
    },
    Need {
        name: "Python's venv",
        program: "python3",
        args: &["-c", "import venv, ensurepip"],
        remedy: "apt-get install -y python3-venv",
    },
];

/// An error that names everything missing.
pub(crate) fn check() -> Result<(), String> {
    let missing: Vec<String> = NEEDS
        .iter()
        .filter(|need| !answers(need))
        .map(|need| format!("  {}: type `{}`", need.name, need.remedy))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("this machine lacks\n{}", missing.join("\n")))
}

fn answers(need: &Need) -> bool {
    let mut command = Command::new(need.program);
    command.args(need.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
