//! Colour correction of pictures that are read row by row.

use std::ops::Range;

use ndarray::Axis;

use super::{LEVELS, wavelet_reconstruction};
use crate::canvas::{Canvas, ReadRows, bands};
use crate::error::Result;
use crate::tensor::Image;

/// Receptive field of the low frequencies on each side: the sum of all blur radii.
const REACH: usize = (1 << LEVELS) - 1;

/// A colour correction of `content` by `style`, both of one size and read row by row.
pub enum Correction<'a> {
    /// Nothing.
    None,
    /// [`wavelet_reconstruction`].
    Wavelet(&'a Canvas),
    /// [`adaptive_instance_normalization`](super::adaptive_instance_normalization): mean and standard deviation of
    /// each channel of `content`, and those of `style`.
    Adain(Vec<(f32, f32)>, Vec<(f32, f32)>),
}

impl<'a> Correction<'a> {
    /// [`Adain`](Self::Adain), with statistics gathered from `read` and `style` in blocks of `step` rows.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn adain(read: &ReadRows<'_>, style: &'a Canvas, step: usize) -> Result<Self> {
        let of = |read: &ReadRows<'_>| moments(read, (style.channels(), style.size().0), step);
        Ok(Correction::Adain(of(read)?, of(&|rows| style.rows(rows))?))
    }

    /// The corrected rows `rows`, `[1, C, rows, W]`, of a picture of `height` rows that `read` returns.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn rows(&self, read: &ReadRows<'_>, height: usize, rows: Range<usize>) -> Result<Image> {
        match self {
            Correction::None => read(rows),
            Correction::Wavelet(style) => {
                let seen = rows.start.saturating_sub(REACH)..(rows.end + REACH).min(height);
                let fixed =
                    wavelet_reconstruction(read(seen.clone())?, &style.rows(seen.clone())?)?;
                let inside = rows.start - seen.start..rows.end - seen.start;
                Ok(fixed.slice_move(ndarray::s![.., .., inside, ..]))
            }
            Correction::Adain(content, style) => {
                let mut part = read(rows)?;
                let mut planes = part.index_axis_mut(Axis(0), 0);
                let each = planes.outer_iter_mut().zip(content.iter().zip(style));
                for (mut plane, ((mean, std), (style_mean, style_std))) in each {
                    plane.mapv_inplace(|x| (x - mean) / std * style_std + style_mean);
                }
                Ok(part)
            }
        }
    }
}

/// Mean, and square root of the unbiased variance plus 1e-5, of each channel of a picture (channels, height).
fn moments(
    read: &ReadRows<'_>,
    (channels, height): (usize, usize),
    step: usize,
) -> Result<Vec<(f32, f32)>> {
    let sums = |of: &dyn Fn(usize, f64) -> f64| -> Result<(Vec<f64>, f64)> {
        let (mut sums, mut cells) = (vec![0.0; channels], 0);
        for rows in bands(height, step) {
            let part = read(rows)?;
            cells += part.len() / channels;
            for (c, plane) in part.index_axis(Axis(0), 0).outer_iter().enumerate() {
                plane.iter().for_each(|&x| sums[c] += of(c, f64::from(x)));
            }
        }
        Ok((sums, cells as f64))
    };
    let (total, n) = sums(&|_, x| x)?;
    let (squares, _) = sums(&|c, x| (x - total[c] / n).powi(2))?;
    let of_sums = |(total, squares): (&f64, &f64)| {
        let variance = squares / (n - 1.0).max(1.0);
        ((total / n) as f32, (variance as f32 + 1e-5).sqrt())
    };
    Ok(total.iter().zip(&squares).map(of_sums).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::adaptive_instance_normalization;
    use crate::rng::TorchCpu;
    use ndarray::{Array4, s};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_those_of_the_whole((h, w) in (1..120_usize, 1..20_usize), step in 1..50_usize, seed in any::<u64>()) {
            let mut rng = TorchCpu::new(seed);
            let mut draw = || Array4::from_shape_vec((1, 3, h, w), rng.rand(3 * h * w)).unwrap();
            let (content, style) = (draw(), draw());
            let wavelet = wavelet_reconstruction(content.clone(), &style).unwrap();
            let adain = adaptive_instance_normalization(content.clone(), &style).unwrap();
            let (content, style) = (Canvas::from(content), Canvas::from(style));
            let read = |rows| content.rows(rows);
            let corrections = [
                (Correction::Wavelet(&style), wavelet),
                (Correction::adain(&read, &style, step).unwrap(), adain),
                (Correction::None, content.to_array().unwrap()),
            ];
            for (correction, whole) in corrections {
                for rows in bands(h, step) {
                    let part = correction.rows(&read, h, rows.clone()).unwrap();
                    prop_assert_eq!(part, whole.slice(s![.., .., rows, ..]));
                }
            }
        }
    }
}
