//! The result's size.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::DEFAULT_UPSCALE;
use crate::declare::options;
use crate::error::{Error, Result};
use crate::resize;

/// The longest edge that can be asked for, in pixels.
pub const MAX_EDGE: usize = 1 << 20;

/// Height and width in pixels, each 1 to [`MAX_EDGE`]. As text `WIDTHxHEIGHT`, or one edge for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelSize(pub usize, pub usize);

impl FromStr for PixelSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (width, height) = text.split_once(['x', 'X', '×']).unwrap_or((text, text));
        let edge = |digits: &str| {
            let edge = digits.parse().ok().filter(|_| !digits.starts_with('+'));
            edge.filter(|edge| (1..=MAX_EDGE).contains(edge))
        };
        let size = edge(height).zip(edge(width));
        size.map(|(height, width)| PixelSize(height, width)).ok_or_else(|| {
            Error::option(format!(
                "`{text}` is no size: expected WIDTHxHEIGHT in pixels, such as 1920x1080, or one edge, at most {MAX_EDGE}"
            ))
        })
    }
}

impl fmt::Display for PixelSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.1, self.0)
    }
}

impl Serialize for PixelSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PixelSize {
    /// From text alone: YAML reads `0x600` as a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// How a picture of another aspect ratio gets a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum SizeMode {
    /// The largest result inside of the size, aspect ratio kept
    #[default]
    Fit,
    /// Exactly the size: the picture's middle, cropped to the size's aspect ratio
    Fill,
    /// Exactly the size: stretched, aspect ratio not kept
    Exact,
}

options! {
    /// The result's size in pixels, instead of the factor `restore.upscale`. At most one of `pixels`, `width`, `height`,
    /// `long_edge`, `short_edge` and `restore.upscale` is given in a layer; that of the highest layer counts.
    struct SizeOptions, layer SizeLayer, section "size";
    optional:
    /// Size of the result, WIDTHxHEIGHT or one edge for both; --size-mode says how a picture of another aspect ratio gets it.
    pixels: PixelSize, (long = "size", value_name = "WxH", num_args = 1);
    /// With a size: fit (the largest result inside of it), fill (cropped to it around the middle) or exact (stretched to it).
    /// Unset: fit.
    mode: SizeMode, (long = "size-mode", num_args = 1);
    /// Width of the result; its height follows from the aspect ratio.
    width: usize, [1.0, 1048576.0], (long = "width", value_name = "PIXELS", num_args = 1);
    /// Height of the result; its width follows from the aspect ratio.
    height: usize, [1.0, 1048576.0], (long = "height", value_name = "PIXELS", num_args = 1);
    /// Longer edge of the result; the other follows from the aspect ratio.
    long_edge: usize, [1.0, 1048576.0], (long = "long-edge", value_name = "PIXELS", num_args = 1);
    /// Shorter edge of the result; the other follows from the aspect ratio.
    short_edge: usize, [1.0, 1048576.0], (long = "short-edge", value_name = "PIXELS", num_args = 1);
}

impl SizeOptions {
    /// What is asked for, `upscale` included.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option): more than one of them, none, or a mode without a size.
    pub fn target(&self, upscale: Option<f64>) -> Result<Target> {
        let mode = self.mode.unwrap_or_default();
        let given = [
            upscale.map(Target::Factor),
            self.pixels.map(|size| Target::Pixels(size, mode)),
            self.width.map(Target::Width),
            self.height.map(Target::Height),
            self.long_edge.map(Target::LongEdge),
            self.short_edge.map(Target::ShortEdge),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (None, _) => Err(Error::option(format!(
                "the result has no size: give restore.upscale (usually {DEFAULT_UPSCALE}), or a size"
            ))),
            (_, Some(_)) => Err(several()),
            (Some(Target::Pixels(..)), _) => {
                Ok(Target::Pixels(self.pixels.unwrap_or(PixelSize(1, 1)), mode))
            }
            (Some(_), _) if self.mode.is_some() => Err(Error::option(
                "size.mode (--size-mode) acts with size.pixels (--size) alone: give that, or leave it out",
            )),
            (Some(target), _) => Ok(target),
        }
    }
}

fn several() -> Error {
    Error::option(
        "give one of restore.upscale (--upscale), size.pixels (--size), size.width, size.height, size.long_edge and \
         size.short_edge; for a width and a height: --size WIDTHxHEIGHT",
    )
}

impl SizeLayer {
    /// How many values this layer gives for the result's size, `upscale` included. `null` gives none.
    fn given(&self, upscale: Option<Option<f64>>) -> usize {
        let edges = [self.width, self.height, self.long_edge, self.short_edge];
        let edges = edges.into_iter().flatten().flatten().count();
        edges
            + usize::from(self.pixels.flatten().is_some())
            + usize::from(upscale.flatten().is_some())
    }

    /// Refuses a layer that gives more than one.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option).
    pub fn check(&self, upscale: Option<Option<f64>>) -> Result<()> {
        match self.given(upscale) {
            0 | 1 => Ok(()),
            _ => Err(several()),
        }
    }

    /// Takes from `size` and `below`, the factor, what this layer overrides: all of it, if the layer gives one value.
    pub fn clear(
        &self,
        upscale: Option<Option<f64>>,
        size: &mut SizeOptions,
        below: &mut Option<f64>,
    ) {
        if self.given(upscale) == 0 {
            return;
        }
        let mode = size.mode.filter(|_| self.pixels.is_some());
        *size = SizeOptions {
            mode,
            ..SizeOptions::default()
        };
        *below = None;
    }
}

/// The size that is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Output size over input size.
    Factor(f64),
    /// A size, and how it is reached.
    Pixels(PixelSize, SizeMode),
    /// The width.
    Width(usize),
    /// The height.
    Height(usize),
    /// The longer edge.
    LongEdge(usize),
    /// The shorter edge.
    ShortEdge(usize),
}

/// The part of a picture that is restored, and the size of its result. Sizes are height and width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// First row and column of the part.
    pub origin: (usize, usize),
    /// Its size.
    pub part: (usize, usize),
    /// The result's size.
    pub output: (usize, usize),
    /// Output size over input size, where that was asked for.
    factor: Option<f64>,
}

impl Target {
    /// The frame of a picture of `lq` (height, width) pixels, upright.
    ///
    /// Edges that follow from the aspect ratio are rounded to the nearest pixel, halves up, and are at least 1; those of
    /// a factor are rounded down, as in the reference.
    pub fn frame(self, lq: (usize, usize)) -> Frame {
        let (height, width) = lq;
        let of_width = |to| (scaled(height, to, width), to);
        let of_height = |to| (to, scaled(width, to, height));
        let whole = |output| Frame {
            origin: (0, 0),
            part: lq,
            output,
            factor: None,
        };
        match self {
            Target::Factor(factor) => Frame {
                factor: Some(factor),
                ..whole(resize::upscaled_size(height, width, factor))
            },
            Target::Width(to) => whole(of_width(to)),
            Target::Height(to) => whole(of_height(to)),
            Target::LongEdge(to) if width >= height => whole(of_width(to)),
            Target::LongEdge(to) => whole(of_height(to)),
            Target::ShortEdge(to) if width <= height => whole(of_width(to)),
            Target::ShortEdge(to) => whole(of_height(to)),
            Target::Pixels(PixelSize(h, w), SizeMode::Exact) => whole((h, w)),
            // Whether the width is what bounds it.
            Target::Pixels(PixelSize(h, w), SizeMode::Fit) => {
                match wide(w, height) >= wide(h, width) {
                    true => whole(of_height(h)),
                    false => whole(of_width(w)),
                }
            }
            Target::Pixels(PixelSize(h, w), SizeMode::Fill) => {
                let part = match wide(w, height) >= wide(h, width) {
                    true => (scaled(width, h, w).min(height), width),
                    false => (height, scaled(height, w, h).min(width)),
                };
                Frame {
                    origin: ((height - part.0) / 2, (width - part.1) / 2),
                    part,
                    ..whole((h, w))
                }
            }
        }
    }
}

impl Frame {
    /// The size of the result of a picture of `size`, which is the part with padding.
    pub fn of_padded(&self, (height, width): (usize, usize)) -> (usize, usize) {
        match self.factor {
            Some(factor) => resize::upscaled_size(height, width, factor),
            None => (
                scaled(height, self.output.0, self.part.0),
                scaled(width, self.output.1, self.part.1),
            ),
        }
    }
}

fn wide(a: usize, b: usize) -> u128 {
    a as u128 * b as u128
}

/// `length * to / of`, rounded to the nearest number, at least 1.
fn scaled(length: usize, to: usize, of: usize) -> usize {
    let of = (of as u128).max(1);
    let scaled = (2 * wide(length, to) + of) / (2 * of);
    usize::try_from(scaled.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_to_the_pixel() {
        use SizeMode::{Exact, Fill, Fit};
        // A picture of 67 rows and 101 columns.
        for (target, output) in [
            (Target::Factor(4.0), (268, 404)),
            (Target::Width(1000), (663, 1000)),
            (Target::Height(1000), (1000, 1507)),
            (Target::LongEdge(333), (221, 333)),
            (Target::ShortEdge(333), (333, 502)),
            (Target::Pixels(PixelSize(300, 300), Fit), (199, 300)),
            (Target::Pixels(PixelSize(100, 300), Fit), (100, 151)),
            (Target::Pixels(PixelSize(300, 300), Exact), (300, 300)),
            (Target::Pixels(PixelSize(300, 300), Fill), (300, 300)),
            (Target::Width(1), (1, 1)),
        ] {
            let frame = target.frame((67, 101));
            assert_eq!(frame.output, output, "{target:?}");
            let (height, width) = frame.of_padded(frame.part);
            assert_eq!((height, width), output, "{target:?}");
        }
        for edge in 1..=300 {
            assert_eq!(Target::Width(edge).frame((67, 101)).output.1, edge);
            assert_eq!(Target::Height(edge).frame((67, 101)).output.0, edge);
            let fit = Target::Pixels(PixelSize(edge, 150), Fit)
                .frame((67, 101))
                .output;
            assert!(
                fit.0 <= edge && fit.1 <= 150 && (fit.0 == edge || fit.1 == 150),
                "{fit:?}"
            );
        }
    }

    #[test]
    fn filling_takes_the_middle() {
        let fill = |h, w| {
            let frame = Target::Pixels(PixelSize(h, w), SizeMode::Fill).frame((67, 101));
            (frame.origin, frame.part)
        };
        assert_eq!(fill(300, 300), ((0, 17), (67, 67)));
        assert_eq!(fill(100, 400), ((21, 0), (25, 101)));
        assert_eq!(fill(1 << 20, 1), ((0, 50), (67, 1)));
        assert_eq!(fill(670, 1010), ((0, 0), (67, 101)));
    }

    #[test]
    fn sizes_are_read_from_text() {
        for (text, size) in [
            ("1920x1080", (1080, 1920)),
            ("64", (64, 64)),
            ("3X2", (2, 3)),
        ] {
            let PixelSize(height, width) = text.parse().unwrap();
            assert_eq!((height, width), size, "{text}");
        }
        for text in [
            "",
            "x",
            "0x3",
            "3x",
            "-1x3",
            "+1x3",
            "1.5x3",
            "1048577x1",
            "3x3x3",
            "3 x3",
        ] {
            assert!(text.parse::<PixelSize>().is_err(), "{text}");
        }
    }
}
