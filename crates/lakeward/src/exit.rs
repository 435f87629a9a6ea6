//! How the program ends: the exit status of each kind of error, and the words that go with it.
use std::io::Write as _;
use std::panic::PanicHookInfo;

use lakeward_core::{Error, ErrorKind};
use lakeward_engine::spec::Problems;

/// Done, drained, or caught up.
pub(crate) const DONE: u8 = 0;
/// Stopped until an operator acts.
pub(crate) const OPERATOR: u8 = 1;
/// Wrong command line or definition.
pub(crate) const USAGE: u8 = 2;
/// A newer writer has taken over.
pub(crate) const FENCED: u8 = 3;
/// Source or lake were unreachable past the retry limit.
pub(crate) const UNREACHABLE: u8 = 4;
/// Lakeward is wrong.
pub(crate) const BUG: u8 = 101;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The pipeline file has problems.
    Definition(Problems),
    /// An error with its remedy.
    Stopped(Error),
    /// The verb has said what is wrong already: `check` with refused findings.
    Told(u8),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Stopped(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Definition(problems)
    }
}

/// The exit status of an error. Pure: this is the whole table.
pub(crate) fn status(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config => USAGE,
        ErrorKind::Fenced => FENCED,
        ErrorKind::Unreachable | ErrorKind::OutcomeUnknown => UNREACHABLE,
        ErrorKind::Bug => BUG,
        ErrorKind::Auth
        | ErrorKind::LogGone
        | ErrorKind::Unsupported
        | ErrorKind::BadData
        | ErrorKind::Conflict
        | ErrorKind::Corrupt
        | ErrorKind::Exhausted => OPERATOR,
    }
}

/// Says what went wrong, once, and gives the exit status.
pub(crate) fn finish(result: Result<(), Failure>) -> u8 {
    match result {
        Ok(()) => DONE,
        Err(Failure::Told(status)) => status,
        Err(Failure::Definition(problems)) => {
            say(&definition_words(&problems));
            USAGE
        }
        Err(Failure::Stopped(error)) => {
            if crate::logging::is_json() {
                tracing::error!(kind = ?error.kind(), remedy = error.remedy(), "{error}");
            } else {
                say(&words(&error));
            }
            status(error.kind())
        }
    }
}

fn say(text: &str) {
    _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What a person reads: the error with table, column and cause, then what to do.
fn words(error: &Error) -> String {
    format!("error: {error}\nremedy: {}", error.remedy())
}

fn definition_words(problems: &Problems) -> String {
    let n = problems.list().len();
    let s = if n == 1 { "" } else { "s" };
    format!(
        "{problems}\nerror: {n} problem{s} in the pipeline file\nremedy: correct the lines named above"
    )
}

/// A panic anywhere is our bug: say where, and end at once. What was committed stands; the next start goes on from it.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        say(&panic_words(panic));
        std::process::exit(i32::from(BUG));
    }));
}

/// The place, and the message if it is a literal: a formatted one may hold row values.
fn panic_words(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let literal = panic.payload().downcast_ref::<&'static str>();
    let message = literal.copied().unwrap_or("message withheld: it may hold data");
    format!("bug: panic at {place}: {message}\nremedy: {}", ErrorKind::Bug.remedy())
}

#[cfg(test)]
mod tests {
    use lakeward_engine::spec::Definition;

    use super::*;

    #[test]
    fn every_kind_has_the_documented_status() {
        use ErrorKind::*;
        let table = [
            (Config, 2),
            (Auth, 1),
            (Unreachable, 4),
            (LogGone, 1),
            (Unsupported, 1),
            (BadData, 1),
            (Conflict, 1),
            (OutcomeUnknown, 4),
            (Corrupt, 1),
            (Fenced, 3),
            (Exhausted, 1),
            (Bug, 101),
        ];
        for (kind, expected) in table {
            assert_eq!(status(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn an_error_names_table_column_cause_and_remedy() {
        let error = Error::new(ErrorKind::BadData, "numeric is NaN")
            .with("table", "public.t")
            .with("column", "amount")
            .caused_by("not a number");
        assert_eq!(
            words(&error),
            "error: numeric is NaN (table=public.t, column=amount): not a number\n\
             remedy: choose a policy for such values in the pipeline file, then run again"
        );
    }

    /// Not a test of its own: the process that the next test starts.
    #[test]
    fn a_panic_when_asked_for() {
        if std::env::var_os("LAKEWARD_TEST_PANIC").is_some() {
            install_panic_hook();
            let value = 4711;
            panic!("a row's value: {value}");
        }
    }

    #[test]
    fn a_panic_ends_the_process_with_101_and_shows_no_data() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "exit::tests::a_panic_when_asked_for", "--nocapture"])
            .env("LAKEWARD_TEST_PANIC", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(101));
        assert!(said.contains("bug: panic at "), "{said}");
        assert!(said.contains("remedy: please report") && !said.contains("4711"), "{said}");
    }

    #[test]
    fn problems_of_a_definition_are_counted() {
        let problems =
            Definition::read("p.yaml", "a: 1").finish(|_| Ok(()), |_| Ok(())).unwrap_err();
        let text = definition_words(&problems);
        assert!(text.contains("\nerror: 4 problems in the pipeline file\n"), "{text}");
    }
}
