//! JPEG files: decoded as libjpeg-turbo does with its accurate inverse DCT and smooth upsampling, as in Pillow; encoded
//! with all colours in full resolution.

mod encode;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use image::error::{DecodingError, ImageFormatHint};
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, FrameHeader, PixelFormat};

pub(super) use encode::{holds_exif, holds_iptc, holds_text, holds_xmp, write};

use super::bounds::{SCANS, with_room};
use super::{DecodeOptions, profile};

/// A JPEG whose headers have been read.
pub(super) struct JpegDecoder<'a> {
    decoder: Decoder<'a>,
    /// The profile by which CMYK becomes RGB.
    inks: Option<Vec<u8>>,
    /// Whether what is there of a damaged file is decoded.
    lenient: bool,
    /// Whether it was damaged.
    pub damaged: Rc<Cell<bool>>,
}

impl<'a> JpegDecoder<'a> {
    /// Reads the headers. CMYK is converted by its profile where `options` say so.
    pub fn new(bytes: &'a [u8], options: DecodeOptions) -> ImageResult<Self> {
        let mut decoder = guarded(|| Decoder::new(bytes))?;
        decoder.set_limits(DecodeLimits {
            max_scans: SCANS,
            max_memory: Some(options.decoder_bytes()),
            ..DecodeLimits::default()
        });
        let frame = decoder.header();
        check_sampling(frame)?;
        let format = match frame.components.len() {
            1 => PixelFormat::Grayscale,
            4 => PixelFormat::Cmyk,
            _ => PixelFormat::Rgb,
        };
        decoder.set_output_format(format);
        let inks = decoder.icc_profile().ok().flatten();
        let inks = inks
            .filter(|icc| options.profiles && format == PixelFormat::Cmyk && profile::is_cmyk(icc));
        Ok(JpegDecoder {
            decoder,
            inks,
            lenient: options.damaged,
            damaged: Rc::default(),
        })
    }

    /// Whether CMYK becomes RGB as the file's profile says.
    pub fn has_profile_of_inks(&self) -> bool {
        self.inks.is_some()
    }

    fn components(&self) -> usize {
        self.decoder.header().components.len()
    }

    /// Decodes; of a damaged file what is there, where that is asked for.
    fn decode(&mut self, values: &mut [u8]) -> ImageResult<()> {
        match guarded(|| self.decoder.decode_image_into(values)) {
            Err(_) if self.lenient => {
                self.decoder.set_lenient(true);
                self.damaged.set(true);
                guarded(|| self.decoder.decode_image_into(values)).map(drop)
            }
            done => done.map(drop),
        }
    }

    fn read_inks(&mut self, rgb: &mut [u8]) -> ImageResult<()> {
        let length = rgb.len() / 3 * 4;
        let mut inks = with_room(length).map_err(damaged)?;
        inks.resize(length, 0);
        self.decode(&mut inks)?;
        // As Pillow, take what every program writes: how much of each ink is missing.
        inks.iter_mut().for_each(|ink| *ink = 255 - *ink);
        profile::cmyk_to_srgb(&inks, self.inks.as_deref(), rgb).map_err(damaged)
    }
}

impl ImageDecoder for JpegDecoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        let frame = self.decoder.header();
        (frame.width.into(), frame.height.into())
    }

    fn color_type(&self) -> ColorType {
        match self.components() {
            1 => ColorType::L8,
            _ => ColorType::Rgb8,
        }
    }

    fn original_color_type(&self) -> ExtendedColorType {
        match self.components() {
            4 => ExtendedColorType::Cmyk8,
            _ => self.color_type().into(),
        }
    }

    fn icc_profile(&mut self) -> ImageResult<Option<Vec<u8>>> {
        self.decoder.icc_profile().map_err(damaged)
    }

    fn exif_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.exif_data().map(<[u8]>::to_vec))
    }

    fn xmp_metadata(&mut self) -> ImageResult<Option<Vec<u8>>> {
        Ok(self.decoder.xmp_data().map(<[u8]>::to_vec))
    }

    fn read_image(mut self, values: &mut [u8]) -> ImageResult<()> {
        match self.components() {
            4 => self.read_inks(values),
            _ => self.decode(values),
        }
    }

    fn read_image_boxed(self: Box<Self>, values: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(values)
    }
}

/// Refuses what libjpeg refuses as well, and layouts that no program writes: components whose resolution does not
/// divide the picture's, and a first or fourth one that is coarser than the others.
fn check_sampling(frame: &FrameHeader) -> ImageResult<()> {
    let sampling = frame
        .components
        .iter()
        .map(|c| (c.horizontal_sampling, c.vertical_sampling));
    let most = sampling
        .clone()
        .fold((1, 1), |most, x| (most.0.max(x.0), most.1.max(x.1)));
    let divides = |part: u8, whole: u8| part > 0 && whole.is_multiple_of(part);
    let mut sampling = sampling.enumerate();
    match sampling.all(|(i, x)| {
        divides(x.0, most.0) && divides(x.1, most.1) && (![0, 3].contains(&i) || x == most)
    }) {
        true => Ok(()),
        false => Err(damaged("components of unusual resolutions")),
    }
}

/// A defect of the decoder is a picture that cannot be read, not the end of the program.
fn guarded<T>(
    decode: impl FnOnce() -> std::result::Result<T, libjpeg_turbo_rs::JpegError>,
) -> ImageResult<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(damaged),
        Err(_) => Err(damaged("the decoder gave up")),
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
    ImageError::Decoding(DecodingError::new(format, error))
}
