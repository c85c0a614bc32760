//! The synthetic picture of the measurements.

use crate::cli::args::Size;
use crate::imageio::Rgb;

/// A picture whose result has `size`: waves of several wavelengths.
pub(super) fn of(Size(height, width): Size, upscale: f64) -> Rgb {
    let wave = |x: usize, length: f32| (x as f32 / length).sin();
    let input = |length: usize| ((length as f64 / upscale) as usize).max(1);
    Rgb::from_shape_fn((input(height), input(width), 3), |(y, x, c)| {
        let value = wave(x, 9.0 + c as f32) + wave(y, 23.0) + wave(x + y, 140.0);
        (127.0 + 40.0 * value) as u8
    })
}
