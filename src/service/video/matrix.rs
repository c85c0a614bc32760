//! Writes a display matrix into an MP4: ffmpeg takes it, by options that changed from version to version, for streams that
//! it copies, and not for those that it encodes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use crate::error::{Error, Result};

use super::turn::Turn;

/// Most boxes that are walked over in one level.
const BOXES: usize = 10_000;

/// Writes `turn` into the header of the first track of the MP4 in `file`, which ffmpeg has just written.
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal): no such header.
pub(super) fn write(file: &mut File, turn: Turn) -> Result<()> {
    let failed = |e| Error::internal("the rotation cannot be written").with_source(e);
    let end = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut within = (0, end);
    for kind in [b"moov", b"trak", b"tkhd"] {
        let found = find(file, within, kind).map_err(failed)?;
        within = found.ok_or_else(|| Error::internal("a video without a track's header"))?;
    }
    let mut version = [0];
    file.seek(SeekFrom::Start(within.0)).map_err(failed)?;
    file.read_exact(&mut version).map_err(failed)?;
    // Behind version and flags, three times, a number, the duration, and 16 bytes; version 1 has four of 64 bits.
    let before = 4 + if version[0] == 1 { 32 } else { 20 } + 16;
    file.seek(SeekFrom::Start(within.0 + before))
        .map_err(failed)?;
    file.write_all(&turn.0.map(i32::to_be_bytes).concat())
        .map_err(failed)
}

/// Start and end of the contents of the first box of `kind` in `start` to `end`.
fn find(
    file: &mut File,
    (mut start, end): (u64, u64),
    kind: &[u8; 4],
) -> std::io::Result<Option<(u64, u64)>> {
    for _ in 0..BOXES {
        if start + 8 > end {
            break;
        }
        let mut header = [0; 16];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut header[..8])?;
        let [a, b, c, d, ..] = header;
        let (length, before) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (end - start, 8),
            1 => {
                file.read_exact(&mut header[8..])?;
                let long = header
                    .last_chunk()
                    .map_or(0, |long| u64::from_be_bytes(*long));
                (long, 16)
            }
            length => (u64::from(length), 8),
        };
        if length < before || length > end - start {
            break;
        }
        if header[4..8] == *kind {
            return Ok(Some((start + before, start + length)));
        }
        start += length;
    }
    Ok(None)
}
