//! The ways in which TIFF files say colours.

use super::super::exif::Directory;

const COLOR_MAP: u16 = 320;
const INK_SET: u16 = 332;
const COEFFICIENTS: u16 = 529;
const REFERENCE: u16 = 532;

/// What the numbers of a pixel mean.
#[derive(Debug, PartialEq)]
pub(super) enum Space {
    Grey,
    Rgb,
    /// Numbers of one of these colours.
    Palette(Vec<[u8; 3]>),
    Cmyk,
    YCbCr {
        /// Parts of red, green and blue in luma.
        luma: [f64; 3],
        /// Black and white of luma, then zero and most of either chroma.
        reference: [f64; 6],
    },
    /// CIE L*a*b* of illuminant D50; `icc` where a and b are stored from 0 on.
    Lab {
        icc: bool,
    },
}

impl Space {
    /// As a file's tags say; else what is not read.
    pub fn of(photometric: u32, bits: u32, tags: &Directory) -> Result<Self, String> {
        let numbers = |tag| tags.get(&tag).map(|value| value.numbers());
        match photometric {
            0 | 1 => Ok(Space::Grey),
            2 => Ok(Space::Rgb),
            3 => {
                let map = numbers(COLOR_MAP).unwrap_or_default();
                let count = 1_usize.checked_shl(bits).unwrap_or(0);
                if bits > 8 || map.len() != 3 * count {
                    return Err("a palette of another size than its bits say".to_owned());
                }
                // Colours are said in 16 bits and mean 8, as libtiff takes them.
                let part = |i: usize| (map.get(i).copied().unwrap_or(0.0) as u16 >> 8) as u8;
                let color = |i| [part(i), part(count + i), part(2 * count + i)];
                Ok(Space::Palette((0..count).map(color).collect()))
            }
            5 if numbers(INK_SET).is_none_or(|set| set == [1.0]) => Ok(Space::Cmyk),
            5 => Err("inks other than CMYK".to_owned()),
            6 if bits == 8 => {
                let luma = numbers(COEFFICIENTS).and_then(|x| x.try_into().ok());
                let reference = numbers(REFERENCE).and_then(|x| x.try_into().ok());
                Ok(Space::YCbCr {
                    luma: luma.unwrap_or([0.299, 0.587, 0.114]),
                    reference: reference.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]),
                })
            }
            8 => Ok(Space::Lab { icc: false }),
            9 => Ok(Space::Lab { icc: true }),
            other => Err(format!("colours of kind {other} ({bits} bits)")),
        }
    }

    pub fn channels(&self) -> usize {
        match self {
            Space::Grey | Space::Palette(_) => 1,
            Space::Cmyk => 4,
            Space::Rgb | Space::YCbCr { .. } | Space::Lab { .. } => 3,
        }
    }

    /// A pixel's colour, of numbers up to `most`, in sRGB unless a profile says otherwise.
    pub fn rgb(&self, numbers: [u32; 4], most: u32) -> [u32; 3] {
        let [a, b, c, d] = numbers;
        match self {
            Space::Grey => [a; 3],
            Space::Rgb => [a, b, c],
            Space::Palette(colors) => colors
                .get(a as usize)
                .map_or([0; 3], |color| color.map(u32::from)),
            Space::Cmyk => {
                let white = 1.0 - d as f32 / most as f32;
                [a, b, c].map(|ink| ((most as f32 - ink as f32) * white) as u32)
            }
            Space::YCbCr { luma, reference } => {
                let [black, white, ..] = *reference;
                let [_, _, cb0, cb1, cr0, cr1] = *reference;
                let y = (f64::from(a) - black) * 255.0 / (white - black);
                let cb = (f64::from(b) - cb0) * 127.0 / (cb1 - cb0);
                let cr = (f64::from(c) - cr0) * 127.0 / (cr1 - cr0);
                let red = y + cr * (2.0 - 2.0 * luma[0]);
                let blue = y + cb * (2.0 - 2.0 * luma[2]);
                let green = (y - luma[0] * red - luma[2] * blue) / luma[1];
                [red, green, blue].map(|x| x.round().clamp(0.0, 255.0) as u32)
            }
            Space::Lab { icc } => {
                let lab = lab([a, b, c], most, *icc);
                srgb(lab).map(|x| (x * f64::from(most)).round() as u32)
            }
        }
    }
}

/// Numbers as L* from 0 to 100, a* and b*.
fn lab([l, a, b]: [u32; 3], most: u32, icc: bool) -> [f64; 3] {
    let wide = most > 255;
    let unit = if wide { 256.0 } else { 1.0 };
    let full = if icc && wide {
        65280.0
    } else {
        f64::from(most)
    };
    let chroma = |x: u32| {
        let value = match (icc, wide) {
            (true, _) => f64::from(x) - 128.0 * unit,
            (false, true) => f64::from(x as u16 as i16),
            (false, false) => f64::from(x as u8 as i8),
        };
        value / unit
    };
    [f64::from(l) * 100.0 / full, chroma(a), chroma(b)]
}

/// A colour of illuminant D50 in sRGB, from 0 to 1, cut to its gamut; adapted as Bradford has it.
fn srgb([l, a, b]: [f64; 3]) -> [f64; 3] {
    let y = (l + 16.0) / 116.0;
    let [x, y, z] = [y + a / 500.0, y, y - b / 200.0].map(|t| match t > 6.0 / 29.0 {
        true => t * t * t,
        false => 3.0 * (6.0_f64 / 29.0).powi(2) * (t - 4.0 / 29.0),
    });
    let (x, z) = (x * 0.96422, z * 0.82521);
    let linear = [
        3.1338561 * x - 1.6168667 * y - 0.4906146 * z,
        -0.9787684 * x + 1.9161415 * y + 0.0334540 * z,
        0.0719453 * x - 0.2289914 * y + 1.4052427 * z,
    ];
    linear.map(|x| match x.clamp(0.0, 1.0) {
        x if x <= 0.0031308 => 12.92 * x,
        x => 1.055 * x.powf(1.0 / 2.4) - 0.055,
    })
}
