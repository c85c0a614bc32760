//! torch's antialiased bicubic interpolation of float pictures.

use std::ops::Range;

use ndarray::{Array4, Axis, s};

use super::cubic;
use crate::canvas::Canvas;
use crate::error::Result;
use crate::tensor::Image;

/// Taps of one output pixel: the first input pixel, and the weights, which sum to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// Copies the pixel at `first`.
    fn one(first: usize) -> Self {
        Taps {
            first,
            weights: vec![1.0],
        }
    }
}

/// Resizes `image` `[N, C, H, W]` to `height` x `width`, both at least 1, without clamping.
///
/// Equal to `F.interpolate(image, size, mode="bicubic", antialias=True)` up to about 1e-6 (torch sums in another
/// order). For downscaling the kernel is stretched by the scale factor.
///
/// Source: `aten/src/ATen/native/cpu/UpSampleKernel.cpp`, torch 2.15 (`_upsample_bicubic2d_aa`).
pub fn torch_bicubic(image: &Image, height: usize, width: usize) -> Image {
    let (_, _, h, w) = image.dim();
    match (w == width, h == height) {
        (true, true) => image.clone(),
        (false, true) => along_rows(image, width),
        (true, false) => down_columns(image, height),
        (false, false) => down_columns(&along_rows(image, width), height),
    }
}

/// Rows `rows` of `source` resized to `height` x `width`, bit-equal to [`torch_bicubic`]; reads only the rows of
/// `source` that they depend on.
///
/// # Errors
/// Errors of reading `source`.
pub fn torch_bicubic_rows(
    source: &Canvas,
    (height, width): (usize, usize),
    rows: Range<usize>,
) -> Result<Image> {
    let (h, w) = source.size();
    let taps = match h == height {
        true => (0..h).map(Taps::one).collect(),
        false => taps(h, height),
    };
    let taps = &taps[rows];
    let first = taps.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = taps
        .iter()
        .map(|taps| taps.first + taps.weights.len())
        .max();
    let image = source.rows(first..end.unwrap_or(first))?;
    let image = match w == width {
        true => image,
        false => along_rows(&image, width),
    };
    Ok(match h == height {
        true => image,
        false => down_taps(&image, taps, first),
    })
}

fn along_rows(image: &Image, width: usize) -> Image {
    let (n, c, h, w) = image.dim();
    let taps = taps(w, width);
    let mut out = Array4::zeros((n, c, h, width));
    for (input, mut output) in image.rows().into_iter().zip(out.rows_mut()) {
        for (taps, value) in taps.iter().zip(&mut output) {
            let inputs = input.slice(s![taps.first..]);
            *value = inputs.iter().zip(&taps.weights).map(|(x, w)| x * w).sum();
        }
    }
    out
}

fn down_columns(image: &Image, height: usize) -> Image {
    down_taps(image, &taps(image.dim().2, height), 0)
}

/// One output row for each of `taps`; `image` begins with row `first`.
fn down_taps(image: &Image, taps: &[Taps], first: usize) -> Image {
    let (n, c, _, w) = image.dim();
    let mut out = Array4::zeros((n, c, taps.len(), w));
    for (y, taps) in taps.iter().enumerate() {
        for (k, &weight) in taps.weights.iter().enumerate() {
            let mut output = out.index_axis_mut(Axis(2), y);
            output.scaled_add(weight, &image.index_axis(Axis(2), taps.first - first + k));
        }
    }
    out
}

/// The taps of every output pixel, computed in f32, as in torch for float pictures.
fn taps(input: usize, output: usize) -> Vec<Taps> {
    let scale = input as f32 / output as f32;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let inverse = if scale >= 1.0 { 1.0 / scale } else { 1.0 };
    let of_pixel = |i: usize| {
        let center = scale * (i as f32 + 0.5);
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(input);
        let mut weights: Vec<f32> = (first..end)
            .map(|j| cubic!(((j as f32 - center + 0.5) * inverse)))
            .collect();
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        Taps { first, weights }
    };
    (0..output).map(of_pixel).collect()
}
