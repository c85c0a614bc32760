//! JPEG XL, which is read and not written.

use std::borrow::Cow;
use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageResult, Limits};
use jxl_oxide::integration::JxlDecoder;
use jxl_oxide::{AllocTracker, JxlImage};

use super::DecodeOptions;
use super::bounds::{self, Chunks, METADATA, too_much};
use super::decode::{animated, damaged};
use crate::error::{Error, Result};

/// A JPEG XL whose headers have been read.
pub(super) struct Jxl<'a> {
    decoder: JxlDecoder<Cursor<Cow<'a, [u8]>>>,
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
}

/// Reads the headers. The boxes around the stream are unpacked here: `jxl_oxide` would unpack each, whatever it takes.
pub(super) fn open(bytes: &[u8], options: DecodeOptions) -> Result<Jxl<'_>> {
    let Container { stream, exif, xmp } = Container::of(bytes)?;
    check(&stream, options)?;
    let mut decoder = JxlDecoder::new(Cursor::new(stream)).map_err(damaged)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.decoder_bytes());
    decoder.set_limits(limits).map_err(damaged)?;
    Ok(Jxl { decoder, exif, xmp })
}

/// Whether a file of these bytes is one: a bare stream, or one in a container.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\x0a") || bytes.get(4..12) == Some(b"JXL \r\n\x87\n")
}

/// Refuses a stream of several pictures, of too many pixels or layers, and one that is cut, which would be read as far
/// as it goes, the rest black.
fn check(stream: &[u8], options: DecodeOptions) -> Result<()> {
    let most = usize::try_from(options.decoder_bytes()).unwrap_or(usize::MAX);
    let builder = JxlImage::builder().alloc_tracker(AllocTracker::with_limit(most));
    let image = builder.read(stream);
    let image = image.map_err(|e| Error::input(format!("damaged or unsupported picture: {e}")))?;
    if image.image_header().metadata.animation.is_some() {
        return Err(animated());
    }
    options.check_size((image.width(), image.height()))?;
    if image.num_loaded_frames() > bounds::FRAMES {
        return Err(Error::input(format!(
            "more than {} layers: flatten the picture",
            bounds::FRAMES
        )));
    }
    if !image.is_loading_done() {
        return Err(Error::input("damaged picture: its end is missing"));
    }
    Ok(())
}

/// The parts of a file.
struct Container<'a> {
    stream: Cow<'a, [u8]>,
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
}

impl<'a> Container<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self> {
        let mut parts = Container {
            stream: Cow::Borrowed(&[]),
            exif: None,
            xmp: None,
        };
        if bytes.starts_with(b"\xff\x0a") {
            parts.stream = bytes.into();
            return Ok(parts);
        }
        for part in Chunks::boxes(bytes) {
            let part = part?;
            match &part.kind {
                b"jxlc" => parts.stream = part.data.into(),
                // Each begins with its number.
                b"jxlp" => parts
                    .stream
                    .to_mut()
                    .extend(part.data.get(4..).unwrap_or_default()),
                b"brob" => {
                    if let Some((kind, packed)) = part.data.split_first_chunk() {
                        parts.keep(kind, |what| bounds::unpacked(what, packed))?;
                    }
                }
                kind => parts.keep(kind, |what| match part.data.len() {
                    0..=METADATA => Ok(part.data.to_vec()),
                    _ => Err(too_much(what)),
                })?,
            }
        }
        Ok(parts)
    }

    /// Keeps the first box of each kind.
    fn keep(&mut self, kind: &[u8; 4], unpack: impl FnOnce(&str) -> Result<Vec<u8>>) -> Result<()> {
        match kind {
            b"Exif" if self.exif.is_none() => {
                let exif = unpack("EXIF")?;
                // Where it begins, behind this number.
                let exif = exif.split_first_chunk().and_then(|(start, exif)| {
                    let start = usize::try_from(u32::from_be_bytes(*start)).ok()?;
                    exif.get(start..).map(<[u8]>::to_vec)
                });
                self.exif = exif.filter(|exif| !exif.is_empty());
            }
            b"xml " if self.xmp.is_none() => self.xmp = Some(unpack("XMP")?),
            _ => {}
        }
        Ok(())
    }
}

impl ImageDecoder for Jxl<'_> {
    fn dimensions(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    fn color_type(&self) -> ColorType {
        self.decoder.color_type()
    }

    fn icc_profile(&mut self) -> ImageResult<Option<Vec<u8>>> {
        self.decoder.icc_profile()
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.exif.take())
    }

    fn xmp_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.xmp.take())
    }

    fn read_image(self, values: &mut [u8]) -> ImageResult<()> {
        self.decoder.read_image(values)
    }

    fn read_image_boxed(self: Box<Self>, values: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(values)
    }
}
