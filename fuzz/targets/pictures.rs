//! Files that may be pictures.

use std::collections::BTreeMap;

use diffbir::error::ErrorKind;
use diffbir::imageio::{DecodeOptions, EncodeOptions, Format, Picture, decode, encode};

/// Far below the default, so that what does not depend on it stands out.
pub const MAX_PIXELS: u64 = 1 << 18;
/// Three times what the limit of pixels allows at 8 bytes each, and 256 MB.
pub const MEMORY: usize = 3 * 8 * MAX_PIXELS as usize + 256_000_000;

/// Reads `bytes`; a picture is written in each turn of formats, and read again.
pub fn run(bytes: &[u8]) {
    let options = DecodeOptions {
        max_pixels: MAX_PIXELS,
        profiles: !bytes.len().is_multiple_of(8),
        damaged: bytes.len().is_multiple_of(3),
    };
    match decode(bytes, options) {
        Ok(picture) => rewrite(&picture, Format::ALL[bytes.len() % Format::ALL.len()]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Input, "{error}"),
    }
}

/// What was read can be written, and what was written can be read.
fn rewrite(picture: &Picture, format: Format) {
    let (height, width) = picture.pixels.size();
    assert!((1..=MAX_PIXELS).contains(&((height * width) as u64)));
    if let Some(alpha) = &picture.kept.alpha {
        assert_eq!(alpha.dim(), (height, width));
    }
    if height * width > 4096 {
        return;
    }
    let encoding = EncodeOptions {
        format,
        ..EncodeOptions::default()
    };
    let file = encode(&picture.pixels, &picture.kept, encoding, &BTreeMap::new());
    let file = file.unwrap_or_else(|error| panic!("{format:?} is not written: {error}"));
    let again = decode(&file, DecodeOptions::up_to(MAX_PIXELS));
    let again = again.unwrap_or_else(|error| panic!("{format:?} is not read again: {error}"));
    assert_eq!(again.pixels.size(), (height, width), "{format:?}");
}
