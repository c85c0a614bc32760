//! Colours of 8 or 16 bits, and their rows as a file has them.

use std::sync::Arc;

use moxcms::{ColorProfile, Layout, TransformExecutor, TransformOptions};
use ndarray::{Array3, s};
use serde::{Deserialize, Serialize};

use super::profile::Conversion;
use super::{Alpha, Rgb};
use crate::error::{Error, Result};

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
    fn row<T: Sample>(self, y: usize) -> Vec<T> {
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
pub enum Depth {
    /// As the input's, where the kind of file can.
    #[default]
    Auto,
    /// 8.
    Eight,
    /// 16, where the kind of file can.
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

    fn try_from(name: DepthName) -> std::result::Result<Self, String> {
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
    ) -> std::result::Result<Transform<Self>, moxcms::CmsError>;
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
    ) -> std::result::Result<Transform<u8>, moxcms::CmsError> {
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
    ) -> std::result::Result<Transform<u16>, moxcms::CmsError> {
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

/// A result row by row, in the colours, channels and depth of its file.
pub(super) struct Rows<'a> {
    pixels: Pixels<'a>,
    channels: Channels<'a>,
    depth: RowDepth,
}

/// What a pixel of a file consists of.
#[derive(Clone, Copy)]
pub(super) struct Channels<'a> {
    /// One luma in place of three colours.
    pub grey: bool,
    /// How opaque each pixel is, where the file says so.
    pub alpha: Option<&'a Alpha>,
}

/// A file's depth, with the way into its profile.
enum RowDepth {
    Eight(Option<Conversion<u8>>),
    Sixteen(Option<Conversion<u16>>),
}

impl<'a> Rows<'a> {
    /// `pixels` with `channels` in 16 bits or 8, and in the colours of `icc` where there is one.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
    pub fn new(
        pixels: Pixels<'a>,
        channels: Channels<'a>,
        deep: bool,
        icc: Option<&[u8]>,
    ) -> Result<Self> {
        let depth = match deep {
            true => RowDepth::Sixteen(icc.map_or(Ok(None), Conversion::from_srgb)?),
            false => RowDepth::Eight(icc.map_or(Ok(None), Conversion::from_srgb)?),
        };
        Ok(Rows {
            pixels,
            channels,
            depth,
        })
    }

    pub fn height(&self) -> usize {
        self.pixels.size().0
    }

    pub fn width(&self) -> usize {
        self.pixels.size().1
    }

    pub fn grey(&self) -> bool {
        self.channels.grey
    }

    pub fn alpha(&self) -> bool {
        self.channels.alpha.is_some()
    }

    pub fn deep(&self) -> bool {
        matches!(self.depth, RowDepth::Sixteen(_))
    }

    /// Numbers per pixel.
    pub fn samples(&self) -> usize {
        let colors = if self.grey() { 1 } else { 3 };
        colors + usize::from(self.alpha())
    }

    /// Bytes per row.
    pub fn row_bytes(&self) -> usize {
        self.width() * self.samples() * if self.deep() { 2 } else { 1 }
    }

    /// Appends the bytes of row `y`.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) only.
    pub fn append(&self, y: usize, order: Order, bytes: &mut Vec<u8>) -> Result<()> {
        match &self.depth {
            RowDepth::Eight(conversion) => self.interleave(y, conversion.as_ref(), order, bytes),
            RowDepth::Sixteen(conversion) => self.interleave(y, conversion.as_ref(), order, bytes),
        }
    }

    fn interleave<T: Sample>(
        &self,
        y: usize,
        conversion: Option<&Conversion<T>>,
        order: Order,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let mut colors: Vec<T> = self.pixels.row(y);
        if let Some(conversion) = conversion {
            colors = conversion.apply(&colors)?;
        }
        for (x, color) in colors.as_chunks::<3>().0.iter().enumerate() {
            match self.channels.grey {
                true => T::luma(*color).put(order, bytes),
                false => color.iter().for_each(|value| value.put(order, bytes)),
            }
            if let Some(alpha) = self.channels.alpha {
                let alpha = alpha.get((y, x)).ok_or_else(|| {
                    Error::internal("the transparency has another size than the colours")
                })?;
                T::of_u8(*alpha).put(order, bytes);
            }
        }
        Ok(())
    }
}
