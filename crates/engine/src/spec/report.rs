//! Problems of a pipeline file, each with its line and column. All of them at once.
use std::fmt;

use lakeward_core::{Error, ErrorKind};

/// A place in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl Place {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A problem and where it is. Never holds a secret: values from the environment are not quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub at: Place,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Located {
    /// A problem at a place.
    pub fn new(at: Place, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// All problems of one file, in the file's order. Prints one line each: `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Located>,
}

impl Problems {
    /// The problems of `file`, put into the file's order.
    pub fn new(file: impl Into<String>, mut list: Vec<Located>) -> Self {
        list.sort_by_key(|problem| problem.at);
        list.dedup();
        Self { file: file.into(), list }
    }

    /// The problems, ascending by place.
    pub fn list(&self) -> &[Located] {
        &self.list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Located { at, message }) in self.list.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{}:{}: {message}", self.file, at.line, at.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Error::new(ErrorKind::Config, "the pipeline file cannot be used")
            .with("problems", problems.list.len())
            .remedied("correct the lines named above")
            .caused_by(problems)
    }
}
