//! Colour profiles: what a picture's numbers mean, and sRGB, which the networks were trained on.

use moxcms::{CmsError, ColorProfile, DataColorSpace, Layout};
use ndarray::Array3;

use super::pixels::{Pixels, Sample, Transform};
use crate::error::{Error, Result};

/// Whether `icc` is a profile of RGB pictures.
pub(super) fn is_rgb(icc: &[u8]) -> bool {
    is_of(icc, DataColorSpace::Rgb)
}

/// Whether `icc` is a profile of CMYK pictures.
pub(super) fn is_cmyk(icc: &[u8]) -> bool {
    is_of(icc, DataColorSpace::Cmyk)
}

fn is_of(icc: &[u8], space: DataColorSpace) -> bool {
    ColorProfile::new_from_slice(icc).is_ok_and(|profile| profile.color_space == space)
}

/// A way of RGB colours from one profile to another.
pub(super) struct Conversion<T: Sample>(Transform<T>);

impl<T: Sample> Conversion<T> {
    /// From the colours of `icc` to sRGB; `None` for a profile that says nothing but sRGB.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
    pub fn to_srgb(icc: &[u8]) -> Result<Option<Self>> {
        Self::between(icc, |profile, srgb| {
            T::transform(profile, Layout::Rgb, srgb)
        })
    }

    /// From sRGB to the colours of `icc`: the way back from [`to_srgb`](Self::to_srgb).
    ///
    /// # Errors
    /// As [`to_srgb`](Self::to_srgb).
    pub fn from_srgb(icc: &[u8]) -> Result<Option<Self>> {
        Self::between(icc, |profile, srgb| {
            T::transform(srgb, Layout::Rgb, profile)
        })
    }

    fn between(
        icc: &[u8],
        way: impl FnOnce(&ColorProfile, &ColorProfile) -> std::result::Result<Transform<T>, CmsError>,
    ) -> Result<Option<Self>> {
        let profile = ColorProfile::new_from_slice(icc).map_err(unusable)?;
        let srgb = ColorProfile::new_srgb();
        // Rounding through such a profile and back would cost a level here and there, for nothing.
        if is_srgb(&profile, &srgb)? {
            return Ok(None);
        }
        way(&profile, &srgb)
            .map(|way| Some(Conversion(way)))
            .map_err(unusable)
    }

    /// `colors`, pixel after pixel, converted.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal): no whole pixels.
    pub fn apply(&self, colors: &[T]) -> Result<Vec<T>> {
        let mut changed = vec![T::default(); colors.len()];
        let done = self.0.transform(colors, &mut changed);
        done.map_err(|e| Error::internal(format!("colours cannot be converted: {e:?}")))?;
        Ok(changed)
    }
}

fn is_srgb(profile: &ColorProfile, srgb: &ColorProfile) -> Result<bool> {
    let grid: Vec<u8> = (0..512)
        .flat_map(|i: usize| [i / 64, i / 8 % 8, i % 8].map(|x| (x * 255 / 7) as u8))
        .collect();
    let mut changed = vec![0; grid.len()];
    u8::transform(profile, Layout::Rgb, srgb)
        .and_then(|to_srgb| to_srgb.transform(&grid, &mut changed))
        .map_err(unusable)?;
    Ok(grid.iter().zip(&changed).all(|(a, b)| a.abs_diff(*b) <= 1))
}

fn unusable(error: CmsError) -> Error {
    Error::input(format!("its colour profile cannot be used: {error:?}"))
}

/// `pixels` in the colours of `icc`, in sRGB.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
pub(super) fn to_srgb(pixels: Pixels, icc: &[u8]) -> Result<Pixels> {
    Ok(match pixels {
        Pixels::U8(rgb) => Pixels::U8(rgb_to_srgb(rgb, icc)?),
        Pixels::U16(rgb) => Pixels::U16(rgb_to_srgb(rgb, icc)?),
    })
}

fn rgb_to_srgb<T: Sample>(rgb: Array3<T>, icc: &[u8]) -> Result<Array3<T>> {
    let Some(conversion) = Conversion::to_srgb(icc)? else {
        return Ok(rgb);
    };
    let shape = rgb.raw_dim();
    let (values, _) = rgb
        .as_standard_layout()
        .into_owned()
        .into_raw_vec_and_offset();
    Array3::from_shape_vec(shape, conversion.apply(&values)?)
        .map_err(|e| Error::internal("colours of another number of pixels").with_source(e))
}

/// Pixels of four inks each, 0 for none, to sRGB: by the profile `icc`, or, without one, each colour as its ink and
/// black leave it over (Pillow's formula).
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
pub(super) fn cmyk_to_srgb(inks: &[u8], icc: Option<&[u8]>, rgb: &mut [u8]) -> Result<()> {
    if let Some(icc) = icc {
        let profile = ColorProfile::new_from_slice(icc).map_err(unusable)?;
        return u8::transform(&profile, Layout::Rgba, &ColorProfile::new_srgb())
            .and_then(|to_srgb| to_srgb.transform(inks, rgb))
            .map_err(unusable);
    }
    let pixels = inks.as_chunks::<4>().0.iter();
    for (&[c, m, y, k], rgb) in pixels.zip(rgb.as_chunks_mut::<3>().0) {
        *rgb = [c, m, y].map(|ink| {
            let product = u32::from(ink) * (255 - u32::from(k)) + 128;
            255 - k - (((product >> 8) + product) >> 8) as u8
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colors<T: Sample>() -> Array3<T> {
        Array3::from_shape_fn((8, 8, 3), |(y, x, c)| T::of((y * 30 + x * 3 + c * 7) as u8))
    }

    fn back<T: Sample>(icc: &[u8]) -> Vec<T> {
        // In sRGB first: what lies outside of it cannot come back.
        let values: Vec<T> = colors().iter().copied().collect();
        let there = Conversion::from_srgb(icc).unwrap().unwrap();
        let there = there.apply(&values).unwrap();
        let back = Conversion::to_srgb(icc).unwrap().unwrap();
        back.apply(&there).unwrap()
    }

    #[test]
    fn srgb_changes_nothing_and_a_wide_gamut_comes_back() {
        let srgb = ColorProfile::new_srgb().encode().unwrap();
        let pixels = Pixels::from(colors::<u8>());
        assert_eq!(to_srgb(pixels.clone(), &srgb).unwrap(), pixels);
        let wide = ColorProfile::new_display_p3().encode().unwrap();
        assert!(is_rgb(&wide) && !is_cmyk(&wide));
        let pairs = back::<u8>(&wide).into_iter().zip(colors::<u8>());
        let largest = pairs.map(|(a, b)| a.abs_diff(b)).max();
        assert!(largest.unwrap() <= 2, "{largest:?}");
        let pairs = back::<u16>(&wide).into_iter().zip(colors::<u16>());
        let largest = pairs.map(|(a, b)| a.abs_diff(b)).max();
        assert!(largest.unwrap() <= 16, "{largest:?}");
        assert!(!is_rgb(b"nonsense") && to_srgb(pixels, b"nonsense").is_err());
    }

    #[test]
    fn inks_without_a_profile_darken_as_in_pillow() {
        let inks = [0, 0, 0, 0, 255, 0, 0, 0, 10, 200, 99, 77, 0, 0, 0, 255];
        let mut rgb = [0; 12];
        cmyk_to_srgb(&inks, None, &mut rgb).unwrap();
        assert_eq!(rgb, [255, 255, 255, 0, 255, 255, 171, 38, 109, 0, 0, 0]);
    }
}
