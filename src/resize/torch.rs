//! torch's antialiased bicubic interpolation of float pictures.

use ndarray::{Array4, Axis, s};

use super::cubic;
use crate::tensor::Image;

/// One output pixel: where its inputs begin, and their weights, which add up to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// Resizes `image` `[N, C, H, W]` to `height` x `width`, both at least 1, without clamping.
///
/// Equal to `F.interpolate(image, size, mode="bicubic", antialias=True)` to about 1e-6 (torch adds the products in
/// another order). When it shrinks a picture the kernel is stretched by the same factor.
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
    let (n, c, h, w) = image.dim();
    let taps = taps(h, height);
    let mut out = Array4::zeros((n, c, height, w));
    for (y, taps) in taps.iter().enumerate() {
        for (k, &weight) in taps.weights.iter().enumerate() {
            let mut output = out.index_axis_mut(Axis(2), y);
            output.scaled_add(weight, &image.index_axis(Axis(2), taps.first + k));
        }
    }
    out
}

/// The taps of every output pixel, computed in f32 as torch does for float pictures.
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
