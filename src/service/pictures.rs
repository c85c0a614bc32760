//! Pictures, decoded in this process or apart, as the configuration says.

use std::path::Path;

use super::{Host, Level};
use crate::cancel::Cancel;
use crate::config::InputOptions;
use crate::error::{Error, Result};
use crate::imageio::{self, Header, Picture};
use crate::sandbox::{self, Apart};

fn apart<'a>(input: &InputOptions, cancel: &'a Cancel) -> Option<Apart<'a>> {
    input.decode_apart.then(|| Apart {
        options: input.decoding(),
        seconds: input.decode_seconds,
        cancel,
    })
}

/// Reads the picture at `path`.
///
/// # Errors
/// Those of [`imageio::read`] or [`Apart::read`].
pub fn read(path: &Path, input: &InputOptions, cancel: &Cancel) -> Result<Picture> {
    match apart(input, cancel) {
        Some(apart) => apart.read(path),
        None => imageio::read(path, input.decoding()),
    }
}

/// Decodes the bytes of a file.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8], input: &InputOptions, cancel: &Cancel) -> Result<Picture> {
    match apart(input, cancel) {
        Some(apart) => apart.decode(bytes),
        None => imageio::decode(bytes, input.decoding()),
    }
}

/// Reads what the headers of the picture at `path` say.
///
/// # Errors
/// As [`read`].
pub fn header(path: &Path, input: &InputOptions, cancel: &Cancel) -> Result<Header> {
    match apart(input, cancel) {
        Some(apart) => apart.header(path),
        None => imageio::header(path, input.decoding()),
    }
}

/// Checks before any work that pictures can be decoded as `input` says. Without landlock they are, with a note to `host`.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): nothing can be decoded apart here.
pub fn check(input: &InputOptions, host: &dyn Host) -> Result<()> {
    if !input.decode_apart {
        return Ok(());
    }
    let protection = sandbox::protection();
    let protection =
        protection.map_err(|e| e.with_hint("leave out --decode-apart (input.decode_apart)"))?;
    if !protection.landlock {
        let note =
            "landlock is not available: seccomp alone keeps the decoders from files and network";
        host.note(Level::Warning, note);
    }
    Ok(())
}

/// For a front end whose pictures come from strangers: the value of `input.decode_apart`, which is true unless
/// `in_process`.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): landlock or seccomp is not available, and `in_process` is not given.
pub fn decode_apart(in_process: bool) -> Result<bool> {
    if in_process {
        return Ok(false);
    }
    let refusal = Error::option("landlock or seccomp is not available: give --decode-in-process");
    match sandbox::protection() {
        Ok(protection) if protection.landlock => Ok(true),
        Ok(_) => Err(refusal),
        Err(why) => Err(refusal.with_source(why)),
    }
}
