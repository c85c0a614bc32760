//! Pictures from bytes.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageReader};
use ndarray::Array3;

use super::jpeg::JpegDecoder;
#[cfg(feature = "jxl")]
use super::jxl;
use super::tiff::GreyAlpha;
use super::{Alpha, DecodeOptions, Format, Header, Kept, Picture, Rgb, alpha, profile, tags};
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
    #[cfg(feature = "jxl")]
    if jxl::is_one(bytes) {
        let decoder = jxl::open(bytes)?;
        check_size(decoder.dimensions(), options.max_pixels)?;
        let source = Source {
            bytes,
            // What is not written: a result in the input's format is a PNG.
            format: Format::Png,
            inks: false,
        };
        return Ok((Box::new(decoder), source));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(super::unreadable)?;
    let Some(format) = reader.format().and_then(Format::of) else {
        return Err(unknown(bytes));
    };
    if is_animated(bytes, format) {
        return Err(animated());
    }
    // The limits of the crate are about memory; ours are about the pixels that the networks will see.
    reader.no_limits();
    let mut inks = None;
    let decoder: Box<dyn ImageDecoder + '_> = match format {
        Format::Jpeg => {
            let decoder = JpegDecoder::new(bytes, options.profiles).map_err(damaged)?;
            inks = Some(decoder.has_profile_of_inks());
            Box::new(decoder)
        }
        _ => match (format == Format::Tiff)
            .then(|| GreyAlpha::of(bytes))
            .flatten()
        {
            Some(decoder) => Box::new(decoder),
            None => Box::new(reader.into_decoder().map_err(damaged)?),
        },
    };
    check_size(decoder.dimensions(), options.max_pixels)?;
    let source = Source {
        bytes,
        format,
        inks: inks == Some(true),
    };
    Ok((decoder, source))
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
    /// A tag of a TIFF, which `image` reads only where it is shorter than the pixels.
    fn tag(&self, tag: u16) -> Option<Vec<u8>> {
        (self.format == Format::Tiff)
            .then(|| tags::Exif::bytes_in(self.bytes, tag))
            .flatten()
    }
}

fn assemble(mut decoder: impl ImageDecoder, source: Source<'_>, profiles: bool) -> Result<Picture> {
    let mut facts = Facts::of(&mut decoder, source);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(facts.orientation);
    let alpha = image.color().has_alpha().then(|| alpha_of(&image));
    let mut deep = match facts.kept.deep {
        true => Some(in_rows(
            (image.height() as usize, image.width() as usize),
            image.to_rgb16().into_raw(),
        )?),
        false => None,
    };
    let mut rgb = to_rgb(image)?;
    if let Some(alpha) = alpha.as_ref().filter(|_| facts.multiplied) {
        alpha::divide(&mut rgb, alpha, u8::MAX);
        deep.iter_mut()
            .for_each(|deep| alpha::divide(deep, alpha, u16::MAX));
    }
    if let Some(icc) = &facts.kept.icc {
        match profiles {
            true => {
                rgb = profile::to_srgb(rgb, icc)?;
                deep = deep.map(|deep| profile::to_srgb(deep, icc)).transpose()?;
            }
            false => facts.kept.icc = None,
        }
    }
    let mut picture = Picture::of_pixels(rgb, alpha);
    facts.kept.alpha = picture.kept.alpha.take();
    if let (Some(deep), Some(alpha)) = (&mut deep, &facts.kept.alpha) {
        alpha::fill_unseen(deep, alpha);
    }
    Ok(Picture {
        deep,
        kept: facts.kept,
        dropped: facts.dropped,
        ..picture
    })
}

fn check_size((width, height): (u32, u32), max_pixels: u64) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(Error::input(format!(
            "{width}x{height} is {pixels} pixels, more than the limit of {max_pixels} (raise it with --max-pixels)"
        )));
    }
    if pixels == 0 {
        return Err(Error::input(format!(
            "{width}x{height}: a picture without pixels"
        )));
    }
    Ok(())
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
        let icc = icc.or_else(|| decoder.icc_profile().ok().flatten());
        let (icc, unusable) = match icc {
            Some(icc) if profile::is_rgb(&icc) && !cmyk => (Some(icc), false),
            other => (None, other.is_some() && !source.inks),
        };
        if unusable {
            dropped.push(super::ICC);
        }
        let orientation = orientation(decoder);
        let mut exif = match source.format {
            Format::Tiff => tags::Exif::read(source.bytes).map(|exif| exif.to_bytes()),
            _ => decoder.exif_metadata().ok().flatten(),
        };
        if let Some(exif) = &mut exif {
            // The pixels are turned upright; a program that reads the tag must not turn them again.
            let _ = Orientation::remove_from_exif_chunk(exif);
        }
        let xmp = source.tag(tags::XMP);
        let grey = matches!(
            color,
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16
        ) && original.channel_count() <= 2;
        Facts {
            kept: Kept {
                format: source.format,
                grey,
                deep: color.bytes_per_pixel() > color.channel_count(),
                alpha: None,
                icc,
                exif,
                xmp: xmp.or_else(|| decoder.xmp_metadata().ok().flatten()),
            },
            orientation,
            multiplied: source.format == Format::Tiff && tags::Exif::is_multiplied(source.bytes),
            dropped,
        }
    }
}

/// Whether the file shows one picture after another.
fn is_animated(bytes: &[u8], format: Format) -> bool {
    match format {
        Format::Png => image::codecs::png::PngDecoder::new(Cursor::new(bytes))
            .and_then(|decoder| decoder.is_apng())
            .unwrap_or(false),
        Format::Webp => image::codecs::webp::WebPDecoder::new(Cursor::new(bytes))
            .is_ok_and(|decoder| decoder.has_animation()),
        _ => false,
    }
}

fn alpha_of(image: &DynamicImage) -> Alpha {
    let rgba = image.to_rgba8();
    let (width, height) = (rgba.width() as usize, rgba.height() as usize);
    Alpha::from_shape_fn((height, width), |(y, x)| {
        rgba.get_pixel(x as u32, y as u32).0[3]
    })
}

/// As Pillow's `convert("RGB")`: alpha is dropped, not blended, and of 16 bits the high ones are kept.
fn to_rgb(image: DynamicImage) -> Result<Rgb> {
    let size = (image.height() as usize, image.width() as usize);
    let high_byte = |x: u16| (x >> 8) as u8;
    let bytes: Vec<u8> = match image.color() {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => image
            .into_rgb16()
            .into_raw()
            .into_iter()
            .map(high_byte)
            .collect(),
        _ => image.into_rgb8().into_raw(),
    };
    in_rows(size, bytes)
}

fn in_rows<T>((height, width): (usize, usize), values: Vec<T>) -> Result<Array3<T>> {
    Array3::from_shape_vec((height, width, 3), values).map_err(|e| {
        Error::internal("the decoder returned another size than it announced").with_source(e)
    })
}
