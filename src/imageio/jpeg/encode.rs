//! JPEG files from rows.

use std::cell::RefCell;
use std::io::Write;
use std::marker::PhantomData;

use image::codecs::jpeg::JpegEncoder;
use image::{GenericImageView, ImageEncoder, ImageError, Pixel, PixelWithColorType};

use super::super::Kept;
use super::super::pixels::Order;
use super::super::rows::Rows;
use crate::error::{Error, Result};

/// What XMP begins with in an APP1 segment.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// The longest content of a segment.
const SEGMENT: usize = 65533;
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

/// Writes `rows`, of 8 bits and without alpha, with the profile `icc` that they are in, and what else `kept` has and
/// fits.
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal): the encoder or `sink` fails.
pub(in crate::imageio) fn write(
    rows: &Rows<'_>,
    icc: Option<&[u8]>,
    kept: &Kept,
    quality: u8,
    sink: &mut dyn Write,
) -> Result<()> {
    let mut sink = WithSegment::new(sink, kept.xmp.as_deref());
    let mut encoder = JpegEncoder::new_with_quality(&mut sink, quality);
    let unsupported =
        |e| Error::internal("the encoder does not take what its format carries").with_source(e);
    if let Some(icc) = icc {
        encoder.set_icc_profile(icc.to_vec()).map_err(unsupported)?;
    }
    if let Some(exif) = kept.exif.as_deref().filter(|exif| holds_exif(exif)) {
        let set = encoder.set_exif_metadata(exif.to_vec());
        set.map_err(unsupported)?;
    }
    match rows.grey() {
        true => encode::<image::Luma<u8>>(rows, encoder),
        false => encode::<image::Rgb<u8>>(rows, encoder),
    }
}

/// A sink that puts XMP behind the start of the file.
struct WithSegment<'a> {
    sink: &'a mut dyn Write,
    segment: Option<Vec<u8>>,
    start: Vec<u8>,
}

impl<'a> WithSegment<'a> {
    fn new(sink: &'a mut dyn Write, xmp: Option<&[u8]>) -> Self {
        let segment = xmp.filter(|xmp| holds_xmp(xmp)).map(|xmp| {
            let length = (2 + XMP.len() + xmp.len()) as u16;
            [&[0xff, 0xe1], &length.to_be_bytes()[..], XMP, xmp].concat()
        });
        WithSegment {
            sink,
            segment,
            start: Vec::new(),
        }
    }
}

impl Write for WithSegment<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(segment) = &self.segment else {
            return self.sink.write(bytes);
        };
        self.start.extend(bytes);
        if let Some((start, rest)) = self.start.split_at_checked(2) {
            for part in [start, segment, rest] {
                self.sink.write_all(part)?;
            }
            self.segment = None;
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
