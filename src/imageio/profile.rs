//! Colour profiles: what a picture's numbers mean, and sRGB, which the networks were trained on.

use moxcms::{
    Chromaticity, CicpProfile, CmsError, ColorPrimaries, ColorProfile, DataColorSpace, Layout,
    MatrixCoefficients, ToneReprCurve, XyY,
};
use ndarray::{Array3, s};

use super::bounds::with_room;
use super::pixels::{Pixels, Sample, Transform};
use crate::error::{Error, Result};

/// Whether `icc` is a profile of RGB pictures.
pub(super) fn is_rgb(icc: &[u8]) -> bool {
    is_of(icc, DataColorSpace::Rgb)
}

/// Whether `icc` is a profile of grey pictures.
pub(super) fn is_grey(icc: &[u8]) -> bool {
    is_of(icc, DataColorSpace::Gray)
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
    /// [`Internal`](crate::error::ErrorKind::Internal): no whole pixels;
    /// [`Input`](crate::error::ErrorKind::Input): more than memory has.
    pub fn apply(&self, colors: &[T]) -> Result<Vec<T>> {
        let mut changed = with_room(colors.len())?;
        changed.resize(colors.len(), T::default());
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

/// Greys by a profile of greys, in sRGB.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
pub(super) fn grey_to_srgb(pixels: Pixels, icc: &[u8]) -> Result<Pixels> {
    Ok(match pixels {
        Pixels::U8(rgb) => Pixels::U8(greys_to_srgb(&rgb, icc)?),
        Pixels::U16(rgb) => Pixels::U16(greys_to_srgb(&rgb, icc)?),
    })
}

fn greys_to_srgb<T: Sample>(rgb: &Array3<T>, icc: &[u8]) -> Result<Array3<T>> {
    let profile = ColorProfile::new_from_slice(icc).map_err(unusable)?;
    let greys: Vec<T> = rgb.slice(s![.., .., 0]).iter().copied().collect();
    let mut colors = vec![T::default(); rgb.len()];
    T::transform(&profile, Layout::Gray, &ColorProfile::new_srgb())
        .and_then(|to_srgb| to_srgb.transform(&greys, &mut colors))
        .map_err(unusable)?;
    Array3::from_shape_vec(rgb.dim(), colors)
        .map_err(|e| Error::internal("colours of another number of pixels").with_source(e))
}

/// A PNG's colours as a profile, where its chunks `cICP`, or `gAMA` and `cHRM`, say others than sRGB; and whether it has
/// other primaries, which results are to have again.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): colours that cannot become sRGB.
pub(super) fn of_png(info: &png::Info<'_>) -> Result<Option<(Vec<u8>, bool)>> {
    let profile = match &info.coding_independent_code_points {
        Some(points) => Some((of_cicp(points)?, points.color_primaries != 1)),
        None if info.icc_profile.is_some() || info.srgb.is_some() => None,
        None => of_gamma(info),
    };
    let encoded = profile.map(|(profile, wide)| Ok((encoded(&profile)?, wide)));
    encoded.transpose().map_err(unusable)
}

/// A profile as a file. It is dated alike whenever it is made, so that a picture gives the same bytes each time.
pub(super) fn encoded(profile: &ColorProfile) -> std::result::Result<Vec<u8>, CmsError> {
    /// 1 January 2000, and where a profile's header has the date.
    const DATE: [u8; 12] = [0x07, 0xd0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    let mut bytes = profile.encode()?;
    bytes[24..36].copy_from_slice(&DATE);
    Ok(bytes)
}

fn of_cicp(points: &png::CodingIndependentCodePoints) -> Result<ColorProfile> {
    let convert = "save it in sRGB, or take its numbers as they are by --ignore-profiles";
    if let transfer @ (16 | 18) = points.transfer_function {
        let name = if transfer == 16 { "PQ" } else { "HLG" };
        return Err(Error::input(format!(
            "an HDR picture ({name} by its cICP), which has no one right look in sRGB: {convert}"
        )));
    }
    let read = || {
        let mut profile = ColorProfile::new_srgb();
        let points = CicpProfile {
            color_primaries: points.color_primaries.try_into().ok()?,
            transfer_characteristics: points.transfer_function.try_into().ok()?,
            matrix_coefficients: MatrixCoefficients::Identity,
            full_range: true,
        };
        // What this returns is false in any case.
        profile.red_trc = None;
        profile.update_rgb_colorimetry_from_cicp(points);
        profile.red_trc.is_some().then_some(profile)
    };
    let is_rgb = points.matrix_coefficients == 0 && points.is_video_full_range_image;
    read().filter(|_| is_rgb).ok_or_else(|| {
        Error::input(format!(
            "its colours (cICP) are of a kind that is not read: {convert}"
        ))
    })
}

/// By `gAMA` and `cHRM`; `None` where both are sRGB's, as near as libpng asks.
fn of_gamma(info: &png::Info<'_>) -> Option<(ColorProfile, bool)> {
    let gamma = info.gama_chunk.map(|gamma| gamma.into_value());
    let gamma = gamma.filter(|gamma| *gamma > 0.0 && (gamma * 2.2 - 1.0).abs() > 0.05);
    let point = |(x, y): (png::ScaledFloat, png::ScaledFloat)| (x.into_value(), y.into_value());
    let points = info
        .chrm_chunk
        .map(|c| [c.white, c.red, c.green, c.blue].map(point));
    let srgb = [(0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)];
    let points = points.filter(|points| {
        let mut pairs = points.iter().zip(srgb);
        let sane = points.iter().all(|(_, y)| *y > 0.0);
        sane && pairs.any(|(a, b)| (a.0 - b.0).abs() > 0.005 || (a.1 - b.1).abs() > 0.005)
    });
    if gamma.is_none() && points.is_none() {
        return None;
    }
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    profile.description = None;
    if let Some(gamma) = gamma {
        let curve = Some(ToneReprCurve::Parametric(vec![1.0 / gamma]));
        profile.red_trc = curve.clone();
        profile.green_trc = curve.clone();
        profile.blue_trc = curve;
    }
    if let Some([white, red, green, blue]) = points {
        let white = XyY {
            x: white.0.into(),
            y: white.1.into(),
            yb: 1.0,
        };
        let [red, green, blue] = [red, green, blue].map(|(x, y)| Chromaticity { x, y });
        profile.update_rgb_colorimetry(white, ColorPrimaries { red, green, blue });
    }
    Some((profile, points.is_some()))
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

    #[test]
    fn profiles_do_not_say_when_they_were_made() {
        let made = encoded(&ColorProfile::new_display_p3()).unwrap();
        assert_eq!(made[24..36], [0x07, 0xd0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_ne!(
            ColorProfile::new_display_p3().encode().unwrap()[24..36],
            made[24..36]
        );
        assert!(Conversion::<u8>::to_srgb(&made).unwrap().is_some());
    }

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
