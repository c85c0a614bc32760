//! Pictures from files and bytes, and back.

mod alpha;
mod bmp;
mod bounds;
mod decode;
mod encode;
mod files;
mod format;
mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
mod pixels;
mod profile;
mod raw;
mod rows;
mod tags;
mod temporary;
mod tiff;

use std::fmt;
use std::path::Path;

use ndarray::{Array3, s};

use crate::error::{Error, Result};
use crate::files::read_file;
pub use crate::resize::pillow_bicubic;

pub use alpha::Alpha;
pub use decode::decode;
pub use encode::{EncodeOptions, encode, encode_png};
pub use files::{Place, Prepared, check_writable, prepare, write, write_atomic};
pub use format::{Format, is_picture_name};
#[cfg(feature = "capi")]
pub(crate) use pixels::Sample;
pub use pixels::{BitDepth, Depth, Pixels, luma};
pub use temporary::{CLAIM, sweep, temporary};

/// An 8-bit RGB picture, `[H, W, 3]`.
pub type Rgb = Array3<u8>;

/// A decoded picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The colours, upright, in sRGB, without alpha; in 16 bits where the file has more than 8.
    pub pixels: Pixels,
    /// What the result is to have again.
    pub kept: Kept,
    /// What the file held that no result will: CMYK colours, and how they were converted, an `ICC profile` that is not
    /// for RGB, or pages behind the first one.
    pub dropped: Vec<&'static str>,
}

/// What a picture has besides its colours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its kind.
    pub format: Format,
    /// Whether it is grey.
    pub grey: bool,
    /// Its bits per channel.
    pub depth: BitDepth,
    /// How opaque it is, where it is not so throughout.
    pub alpha: Option<Alpha>,
    /// Its colour profile, for RGB.
    pub icc: Option<Vec<u8>>,
    /// Its EXIF, with the orientation reset, since the pixels are upright.
    pub exif: Option<Vec<u8>>,
    /// Its XMP.
    pub xmp: Option<Vec<u8>>,
}

/// A property of [`Kept`] that a kind of file may not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// [`Kept::alpha`].
    Alpha,
    /// [`Kept::depth`] of more than 8 bits.
    Depth,
    /// [`Kept::icc`].
    Icc,
    /// [`Kept::exif`].
    Exif,
    /// [`Kept::xmp`].
    Xmp,
}

impl Aspect {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Alpha => "alpha",
            Aspect::Depth => "16-bit depth",
            Aspect::Icc => "ICC profile",
            Aspect::Exif => "EXIF",
            Aspect::Xmp => "XMP",
        }
    }
}

impl Picture {
    /// A picture from pixels: colours in sRGB and, where they are not seen throughout, how opaque each pixel is, of the
    /// same size. Colours that nobody sees are filled in from their neighbours.
    pub fn of_pixels(pixels: impl Into<Pixels>, alpha: Option<Alpha>) -> Self {
        let mut pixels = pixels.into();
        let alpha = alpha.filter(|alpha| alpha.iter().any(|&alpha| alpha < 255));
        match (&mut pixels, &alpha) {
            (Pixels::U8(rgb), Some(alpha)) => alpha::fill_unseen(rgb, alpha),
            (Pixels::U16(rgb), Some(alpha)) => alpha::fill_unseen(rgb, alpha),
            (_, None) => {}
        }
        let kept = Kept {
            depth: pixels.depth(),
            alpha,
            ..Kept::default()
        };
        Picture {
            pixels,
            kept,
            dropped: Vec::new(),
        }
    }
}

impl Kept {
    /// How opaque each pixel of a result of this size is; `None` where all are seen.
    pub fn alpha_in(&self, height: usize, width: usize) -> Option<Alpha> {
        let alpha = self.alpha.as_ref();
        alpha.map(|alpha| alpha::resized(alpha, height, width))
    }

    /// Of transparency only the part of `size` (height, width) from `origin` on, which is the part that is restored.
    pub fn crop(&mut self, (top, left): (usize, usize), (height, width): (usize, usize)) {
        if let Some(alpha) = &mut self.alpha
            && alpha.dim() != (height, width)
        {
            let part = alpha.slice(s![top..top + height, left..left + width]);
            *alpha = part.to_owned();
        }
    }

    /// What of it a file of `format` does not carry.
    pub fn lost_in(&self, format: Format) -> Vec<&'static str> {
        let exif = self.exif.as_deref();
        let carries_exif = match format {
            Format::Jpeg => exif.is_none_or(jpeg::holds_exif),
            Format::Tiff => exif.is_none_or(|exif| tags::Exif::read(exif).is_some()),
            _ => true,
        };
        let xmp = self.xmp.as_deref();
        let carries_xmp = format != Format::Jpeg || xmp.is_none_or(jpeg::holds_xmp);
        let has = [
            (Aspect::Alpha, self.alpha.is_some(), true),
            (Aspect::Depth, self.depth == BitDepth::Sixteen, true),
            (Aspect::Icc, self.icc.is_some(), true),
            (Aspect::Exif, exif.is_some(), carries_exif),
            (Aspect::Xmp, xmp.is_some(), carries_xmp),
        ];
        let lost = has
            .into_iter()
            .filter(|(aspect, has, fits)| *has && !(*fits && format.carries(*aspect)));
        lost.map(|(aspect, _, _)| aspect.name()).collect()
    }
}

/// How a picture is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The most pixels that are decoded.
    pub max_pixels: u64,
    /// Whether colours are converted to sRGB as the file's profile says; else the profile is ignored.
    pub profiles: bool,
}

impl DecodeOptions {
    /// At most `max_pixels`, profiles respected.
    pub fn up_to(max_pixels: u64) -> Self {
        DecodeOptions {
            max_pixels,
            profiles: true,
        }
    }
}

/// Reads the picture at `path`. Its format follows from its contents, not from its name.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a file that cannot be read or is none (a pipe, a device), is no picture, is
/// damaged, is animated, has more pixels than allowed (which is found out before anything is decoded), or takes more
/// memory than docs/pictures.md allows.
pub fn read(path: &Path, options: DecodeOptions) -> Result<Picture> {
    decode(&file(path, options)?, options)
}

/// What a picture's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its kind.
    pub format: Format,
    /// Its height once it is upright.
    pub height: usize,
    /// Its width once it is upright.
    pub width: usize,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.format.name();
        write!(f, "{}x{} pixels as {name}", self.width, self.height)
    }
}

/// Reads what the headers of the picture at `path` say. No pixels are decoded.
///
/// # Errors
/// As [`read`], but for damage behind the headers.
pub fn header(path: &Path, options: DecodeOptions) -> Result<Header> {
    decode::header_of(&file(path, options)?, options)
}

/// The bytes of a file that may be a picture.
fn file(path: &Path, options: DecodeOptions) -> Result<Vec<u8>> {
    let bytes = read_file(path, options.file_bytes());
    bytes.map_err(|e| Error::input("cannot be read").with_source(e))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Cursor;

    use super::*;

    fn sample() -> Pixels {
        Array3::from_shape_fn((5, 7, 3), |(y, x, c)| (y * 40 + x * 5 + c) as u8).into()
    }

    #[test]
    fn png_round_trip_with_text() {
        let text = BTreeMap::from([("diffbir".to_owned(), "{\"seed\":231}".to_owned())]);
        let bytes = encode_png(&sample(), &text).unwrap();
        let picture = decode(&bytes, DecodeOptions::up_to(100)).unwrap();
        assert_eq!(picture.pixels, sample());
        assert!(picture.dropped.is_empty());
        let reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        let chunk = &reader.info().utf8_text[0];
        assert_eq!(
            (chunk.keyword.as_str(), chunk.get_text().unwrap().as_str()),
            ("diffbir", "{\"seed\":231}")
        );
    }

    #[test]
    fn too_many_pixels_are_refused_before_decoding() {
        let bytes = encode_png(&sample(), &BTreeMap::new()).unwrap();
        let error = decode(&bytes[..60], DecodeOptions::up_to(34)).unwrap_err();
        assert!(error.to_string().contains("35 pixels"), "{error}");
    }
}
