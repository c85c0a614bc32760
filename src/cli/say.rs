//! Standard output and standard error. A stream that is closed or full never ends the work.

use std::io::Write;

use crate::error::OneLine;

/// Lines on standard error; what would move the terminal's cursor is escaped.
pub fn error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", shown(line));
}

/// `text` with every line of it as a terminal may show it.
pub fn shown(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| OneLine(line).to_string()).collect();
    lines.join("\n")
}

/// Text on standard output.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
