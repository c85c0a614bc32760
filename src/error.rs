//! The error type of the library, classified by who can fix the error.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Class of an [`Error`], by who can fix it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A picture that cannot be read, or a result that cannot be written.
    Input,
    /// An option given by the caller is not usable.
    Option,
    /// A value in a configuration file is not usable.
    Config,
    /// The bundle is damaged, incomplete or of another format.
    Bundle,
    /// ONNX Runtime or an execution provider is missing or failed.
    Runtime,
    /// The work does not fit the machine's memory.
    Resources,
    /// Values became infinite or NaN during restoration: an option far out of range, or a graph that overflows.
    NotFinite,
    /// The caller asked to stop.
    Cancelled,
    /// A defect of this library.
    Internal,
}

impl ErrorKind {
    /// The program's exit code for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Input | ErrorKind::NotFinite => 1,
            ErrorKind::Option => 2,
            ErrorKind::Config | ErrorKind::Bundle => 3,
            ErrorKind::Runtime => 4,
            ErrorKind::Resources => 5,
            ErrorKind::Internal => 70,
            ErrorKind::Cancelled => 130,
        }
    }

    /// The kind's name as it stands in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Input => "input",
            ErrorKind::Option => "option",
            ErrorKind::Config => "config",
            ErrorKind::Bundle => "bundle",
            ErrorKind::Runtime => "runtime",
            ErrorKind::Resources => "resources",
            ErrorKind::NotFinite => "not_finite",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Internal => "internal",
        }
    }
}

/// An error: its [kind](ErrorKind), a message with the place and the expected value, and the cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    smallest_budget: Option<u64>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            smallest_budget: None,
            source: None,
        }
    }

    /// The same error with `source` as its cause.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with `place` prepended to its message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error with the smallest sufficient memory budget, in bytes.
    pub fn with_smallest_budget(mut self, bytes: u64) -> Self {
        self.smallest_budget = Some(bytes);
        self
    }

    /// The smallest sufficient memory budget in bytes, if a larger budget is the remedy.
    pub fn smallest_budget(&self) -> Option<u64> {
        self.smallest_budget
    }

    /// The same error with `hint` appended to its message.
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.message = format!("{}: {hint}", self.message);
        self
    }

    /// The error's kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// [`ErrorKind::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Input, message)
    }

    /// [`ErrorKind::Option`].
    pub fn option(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Option, message)
    }

    /// [`ErrorKind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, message)
    }

    /// [`ErrorKind::Bundle`].
    pub fn bundle(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Bundle, message)
    }

    /// [`ErrorKind::Runtime`].
    pub fn runtime(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Runtime, message)
    }

    /// [`ErrorKind::NotFinite`] of `what`.
    pub fn not_finite(what: impl fmt::Display) -> Self {
        Error::new(
            ErrorKind::NotFinite,
            format!("{what} is not finite (NaN or infinity)"),
        )
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    /// [`ErrorKind::Cancelled`].
    pub fn cancelled() -> Self {
        Error::new(ErrorKind::Cancelled, "stopped on request")
    }
}

impl fmt::Display for Error {
    /// The message and its causes on one line, each once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", OneLine(&self.message))?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {}", OneLine(error))?;
            // [`Error`] prints its causes itself.
            cause = if error.is::<Error>() {
                None
            } else {
                error.source()
            };
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// An untrusted text, such as a file name, on one line that is safe for a terminal: control characters and
/// bidirectional overrides are escaped.
pub(crate) struct OneLine<T>(pub T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        self.0
            .to_string()
            .chars()
            .try_for_each(|c| match c.is_control() || turns(c) {
                true => write!(f, "{}", c.escape_default()),
                false => f.write_char(c),
            })
    }
}

/// A path on one line: as [`OneLine`], with bytes that are no UTF-8 as `\xFF`.
pub(crate) struct Shown<'a>(pub &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_encoded_bytes().utf8_chunks() {
            OneLine(chunk.valid()).fmt(f)?;
            let mut invalid = chunk.invalid().iter();
            invalid.try_for_each(|byte| write!(f, "\\x{byte:02X}"))?;
        }
        Ok(())
    }
}

/// The entry of `known` most similar to `name`, for messages; empty if `known` is.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    known
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_printed_once() {
        let inner = Error::input("no such file").with_source(std::io::Error::other("errno 2"));
        let outer = Error::input("cannot read a.png").with_source(inner);
        assert_eq!(
            outer.to_string(),
            "cannot read a.png: no such file: errno 2"
        );
    }

    #[test]
    fn foreign_text_moves_no_cursor() {
        let error = Error::input("no such file").at("a\x1b[2J\nb\u{202e}gnp.\u{85}é");
        assert_eq!(
            error.to_string(),
            r"a\u{1b}[2J\nb\u{202e}gnp.\u{85}é: no such file"
        );
    }

    #[test]
    fn place_comes_first() {
        assert_eq!(
            Error::bundle("no graphs").at("bundle.yaml").to_string(),
            "bundle.yaml: no graphs"
        );
    }
}
