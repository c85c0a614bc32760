//! The synthetic picture of the measurements.

use crate::engine::Request;
use crate::imageio::Rgb;
use crate::options::{Options, PixelSize};

/// A picture whose result has `size`, by `restore.upscale`: waves of several wavelengths.
pub(super) fn request(PixelSize(height, width): PixelSize, options: &Options) -> Request {
    let (options, upscale) = options.clone().by_factor();
    let wave = |x: usize, length: f32| (x as f32 / length).sin();
    let input = |length: usize| ((length as f64 / upscale) as usize).max(1);
    let lq = Rgb::from_shape_fn((input(height), input(width), 3), |(y, x, c)| {
        let value = wave(x, 9.0 + c as f32) + wave(y, 23.0) + wave(x + y, 140.0);
        (127.0 + 40.0 * value) as u8
    });
    Request::new(lq, options)
}
