//! The terminal: log lines scroll, the progress table stays below them.
//!
//! Deliberately absent: what the table shows (`progress`) and a terminal library: four escape sequences are enough.
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Where log lines and the progress table meet. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<Drawn>>);

/// What stands at the bottom of the terminal.
#[derive(Default)]
struct Drawn {
    lines: Vec<String>,
}

impl Screen {
    /// The standard error output.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Drawn::default())))
    }

    /// Replaces the table.
    pub(crate) fn show(&self, lines: Vec<String>) {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = erase(drawn.lines.len());
        text.push_str(&draw(&lines));
        drawn.lines = lines;
        // A terminal that is gone must not stop the pipeline.
        _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn log(&self, line: &[u8]) -> io::Result<()> {
        let drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = erase(drawn.lines.len()).into_bytes();
        out.extend_from_slice(line);
        out.extend_from_slice(draw(&drawn.lines).as_bytes());
        _ = io::stderr().lock().write_all(&out);
        Ok(())
    }
}

/// Goes up over what was drawn and clears it.
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\r\x1b[J") }
}

/// The lines, cut by the terminal at its own width instead of wrapped.
fn draw(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("\x1b[?7l{}\n\x1b[?7h", lines.join("\n"))
}

/// Writes one event of the log.
pub(crate) struct LogLine(Screen);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.log(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_over_the_one_before() {
        assert_eq!(erase(0), "");
        assert_eq!(erase(3), "\x1b[3A\r\x1b[J");
        assert_eq!(draw(&["a".into(), "b".into()]), "\x1b[?7la\nb\n\x1b[?7h");
    }
}
