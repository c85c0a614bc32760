//! Pictures to files, row by row as far as the kind of file allows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use super::pixels::Order;
use super::rows::{Channels, Rows};
use super::{Aspect, BitDepth, Depth, Format, Kept, Pixels, bmp, jpeg, tiff};
use crate::error::{Error, Result};

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The kind of file.
    pub format: Format,
    /// Quality of JPEG, 1 to 100.
    pub quality: u8,
    /// Bits per channel.
    pub depth: Depth,
    /// Whether the result of a grey picture is grey.
    pub keep_grey: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            format: Format::Png,
            quality: 95,
            depth: Depth::Auto,
            keep_grey: false,
        }
    }
}

impl EncodeOptions {
    /// Bits per channel of the result of a picture, as far as there are colours of so many: 16 where that is asked for,
    /// or left open and the picture has them, and the kind of file can.
    pub fn result_depth(self, kept: &Kept) -> BitDepth {
        match self.depth {
            _ if !self.format.carries(Aspect::Depth) => BitDepth::Eight,
            Depth::Auto => kept.depth,
            Depth::Eight => BitDepth::Eight,
            Depth::Sixteen => BitDepth::Sixteen,
        }
    }

    /// Bits per channel of a file of `pixels`.
    fn file_depth(self, pixels: &Pixels, kept: &Kept) -> BitDepth {
        match pixels.depth() {
            BitDepth::Eight if self.depth != Depth::Sixteen => BitDepth::Eight,
            _ => self.result_depth(kept),
        }
    }
}

/// The keyword of XMP in a PNG.
const PNG_XMP: &str = "XML:com.adobe.xmp";

/// `pixels` in sRGB as a file, with what the picture they were made of had besides: alpha in their size, colours in its
/// profile, EXIF and XMP, as far as the kind of file carries them. `text` (key to text) is written into a PNG only.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a colour profile that cannot be used.
/// [`Option`](crate::error::ErrorKind::Option): more pixels than the kind of file holds.
/// [`Internal`](crate::error::ErrorKind::Internal): the encoder fails.
pub fn encode(
    pixels: &Pixels,
    kept: &Kept,
    options: EncodeOptions,
    text: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode_to(&mut bytes, pixels, kept, options, text)?;
    Ok(bytes)
}

/// `pixels` as a PNG of 8 bits with `text` chunks and nothing else.
///
/// # Errors
/// As [`encode`].
pub fn encode_png(pixels: &Pixels, text: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    encode(pixels, &Kept::default(), EncodeOptions::default(), text)
}

/// As [`encode`], into `sink` from start to end.
///
/// # Errors
/// As [`encode`]; where `sink` fails, any.
pub(super) fn encode_to(
    sink: &mut dyn Write,
    pixels: &Pixels,
    kept: &Kept,
    options: EncodeOptions,
    text: &BTreeMap<String, String>,
) -> Result<()> {
    let (height, width) = pixels.size();
    let format = options.format;
    check_sides(format, height, width)?;
    let alpha = match format.carries(Aspect::Alpha) {
        true => kept.alpha_in(height, width),
        false => None,
    };
    let grey = kept.grey && options.keep_grey;
    let channels = Channels {
        grey,
        alpha: alpha.as_ref(),
    };
    let icc = kept.icc.as_deref().filter(|_| !grey);
    let icc = icc.filter(|_| format.carries(Aspect::Icc));
    let rows = Rows::new(pixels, channels, options.file_depth(pixels, kept), icc)?;
    match format {
        Format::Png => png(&rows, icc, kept, text, sink),
        Format::Jpeg => jpeg::write(&rows, icc, kept, options.quality, sink),
        Format::Webp => webp(&rows, icc, kept, sink),
        Format::Tiff => tiff::write(&rows, icc, kept, sink),
        Format::Bmp => bmp::write(&rows, sink),
    }
}

fn check_sides(format: Format, height: usize, width: usize) -> Result<()> {
    match format.longest_side() {
        Some(most) if height.max(width) > most => Err(Error::option(format!(
            "{width}x{height} does not fit into {}, which has at most {most} pixels a side; choose another format",
            format.name()
        ))),
        _ => Ok(()),
    }
}

fn png(
    rows: &Rows<'_>,
    icc: Option<&[u8]>,
    kept: &Kept,
    text: &BTreeMap<String, String>,
    sink: &mut dyn Write,
) -> Result<()> {
    let failed = |e: png::EncodingError| Error::internal("the PNG encoder failed").with_source(e);
    let mut encoder = png::Encoder::with_info(sink, png_info(rows, icc, kept)).map_err(failed)?;
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
    let mut stream = writer.stream_writer_with_size(1 << 16).map_err(failed)?;
    let mut row = Vec::with_capacity(rows.row_bytes());
    for y in 0..rows.height() {
        row.clear();
        rows.append(y, Order::BigEndian, &mut row)?;
        stream.write_all(&row).map_err(|e| failed(e.into()))?;
    }
    stream.finish().map_err(failed)?;
    writer.finish().map_err(failed)
}

fn png_info<'a>(rows: &Rows<'_>, icc: Option<&'a [u8]>, kept: &'a Kept) -> png::Info<'a> {
    let mut info = png::Info::with_size(rows.width() as u32, rows.height() as u32);
    info.bit_depth = match rows.depth() {
        BitDepth::Eight => png::BitDepth::Eight,
        BitDepth::Sixteen => png::BitDepth::Sixteen,
    };
    info.color_type = match (rows.grey(), rows.alpha()) {
        (false, false) => png::ColorType::Rgb,
        (false, true) => png::ColorType::Rgba,
        (true, false) => png::ColorType::Grayscale,
        (true, true) => png::ColorType::GrayscaleAlpha,
    };
    info.icc_profile = icc.map(Cow::Borrowed);
    info.exif_metadata = kept.exif.as_deref().map(Cow::Borrowed);
    info
}

/// The encoder asks for all pixels at once.
fn webp(rows: &Rows<'_>, icc: Option<&[u8]>, kept: &Kept, sink: &mut dyn Write) -> Result<()> {
    let color = match (rows.grey(), rows.alpha()) {
        (false, false) => image_webp::ColorType::Rgb8,
        (false, true) => image_webp::ColorType::Rgba8,
        (true, false) => image_webp::ColorType::L8,
        (true, true) => image_webp::ColorType::La8,
    };
    let mut values = Vec::with_capacity(rows.height() * rows.row_bytes());
    for y in 0..rows.height() {
        rows.append(y, Order::LittleEndian, &mut values)?;
    }
    let bytes = |part: Option<&[u8]>| part.map(<[u8]>::to_vec).unwrap_or_default();
    let mut encoder = image_webp::WebPEncoder::new(sink);
    encoder.set_icc_profile(bytes(icc));
    encoder.set_exif_metadata(bytes(kept.exif.as_deref()));
    encoder.set_xmp_metadata(bytes(kept.xmp.as_deref()));
    encoder
        .encode(&values, rows.width() as u32, rows.height() as u32, color)
        .map_err(|e| Error::internal("the WebP encoder failed").with_source(e))
}
