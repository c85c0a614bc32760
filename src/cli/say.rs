//! Standard output and standard error. Errors of closed or full streams are ignored.

use std::io::Write;

use crate::error::OneLine;

/// Writes lines to standard error, control characters escaped.
pub fn error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", shown(line));
}

/// `text` with each line made safe for a terminal.
pub fn shown(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| OneLine(line).to_string()).collect();
    lines.join("\n")
}

/// Writes text to standard output.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
