//! How visible the borders of tiles are.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use diffbir::tiling::{Grid, Window};
use ndarray::{Array4, Axis};

/// Pixels on each side of a line that count as its border: a latent cell, so that what the VAE decoder does with a
/// period of a cell is in border and elsewhere alike.
const REACH: usize = 8;

/// Pixels along a picture's own edges that are left out: networks pad there, which is no seam.
const EDGE: usize = 32;

/// The lines of a picture along which tiles begin, end, or hand over to each other: rows and columns, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
}

impl Lines {
    /// The lines of a grid whose cells are `scale` pixels large.
    pub fn of(grid: &Grid, scale: usize) -> Self {
        let windows: Vec<Window> = grid.windows().collect();
        let spans = |span: &dyn Fn(&Window) -> (usize, usize)| {
            let mut spans: Vec<(usize, usize)> = windows.iter().map(span).collect();
            spans.sort_unstable();
            spans.dedup();
            let of_pair = |pair: &[(usize, usize)]| {
                let (start, end) = (pair[1].0 * scale, pair[0].1 * scale);
                [start, (start + end) / 2, end]
            };
            let mut lines: Vec<usize> = spans.windows(2).flat_map(of_pair).collect();
            lines.sort_unstable();
            lines.dedup();
            lines
        };
        Lines {
            rows: spans(&|w| (w.y, w.y + w.height)),
            columns: spans(&|w| (w.x, w.x + w.width)),
        }
    }
}

/// The seam metric of a picture `[1, C, H, W]`: the mean square of the differences of neighbouring pixels across the
/// lines, within [`REACH`] of one, over that of the other differences in the same direction; of rows and columns the
/// larger. 1 is no seam, in a picture that is alike everywhere.
pub fn seam(picture: &Array4<f32>, lines: &Lines) -> f64 {
    let of =
        |axis, lines: &[usize]| (!lines.is_empty()).then(|| ratio(&energy(picture, axis), lines));
    let ratios = [of(Axis(2), &lines.rows), of(Axis(3), &lines.columns)];
    ratios.into_iter().flatten().fold(0.0, f64::max)
}

/// The seam metric of `tiled` relative to that of `whole`, the same picture made without tiles: what the picture itself
/// has along the lines falls out. Of rows and columns the larger.
pub fn seam_against(tiled: &Array4<f32>, whole: &Array4<f32>, lines: &Lines) -> f64 {
    let of = |axis, lines: &[usize]| {
        let ratio = |picture| ratio(&energy(picture, axis), lines);
        (!lines.is_empty()).then(|| ratio(tiled) / ratio(whole))
    };
    let ratios = [of(Axis(2), &lines.rows), of(Axis(3), &lines.columns)];
    ratios.into_iter().flatten().fold(0.0, f64::max)
}

/// The mean square of the difference between lines `k` and `k + 1`, for every `k`.
fn energy(picture: &Array4<f32>, axis: Axis) -> Vec<f64> {
    let lines: Vec<_> = picture.axis_iter(axis).collect();
    let of_pair = |pair: &[ndarray::ArrayView3<'_, f32>]| {
        let squares = pair[0].iter().zip(pair[1].iter());
        let sum: f64 = squares.map(|(a, b)| f64::from(b - a).powi(2)).sum();
        sum / pair[0].len() as f64
    };
    lines.windows(2).map(of_pair).collect()
}

/// The mean energy near a line over the mean energy elsewhere.
fn ratio(energy: &[f64], lines: &[usize]) -> f64 {
    // Difference k lies at k + 1, between two pixels; a line at k lies before pixel k.
    let near = |k: usize| {
        lines
            .iter()
            .any(|&line| (line..line + 2 * REACH).contains(&(k + 1 + REACH)))
    };
    let (near, far): (Vec<_>, Vec<_>) = (EDGE..energy.len() - EDGE).partition(|&k| near(k));
    let mean = |of: Vec<usize>| of.iter().map(|&k| energy[k]).sum::<f64>() / of.len() as f64;
    mean(near) / mean(far)
}

/// Peak signal-to-noise ratio of `a` to `b` in dB, for values in a range of 1.
pub fn psnr(a: &Array4<f32>, b: &Array4<f32>) -> f64 {
    let square = (a - b).mapv(|x| f64::from(x).powi(2)).mean().unwrap();
    -10.0 * square.log10()
}
