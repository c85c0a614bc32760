//! Standard output and standard error. A batch goes on if one of them is closed or full; a command whose output is its
//! result fails.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, OneLine, Result};

/// Where the lines of `--json` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error: standard output takes a picture.
    Error,
}

/// Writes lines to standard error, control characters escaped. Where it is closed or full, they are lost.
pub fn error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", shown(line));
}

/// `text` with each line made safe for a terminal.
fn shown(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| OneLine(line).to_string()).collect();
    lines.join("\n")
}

/// Writes a command's result for people to standard output, control characters escaped.
///
/// # Errors
/// As [`print`].
pub fn text(text: &str) -> Result<()> {
    print(&format!("{}\n", shown(text)))
}

/// Writes a command's result to standard output as it is: JSON, YAML, a script.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): standard output is closed or full.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(unwritable)
}

/// The error of standard output.
pub fn unwritable(error: std::io::Error) -> Error {
    Error::input("standard output cannot be written").with_source(error)
}

/// Writes a line of a report to `stream`; says once that standard output takes no more.
pub fn report(stream: Stream, line: &str) {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    match stream {
        Stream::Error => error(line),
        Stream::Output => {
            if let Err(lost) = print(&format!("{line}\n"))
                && !IS_LOST.swap(true, Ordering::Relaxed)
            {
                error(&format!("{lost}: going on without the lines of --json"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_and_nothing_else_moves_the_cursor() {
        assert_eq!(shown("a\x1b[2J\r\nb\u{9b}c\n"), "a\\u{1b}[2J\nb\\u{9b}c");
    }
}
