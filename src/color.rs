//! Colour correction: details of the restored picture with the colours of a reference picture.

mod rows;

use ndarray::{ArrayViewMut2, Axis, Zip, s};

use crate::canvas::Canvas;
use crate::error::{Error, Result};
use crate::tensor::Image;

pub use rows::Correction;

/// Number of blurs, each with twice the radius of the one before.
const LEVELS: u32 = 5;

/// Replaces the low frequencies of `content` with those of `style`, both `[N, C, H, W]` in the same range. The result
/// may exceed that range slightly.
///
/// The high frequencies are the picture minus its fivefold blur, so the result is `content` plus the difference of the
/// two blurred pictures. The reference sums the differences of successive blurs, which is equal up to rounding (1e-6
/// for values of order 1). Working memory: two planes of `H * W` values.
///
/// Source: `wavelet_reconstruction`, diffbir/utils/common.py at 3f8b530.
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal) if the shapes differ.
pub fn wavelet_reconstruction(mut content: Image, style: &Image) -> Result<Image> {
    check_shapes(&content, style)?;
    for (mut content, style) in content.outer_iter_mut().zip(style.outer_iter()) {
        for (mut content, style) in content.outer_iter_mut().zip(style.outer_iter()) {
            let mut low = content.to_owned();
            let mut scratch = low.clone();
            low.zip_mut_with(&style, |content, &style| *content = style - *content);
            // Blurring is linear: the blurred difference is the difference of the blurred pictures.
            for level in 0..LEVELS {
                blur_plane(low.view_mut(), scratch.view_mut(), 1 << level);
            }
            content += &low;
        }
    }
    Ok(content)
}

/// Splits `image` `[N, C, H, W]` into high and low frequencies, in this order; their sum is `image`.
///
/// Source: `wavelet_decomposition`, diffbir/utils/common.py at 3f8b530.
pub fn wavelet_decomposition(image: &Image) -> (Image, Image) {
    let mut low = image.clone();
    for level in 0..LEVELS {
        low = wavelet_blur(low, 1 << level);
    }
    (image - &low, low)
}

/// Blurs `image` `[N, C, H, W]` with the kernel (1, 2, 1)/4 along each axis, with a dilation of `radius` pixels and
/// replicated edges.
///
/// Source: `wavelet_blur`, diffbir/utils/common.py at 3f8b530, whose 3x3 kernel is the product of these two.
pub fn wavelet_blur(mut image: Image, radius: usize) -> Image {
    let mut scratch = ndarray::Array2::zeros((image.len_of(Axis(2)), image.len_of(Axis(3))));
    for mut sample in image.outer_iter_mut() {
        for plane in sample.outer_iter_mut() {
            blur_plane(plane, scratch.view_mut(), radius);
        }
    }
    image
}

/// Blurs one plane, along its columns into `scratch`, then along the rows back into the plane.
fn blur_plane(
    mut plane: ArrayViewMut2<'_, f32>,
    mut scratch: ArrayViewMut2<'_, f32>,
    radius: usize,
) {
    let (height, width) = plane.dim();
    for y in 0..height {
        let above = plane.row(y.saturating_sub(radius));
        let below = plane.row((y + radius).min(height - 1));
        Zip::from(scratch.row_mut(y))
            .and(above)
            .and(plane.row(y))
            .and(below)
            .for_each(|out, &a, &b, &c| *out = blend(a, b, c));
    }
    let middle = radius.min(width)..width.saturating_sub(radius).max(radius.min(width));
    for (row, mut out) in scratch.rows().into_iter().zip(plane.rows_mut()) {
        let clamped = |x: usize| {
            let (left, right) = (x.saturating_sub(radius), (x + radius).min(width - 1));
            blend(row[left], row[x], row[right])
        };
        (0..middle.start).for_each(|x| out[x] = clamped(x));
        (middle.end..width).for_each(|x| out[x] = clamped(x));
        let taps = |from: usize| row.slice(s![from..from + middle.len()]);
        if !middle.is_empty() {
            Zip::from(out.slice_mut(s![middle.clone()]))
                .and(taps(0))
                .and(taps(radius))
                .and(taps(2 * radius))
                .for_each(|out, &a, &b, &c| *out = blend(a, b, c));
        }
    }
}

fn blend(a: f32, b: f32, c: f32) -> f32 {
    0.25 * a + 0.5 * b + 0.25 * c
}

/// Gives every channel of `content` the mean and standard deviation of the same channel of `style`, both `[N, C, H,
/// W]` (AdaIN, Huang and Belongie, arXiv 1703.06868).
///
/// Variances are unbiased, plus 1e-5; the variance of a plane of one pixel is 0 (NaN in the reference).
///
/// Source: `adaptive_instance_normalization`, utils/image/align_color.py at 86bf0f8.
///
/// # Errors
/// [`Internal`](crate::error::ErrorKind::Internal) if the shapes differ.
pub fn adaptive_instance_normalization(mut content: Image, style: &Image) -> Result<Image> {
    check_shapes(&content, style)?;
    let height = style.len_of(Axis(2));
    for k in 0..content.len_of(Axis(0)) {
        let mut sample = content.slice_mut(s![k..k + 1, .., .., ..]);
        let of_sample = Canvas::from(sample.to_owned());
        let of_style = Canvas::from(style.slice(s![k..k + 1, .., .., ..]).to_owned());
        let read = |rows| of_sample.rows(rows);
        let correction = Correction::adain(&read, &of_style, height)?;
        sample.assign(&correction.rows(&read, height, 0..height)?);
    }
    Ok(content)
}

fn check_shapes(content: &Image, style: &Image) -> Result<()> {
    if content.dim() == style.dim() {
        return Ok(());
    }
    Err(Error::internal(format!(
        "colour correction needs two pictures of one shape, found {:?} and {:?}",
        content.dim(),
        style.dim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;
    use proptest::prelude::*;

    fn pictures() -> impl Strategy<Value = (Image, Image)> {
        (1..40_usize, 1..40_usize, any::<u64>()).prop_map(|(h, w, seed)| {
            let mut rng = crate::rng::TorchCpu::new(seed);
            let mut draw = || {
                let values = rng.rand(2 * 3 * h * w);
                Array4::from_shape_vec((2, 3, h, w), values).unwrap()
            };
            (draw(), draw())
        })
    }

    fn max_difference(a: &Image, b: &Image) -> f32 {
        (a - b).iter().fold(0.0, |max, d| max.max(d.abs()))
    }

    proptest! {
        #[test]
        fn a_picture_in_its_own_colours_is_unchanged((x, _) in pictures()) {
            prop_assert_eq!(&wavelet_reconstruction(x.clone(), &x).unwrap(), &x);
            let adain = adaptive_instance_normalization(x.clone(), &x).unwrap();
            prop_assert!(max_difference(&adain, &x) < 1e-5);
        }

        #[test]
        fn the_low_frequencies_become_those_of_the_style((x, y) in pictures()) {
            let fixed = wavelet_reconstruction(x.clone(), &y).unwrap();
            let (high, _) = wavelet_decomposition(&x);
            let (_, low) = wavelet_decomposition(&y);
            prop_assert!(max_difference(&fixed, &(high + low)) < 2e-6);
        }

        #[test]
        fn an_added_colour_is_taken_back((x, _) in pictures(), shift in -1.0_f32..1.0) {
            let fixed = wavelet_reconstruction(&x + shift, &x).unwrap();
            prop_assert!(max_difference(&fixed, &x) < 1e-5);
        }
    }

    #[test]
    fn unequal_shapes_are_refused() {
        let (a, b) = (Array4::zeros((1, 3, 4, 4)), Array4::zeros((1, 3, 4, 5)));
        assert!(wavelet_reconstruction(a.clone(), &b).is_err());
        assert!(adaptive_instance_normalization(a, &b).is_err());
    }
}
