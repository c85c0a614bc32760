//! Raw pixels in the host's memory: checked, read and written.

use ndarray::{Array2, Array3};

use super::boundary::{Failure, Outcome};
use super::growing;
use super::structs::{diffbir_channels, diffbir_layout, diffbir_pixels, diffbir_type};
use crate::imageio::{self, Alpha, Sample};

/// A checked description of the host's pixels: every value lies within the buffer.
#[derive(Debug)]
pub(super) struct Pixels {
    data: *mut u8,
    size: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    value: diffbir_type,
    channels: diffbir_channels,
    /// Strides in bytes of rows, planes and pixels.
    strides: (usize, usize, usize),
}

impl Pixels {
    /// Checks a description.
    pub(super) fn of(what: &str, given: *const diffbir_pixels) -> Outcome<Self> {
        if given.is_null() {
            return Err(Failure::argument(format!("{what} is NULL")));
        }
        let given = growing::read(given)?;
        let bad = |message: String| Failure::argument(format!("{what}.{message}"));
        if given.reserved != 0 {
            return Err(bad("reserved is not 0".to_owned()));
        }
        if given.size > isize::MAX as usize {
            return Err(bad(format!("size is {}, too large", given.size)));
        }
        if given.data.is_null() {
            return Err(bad("data is NULL".to_owned()));
        }
        if given.width == 0 || given.height == 0 {
            return Err(bad(format!(
                "width and height are {} and {}, expected at least 1",
                given.width, given.height
            )));
        }
        let value = value_type(given.value_type).ok_or_else(|| {
            bad(format!(
                "value_type is {}, expected 1 to 3",
                given.value_type
            ))
        })?;
        let channels = channels(given.channels)
            .ok_or_else(|| bad(format!("channels is {}, expected 1 to 5", given.channels)))?;
        let layout = layout(given.layout)
            .ok_or_else(|| bad(format!("layout is {}, expected 1 or 2", given.layout)))?;
        let mut pixels = Pixels {
            data: given.data.cast(),
            size: given.size,
            width: given.width as usize,
            height: given.height as usize,
            value,
            channels,
            strides: (0, 0, 0),
        };
        pixels
            .lay(layout, given.row_stride, given.plane_stride)
            .map_err(bad)?;
        Ok(pixels)
    }

    /// Computes the strides and checks that all values lie within the buffer.
    fn lay(&mut self, layout: diffbir_layout, row: usize, plane: usize) -> Result<(), String> {
        let too_large = || "width and height are too large".to_owned();
        let count = self.channels.count();
        let in_pixel = match layout {
            diffbir_layout::Hwc => count,
            diffbir_layout::Chw => 1,
        };
        let pixel = self.value.bytes() * in_pixel;
        let close = self.width.checked_mul(pixel).ok_or_else(too_large)?;
        let row = if row == 0 { close } else { row };
        if row < close {
            return Err(format!(
                "row_stride is {row}, expected at least {close}, a row's bytes"
            ));
        }
        let rows = row
            .checked_mul(self.height - 1)
            .and_then(|x| x.checked_add(close));
        let rows = rows.ok_or_else(too_large)?;
        let (plane, end) = match layout {
            diffbir_layout::Hwc => (self.value.bytes(), Some(rows)),
            diffbir_layout::Chw => {
                let plane = match plane {
                    0 => row.checked_mul(self.height).ok_or_else(too_large)?,
                    plane => plane,
                };
                if plane < rows {
                    return Err(format!("plane_stride is {plane}, expected at least {rows}"));
                }
                (
                    plane,
                    plane
                        .checked_mul(count - 1)
                        .and_then(|x| x.checked_add(rows)),
                )
            }
        };
        let end = end.ok_or_else(too_large)?;
        if self.size < end {
            return Err(format!(
                "size is {}, expected at least {end} bytes",
                self.size
            ));
        }
        self.strides = (row, plane, pixel);
        Ok(())
    }

    fn offset(&self, y: usize, x: usize, c: usize) -> usize {
        let (row, plane, pixel) = self.strides;
        y * row + c * plane + x * pixel
    }

    /// The colours, in 16 bits if the host's values have more than 8, and alpha if the host has it.
    pub(super) fn read(&self) -> (imageio::Pixels, Option<Alpha>) {
        let colors = match self.value {
            diffbir_type::U8 => self
                .colors(|bytes| bytes.first().copied().unwrap_or(0))
                .into(),
            _ => self.colors(|bytes| self.value.read(bytes)).into(),
        };
        let size = (self.height, self.width);
        let alpha = self.channels.alpha();
        let bytes = self.bytes();
        let value = |y, x, c| self.value.read(&bytes[self.offset(y, x, c)..]).to_u8();
        let alpha = alpha.map(|c| Array2::from_shape_fn(size, |(y, x)| value(y, x, c)));
        (colors, alpha)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: by the header `size` bytes from `data` on that stay as they are during the call.
        unsafe { std::slice::from_raw_parts(self.data, self.size) }
    }

    fn colors<T>(&self, value: impl Fn(&[u8]) -> T) -> Array3<T> {
        let (bytes, order) = (self.bytes(), self.channels.order());
        Array3::from_shape_fn((self.height, self.width, 3), |(y, x, c)| {
            value(&bytes[self.offset(y, x, order[c])..])
        })
    }

    /// Writes a picture of the same size; without `alpha` every pixel is opaque.
    pub(super) fn write(&self, pixels: &imageio::Pixels, alpha: Option<&Alpha>) {
        match pixels {
            imageio::Pixels::U8(rgb) => self.write_colors(rgb, alpha),
            imageio::Pixels::U16(rgb) => self.write_colors(rgb, alpha),
        }
    }

    fn write_colors<T: Sample>(&self, rgb: &Array3<T>, alpha: Option<&Alpha>) {
        // SAFETY: by the header `size` bytes from `data` on, not accessed by others during the call.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.data, self.size) };
        let order = self.channels.order();
        for y in 0..self.height {
            for x in 0..self.width {
                let color = [0, 1, 2].map(|c| rgb[[y, x, c]]);
                if self.channels == diffbir_channels::Grey {
                    self.value
                        .write(&mut bytes[self.offset(y, x, 0)..], T::luma(color));
                    continue;
                }
                for (c, value) in color.into_iter().enumerate() {
                    self.value
                        .write(&mut bytes[self.offset(y, x, order[c])..], value);
                }
                if let Some(c) = self.channels.alpha() {
                    let alpha = alpha.map_or(u8::MAX, |alpha| alpha[[y, x]]);
                    self.value.write(&mut bytes[self.offset(y, x, c)..], alpha);
                }
            }
        }
    }
}

fn value_type(number: u32) -> Option<diffbir_type> {
    use diffbir_type::{F32, U8, U16};
    [U8, U16, F32].into_iter().find(|x| *x as u32 == number)
}

fn channels(number: u32) -> Option<diffbir_channels> {
    use diffbir_channels::{Bgr, Bgra, Grey, Rgb, Rgba};
    let all = [Rgb, Bgr, Rgba, Bgra, Grey];
    all.into_iter().find(|x| *x as u32 == number)
}

fn layout(number: u32) -> Option<diffbir_layout> {
    use diffbir_layout::{Chw, Hwc};
    [Hwc, Chw].into_iter().find(|x| *x as u32 == number)
}

impl diffbir_type {
    fn bytes(self) -> usize {
        match self {
            diffbir_type::U8 => 1,
            diffbir_type::U16 => 2,
            diffbir_type::F32 => 4,
        }
    }

    /// The value at the start of `bytes`, in 16 bits.
    fn read(self, bytes: &[u8]) -> u16 {
        match (self, bytes) {
            (diffbir_type::U16, &[a, b, ..]) => u16::from_ne_bytes([a, b]),
            (diffbir_type::F32, &[a, b, c, d, ..]) => {
                let value = f32::from_ne_bytes([a, b, c, d]);
                (value * 65535.0).round().clamp(0.0, 65535.0) as u16
            }
            (_, &[value, ..]) => value.to_u16(),
            (_, &[]) => 0,
        }
    }

    fn write(self, bytes: &mut [u8], value: impl Sample) {
        match self {
            diffbir_type::U8 => bytes[0] = value.to_u8(),
            diffbir_type::U16 => bytes[..2].copy_from_slice(&value.to_u16().to_ne_bytes()),
            diffbir_type::F32 => {
                let value = f32::from(value.to_u16()) / 65535.0;
                bytes[..4].copy_from_slice(&value.to_ne_bytes());
            }
        }
    }
}

impl diffbir_channels {
    fn count(self) -> usize {
        match self {
            diffbir_channels::Rgb | diffbir_channels::Bgr => 3,
            diffbir_channels::Rgba | diffbir_channels::Bgra => 4,
            diffbir_channels::Grey => 1,
        }
    }

    /// Positions of red, green and blue.
    fn order(self) -> [usize; 3] {
        match self {
            diffbir_channels::Rgb | diffbir_channels::Rgba => [0, 1, 2],
            diffbir_channels::Bgr | diffbir_channels::Bgra => [2, 1, 0],
            diffbir_channels::Grey => [0, 0, 0],
        }
    }

    fn alpha(self) -> Option<usize> {
        (self.count() == 4).then_some(3)
    }
}

#[cfg(test)]
mod tests;
