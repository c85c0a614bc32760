//! Videos, through the `ffmpeg` and `ffprobe` of the user: frames come from a pipe and go into a pipe; everything else
//! (sound, timestamps, rotation, colour matrix) is the clip's.

mod clip;
mod frames;
mod matrix;
mod mux;
mod tools;
mod turn;

use std::path::Path;

pub use clip::Clip;
pub use frames::Frames;
pub use mux::{Encoding, Muxer};
pub use tools::Tools;

/// The endings of names of videos that are written.
pub const WRITTEN: [&str; 4] = ["mp4", "m4v", "mov", "mkv"];

/// The endings of names of videos that are read, besides [`WRITTEN`].
const READ: [&str; 15] = [
    "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts", "vob", "flv", "wmv", "asf", "ogv", "3gp",
    "mxf", "dv",
];

/// Whether a file is named like a video that is written.
pub fn is_written(path: &Path) -> bool {
    has_ending(path, &WRITTEN)
}

/// Whether a file is named like a video.
pub fn is_named(path: &Path) -> bool {
    has_ending(path, &WRITTEN) || has_ending(path, &READ)
}

/// Whether a video at `path` has MP4's boxes, which hold a rotation.
fn has_boxes(path: &Path) -> bool {
    has_ending(path, &["mp4", "m4v", "mov"])
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().unwrap_or_default();
    endings
        .iter()
        .any(|known| ending.eq_ignore_ascii_case(known))
}
