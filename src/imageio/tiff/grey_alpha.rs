//! Grey pictures with alpha in TIFF files, which `image` does not read.

use std::io::Cursor;

use image::error::{DecodingError, ImageFormatHint};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::super::DecodeOptions;

/// A grey TIFF with alpha whose directory has been read.
pub(in crate::imageio) struct GreyAlpha<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    size: (u32, u32),
    color: ColorType,
}

impl<'a> GreyAlpha<'a> {
    /// `None` where `bytes` are anything else.
    pub fn of(bytes: &'a [u8], options: DecodeOptions) -> Option<Self> {
        let most = usize::try_from(options.decoder_bytes()).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = most;
        limits.intermediate_buffer_size = most;
        let mut decoder = Decoder::new(Cursor::new(bytes)).ok()?.with_limits(limits);
        let color = match decoder.colortype().ok()? {
            tiff::ColorType::Multiband {
                bit_depth: 8,
                num_samples: 2,
            } => ColorType::La8,
            tiff::ColorType::Multiband {
                bit_depth: 16,
                num_samples: 2,
            } => ColorType::La16,
            _ => return None,
        };
        let tag = |decoder: &mut Decoder<_>, tag| decoder.get_tag_u32(tag).ok();
        let from_black = tag(&mut decoder, Tag::PhotometricInterpretation) == Some(1);
        let alpha = matches!(tag(&mut decoder, Tag::ExtraSamples), Some(1 | 2));
        let size = decoder.dimensions().ok()?;
        (from_black && alpha).then_some(GreyAlpha {
            decoder,
            size,
            color,
        })
    }
}

impl ImageDecoder for GreyAlpha<'_> {
    fn dimensions(&self) -> (u32, u32) {
        self.size
    }

    fn color_type(&self) -> ColorType {
        self.color
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        let tag = self.decoder.get_tag_u32(Tag::Orientation).ok();
        let tag = tag.and_then(|tag| Orientation::from_exif(u8::try_from(tag).ok()?));
        Ok(tag.unwrap_or(Orientation::NoTransforms))
    }

    fn read_image(mut self, values: &mut [u8]) -> ImageResult<()> {
        let read = self.decoder.read_image().map_err(damaged)?;
        let bytes: Vec<u8> = match read {
            DecodingResult::U8(read) => read,
            DecodingResult::U16(read) => read.into_iter().flat_map(u16::to_ne_bytes).collect(),
            _ => return Err(damaged("numbers of another kind than announced")),
        };
        if bytes.len() != values.len() {
            return Err(damaged("another number of pixels than announced"));
        }
        values.copy_from_slice(&bytes);
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, values: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(values)
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    let format = ImageFormatHint::Exact(ImageFormat::Tiff);
    ImageError::Decoding(DecodingError::new(format, error))
}
