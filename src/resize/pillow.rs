//! Pillow's bicubic resizing of 8-bit pictures.

use std::convert::Infallible;

use ndarray::{Array2, Array3, ArrayView3};

use super::cubic;

/// Weights are integers, in units of 2^-22.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Taps of one output pixel: the first input pixel, and the weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes `image` `[H, W, C]` to `height` x `width`, both at least 1.
///
/// Every value equals that of Pillow's `Image.resize((width, height), Image.BICUBIC)`: the same integer weights, first
/// along the rows, rounded to 8 bits, then along the columns.
///
/// Source: `src/libImaging/Resample.c`, Pillow 13.
pub fn pillow_bicubic(image: ArrayView3<'_, u8>, height: usize, width: usize) -> Array3<u8> {
    let Ok(resized) =
        stoppable_pillow_bicubic(image, (height, width), &|| Ok::<(), Infallible>(()));
    resized
}

/// As [`pillow_bicubic`], to `size` (height, width). `checkpoint` is called before each row and may stop the work.
///
/// # Errors
/// Errors of `checkpoint`.
pub fn stoppable_pillow_bicubic<E>(
    image: ArrayView3<'_, u8>,
    (height, width): (usize, usize),
    checkpoint: &dyn Fn() -> Result<(), E>,
) -> Result<Array3<u8>, E> {
    let (h, w, _) = image.dim();
    match (w == width, h == height) {
        (true, true) => Ok(image.to_owned()),
        (false, true) => along_rows(image, width, checkpoint),
        (true, false) => down_columns(image, height, checkpoint),
        (false, false) => {
            let wide = along_rows(image, width, checkpoint)?;
            down_columns(wide.view(), height, checkpoint)
        }
    }
}

fn along_rows<E>(
    image: ArrayView3<'_, u8>,
    width: usize,
    checkpoint: &dyn Fn() -> Result<(), E>,
) -> Result<Array3<u8>, E> {
    let (h, w, c) = image.dim();
    let taps = taps(w, width);
    let mut out = Array3::zeros((h, width, c));
    for (input, mut output) in image.outer_iter().zip(out.outer_iter_mut()) {
        checkpoint()?;
        let input = input.as_standard_layout();
        let pixels = output.outer_iter_mut();
        for (taps, mut pixel) in taps.iter().zip(pixels) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let inputs = input.iter().skip(taps.first * c + channel).step_by(c);
                let products = inputs.zip(&taps.weights).map(|(&x, w)| i32::from(x) * w);
                *value = round(products.sum());
            }
        }
    }
    Ok(out)
}

fn down_columns<E>(
    image: ArrayView3<'_, u8>,
    height: usize,
    checkpoint: &dyn Fn() -> Result<(), E>,
) -> Result<Array3<u8>, E> {
    let (h, w, c) = image.dim();
    let mut out = Array3::zeros((height, w, c));
    let mut sums = Array2::<i32>::zeros((w, c));
    for (taps, mut output) in taps(h, height).iter().zip(out.outer_iter_mut()) {
        checkpoint()?;
        sums.fill(0);
        let rows = image.outer_iter().skip(taps.first);
        for (row, weight) in rows.zip(&taps.weights) {
            sums.zip_mut_with(&row, |sum, &x| *sum += i32::from(x) * weight);
        }
        output.zip_mut_with(&sums, |value, &sum| *value = round(sum));
    }
    Ok(out)
}

/// A sum of products as an 8-bit value.
fn round(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The taps of every output pixel, computed in f64, then rounded.
fn taps(input: usize, output: usize) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let of_pixel = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(input);
        let weights: Vec<f64> = (first..end)
            .map(|j| cubic!(((j as f64 - center + 0.5) * (1.0 / stretch))))
            .collect();
        let total: f64 = weights.iter().sum();
        // To the nearest integer, halves away from zero, as in the C code.
        let fixed = |weight: f64| {
            let scaled = weight / total * f64::from(1 << PRECISION_BITS);
            (scaled + f64::copysign(0.5, weight)) as i32
        };
        Taps {
            first,
            weights: weights.into_iter().map(fixed).collect(),
        }
    };
    (0..output).map(of_pixel).collect()
}
