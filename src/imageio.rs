//! Pictures from files and bytes, and back.

mod alpha;
mod bmp;
mod bounds;
mod decode;
mod encode;
mod exif;
mod files;
mod format;
mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
mod metadata;
mod pixels;
mod profile;
mod raw;
mod rows;
mod temporary;
mod tiff;
mod xmp;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ndarray::{Array3, s};

use crate::error::{Error, Result};
use crate::files::read_file;
pub use crate::resize::pillow_bicubic;
use exif::Exif;

pub use alpha::Alpha;
pub use decode::{DAMAGED, decode};
pub use encode::{EncodeOptions, encode, encode_png};
pub use files::{Place, Prepared, check_writable, prepare, write, write_atomic};
pub use format::{Format, is_picture_name};
#[cfg(feature = "capi")]
pub(crate) use pixels::Sample;
pub use pixels::{BitDepth, Depth, Pixels, luma};
pub use temporary::{CLAIM, sweep, temporary};
pub(crate) use {bounds::METADATA, decode::header_of};

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
    /// for RGB, pages behind the first one, a gain map, values beyond white, or a part of the pixels ([`DAMAGED`]).
    pub dropped: Vec<&'static str>,
}

/// Every text of [`Picture::dropped`].
pub(crate) const DROPPED: [&str; 16] = [
    "CMYK colours (converted by their profile)",
    "CMYK colours (converted without a profile)",
    "bits beyond 16",
    "channels beyond colours and alpha",
    decode::DAMAGED,
    "further pictures of the file",
    "gain map",
    "grey ICC profile (converted to sRGB)",
    "pages behind the first one",
    "values beyond black and white (clipped)",
    "alpha",
    "ICC profile",
    "EXIF",
    "XMP",
    "IPTC",
    "text",
];

/// What a picture has besides its colours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// Its kind.
    pub format: Format,
    /// Whether nothing of it has colour, however it is stored ([`Pixels::is_grey`]); results are then stored as grey.
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
    /// Its IPTC.
    pub iptc: Option<Vec<u8>>,
    /// Its texts by keyword, as a PNG has them; a JPEG's comments have the keyword `Comment`.
    pub text: Vec<(String, String)>,
    /// How large its pixels are printed. Results have the same, whatever their size in pixels.
    pub resolution: Option<Resolution>,
}

/// Pixels per inch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolution {
    /// From left to right.
    pub x: f64,
    /// From top to bottom.
    pub y: f64,
}

impl Resolution {
    /// The whole number where a kind of file rounds to one near it; `None` for what no picture has.
    pub fn of(x: f64, y: f64) -> Option<Self> {
        let near = |value: f64| match value.round() {
            whole if (whole - value).abs() < 0.013 => whole,
            _ => value,
        };
        let is_sane = |value: f64| (1.0..=65535.0).contains(&value);
        let (x, y) = (near(x), near(y));
        (is_sane(x) && is_sane(y)).then_some(Resolution { x, y })
    }
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
    /// [`Kept::iptc`].
    Iptc,
    /// [`Kept::text`].
    Text,
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
            Aspect::Iptc => "IPTC",
            Aspect::Text => "text",
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
            grey: pixels.is_grey(),
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

    /// Takes away what the input said besides its colours and their profile.
    pub fn strip(&mut self) {
        (self.exif, self.xmp, self.iptc) = (None, None, None);
        self.text.clear();
        self.resolution = None;
    }

    /// Takes away where the picture was taken.
    pub fn strip_place(&mut self) {
        self.exif = self.exif.take().and_then(|bytes| {
            let mut exif = Exif::read(&bytes)?;
            exif.strip_place();
            exif.to_bytes()
        });
        self.xmp = self.xmp.take().and_then(|bytes| {
            let mut text = xmp::text(&bytes)?.to_owned();
            xmp::strip_place(&mut text);
            Some(text.into_bytes())
        });
    }

    /// What of it a file of `format` does not carry.
    pub fn lost_in(&self, format: Format) -> Vec<&'static str> {
        let is_jpeg = format == Format::Jpeg;
        let exif = self.exif.as_deref();
        let (xmp, iptc) = (self.xmp.as_deref(), self.iptc.as_deref());
        let text = match format {
            Format::Jpeg => self.text.iter().all(jpeg::holds_text),
            Format::Tiff => self.comment().is_some(),
            _ => true,
        };
        let has = [
            (Aspect::Alpha, self.alpha.is_some(), true),
            (Aspect::Depth, self.depth == BitDepth::Sixteen, true),
            (Aspect::Icc, self.icc.is_some() && !self.grey, true),
            (
                Aspect::Exif,
                exif.is_some(),
                !is_jpeg || exif.is_none_or(jpeg::holds_exif),
            ),
            (
                Aspect::Xmp,
                xmp.is_some(),
                !is_jpeg || xmp.is_none_or(jpeg::holds_xmp),
            ),
            (
                Aspect::Iptc,
                iptc.is_some(),
                !is_jpeg || iptc.is_none_or(jpeg::holds_iptc),
            ),
            (Aspect::Text, !self.text.is_empty(), text),
        ];
        let lost = has
            .into_iter()
            .filter(|(aspect, has, fits)| *has && !(*fits && format.carries(*aspect)));
        lost.map(|(aspect, _, _)| aspect.name()).collect()
    }

    /// The one text that a TIFF can have as its description.
    fn comment(&self) -> Option<&str> {
        match self.text.as_slice() {
            [(keyword, text)] if keyword == metadata::COMMENT => Some(text),
            _ => None,
        }
    }

    /// EXIF of a result of this size; one of the resolution alone where `make` asks for it.
    fn exif_of(&self, size: (usize, usize), make: bool) -> Option<Exif> {
        let exif = self.exif.as_deref().and_then(Exif::read);
        let made = || (make && self.resolution.is_some()).then(Exif::default);
        let mut exif = exif.or_else(made)?;
        exif.describe(size, self.resolution);
        Some(exif)
    }

    /// XMP of a result of this size, with `texts`.
    fn xmp_of(&self, size: (usize, usize), texts: &BTreeMap<String, String>) -> Option<Vec<u8>> {
        let bytes = self.xmp.as_deref();
        let edited = bytes.map(|bytes| Some(xmp::sized(xmp::text(bytes)?, size)));
        match edited {
            // Of another encoding, or too long to be edited.
            Some(None) => bytes.map(<[u8]>::to_vec),
            Some(Some(edited)) if texts.is_empty() => Some(edited.into_bytes()),
            Some(Some(edited)) => Some(xmp::with(Some(edited), texts).into_bytes()),
            None if texts.is_empty() => None,
            None => Some(xmp::with(None, texts).into_bytes()),
        }
    }
}

/// How a picture is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The most pixels that are decoded.
    pub max_pixels: u64,
    /// Whether colours are converted to sRGB as the file's profile says; else the profile is ignored.
    pub profiles: bool,
    /// Whether of a damaged JPEG what is there is decoded; else it is refused.
    pub damaged: bool,
}

impl DecodeOptions {
    /// At most `max_pixels`, profiles respected.
    pub fn up_to(max_pixels: u64) -> Self {
        DecodeOptions {
            max_pixels,
            profiles: true,
            damaged: false,
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
