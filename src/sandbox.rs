//! Pictures of strangers, decoded in a child process, so that a crash, an endless loop, a bomb or an attack there is the
//! error of one picture.
//!
//! The child is this program itself with the arguments [`COMMAND`] and an order. It gets the file as its standard input
//! and an empty environment, limits its own memory and time, gives up files, network and nearly all system calls
//! (landlock, seccomp), and only then looks at the file's bytes. Its answer comes through a pipe, and nothing in it is
//! believed: sizes are compared with `--max-pixels` before memory is allocated, texts are cut and escaped. One child
//! decodes one picture.

// build.rs says where.
#[cfg(not(decodes_apart))]
mod elsewhere;
#[cfg(decodes_apart)]
mod linux;

#[cfg(not(decodes_apart))]
use elsewhere as system;
#[cfg(decodes_apart)]
use linux as system;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::files::open_regular;
use crate::imageio::{DecodeOptions, Header, Picture};

/// The first argument of a child.
pub const COMMAND: &str = "decode-apart";

/// Whether this process's program answers to [`COMMAND`].
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Says that the program of this process calls [`child`] first. Hosts of the library do not, so that they cannot decode
/// apart.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// What a child's protection consists of here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// Whether landlock is there: without it seccomp alone keeps the child from files and network.
    pub landlock: bool,
}

/// The protection of a child, tried once in this process.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): pictures cannot be decoded apart here, and why.
pub fn protection() -> Result<Protection> {
    static TRIED: OnceLock<Result<Protection, String>> = OnceLock::new();
    expect_enabled()?;
    let tried = TRIED.get_or_init(|| system::protection().map_err(|e| e.to_string()));
    tried.clone().map_err(Error::option)
}

fn expect_enabled() -> Result<()> {
    match ENABLED.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(Error::option(
            "only the program `diffbir` decodes pictures apart",
        )),
    }
}

/// How a picture is decoded apart.
#[derive(Debug, Clone, Copy)]
pub struct Apart<'a> {
    /// How it is decoded. The child's memory is limited to what these take at most.
    pub options: DecodeOptions,
    /// Seconds that it may take.
    pub seconds: u64,
    /// Stops it.
    pub cancel: &'a Cancel,
}

impl Apart<'_> {
    /// As [`imageio::read`](crate::imageio::read).
    ///
    /// # Errors
    /// Those of [`imageio::read`](crate::imageio::read); [`Input`](crate::error::ErrorKind::Input) also for a fault of
    /// the child; [`Option`](crate::error::ErrorKind::Option) where nothing can be decoded apart;
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled).
    pub fn read(self, path: &Path) -> Result<Picture> {
        expect_enabled()?;
        system::picture(self, open(path)?)
    }

    /// As [`imageio::decode`](crate::imageio::decode).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn decode(self, bytes: &[u8]) -> Result<Picture> {
        expect_enabled()?;
        system::picture(self, system::in_memory(bytes).map_err(unreadable)?)
    }

    /// As [`imageio::header`](crate::imageio::header()).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn header(self, path: &Path) -> Result<Header> {
        expect_enabled()?;
        system::header(self, open(path)?)
    }
}

fn open(path: &Path) -> Result<std::fs::File> {
    open_regular(path).map_err(unreadable)
}

fn unreadable(error: io::Error) -> Error {
    Error::input("cannot be read").with_source(error)
}

/// Answers an order of the parent with the help of `decode`; `None` where the process's `arguments` are none. Called
/// before the program starts a thread.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option): an order that no parent gives.
pub fn child(
    arguments: impl Iterator<Item = OsString>,
    decode: impl Fn(&[u8], DecodeOptions) -> Result<Picture>,
) -> Result<Option<ExitCode>> {
    let mut arguments = arguments.skip(1);
    match arguments.next().is_some_and(|first| first == COMMAND) {
        true => system::child(arguments.next().as_deref(), decode).map(Some),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_host_starts_no_child() {
        let apart = Apart {
            options: DecodeOptions::up_to(100),
            seconds: 60,
            cancel: &Cancel::default(),
        };
        let read = [
            apart.decode(b"").err(),
            apart.read(Path::new("a.png")).err(),
        ];
        let others = [apart.header(Path::new("a.png")).err(), protection().err()];
        for error in read.into_iter().chain(others) {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Option);
            assert!(error.to_string().contains("only the program"), "{error}");
        }
        let arguments = ["diffbir", "restore"].map(OsString::from).into_iter();
        let child = child(arguments, |_, _| Err(Error::internal("no child")));
        assert!(child.unwrap().is_none());
    }
}
