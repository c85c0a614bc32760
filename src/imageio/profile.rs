//! Colour profiles: what a picture's numbers mean, and sRGB, which the networks were trained on.

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use super::Rgb;
use crate::error::{Error, Result};

/// A way of colours from one profile to another: 8-bit RGB, pixel by pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Whether `icc` is a profile of RGB pictures.
pub(super) fn is_rgb(icc: &[u8]) -> bool {
    ColorProfile::new_from_slice(icc)
        .is_ok_and(|profile| profile.color_space == DataColorSpace::Rgb)
}

/// `rgb` in the colours of `icc` to sRGB. A profile that says nothing but sRGB changes nothing.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
pub(super) fn to_srgb(rgb: Rgb, icc: &[u8]) -> Result<Rgb> {
    convert(rgb, icc, Way::In)
}

/// `rgb` in sRGB to the colours of `icc`; the way back from [`to_srgb`].
///
/// # Errors
/// As [`to_srgb`].
pub(super) fn from_srgb(rgb: Rgb, icc: &[u8]) -> Result<Rgb> {
    convert(rgb, icc, Way::Out)
}

fn convert(rgb: Rgb, icc: &[u8], way: Way) -> Result<Rgb> {
    let grid: Vec<u8> = (0..512)
        .flat_map(|i: usize| [i / 64, i / 8 % 8, i % 8].map(|x| (x * 255 / 7) as u8))
        .collect();
    // Rounding through such a profile and back would cost a level here and there, for nothing.
    let changed = transform(&grid, icc, Way::In)?;
    if grid.iter().zip(&changed).all(|(a, b)| a.abs_diff(*b) <= 1) {
        return Ok(rgb);
    }
    let shape = rgb.raw_dim();
    let (values, _) = rgb
        .as_standard_layout()
        .into_owned()
        .into_raw_vec_and_offset();
    Rgb::from_shape_vec(shape, transform(&values, icc, way)?)
        .map_err(|e| Error::internal("colours of another number of pixels").with_source(e))
}

fn transform(values: &[u8], icc: &[u8], way: Way) -> Result<Vec<u8>> {
    let unusable =
        |e: moxcms::CmsError| Error::input(format!("its colour profile cannot be used: {e:?}"));
    let profile = ColorProfile::new_from_slice(icc).map_err(unusable)?;
    let srgb = ColorProfile::new_srgb();
    let (from, to) = match way {
        Way::In => (&profile, &srgb),
        Way::Out => (&srgb, &profile),
    };
    let transform = from
        .create_transform_8bit(Layout::Rgb, to, Layout::Rgb, TransformOptions::default())
        .map_err(unusable)?;
    let mut changed = vec![0; values.len()];
    transform
        .transform(values, &mut changed)
        .map_err(unusable)?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn colors() -> Rgb {
        Array3::from_shape_fn((8, 8, 3), |(y, x, c)| (y * 30 + x * 3 + c * 7) as u8)
    }

    #[test]
    fn srgb_changes_nothing_and_a_wide_gamut_comes_back() {
        let srgb = ColorProfile::new_srgb().encode().unwrap();
        assert_eq!(to_srgb(colors(), &srgb).unwrap(), colors());
        let wide = ColorProfile::new_display_p3().encode().unwrap();
        assert!(is_rgb(&wide));
        // In sRGB first: what lies outside of it cannot come back.
        let in_wide = from_srgb(colors(), &wide).unwrap();
        assert_ne!(in_wide, colors());
        let back = to_srgb(in_wide, &wide).unwrap();
        let largest = back
            .iter()
            .zip(&colors())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert!(largest.unwrap() <= 2, "{largest:?}");
        assert!(!is_rgb(b"nonsense") && to_srgb(colors(), b"nonsense").is_err());
    }
}
