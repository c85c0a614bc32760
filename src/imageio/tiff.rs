//! TIFF files: read in all the ways that they say their colours, written not compressed.

mod colors;
mod read;
mod write;

pub(super) use read::TiffReader;
pub(super) use write::write;
