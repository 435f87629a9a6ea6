//! The one error type. Its kind decides what can be done: wait, ask the operator, stop.
//!
//! Never carries a row's values or a secret: context holds names, positions and counts only.
use std::fmt;

/// The result of every fallible act in Lakeward.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as it decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The definition is wrong or asks for what cannot be.
    Config,
    /// Credentials were refused or a right is missing.
    Auth,
    /// A server or store did not answer, or cut the line.
    Unreachable,
    /// The log no longer holds what is owed.
    LogGone,
    /// Known, and not supported.
    Unsupported,
    /// A value or message that cannot be represented under the declared policy.
    BadData,
    /// Somebody else changed what this act was built on.
    Conflict,
    /// An act may or may not have happened.
    OutcomeUnknown,
    /// Stored state contradicts itself.
    Corrupt,
    /// A newer writer has taken over: stop.
    Fenced,
    /// A declared limit was reached (disk, spill cap, budget).
    Exhausted,
    /// Lakeward is wrong.
    Bug,
}

/// How an error of a kind may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Again, later, by itself.
    Backoff,
    /// Again after a person did something.
    AfterOperator,
    /// Never in this process.
    Never,
}

impl ErrorKind {
    /// The one table of what may be retried.
    pub fn retry(self) -> Retry {
        match self {
            Self::Unreachable | Self::Conflict | Self::OutcomeUnknown => Retry::Backoff,
            Self::Config
            | Self::Auth
            | Self::LogGone
            | Self::Unsupported
            | Self::BadData
            | Self::Corrupt
            | Self::Exhausted => Retry::AfterOperator,
            Self::Fenced | Self::Bug => Retry::Never,
        }
    }

    /// What an operator can do when the error names nothing better.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Config => "correct the pipeline file; `lakeward check` lists every finding",
            Self::Auth => "correct the credentials or grant the missing right",
            Self::Unreachable => "check that the server or store is up and reachable",
            Self::LogGone => "load the tables again: `lakeward resync`",
            Self::Unsupported => "exclude the table or column, or change it as the message says",
            Self::BadData => "choose a policy for such values in the pipeline file, then run again",
            Self::Conflict => "stop the other writer of this table, or run again",
            Self::OutcomeUnknown => "run again: the outcome is read from the table first",
            Self::Corrupt => "restore the named object, or `lakeward resync` the table",
            Self::Fenced => "another writer of this pipeline has taken over: stop one of the two",
            Self::Exhausted => "free the resource or raise the limit that the message names",
            Self::Bug => "please report this message with its context",
        }
    }
}

/// An error with a kind, a short message, context and a chain of causes.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what was attempted, in a few words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            remedy: None,
            source: None,
        }))
    }

    /// Adds a name and a value: `table`, `column`, `position`, `slot`. Never a row's value.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Says what an operator should type, better than the kind can.
    #[must_use]
    pub fn remedied(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for somebody else; its causes become text.
    #[must_use]
    pub fn again(&self) -> Self {
        let source = self.0.source.as_ref().map(|cause| cause.to_string().into());
        Self(Box::new(Inner {
            kind: self.0.kind,
            message: self.0.message.clone(),
            context: self.0.context.clone(),
            remedy: self.0.remedy.clone(),
            source,
        }))
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The short message, without context or causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The value of a context key, if it was given.
    pub fn context(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    /// What an operator can do.
    pub fn remedy(&self) -> &str {
        self.0.remedy.as_deref().unwrap_or_else(|| self.0.kind.remedy())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_context_and_cause() {
        let error = Error::new(ErrorKind::BadData, "numeric is NaN")
            .with("table", "public.t")
            .with("column", "amount")
            .caused_by("inner");
        assert_eq!(error.to_string(), "numeric is NaN (table=public.t, column=amount): inner");
        assert_eq!(error.context("column"), Some("amount"));
        assert_eq!(error.kind().retry(), Retry::AfterOperator);
        assert_eq!(error.again().to_string(), error.to_string());
    }
}
