//! The library's one error type. A caller needs to tell two cases apart: the input was wrong (the command line
//! exits with 2), or the work failed although the input was right (it exits with 1).

use std::path::{Path, PathBuf};

/// What every fallible function of the library returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was handed in is wrong: which, where in it, what is wrong and what would be right.
    #[error("{}: {place}{}{problem}", path.display(), if place.is_empty() { "" } else { ": " })]
    File {
        /// The offending file.
        path: PathBuf,
        /// Where in it: a line, a tensor, a key; may be empty.
        place: String,
        /// What is wrong and, where it can be said, what would be right.
        problem: String,
    },
    /// An argument or a combination of arguments is wrong.
    #[error("{0}")]
    Argument(String),
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file that was being read or written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
        /// Whether the file was the caller's input (as opposed to our output).
        input: bool,
    },
    /// The plan does not fit: the smallest budget that works is named.
    #[error("the {what} budget of {given} bytes is too small: the smallest that works here is {needed} bytes")]
    Budget {
        /// `device memory` or `host memory`.
        what: &'static str,
        /// The budget that was given, in bytes.
        given: u64,
        /// The smallest budget that the plan accepts, in bytes.
        needed: u64,
    },
    /// The device failed: lost, out of memory, or it rejected a command.
    #[error("device: {0}")]
    Device(String),
    /// The work was done as asked and did not lead to a result that can be kept.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// An error in a file that was handed in.
    pub fn file(path: impl AsRef<Path>, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), place: place.into(), problem: problem.into() }
    }

    /// A wrong argument.
    pub fn argument(problem: impl Into<String>) -> Self {
        Error::Argument(problem.into())
    }

    /// A failure to read `path`, which the caller named.
    pub fn reading(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source, input: true }
    }

    /// A failure to write `path`.
    pub fn writing(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source, input: false }
    }

    /// Whether the call or its input was wrong (exit status 2), rather than the work having failed (1).
    pub fn is_input(&self) -> bool {
        match self {
            Error::File { .. } | Error::Argument(_) | Error::Budget { .. } => true,
            Error::Io { input, .. } => *input,
            Error::Device(_) | Error::Failed(_) => false,
        }
    }
}
