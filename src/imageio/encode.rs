//! Pictures to bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::{Alpha, Format, Kept, Rgb, profile};
use crate::error::{Error, Result};

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The kind of file.
    pub format: Format,
    /// Quality of JPEG, 1 to 100.
    pub quality: u8,
    /// Whether the result of a grey picture is grey.
    pub keep_grey: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            format: Format::Png,
            quality: 95,
            keep_grey: false,
        }
    }
}

/// The keyword of XMP in a PNG.
const PNG_XMP: &str = "XML:com.adobe.xmp";
/// What XMP begins with in a JPEG's APP1 segment.
const JPEG_XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// `rgb` in sRGB as a file, with what the picture it was made of had besides: alpha in its size, colours in its profile,
/// EXIF and XMP, as far as the kind of file carries them. `text` (key to text) is written into a PNG only.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a colour profile that cannot be used.
/// [`Internal`](crate::error::ErrorKind::Internal): the encoder fails.
pub fn encode(
    rgb: &Rgb,
    kept: &Kept,
    options: EncodeOptions,
    text: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let (height, width, _) = rgb.dim();
    let carries_alpha = kept.alpha.is_some() && options.format.carries(super::ALPHA);
    // The TIFF encoder knows no grey with alpha.
    let knows_grey = options.format != Format::Tiff || !carries_alpha;
    let grey = kept.grey && options.keep_grey && knows_grey;
    let icc = kept.icc.as_deref().filter(|_| !grey);
    let icc = icc.filter(|_| options.format.carries(super::ICC));
    let colors = match icc {
        Some(icc) => Cow::Owned(profile::from_srgb(rgb.clone(), icc)?),
        None => Cow::Borrowed(rgb),
    };
    let alpha = match carries_alpha {
        true => kept.alpha_in(height, width),
        false => None,
    };
    let pixels = Pixels {
        size: (width as u32, height as u32),
        values: interleaved(&colors, grey, alpha.as_ref()),
        grey,
        alpha: alpha.is_some(),
    };
    match options.format {
        Format::Png => png(&pixels, icc, kept, text),
        Format::Jpeg => jpeg(&pixels, icc, kept, options.quality),
        Format::Webp => {
            let mut bytes = Vec::new();
            let mut encoder = WebPEncoder::new_lossless(&mut bytes);
            attach(&mut encoder, icc, kept.exif.as_deref())?;
            pixels.write(encoder)?;
            Ok(bytes)
        }
        Format::Tiff => {
            let mut bytes = std::io::Cursor::new(Vec::new());
            pixels.write(TiffEncoder::new(&mut bytes))?;
            Ok(bytes.into_inner())
        }
        Format::Bmp => {
            let mut bytes = Vec::new();
            pixels.write(BmpEncoder::new(&mut bytes))?;
            Ok(bytes)
        }
    }
}

/// `rgb` as a PNG with `text` chunks and nothing else.
///
/// # Errors
/// As [`encode`].
pub fn encode_png(rgb: &Rgb, text: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    encode(rgb, &Kept::default(), EncodeOptions::default(), text)
}

/// Pixels in the order of the file.
struct Pixels {
    size: (u32, u32),
    values: Vec<u8>,
    grey: bool,
    alpha: bool,
}

impl Pixels {
    fn write(&self, encoder: impl ImageEncoder) -> Result<()> {
        let color = match (self.grey, self.alpha) {
            (false, false) => ExtendedColorType::Rgb8,
            (false, true) => ExtendedColorType::Rgba8,
            (true, false) => ExtendedColorType::L8,
            (true, true) => ExtendedColorType::La8,
        };
        let (width, height) = self.size;
        let written = encoder.write_image(&self.values, width, height, color);
        written.map_err(|e| Error::internal("the encoder failed").with_source(e))
    }
}

fn interleaved(rgb: &Rgb, grey: bool, alpha: Option<&Alpha>) -> Vec<u8> {
    if !grey && alpha.is_none() {
        return rgb.iter().copied().collect();
    }
    let (height, width, _) = rgb.dim();
    let mut values = Vec::with_capacity(height * width * 4);
    for y in 0..height {
        for x in 0..width {
            let color = [0, 1, 2].map(|c| rgb[[y, x, c]]);
            match grey {
                true => values.push(luma(color)),
                false => values.extend(color),
            }
            values.extend(alpha.map(|alpha| alpha[[y, x]]));
        }
    }
    values
}

/// Rec. 601's, as Pillow's `convert("L")`.
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

fn attach(encoder: &mut impl ImageEncoder, icc: Option<&[u8]>, exif: Option<&[u8]>) -> Result<()> {
    let unsupported =
        |e| Error::internal("the encoder does not take what its format carries").with_source(e);
    if let Some(icc) = icc {
        encoder.set_icc_profile(icc.to_vec()).map_err(unsupported)?;
    }
    if let Some(exif) = exif {
        encoder
            .set_exif_metadata(exif.to_vec())
            .map_err(unsupported)?;
    }
    Ok(())
}

fn png(
    pixels: &Pixels,
    icc: Option<&[u8]>,
    kept: &Kept,
    text: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::internal("the PNG encoder failed").with_source(e);
    let mut info = png::Info::with_size(pixels.size.0, pixels.size.1);
    info.bit_depth = png::BitDepth::Eight;
    info.color_type = match (pixels.grey, pixels.alpha) {
        (false, false) => png::ColorType::Rgb,
        (false, true) => png::ColorType::Rgba,
        (true, false) => png::ColorType::Grayscale,
        (true, true) => png::ColorType::GrayscaleAlpha,
    };
    info.icc_profile = icc.map(Cow::Borrowed);
    info.exif_metadata = kept.exif.as_deref().map(Cow::Borrowed);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::with_info(&mut bytes, info).map_err(failed)?;
    let xmp = kept.xmp.as_ref();
    let xmp = xmp.map(|xmp| {
        (
            PNG_XMP.to_owned(),
            String::from_utf8_lossy(xmp).into_owned(),
        )
    });
    let text = text.iter().map(|(key, value)| (key.clone(), value.clone()));
    for (key, value) in text.chain(xmp) {
        encoder.add_itxt_chunk(key, value).map_err(failed)?;
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels.values).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

fn jpeg(pixels: &Pixels, icc: Option<&[u8]>, kept: &Kept, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    attach(&mut encoder, icc, kept.exif.as_deref())?;
    pixels.write(encoder)?;
    if let Some(xmp) = &kept.xmp {
        insert_segment(&mut bytes, &[JPEG_XMP, xmp].concat());
    }
    Ok(bytes)
}

/// Puts an APP1 segment behind the start of a JPEG; one that is too long for a segment is left out.
fn insert_segment(jpeg: &mut Vec<u8>, content: &[u8]) {
    if let Ok(length) = u16::try_from(content.len() + 2) {
        let [high, low] = length.to_be_bytes();
        let segment = [&[0xff, 0xe1, high, low], content].concat();
        jpeg.splice(2..2, segment);
    }
}
