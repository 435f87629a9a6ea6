//! The log: people's text on a terminal, one JSON object a line elsewhere.
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::screen::Screen;

static JSON: AtomicBool = AtomicBool::new(false);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// One line of text each
    Text,
    /// One JSON object a line
    Json,
}

/// The least important lines that are shown.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    /// What stops the pipeline
    Error,
    /// And what costs or may go wrong
    Warn,
    /// And every change of state
    Info,
    /// And every step
    Debug,
    /// And everything
    Trace,
}

impl LogLevel {
    fn directive(self) -> &'static str {
        // Libraries are heard only when they warn.
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "warn,lakeward=info",
            Self::Debug => "warn,lakeward=debug",
            Self::Trace => "info,lakeward=trace",
        }
    }
}

/// Starts the log on standard error. Returns the screen when a progress table can be drawn there.
pub(crate) fn start(format: LogFormat, level: LogLevel) -> Option<Screen> {
    let terminal = std::io::stderr().is_terminal();
    let json = format == LogFormat::Json || (format == LogFormat::Auto && !terminal);
    JSON.store(json, Ordering::Relaxed);
    let screen = Screen::new();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level.directive()))
        .with_writer(screen.clone());
    // A log that is there already (a test's) is left alone.
    _ = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal).with_target(false).try_init()
    };
    (terminal && !json).then_some(screen)
}

/// Whether the log is JSON: an error is then a line of it.
pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}
