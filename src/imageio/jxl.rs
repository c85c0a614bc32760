//! JPEG XL, which is read and not written.

use std::io::Cursor;

use image::ImageDecoder;
use jxl_oxide::JxlImage;
use jxl_oxide::integration::JxlDecoder;

use super::decode::{animated, damaged};
use crate::error::{Error, Result};

/// A decoder that has read the headers.
pub(super) fn open(bytes: &[u8]) -> Result<impl ImageDecoder + '_> {
    let image = JxlImage::builder().read(Cursor::new(bytes));
    let image = image.map_err(|e| Error::input(format!("damaged or unsupported picture: {e}")))?;
    if image.image_header().metadata.animation.is_some() {
        return Err(animated());
    }
    // A cut stream would be read as far as it goes, the rest black.
    if !image.is_loading_done() {
        return Err(Error::input("damaged picture: its end is missing"));
    }
    JxlDecoder::new(Cursor::new(bytes)).map_err(damaged)
}

/// Whether a file of these bytes is one: a bare stream, or one in a container.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\x0a") || bytes.get(4..12) == Some(b"JXL \r\n\x87\n")
}
