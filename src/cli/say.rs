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

/// Writes lines to standard output, control characters escaped.
pub fn print(text: &str) {
    data(&format!("{}\n", shown(text)));
}

/// Writes to standard output, as it is, what another program reads: JSON, YAML, a shell's script.
pub fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_and_nothing_else_moves_the_cursor() {
        assert_eq!(shown("a\x1b[2J\r\nb\u{9b}c\n"), "a\\u{1b}[2J\nb\\u{9b}c");
    }
}
