//! Pictures from bytes.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};
use ndarray::Array3;

use super::{Alpha, DecodeOptions, Format, Kept, Picture, Rgb, profile};
use crate::error::{Error, Result};

/// Decodes a picture from the bytes of its file; see [`read`](super::read).
///
/// # Errors
/// As [`read`](super::read).
pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Picture> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(super::unreadable)?;
    let Some(format) = reader.format().and_then(Format::of) else {
        return Err(Error::input(
            "not a picture of a known kind (PNG, JPEG, WebP, TIFF, BMP), or empty",
        ));
    };
    if is_animated(bytes, format) {
        return Err(Error::input(
            "an animated picture: take its frames apart and restore them one by one",
        ));
    }
    // The limits of the crate are about memory; ours are about the pixels that the networks will see.
    reader.no_limits();
    let damaged =
        |e: image::ImageError| Error::input("damaged or unsupported picture").with_source(e);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    check_size(decoder.dimensions(), options.max_pixels)?;
    let mut facts = Facts::of(&mut decoder, bytes, format);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(facts.orientation);
    let alpha = image.color().has_alpha().then(|| alpha_of(&image));
    let mut rgb = to_rgb(image)?;
    if let Some(icc) = &facts.kept.icc {
        match options.profiles {
            true => rgb = profile::to_srgb(rgb, icc)?,
            false => facts.kept.icc = None,
        }
    }
    let mut picture = Picture::of_pixels(rgb, alpha);
    facts.kept.alpha = picture.kept.alpha.take();
    Ok(Picture {
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
    dropped: Vec<&'static str>,
}

impl Facts {
    fn of(decoder: &mut impl ImageDecoder, bytes: &[u8], format: Format) -> Self {
        let color = decoder.original_color_type();
        let mut dropped = Vec::new();
        if decoder.color_type().bytes_per_pixel() > decoder.color_type().channel_count() {
            dropped.push("16-bit depth");
        }
        let cmyk = format == Format::Jpeg && jpeg_components(bytes) == Some(4);
        if cmyk {
            dropped.push("CMYK colours");
        }
        let icc = decoder.icc_profile().ok().flatten();
        let (icc, unusable) = match icc {
            Some(icc) if profile::is_rgb(&icc) && !cmyk => (Some(icc), false),
            other => (None, other.is_some()),
        };
        if unusable {
            dropped.push(super::ICC);
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut exif = decoder.exif_metadata().ok().flatten();
        if let Some(exif) = &mut exif {
            // The pixels are turned upright; a program that reads the tag must not turn them again.
            let _ = Orientation::remove_from_exif_chunk(exif);
        }
        let grey = matches!(
            decoder.color_type(),
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16
        ) && color.channel_count() <= 2;
        Facts {
            kept: Kept {
                format,
                grey,
                alpha: None,
                icc,
                exif,
                xmp: decoder.xmp_metadata().ok().flatten(),
            },
            orientation,
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

/// The number of components that a JPEG's frame header names.
fn jpeg_components(bytes: &[u8]) -> Option<u8> {
    let mut at = 2;
    loop {
        let marker = *bytes.get(at + 1)?;
        if *bytes.get(at)? != 0xff {
            return None;
        }
        // A start of frame of any process; C4, C8 and CC are other things.
        if (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker) {
            return bytes.get(at + 9).copied();
        }
        let length = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]);
        at += 2 + usize::from(length);
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
    let (width, height) = (image.width() as usize, image.height() as usize);
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
    Array3::from_shape_vec((height, width, 3), bytes).map_err(|e| {
        Error::internal("the decoder returned another size than it announced").with_source(e)
    })
}
