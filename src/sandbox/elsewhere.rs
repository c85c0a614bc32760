//! Systems without landlock and seccomp: nothing is decoded apart.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::process::ExitCode;

use super::{Apart, Protection};
use crate::error::{Error, Result};
use crate::imageio::{DecodeOptions, Header, Picture};

fn missing() -> Error {
    Error::option("decoding apart needs Linux on x86-64, AArch64 or RISC-V: leave it out")
}

pub fn protection() -> Result<Protection> {
    Err(missing())
}

pub fn picture(_: Apart<'_>, _: File) -> Result<Picture> {
    Err(missing())
}

pub fn header(_: Apart<'_>, _: File) -> Result<Header> {
    Err(missing())
}

pub fn in_memory(_: &[u8]) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn child(
    _: Option<&OsStr>,
    _: impl Fn(&[u8], DecodeOptions) -> Result<Picture>,
) -> Result<ExitCode> {
    Err(missing())
}
