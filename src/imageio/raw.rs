//! The bytes that decoders give, taken apart into colours and alpha.

use image::{ColorType, ImageDecoder};
use ndarray::{Array2, Array3};

use super::bounds::with_room;
use super::decode::damaged;
use super::pixels::{BitDepth, Sample};
use super::{Alpha, Pixels};
use crate::error::{Error, Result};

/// Decoded pixels, channel after channel, in the machine's byte order.
pub(super) struct Raw {
    bytes: Vec<u8>,
    color: ColorType,
    /// Height and width.
    size: (usize, usize),
}

/// Bits per channel that the pixels of `color` are kept in: floats in 16.
pub(super) fn depth_of(color: ColorType) -> BitDepth {
    match color.bytes_per_pixel() > color.channel_count() {
        true => BitDepth::Sixteen,
        false => BitDepth::Eight,
    }
}

impl Raw {
    /// Decodes.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): damage, or more than memory has.
    pub fn read(decoder: impl ImageDecoder) -> Result<Self> {
        let (width, height) = decoder.dimensions();
        let color = decoder.color_type();
        let length = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
        let mut bytes = with_room(length)?;
        bytes.resize(length, 0);
        decoder.read_image(&mut bytes).map_err(damaged)?;
        Ok(Raw {
            bytes,
            color,
            size: (height as usize, width as usize),
        })
    }

    /// Whether it has floats that mean more or less light than there is from black to white.
    pub fn is_clipped(&self) -> bool {
        let floats = self.color.bytes_per_pixel() / self.color.channel_count() == 4;
        let mut values = self
            .bytes
            .as_chunks()
            .0
            .iter()
            .map(|&x| f32::from_ne_bytes(x));
        // A hair beyond is rounding.
        floats && values.any(|value| !(-1e-4..=1.0001).contains(&value))
    }

    /// The colours, and how opaque each pixel is where the file says so. As Pillow's `convert("RGB")`: alpha is taken
    /// off, not blended; greys become three equal colours.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): more than memory has.
    pub fn split(self) -> Result<(Pixels, Option<Alpha>)> {
        let bytes = usize::from(self.color.bytes_per_pixel() / self.color.channel_count());
        Ok(match bytes {
            1 => {
                let alpha = self.alpha(|&[value]| value)?;
                (Pixels::U8(self.colors(|&[value]| value)?), alpha)
            }
            2 => {
                let value = |bytes: &[u8; 2]| u16::from_ne_bytes(*bytes);
                let alpha = self.alpha(|bytes| value(bytes).to_u8())?;
                (Pixels::U16(self.colors(value)?), alpha)
            }
            _ => {
                let value = |bytes: &[u8; 4]| f32::from_ne_bytes(*bytes);
                let alpha = self.alpha(|bytes| scaled(value(bytes), u8::MAX.into()) as u8)?;
                let color = |bytes: &[u8; 4]| scaled(value(bytes), u16::MAX.into()) as u16;
                (Pixels::U16(self.colors(color)?), alpha)
            }
        })
    }

    /// The colours, of numbers of `N` bytes.
    fn colors<T: Sample, const N: usize>(self, value: impl Fn(&[u8; N]) -> T) -> Result<Array3<T>> {
        let (height, width) = self.size;
        let channels = usize::from(self.color.channel_count());
        let mut colors = with_room(3 * height * width)?;
        for pixel in self.bytes.as_chunks::<N>().0.chunks_exact(channels) {
            match pixel {
                [r, g, b, ..] => colors.extend([r, g, b].map(&value)),
                [grey, ..] => colors.extend([grey; 3].map(&value)),
                [] => {}
            }
        }
        Array3::from_shape_vec((height, width, 3), colors).map_err(of_another_size)
    }

    /// The last of an even number of channels.
    fn alpha<const N: usize>(&self, value: impl Fn(&[u8; N]) -> u8) -> Result<Option<Alpha>> {
        if !self.color.has_alpha() {
            return Ok(None);
        }
        let (height, width) = self.size;
        let channels = usize::from(self.color.channel_count());
        let mut alpha = with_room(height * width)?;
        let pixels = self.bytes.as_chunks::<N>().0.chunks_exact(channels);
        alpha.extend(pixels.filter_map(|pixel| pixel.last()).map(value));
        Array2::from_shape_vec(self.size, alpha)
            .map(Some)
            .map_err(of_another_size)
    }
}

/// A float from 0 to 1 as a whole number up to `most`. One that is none is taken for 1.
fn scaled(value: f32, most: f32) -> f32 {
    let value = if value < 1.0 { value.max(0.0) } else { 1.0 };
    (value * most).round()
}

fn of_another_size(error: ndarray::ShapeError) -> Error {
    Error::internal("the decoder returned another size than it announced").with_source(error)
}
