//! Pictures from bytes.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ExtendedColorType, ImageDecoder, Limits};
use ndarray::{Array, Axis, Dimension};

use super::bounds::{Chunk, Chunks, METADATA, too_much};
use super::jpeg::JpegDecoder;
#[cfg(feature = "jxl")]
use super::jxl;
use super::metadata::Said;
use super::raw::{self, Raw};
use super::tiff::TiffReader;
use super::{Aspect, DecodeOptions, Format, Header, Kept, Picture, Pixels, alpha, profile};
use crate::error::{Error, Result};

/// Decodes a picture from the bytes of its file; see [`read`](super::read).
///
/// # Errors
/// As [`read`](super::read).
pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Picture> {
    let (decoder, format, said) = open(bytes, options)?;
    assemble(decoder, format, said, options)
}

/// What the headers of a file's bytes say; see [`header`](super::header()).
pub(crate) fn header_of(bytes: &[u8], options: DecodeOptions) -> Result<Header> {
    let (decoder, format, said) = open(bytes, options)?;
    let (width, height) = decoder.dimensions();
    let (height, width) = match said.orientation {
        Some(orientation) if swaps_sides(orientation) => (width, height),
        _ => (height, width),
    };
    Ok(Header {
        // JPEG XL is not written: a result in the input's format is a PNG.
        format: format.unwrap_or_default(),
        height: height as usize,
        width: width as usize,
    })
}

/// A decoder that has read the headers, of a picture that may be decoded, and what its file says.
fn open(
    bytes: &[u8],
    options: DecodeOptions,
) -> Result<(Box<dyn ImageDecoder + '_>, Option<Format>, Said)> {
    let kind = kind_of(bytes)?;
    let (decoder, mut said): (Box<dyn ImageDecoder + '_>, Said) = match kind {
        #[cfg(feature = "jxl")]
        None => {
            let mut decoder = jxl::open(bytes, options)?;
            let mut said = Said::by(&mut decoder);
            // Its pixels are upright already, whatever EXIF says.
            said.orientation = Some(Orientation::NoTransforms);
            (Box::new(decoder), said)
        }
        #[cfg(not(feature = "jxl"))]
        None => return Err(unknown(bytes)),
        Some(Format::Png) => {
            options.check_size(png_sides(bytes))?;
            let said = Said::of_png(bytes, options)?;
            (Box::new(open_png(bytes)?), said)
        }
        Some(Format::Jpeg) => {
            let mut decoder = JpegDecoder::new(bytes, options).map_err(damaged)?;
            let mut said = Said::by(&mut decoder);
            said.inks = decoder.has_profile_of_inks();
            said.add_segments(bytes)?;
            said.damaged = decoder.damaged.clone();
            (Box::new(decoder), said)
        }
        Some(Format::Webp) => {
            let mut decoder = open_webp(bytes)?;
            let said = Said::by(&mut decoder);
            (Box::new(decoder), said)
        }
        Some(Format::Tiff) => {
            let decoder = TiffReader::open(bytes, options)?;
            let mut said = Said::of_tiff(bytes);
            said.inks = decoder.has_profile_of_inks();
            said.dropped.extend(&decoder.dropped);
            said.orientation = Some(decoder.orientation);
            (Box::new(decoder), said)
        }
        Some(Format::Bmp) => {
            let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
            (Box::new(decoder), Said::of_bmp(bytes))
        }
    };
    options.check_size(decoder.dimensions())?;
    options.check_bytes(decoder.total_bytes())?;
    said.settle();
    Ok((decoder, kind, said))
}

/// The kind that a file's first bytes say; `None` for JPEG XL.
fn kind_of(bytes: &[u8]) -> Result<Option<Format>> {
    #[cfg(feature = "jxl")]
    if jxl::is_one(bytes) {
        return Ok(None);
    }
    let is_big_tiff = bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+");
    let format = match is_big_tiff {
        true => Some(Format::Tiff),
        false => image::guess_format(bytes).ok().and_then(Format::of),
    };
    format.map(Some).ok_or_else(|| unknown(bytes))
}

/// Width and height of a PNG.
fn png_sides(bytes: &[u8]) -> (u32, u32) {
    let sides = bytes.get(16..).and_then(<[u8]>::first_chunk);
    let sides = sides.map(|sides| u64::from_be_bytes(*sides));
    sides.map_or((0, 0), |sides| ((sides >> 32) as u32, sides as u32))
}

fn open_png(bytes: &[u8]) -> Result<PngDecoder<Cursor<&[u8]>>> {
    let mut limits = Limits::no_limits();
    // Two rows of the longest pixels are held.
    limits.max_alloc = Some(METADATA as u64 + 16 * u64::from(png_sides(bytes).0));
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(damaged)?;
    match decoder.is_apng().unwrap_or(false) {
        true => Err(animated()),
        false => Ok(decoder),
    }
}

fn open_webp(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>> {
    let length = |metadata: usize, chunk: Result<Chunk<'_>>| Ok(metadata + chunk?.metadata());
    if Chunks::of(Format::Webp, bytes).try_fold(0, length)? > METADATA {
        return Err(too_much("metadata"));
    }
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    match decoder.has_animation() {
        true => Err(animated()),
        false => Ok(decoder),
    }
}

pub(super) fn damaged(error: image::ImageError) -> Error {
    Error::input("damaged or unsupported picture").with_source(error)
}

pub(super) fn animated() -> Error {
    Error::input("an animated picture: take its frames apart and restore them one by one")
}

/// The refusal of a file that is of no kind that is read, by its kind's name where that can be told.
fn unknown(bytes: &[u8]) -> Error {
    let brand = bytes.get(4..12).unwrap_or_default();
    let kind = match brand {
        b"ftypavif" | b"ftypavis" => "AVIF",
        b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1" | b"ftyphevc" => "HEIF",
        b"JXL \r\n\x87\n" => "JPEG XL, by this build without the feature `jxl`,",
        _ if bytes.starts_with(b"\xff\x0a") => "JPEG XL, by this build without the feature `jxl`,",
        _ if bytes.starts_with(b"GIF8") => "GIF",
        _ if bytes.starts_with(b"\0\0\0\x0cjP  ") => "JPEG 2000",
        _ => {
            return Error::input(
                "not a picture of a known kind (PNG, JPEG, WebP, TIFF, BMP), or empty",
            );
        }
    };
    Error::input(format!(
        "{kind} is not read: convert the picture to PNG, JPEG, WebP, TIFF or BMP"
    ))
}

/// What [`Picture::dropped`] has of a damaged file of which what is there was decoded.
pub const DAMAGED: &str = "damaged part";

fn assemble(
    decoder: impl ImageDecoder,
    format: Option<Format>,
    mut said: Said,
    options: DecodeOptions,
) -> Result<Picture> {
    let color = decoder.color_type();
    let cmyk = matches!(
        decoder.original_color_type(),
        ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16
    );
    if cmyk {
        said.dropped.push(match said.inks {
            true => "CMYK colours (converted by their profile)",
            false => "CMYK colours (converted without a profile)",
        });
    }
    let raw = Raw::read(decoder)?;
    if said.damaged.get() {
        said.dropped.push(DAMAGED);
    }
    if raw.is_clipped() {
        said.dropped.push("values beyond black and white (clipped)");
    }
    let (mut pixels, mut alpha) = raw.split()?;
    let orientation = said.orientation.unwrap_or(Orientation::NoTransforms);
    if orientation != Orientation::NoTransforms {
        pixels = match pixels {
            Pixels::U8(rgb) => Pixels::U8(upright(rgb, orientation)),
            Pixels::U16(rgb) => Pixels::U16(upright(rgb, orientation)),
        };
        alpha = alpha.map(|alpha| upright(alpha, orientation));
    }
    if let Some(alpha) = alpha.as_ref().filter(|_| said.multiplied) {
        match &mut pixels {
            Pixels::U8(rgb) => alpha::divide(rgb, alpha),
            Pixels::U16(rgb) => alpha::divide(rgb, alpha),
        }
    }
    let (pixels, icc) = in_srgb(pixels, &mut said, (cmyk, !color.has_color()), options)?;
    let picture = Picture::of_pixels(pixels, alpha);
    let kept = Kept {
        format: format.unwrap_or_default(),
        depth: raw::depth_of(color),
        icc,
        exif: said.exif,
        xmp: said.xmp,
        iptc: said.iptc,
        text: said.text,
        resolution: said.resolution,
        ..picture.kept
    };
    let dropped = said.dropped;
    Ok(Picture {
        pixels: picture.pixels,
        kept,
        dropped,
    })
}

/// Pixels in sRGB as the file's profile says, and the profile that results are to have again.
fn in_srgb(
    mut pixels: Pixels,
    said: &mut Said,
    (cmyk, is_grey): (bool, bool),
    options: DecodeOptions,
) -> Result<(Pixels, Option<Vec<u8>>)> {
    let icc = said.icc.take().filter(|_| !said.inks);
    let icc = match icc {
        Some(icc) if profile::is_rgb(&icc) && !cmyk => Some(icc).filter(|_| options.profiles),
        Some(icc) if profile::is_grey(&icc) && is_grey => {
            if options.profiles {
                pixels = profile::grey_to_srgb(pixels, &icc)?;
                said.dropped.push("grey ICC profile (converted to sRGB)");
            }
            None
        }
        other => {
            said.dropped.extend(other.map(|_| Aspect::Icc.name()));
            None
        }
    };
    if let Some(icc) = &icc {
        pixels = profile::to_srgb(pixels, icc)?;
    }
    Ok((pixels, icc.filter(|_| !said.is_curve)))
}

/// Whether rows become columns.
fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
}

/// `array`, `[H, W, ..]`, turned as `orientation` says.
fn upright<T: Clone, D: Dimension>(
    mut array: Array<T, D>,
    orientation: Orientation,
) -> Array<T, D> {
    use Orientation::*;
    // Columns become rows, then both run in one direction or the other.
    if swaps_sides(orientation) {
        array.swap_axes(0, 1);
    }
    if matches!(
        orientation,
        FlipVertical | Rotate180 | Rotate270 | Rotate270FlipH
    ) {
        array.invert_axis(Axis(0));
    }
    if matches!(
        orientation,
        FlipHorizontal | Rotate180 | Rotate90 | Rotate270FlipH
    ) {
        array.invert_axis(Axis(1));
    }
    array.as_standard_layout().into_owned()
}
