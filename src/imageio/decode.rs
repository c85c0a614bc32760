//! Pictures from bytes.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageResult, Limits};
use ndarray::{Array, Axis, Dimension};

use super::bounds::{Chunk, Chunks, METADATA, too_much};
use super::jpeg::JpegDecoder;
#[cfg(feature = "jxl")]
use super::jxl;
use super::raw::{self, Raw};
use super::tiff::GreyAlpha;
use super::{Aspect, DecodeOptions, Format, Header, Kept, Picture, Pixels, alpha, profile, tags};
use crate::error::{Error, Result};

/// Decodes a picture from the bytes of its file; see [`read`](super::read).
///
/// # Errors
/// As [`read`](super::read).
pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Picture> {
    let (decoder, source) = open(bytes, options)?;
    assemble(decoder, source, options.profiles)
}

/// What the headers of a file's bytes say; see [`header`](super::header()).
pub(super) fn header_of(bytes: &[u8], options: DecodeOptions) -> Result<Header> {
    let (mut decoder, source) = open(bytes, options)?;
    let (width, height) = decoder.dimensions();
    let (height, width) = match orientation(&mut decoder) {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (width, height),
        _ => (height, width),
    };
    Ok(Header {
        format: source.format,
        height: height as usize,
        width: width as usize,
    })
}

fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// A decoder that has read the headers, of a picture that may be decoded.
fn open(bytes: &[u8], options: DecodeOptions) -> Result<(Box<dyn ImageDecoder + '_>, Source<'_>)> {
    let mut source = Source {
        bytes,
        format: Format::Png,
        inks: false,
    };
    let decoder: Box<dyn ImageDecoder + '_> = match kind_of(bytes)? {
        #[cfg(feature = "jxl")]
        // It is not written: a result in the input's format is a PNG.
        None => Box::new(jxl::open(bytes, options)?),
        #[cfg(not(feature = "jxl"))]
        None => return Err(unknown(bytes)),
        Some(format) => {
            source.format = format;
            let length =
                |metadata: usize, chunk: Result<Chunk<'_>>| Ok(metadata + chunk?.metadata());
            if Chunks::of(format, bytes).try_fold(0, length)? > METADATA {
                return Err(too_much("metadata"));
            }
            match format {
                Format::Png => Box::new(open_png(bytes, options)?),
                Format::Jpeg => {
                    let decoder = JpegDecoder::new(bytes, options).map_err(damaged)?;
                    source.inks = decoder.has_profile_of_inks();
                    Box::new(decoder)
                }
                Format::Webp => Box::new(open_webp(bytes)?),
                Format::Tiff => open_tiff(bytes, options)?,
                Format::Bmp => Box::new(BmpDecoder::new(Cursor::new(bytes)).map_err(damaged)?),
            }
        }
    };
    options.check_size(decoder.dimensions())?;
    options.check_bytes(decoder.total_bytes())?;
    Ok((decoder, source))
}

/// The kind that a file's first bytes say; `None` for JPEG XL.
fn kind_of(bytes: &[u8]) -> Result<Option<Format>> {
    #[cfg(feature = "jxl")]
    if jxl::is_one(bytes) {
        return Ok(None);
    }
    let format = image::guess_format(bytes).ok().and_then(Format::of);
    format.map(Some).ok_or_else(|| unknown(bytes))
}

fn open_png(bytes: &[u8], options: DecodeOptions) -> Result<PngDecoder<Cursor<&[u8]>>> {
    let sides = bytes.get(16..).and_then(<[u8]>::first_chunk);
    let sides = sides.map(|sides| u64::from_be_bytes(*sides));
    let sides = sides.map_or((0, 0), |sides| ((sides >> 32) as u32, sides as u32));
    options.check_size(sides)?;
    let mut limits = Limits::no_limits();
    // Two rows of the longest pixels are held.
    limits.max_alloc = Some(METADATA as u64 + 16 * u64::from(sides.0));
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(damaged)?;
    match decoder.is_apng().unwrap_or(false) {
        true => Err(animated()),
        false => Ok(decoder),
    }
}

fn open_webp(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>> {
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    match decoder.has_animation() {
        true => Err(animated()),
        false => Ok(decoder),
    }
}

fn open_tiff(bytes: &[u8], options: DecodeOptions) -> Result<Box<dyn ImageDecoder + '_>> {
    if let Some(decoder) = GreyAlpha::of(bytes, options) {
        return Ok(Box::new(decoder));
    }
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    options.check_size(decoder.dimensions())?;
    options.check_bytes(decoder.total_bytes())?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.decoder_bytes());
    decoder.set_limits(limits).map_err(damaged)?;
    Ok(Box::new(decoder))
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

/// Where a picture comes from.
struct Source<'a> {
    bytes: &'a [u8],
    format: Format,
    /// Whether its decoder has converted inks by their profile.
    inks: bool,
}

impl Source<'_> {
    /// Whether a PNG has a chunk that its decoder says nothing of where it is damaged or too long.
    fn has(&self, kind: &[u8; 4]) -> bool {
        let chunks = Chunks::of(Format::Png, self.bytes);
        self.format == Format::Png && chunks.flatten().any(|chunk| chunk.kind == *kind)
    }

    /// A tag of a TIFF, which `image` reads only where it is shorter than the pixels.
    fn tag(&self, tag: u16) -> Option<Vec<u8>> {
        (self.format == Format::Tiff)
            .then(|| tags::Exif::bytes_in(self.bytes, tag))
            .flatten()
    }
}

fn assemble(mut decoder: impl ImageDecoder, source: Source<'_>, profiles: bool) -> Result<Picture> {
    let mut facts = Facts::of(&mut decoder, source);
    let (mut pixels, mut alpha) = Raw::read(decoder)?.split()?;
    if facts.orientation != Orientation::NoTransforms {
        pixels = match pixels {
            Pixels::U8(rgb) => Pixels::U8(upright(rgb, facts.orientation)),
            Pixels::U16(rgb) => Pixels::U16(upright(rgb, facts.orientation)),
        };
        alpha = alpha.map(|alpha| upright(alpha, facts.orientation));
    }
    if let Some(alpha) = alpha.as_ref().filter(|_| facts.multiplied) {
        match &mut pixels {
            Pixels::U8(rgb) => alpha::divide(rgb, alpha),
            Pixels::U16(rgb) => alpha::divide(rgb, alpha),
        }
    }
    if !profiles {
        facts.kept.icc = None;
    }
    if let Some(icc) = &facts.kept.icc {
        pixels = profile::to_srgb(pixels, icc)?;
    }
    let picture = Picture::of_pixels(pixels, alpha);
    facts.kept.alpha = picture.kept.alpha;
    Ok(Picture {
        pixels: picture.pixels,
        kept: facts.kept,
        dropped: facts.dropped,
    })
}

/// `array`, `[H, W, ..]`, turned as `orientation` says.
fn upright<T: Clone, D: Dimension>(
    mut array: Array<T, D>,
    orientation: Orientation,
) -> Array<T, D> {
    use Orientation::*;
    // Columns become rows, then both run in one direction or the other.
    if matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    ) {
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

/// What a file says besides its pixels.
struct Facts {
    kept: Kept,
    orientation: Orientation,
    /// Whether colours have been multiplied with alpha.
    multiplied: bool,
    dropped: Vec<&'static str>,
}

impl Facts {
    fn of(decoder: &mut impl ImageDecoder, source: Source<'_>) -> Self {
        let color = decoder.color_type();
        let original = decoder.original_color_type();
        let mut dropped = Vec::new();
        let cmyk = matches!(
            original,
            ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16
        );
        if cmyk {
            dropped.push(match source.inks {
                true => "CMYK colours (converted by their profile)",
                false => "CMYK colours (converted without a profile)",
            });
        }
        if source.format == Format::Tiff && tags::Exif::another_follows(source.bytes) {
            dropped.push("pages behind the first one");
        }
        let icc = source.tag(tags::ICC);
        let icc = icc.map(Ok).or_else(|| decoder.icc_profile().transpose());
        let (icc, unusable) = match icc {
            Some(Ok(icc)) if profile::is_rgb(&icc) && !cmyk => (Some(icc), false),
            other => (
                None,
                (other.is_some() || source.has(b"iCCP")) && !source.inks,
            ),
        };
        if unusable {
            dropped.push(Aspect::Icc.name());
        }
        let orientation = orientation(decoder);
        let mut exif = match source.format {
            Format::Tiff => tags::Exif::read(source.bytes).map(|exif| exif.to_bytes()),
            _ => read_or_dropped(decoder.exif_metadata(), Aspect::Exif, &mut dropped),
        };
        if let Some(exif) = &mut exif {
            // The pixels are turned upright; a program that reads the tag must not turn them again.
            let _ = Orientation::remove_from_exif_chunk(exif);
        }
        let xmp = source
            .tag(tags::XMP)
            .or_else(|| read_or_dropped(decoder.xmp_metadata(), Aspect::Xmp, &mut dropped));
        let grey = matches!(
            color,
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16
        ) && original.channel_count() <= 2;
        Facts {
            kept: Kept {
                format: source.format,
                grey,
                depth: raw::depth_of(color),
                alpha: None,
                icc,
                exif,
                xmp,
            },
            orientation,
            multiplied: source.format == Format::Tiff && tags::Exif::is_multiplied(source.bytes),
            dropped,
        }
    }
}

fn read_or_dropped(
    read: ImageResult<Option<Vec<u8>>>,
    aspect: Aspect,
    dropped: &mut Vec<&'static str>,
) -> Option<Vec<u8>> {
    if read.is_err() {
        dropped.push(aspect.name());
    }
    read.ok().flatten()
}
