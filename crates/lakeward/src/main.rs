//! The `lakeward` program: wiring, and what a person sees of it.
//!
//! Deliberately absent: semantics. What is committed when is the engine's; what a source or a lake can do is theirs.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")
)]

mod cli;
mod control;
mod exit;
mod http;
mod loaded;
mod logging;
mod metrics;
mod progress;
mod registry;
mod screen;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use lakeward_core::{Error, ErrorKind};

/// How long tasks that are still running at the end may take to notice it.
const RUNTIME_END: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    exit::install_panic_hook();
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_usage) => {
            let wrong = help_or_usage.use_stderr();
            _ = help_or_usage.print();
            return ExitCode::from(if wrong { exit::USAGE } else { exit::DONE });
        }
    };
    let result = runtime().and_then(|runtime| {
        let result = runtime.block_on(cli::run(arguments));
        runtime.shutdown_timeout(RUNTIME_END);
        result
    });
    ExitCode::from(exit::finish(result))
}

fn runtime() -> Result<tokio::runtime::Runtime, exit::Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Exhausted, "the runtime's threads cannot be started")
            .caused_by(error)
            .into()
    })
}
