//! Colours of 8 or 16 bits.

use std::borrow::Cow;
use std::sync::Arc;

use moxcms::{ColorProfile, Layout, TransformExecutor, TransformOptions};
use ndarray::{Array3, Axis, s};
use serde::{Deserialize, Serialize};

use super::Rgb;

/// The colours of a picture, `[H, W, 3]`, in sRGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pixels {
    /// In 8 bits.
    U8(Rgb),
    /// In 16 bits.
    U16(Array3<u16>),
}

impl From<Rgb> for Pixels {
    fn from(rgb: Rgb) -> Self {
        Pixels::U8(rgb)
    }
}

impl From<Array3<u16>> for Pixels {
    fn from(rgb: Array3<u16>) -> Self {
        Pixels::U16(rgb)
    }
}

impl Pixels {
    /// Black pixels.
    pub fn zeros((height, width): (usize, usize), depth: BitDepth) -> Self {
        match depth {
            BitDepth::Eight => Pixels::U8(Array3::zeros((height, width, 3))),
            BitDepth::Sixteen => Pixels::U16(Array3::zeros((height, width, 3))),
        }
    }

    /// Height and width.
    pub fn size(&self) -> (usize, usize) {
        let (height, width, _) = match self {
            Pixels::U8(rgb) => rgb.dim(),
            Pixels::U16(rgb) => rgb.dim(),
        };
        (height, width)
    }

    /// Bits per channel.
    pub fn depth(&self) -> BitDepth {
        match self {
            Pixels::U8(_) => BitDepth::Eight,
            Pixels::U16(_) => BitDepth::Sixteen,
        }
    }

    /// The colours in 8 bits, the nearest ones where there are more.
    pub fn to_u8(&self) -> Cow<'_, Rgb> {
        match self {
            Pixels::U8(rgb) => Cow::Borrowed(rgb),
            Pixels::U16(rgb) => Cow::Owned(rgb.mapv(u8::of)),
        }
    }

    /// As [`to_u8`](Self::to_u8).
    pub fn into_u8(self) -> Rgb {
        match self {
            Pixels::U8(rgb) => rgb,
            Pixels::U16(rgb) => rgb.mapv(u8::of),
        }
    }

    /// Whether nothing of it has colour: neither chroma (Cb and Cr of Rec. 601) is further than 2 of 255 levels from none.
    pub fn is_grey(&self) -> bool {
        match self {
            Pixels::U8(rgb) => is_grey(rgb, 1),
            Pixels::U16(rgb) => is_grey(rgb, 257),
        }
    }

    /// Takes the colours off: each pixel becomes its luma.
    pub fn remove_colour(&mut self) {
        match self {
            Pixels::U8(rgb) => remove_colour(rgb),
            Pixels::U16(rgb) => remove_colour(rgb),
        }
    }

    /// Row `y` as `[W, 3]`, in the other depth where `T` asks for it.
    pub(super) fn row<T: Sample>(&self, y: usize) -> Vec<T> {
        match self {
            Pixels::U8(rgb) => rgb.slice(s![y, .., ..]).iter().map(|&x| T::of(x)).collect(),
            Pixels::U16(rgb) => rgb.slice(s![y, .., ..]).iter().map(|&x| T::of(x)).collect(),
        }
    }
}

fn is_grey<T: Sample>(rgb: &Array3<T>, level: i64) -> bool {
    // Half a level more for rounding.
    let most = 5 * level * (1 << 15);
    rgb.lanes(Axis(2)).into_iter().all(|color| {
        let value = |c: usize| i64::from(color[c].into());
        let (r, g, b) = (value(0), value(1), value(2));
        let cb = -11059 * r - 21709 * g + 32768 * b;
        let cr = 32768 * r - 27439 * g - 5329 * b;
        cb.abs() < most && cr.abs() < most
    })
}

fn remove_colour<T: Sample>(rgb: &mut Array3<T>) {
    for mut color in rgb.lanes_mut(Axis(2)) {
        let luma = T::luma([color[0], color[1], color[2]]);
        color.fill(luma);
    }
}

/// Bits per channel of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BitDepth {
    /// 8.
    #[default]
    Eight,
    /// 16.
    Sixteen,
}

impl BitDepth {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            BitDepth::Eight => 1,
            BitDepth::Sixteen => 2,
        }
    }
}

/// Bits per channel of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "DepthName", into = "DepthName")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Depth {
    /// The input's, where the file format has it
    #[default]
    Auto,
    /// 8
    #[cfg_attr(feature = "cli", value(name = "8"))]
    Eight,
    /// 16, where the file format has it
    #[cfg_attr(feature = "cli", value(name = "16"))]
    Sixteen,
}

/// A depth as the configuration has it: `auto`, 8 or 16.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DepthName {
    Bits(u64),
    Name(String),
}

impl From<Depth> for DepthName {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Auto => DepthName::Name("auto".to_owned()),
            Depth::Eight => DepthName::Bits(8),
            Depth::Sixteen => DepthName::Bits(16),
        }
    }
}

impl TryFrom<DepthName> for Depth {
    type Error = String;

    fn try_from(name: DepthName) -> Result<Self, String> {
        let name = match name {
            DepthName::Bits(bits) => bits.to_string(),
            DepthName::Name(name) => name,
        };
        match name.as_str() {
            "auto" => Ok(Depth::Auto),
            "8" => Ok(Depth::Eight),
            "16" => Ok(Depth::Sixteen),
            _ => Err(format!("{name} bits per channel, expected auto, 8 or 16")),
        }
    }
}

/// One number of a pixel.
pub(crate) trait Sample:
    Copy + Default + Into<u32> + TryFrom<u32> + Send + Sync + 'static
{
    const MOST: Self;
    /// The nearest number of another depth's.
    fn of(value: impl Sample) -> Self;
    fn to_u8(self) -> u8;
    fn to_u16(self) -> u16;
    fn luma(color: [Self; 3]) -> Self;
    /// Before `behind`, opaque as `alpha` says.
    fn over(self, alpha: u8, behind: Self) -> Self {
        let [alpha, rest] = [u32::from(alpha), 255 - u32::from(alpha)];
        let sum = self.into() * alpha + behind.into() * rest;
        Self::try_from((sum + 127) / 255).unwrap_or(Self::MOST)
    }
    fn put(self, order: Order, bytes: &mut Vec<u8>);
    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: &ColorProfile,
    ) -> Result<Transform<Self>, moxcms::CmsError>;
}

/// A conversion between profiles, from whole pixels to whole pixels.
pub(crate) type Transform<T> = Arc<dyn TransformExecutor<T> + Send + Sync>;

/// The order of a 16-bit number's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    BigEndian,
    LittleEndian,
}

impl Order {
    /// The machine's.
    pub fn native() -> Self {
        match cfg!(target_endian = "big") {
            true => Order::BigEndian,
            false => Order::LittleEndian,
        }
    }
}

impl Sample for u8 {
    const MOST: u8 = u8::MAX;

    fn of(value: impl Sample) -> u8 {
        value.to_u8()
    }

    fn to_u8(self) -> u8 {
        self
    }

    fn to_u16(self) -> u16 {
        u16::from(self) * 257
    }

    fn luma(color: [u8; 3]) -> u8 {
        luma(color)
    }

    fn put(self, _: Order, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }

    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: &ColorProfile,
    ) -> Result<Transform<u8>, moxcms::CmsError> {
        from.create_transform_8bit(layout, to, Layout::Rgb, TransformOptions::default())
    }
}

impl Sample for u16 {
    const MOST: u16 = u16::MAX;

    fn of(value: impl Sample) -> u16 {
        value.to_u16()
    }

    fn to_u8(self) -> u8 {
        ((u32::from(self) + 128) / 257) as u8
    }

    fn to_u16(self) -> u16 {
        self
    }

    fn luma(color: [u16; 3]) -> u16 {
        weighted(color.map(u32::from)) as u16
    }

    fn put(self, order: Order, bytes: &mut Vec<u8>) {
        bytes.extend(match order {
            Order::BigEndian => self.to_be_bytes(),
            Order::LittleEndian => self.to_le_bytes(),
        });
    }

    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: &ColorProfile,
    ) -> Result<Transform<u16>, moxcms::CmsError> {
        // The fixed point that is the default has 13 bits behind the point.
        let options = TransformOptions {
            prefer_fixed_point: false,
            ..TransformOptions::default()
        };
        from.create_transform_16bit(layout, to, Layout::Rgb, options)
    }
}

/// Rec. 601's, as Pillow's `convert("L")`.
pub fn luma(color: [u8; 3]) -> u8 {
    weighted(color.map(u32::from)) as u8
}

fn weighted([r, g, b]: [u32; 3]) -> u32 {
    (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16
}
