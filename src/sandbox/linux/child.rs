//! The child: confines itself, decodes, answers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::answer::{self, Head};
use super::{Order, Task, confine};
use crate::error::{Error, Result};
use crate::imageio::{self, DecodeOptions, EncodeOptions, Format, Kept, Picture, Pixels};

/// As [`super::super::child`].
pub fn child(
    order: Option<&OsStr>,
    decode: impl Fn(&[u8], DecodeOptions) -> Result<Picture>,
) -> Result<ExitCode> {
    let order = order.and_then(OsStr::to_str).unwrap_or_default();
    let order: Order = serde_json::from_str(order).map_err(|e| {
        Error::option("`diffbir decode-apart` is started by diffbir alone").with_source(e)
    })?;
    let done = match ready(order) {
        Ok((bytes, landlock)) => answer(order, &bytes, landlock, decode),
        Err(head) => head.write(&mut Answers),
    };
    // The parent has gone, or has had enough.
    Ok(done.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// The file's bytes, read before nothing can be read any more, and whether landlock is there.
fn ready(order: Order) -> Result<(Vec<u8>, bool), Head> {
    let unprotected = |why: String| Head::Unprotected { why };
    confine::limit(order).map_err(|e| unprotected(e.to_string()))?;
    let bytes = match order.task {
        Task::Nothing => Ok(Vec::new()),
        _ => file(order.length),
    };
    let bytes = bytes.map_err(|e| {
        let error = Error::input("cannot be read").with_source(e);
        Head::refused(&error)
    })?;
    let landlock = confine::confine().map_err(unprotected)?;
    Ok((bytes, landlock))
}

fn file(length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let capacity = usize::try_from(length).map_err(io::Error::other)?;
    bytes.try_reserve_exact(capacity)?;
    io::stdin().lock().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn answer(
    order: Order,
    bytes: &[u8],
    landlock: bool,
    decode: impl Fn(&[u8], DecodeOptions) -> Result<Picture>,
) -> io::Result<()> {
    let head = match order.task {
        Task::Nothing => Head::Ready { landlock },
        Task::Header => match imageio::header_of(bytes, order.options()) {
            Ok(header) => Head::Header {
                format: header.format,
                height: header.height as u32,
                width: header.width as u32,
            },
            Err(error) => Head::refused(&error),
        },
        Task::Picture => match decode(bytes, order.options()) {
            Ok(picture) => {
                rehearse(&picture);
                return answer::write(&picture, &mut Answers);
            }
            Err(error) => Head::refused(&error),
        },
    };
    head.write(&mut Answers)
}

/// Encodes one pixel with the picture's profile and metadata, which the parent reads again when it writes the result:
/// what crashes there shall crash here. An error is left to the parent.
fn rehearse(picture: &Picture) {
    let kept = Kept {
        alpha: None,
        icc: picture.kept.icc.clone(),
        exif: picture.kept.exif.clone(),
        xmp: picture.kept.xmp.clone(),
        iptc: picture.kept.iptc.clone(),
        text: picture.kept.text.clone(),
        ..picture.kept
    };
    let pixel = Pixels::zeros((1, 1), picture.pixels.depth());
    for format in Format::ALL {
        kept.lost_in(format);
        let options = EncodeOptions {
            format,
            ..EncodeOptions::default()
        };
        let _ = imageio::encode(&pixel, &kept, options, &BTreeMap::new());
    }
}

/// Standard output without a buffer, which would have to be flushed and freed.
struct Answers;

impl Write for Answers {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
