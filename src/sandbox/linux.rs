//! Parent and child on Linux.

mod answer;
mod child;
mod confine;
mod parent;

use std::fs::File;
use std::io::{self, Seek, Write};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::{Apart, Protection};
use crate::error::Result;
use crate::imageio::{DecodeOptions, Header, Picture};
use answer::{Answer, Head};
pub use child::child;

/// What a child is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Task {
    Picture,
    Header,
    /// Only to confine itself.
    Nothing,
}

/// The second argument of a child, as JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Order {
    task: Task,
    max_pixels: u64,
    profiles: bool,
    damaged: bool,
    /// Bytes of the file.
    length: u64,
    /// Bytes of address space.
    memory: u64,
    /// Seconds of computing.
    seconds: u64,
}

impl Order {
    fn options(self) -> DecodeOptions {
        DecodeOptions {
            max_pixels: self.max_pixels,
            profiles: self.profiles,
            damaged: self.damaged,
        }
    }
}

/// As [`super::protection`].
pub fn protection() -> Result<Protection> {
    let apart = Apart {
        options: DecodeOptions::up_to(1),
        seconds: 60,
        cancel: &Default::default(),
    };
    match parent::ask(Task::Nothing, apart, None)? {
        Answer::Plain(Head::Ready { landlock }) => Ok(Protection { landlock }),
        _ => Err(parent::unusable("another than asked for")),
    }
}

pub fn picture(apart: Apart<'_>, file: File) -> Result<Picture> {
    match parent::ask(Task::Picture, apart, Some(file))? {
        Answer::Picture(picture) => Ok(*picture),
        Answer::Plain(_) => Err(parent::unusable("another than asked for")),
    }
}

pub fn header(apart: Apart<'_>, file: File) -> Result<Header> {
    match parent::ask(Task::Header, apart, Some(file))? {
        Answer::Plain(Head::Header {
            format,
            height,
            width,
        }) => {
            apart.options.check_size((width, height))?;
            Ok(Header {
                format,
                height: height as usize,
                width: width as usize,
            })
        }
        _ => Err(parent::unusable("another than asked for")),
    }
}

/// A file of `bytes` that has no name.
pub fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("picture", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
