//! JPEG files from rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::marker::PhantomData;

use image::codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit};
use image::{GenericImageView, ImageEncoder, ImageError, Pixel, PixelWithColorType};

use super::super::metadata::{COMMENT, RESOURCES, iptc_resource};
use super::super::pixels::Order;
use super::super::rows::Rows;
use super::super::{EncodeOptions, Kept, Resolution};
use crate::error::{Error, Result};

/// What XMP begins with in an APP1 segment.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// The longest content of a segment.
const SEGMENT: usize = 65533;
/// Bytes of the start of a file: its first marker and JFIF.
const START: usize = 20;
/// Rows that the encoder asks for together.
const BAND: usize = 8;

/// Whether EXIF fits into its segment.
pub(in crate::imageio) fn holds_exif(exif: &[u8]) -> bool {
    exif.len() + b"Exif\0\0".len() <= SEGMENT
}

/// Whether XMP fits into its segment.
pub(in crate::imageio) fn holds_xmp(xmp: &[u8]) -> bool {
    xmp.len() + XMP.len() <= SEGMENT
}

/// Whether IPTC fits into its segment.
pub(in crate::imageio) fn holds_iptc(iptc: &[u8]) -> bool {
    iptc.len() + RESOURCES.len() + 14 <= SEGMENT
}

/// Whether a text fits into its segment.
pub(in crate::imageio) fn holds_text((keyword, text): &(String, String)) -> bool {
    keyword.len() + text.len() + 2 <= SEGMENT
}

/// Writes `rows`, of 8 bits and without alpha, with the profile `icc` that they are in, and what else `kept` has and
/// fits; `texts` into XMP, where that fits.
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal): the encoder or `sink` fails.
pub(in crate::imageio) fn write(
    rows: &Rows<'_>,
    icc: Option<&[u8]>,
    kept: &Kept,
    options: EncodeOptions,
    texts: &BTreeMap<String, String>,
    sink: &mut dyn Write,
) -> Result<()> {
    let size = (rows.height(), rows.width());
    let segments = segments(kept, size, texts);
    let mut sink = WithSegments {
        sink,
        segments,
        start: Vec::new(),
    };
    let mut encoder = JpegEncoder::new_with_quality(&mut sink, options.quality);
    if let Some(Resolution { x, y }) = kept.resolution {
        encoder.set_pixel_density(PixelDensity {
            density: (x.round() as u16, y.round() as u16),
            unit: PixelDensityUnit::Inches,
        });
    }
    let unsupported =
        |e| Error::internal("the encoder does not take what its format carries").with_source(e);
    if let Some(icc) = icc {
        encoder.set_icc_profile(icc.to_vec()).map_err(unsupported)?;
    }
    let exif = kept.exif_of(size, false).and_then(|exif| exif.to_bytes());
    if let Some(exif) = exif.filter(|exif| holds_exif(exif)) {
        encoder.set_exif_metadata(exif).map_err(unsupported)?;
    }
    match rows.grey() {
        true => encode::<image::Luma<u8>>(rows, encoder),
        false => encode::<image::Rgb<u8>>(rows, encoder),
    }
}

/// XMP, IPTC and comments.
fn segments(kept: &Kept, size: (usize, usize), texts: &BTreeMap<String, String>) -> Vec<u8> {
    let mut segments = Vec::new();
    let mut add = |marker: u8, parts: &[&[u8]]| {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        segments.extend([0xff, marker]);
        segments.extend((2 + length as u16).to_be_bytes());
        parts.iter().for_each(|part| segments.extend(*part));
    };
    let xmp = kept.xmp_of(size, texts).filter(|xmp| holds_xmp(xmp));
    let xmp = xmp.or_else(|| kept.xmp_of(size, &BTreeMap::new()));
    if let Some(xmp) = xmp.filter(|xmp| holds_xmp(xmp)) {
        add(0xe1, &[XMP, &xmp]);
    }
    if let Some(iptc) = kept.iptc.as_deref().filter(|iptc| holds_iptc(iptc)) {
        add(0xed, &[RESOURCES, &iptc_resource(iptc)]);
    }
    for (keyword, text) in kept.text.iter().filter(|text| holds_text(text)) {
        match keyword.as_str() {
            COMMENT => add(0xfe, &[text.as_bytes()]),
            _ => add(0xfe, &[keyword.as_bytes(), b": ", text.as_bytes()]),
        }
    }
    segments
}

/// A sink that puts segments behind the one that a file starts with.
struct WithSegments<'a> {
    sink: &'a mut dyn Write,
    segments: Vec<u8>,
    start: Vec<u8>,
}

impl Write for WithSegments<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.segments.is_empty() {
            return self.sink.write(bytes);
        }
        self.start.extend(bytes);
        if let Some((start, rest)) = self.start.split_at_checked(START) {
            for part in [start, &self.segments, rest] {
                self.sink.write_all(part)?;
            }
            self.segments.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.sink.flush()
    }
}

fn encode<P>(rows: &Rows<'_>, mut encoder: JpegEncoder<impl Write>) -> Result<()>
where
    P: Pixel<Subpixel = u8> + PixelWithColorType,
{
    let view = View::<P> {
        rows,
        band: RefCell::default(),
        pixel: PhantomData,
    };
    let failed = |e: ImageError| Error::internal("the JPEG encoder failed").with_source(e);
    let encoded = encoder.encode_image(&view).map_err(failed);
    match view.band.into_inner().failed {
        Some(error) => Err(error),
        None => encoded,
    }
}

/// Rows as the encoder looks at them, pixel by pixel.
struct View<'a, P> {
    rows: &'a Rows<'a>,
    band: RefCell<Band>,
    pixel: PhantomData<P>,
}

/// The rows that the encoder is at.
#[derive(Default)]
struct Band {
    /// The first one's number and all their bytes; `None` before the first look.
    rows: Option<(usize, Vec<u8>)>,
    /// What the encoder could not be told.
    failed: Option<Error>,
}

impl Band {
    /// The bytes of a row, from the band that it is in.
    fn row(&mut self, rows: &Rows<'_>, y: usize) -> &[u8] {
        let first = y / BAND * BAND;
        let (start, mut bytes) = self.rows.take().unwrap_or((usize::MAX, Vec::new()));
        if start != first {
            bytes.clear();
            for y in first..(first + BAND).min(rows.height()) {
                let appended = rows.append(y, Order::LittleEndian, &mut bytes);
                self.failed = self.failed.take().or(appended.err());
            }
        }
        let (_, bytes) = self.rows.insert((first, bytes));
        let at = (y - first) * rows.row_bytes();
        bytes.get(at..at + rows.row_bytes()).unwrap_or_default()
    }
}

impl<P> GenericImageView for View<'_, P>
where
    P: Pixel<Subpixel = u8> + PixelWithColorType,
{
    type Pixel = P;

    fn dimensions(&self) -> (u32, u32) {
        (self.rows.width() as u32, self.rows.height() as u32)
    }

    fn get_pixel(&self, x: u32, y: u32) -> P {
        let mut band = self.band.borrow_mut();
        let row = band.row(self.rows, y as usize);
        let channels = usize::from(P::CHANNEL_COUNT);
        let at = x as usize * channels;
        // Missing only after a failure, which is reported once the encoder is through.
        let values = row.get(at..at + channels);
        *P::from_slice(values.unwrap_or(&[0; 4][..channels]))
    }
}
