//! Pictures to files, row by row as far as the kind of file allows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Cursor, Seek, Write};

use super::bounds::with_room;
use super::metadata::{PNG_XMP, RAW_PROFILE, iptc_resource, packed};
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
    /// What is behind transparent pixels in kinds of files without alpha, in sRGB.
    pub background: [u8; 3],
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            format: Format::Png,
            quality: 95,
            depth: Depth::Auto,
            background: [255; 3],
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

/// `pixels` in sRGB as a file, with what the picture they were made of had besides: alpha in their size, colours in its
/// profile, EXIF, XMP, IPTC, texts and resolution, as far as the kind of file carries them. `text` (key to text) is written
/// into a PNG's text chunks, and as properties of the namespace `urn:diffbir:` into the XMP of JPEG, WebP and TIFF; into a
/// JPEG's only as far as that takes at most 64 KB.
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
    let mut bytes = Cursor::new(Vec::new());
    encode_to(&mut bytes, pixels, kept, options, text)?;
    Ok(bytes.into_inner())
}

/// `pixels` as a PNG of 8 bits with `text` chunks and nothing else.
///
/// # Errors
/// As [`encode`].
pub fn encode_png(pixels: &Pixels, text: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    encode(pixels, &Kept::default(), EncodeOptions::default(), text)
}

/// As [`encode`], into `sink`.
///
/// # Errors
/// As [`encode`]; where `sink` fails, any.
pub(super) fn encode_to(
    mut sink: impl Write + Seek,
    pixels: &Pixels,
    kept: &Kept,
    options: EncodeOptions,
    text: &BTreeMap<String, String>,
) -> Result<()> {
    let (height, width) = pixels.size();
    let format = options.format;
    check_sides(format, height, width)?;
    let alpha = kept.alpha_in(height, width);
    let grey = kept.grey && !matches!(format, Format::Bmp);
    let carried = format.carries(Aspect::Alpha);
    let channels = Channels {
        grey: grey && (carried || is_neutral(options.background) || alpha.is_none()),
        alpha: alpha.as_ref().filter(|_| carried),
        over: alpha
            .as_ref()
            .filter(|_| !carried)
            .map(|alpha| (alpha, options.background)),
    };
    let icc = kept.icc.as_deref().filter(|_| !channels.grey);
    let icc = icc.filter(|_| format.carries(Aspect::Icc));
    let rows = Rows::new(pixels, channels, options.file_depth(pixels, kept), icc)?;
    match format {
        Format::Png => png(&rows, icc, kept, text, &mut sink),
        Format::Jpeg => jpeg::write(&rows, icc, kept, options, text, &mut sink),
        Format::Webp => webp(&rows, icc, kept, text, &mut sink),
        Format::Tiff => tiff::write(&rows, icc, kept, text, sink),
        Format::Bmp => bmp::write(&rows, kept, &mut sink),
    }
}

fn is_neutral([r, g, b]: [u8; 3]) -> bool {
    r == g && g == b
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
    let size = (rows.height(), rows.width());
    let exif = kept.exif_of(size, false).and_then(|exif| exif.to_bytes());
    let mut encoder =
        png::Encoder::with_info(sink, png_info(rows, icc, kept, exif)).map_err(failed)?;
    if let Some(iptc) = &kept.iptc {
        let iptc = packed("iptc", &iptc_resource(iptc));
        let keyword = RAW_PROFILE.to_owned() + "iptc";
        encoder.add_ztxt_chunk(keyword, iptc).map_err(failed)?;
    }
    let xmp = kept.xmp_of(size, &BTreeMap::new()).map(|xmp| {
        let xmp = String::from_utf8_lossy(&xmp).into_owned();
        (PNG_XMP.to_owned(), xmp)
    });
    let text = text.iter().map(|(key, value)| (key.clone(), value.clone()));
    for (key, value) in kept.text.iter().cloned().chain(text).chain(xmp) {
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

fn png_info<'a>(
    rows: &Rows<'_>,
    icc: Option<&'a [u8]>,
    kept: &Kept,
    exif: Option<Vec<u8>>,
) -> png::Info<'a> {
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
    info.exif_metadata = exif.map(Cow::Owned);
    let per_metre = |dpi: f64| (dpi / 0.0254).round() as u32;
    info.pixel_dims = kept.resolution.map(|resolution| png::PixelDimensions {
        xppu: per_metre(resolution.x),
        yppu: per_metre(resolution.y),
        unit: png::Unit::Meter,
    });
    info
}

/// The encoder asks for all pixels at once.
fn webp(
    rows: &Rows<'_>,
    icc: Option<&[u8]>,
    kept: &Kept,
    text: &BTreeMap<String, String>,
    sink: &mut dyn Write,
) -> Result<()> {
    let color = match (rows.grey(), rows.alpha()) {
        (false, false) => image_webp::ColorType::Rgb8,
        (false, true) => image_webp::ColorType::Rgba8,
        (true, false) => image_webp::ColorType::L8,
        (true, true) => image_webp::ColorType::La8,
    };
    let mut values = with_room(rows.height() * rows.row_bytes())?;
    for y in 0..rows.height() {
        rows.append(y, Order::LittleEndian, &mut values)?;
    }
    let size = (rows.height(), rows.width());
    let exif = kept.exif_of(size, true).and_then(|exif| exif.to_bytes());
    let mut encoder = image_webp::WebPEncoder::new(sink);
    encoder.set_icc_profile(icc.map(<[u8]>::to_vec).unwrap_or_default());
    encoder.set_exif_metadata(exif.unwrap_or_default());
    encoder.set_xmp_metadata(kept.xmp_of(size, text).unwrap_or_default());
    encoder
        .encode(&values, rows.width() as u32, rows.height() as u32, color)
        .map_err(|e| Error::internal("the WebP encoder failed").with_source(e))
}
