//! `-`: a picture on standard input, a result on standard output.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::say;
use crate::error::{Error, Result};
use crate::imageio::Format;

/// The name of both.
const NAME: &str = "-";

/// Bytes that standard input may hold in addition to pixels.
const METADATA: u64 = 256 << 20;

/// Whether `path` names a standard stream; a file of that name is `./-`.
pub fn is(path: impl AsRef<Path>) -> bool {
    path.as_ref().as_os_str() == NAME
}

/// Refuses runs that standard input or output cannot serve.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option), with the way out.
pub fn check(inputs: &[PathBuf], output: &Path, samples: usize, is_sequence: bool) -> Result<()> {
    let reads = inputs.iter().any(is);
    let refusals = [
        (
            (reads || is(output)) && is_sequence,
            "a sequence is read from files and written to a folder: name them instead of `-`",
        ),
        (
            reads && inputs.len() > 1,
            "standard input (`-`) is one picture: give it as the only input",
        ),
        (
            reads && !is(output) && Format::of_name(output).is_none(),
            "standard input (`-`) has no name for its result in a folder: give a file, or -o - for standard output",
        ),
        (
            is(output) && samples > 1,
            "standard output (`-`) takes one picture: give --samples 1, or a folder",
        ),
        (
            reads && std::io::stdin().is_terminal(),
            "standard input is a terminal: pipe a picture into `diffbir restore -`",
        ),
        (
            is(output) && std::io::stdout().is_terminal(),
            "standard output is a terminal: redirect it, or give a file with -o",
        ),
    ];
    let refusal = refusals.iter().find(|(is_refused, _)| *is_refused);
    refusal.map_or(Ok(()), |(_, message)| Err(Error::option(*message)))
}

/// Copies standard input to a temporary file, as pictures of up to `max_pixels` are read from files.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): it cannot be read, holds nothing, or more than such a picture takes.
pub fn input(max_pixels: u64) -> Result<NamedTempFile> {
    let failed = |e| Error::input("standard input cannot be read").with_source(e);
    let most = max_pixels.saturating_mul(8).saturating_add(METADATA);
    let mut file = NamedTempFile::new().map_err(failed)?;
    let mut bytes = std::io::stdin().lock().take(most.saturating_add(1));
    match std::io::copy(&mut bytes, &mut file).map_err(failed)? {
        0 => Err(Error::input("standard input is empty")),
        length if length > most => Err(Error::input(format!(
            "standard input has more than the {most} bytes of a picture of {max_pixels} pixels"
        ))),
        _ => Ok(file),
    }
}

/// Copies a finished file to standard output.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): it cannot be written.
pub fn output(file: &Path) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let copied = File::open(file).and_then(|mut file| std::io::copy(&mut file, &mut out));
    copied.and_then(|_| out.flush()).map_err(say::unwritable)
}
