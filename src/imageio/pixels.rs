//! Colours of 8 or 16 bits.

use std::sync::Arc;

use moxcms::{ColorProfile, Layout, TransformExecutor, TransformOptions};
use ndarray::{Array3, s};
use serde::{Deserialize, Serialize};

use super::Rgb;

/// The colours of a result, `[H, W, 3]`, in sRGB.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// In 8 bits.
    U8(&'a Rgb),
    /// In 16 bits.
    U16(&'a Array3<u16>),
}

impl<'a> From<&'a Rgb> for Pixels<'a> {
    fn from(rgb: &'a Rgb) -> Self {
        Pixels::U8(rgb)
    }
}

impl<'a> From<&'a Array3<u16>> for Pixels<'a> {
    fn from(rgb: &'a Array3<u16>) -> Self {
        Pixels::U16(rgb)
    }
}

impl Pixels<'_> {
    /// Height and width.
    pub fn size(self) -> (usize, usize) {
        let (height, width, _) = match self {
            Pixels::U8(rgb) => rgb.dim(),
            Pixels::U16(rgb) => rgb.dim(),
        };
        (height, width)
    }

    /// Row `y` as `[W, 3]`, in the other depth where `T` asks for it.
    pub(super) fn row<T: Sample>(self, y: usize) -> Vec<T> {
        match self {
            Pixels::U8(rgb) => rgb
                .slice(s![y, .., ..])
                .iter()
                .map(|&x| T::of_u8(x))
                .collect(),
            Pixels::U16(rgb) => rgb
                .slice(s![y, .., ..])
                .iter()
                .map(|&x| T::of_u16(x))
                .collect(),
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
pub(super) trait Sample: Copy + Default + Send + Sync + 'static {
    fn of_u8(value: u8) -> Self;
    fn of_u16(value: u16) -> Self;
    fn luma(color: [Self; 3]) -> Self;
    fn put(self, order: Order, bytes: &mut Vec<u8>);
    fn transform(
        from: &ColorProfile,
        layout: Layout,
        to: &ColorProfile,
    ) -> Result<Transform<Self>, moxcms::CmsError>;
}

/// A conversion between profiles, from whole pixels to whole pixels.
pub(super) type Transform<T> = Arc<dyn TransformExecutor<T> + Send + Sync>;

/// The order of a 16-bit number's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    BigEndian,
    LittleEndian,
}

impl Sample for u8 {
    fn of_u8(value: u8) -> u8 {
        value
    }

    fn of_u16(value: u16) -> u8 {
        ((u32::from(value) + 128) / 257) as u8
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
    fn of_u8(value: u8) -> u16 {
        u16::from(value) * 257
    }

    fn of_u16(value: u16) -> u16 {
        value
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
