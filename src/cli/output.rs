//! What goes to stdout. A reader that has gone away (`| head`) is no error.

use std::io::{ErrorKind, Write};
use std::path::Path;

use efface::{Error, Result};
use serde_json::Value;

/// Prints `text`, which ends its own lines.
///
/// # Errors
/// When stdout cannot be written to, unless nobody reads it.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::writing(Path::new("stdout"), error)),
        _ => Ok(()),
    }
}

/// Prints one JSON object.
///
/// # Errors
/// As [`print`].
pub fn print_json(object: &Value) -> Result<()> {
    print(&format!("{object:#}\n"))
}

/// The columns that a table may use; none where nobody says how wide the terminal is.
pub fn columns() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns >= 40)
}
