//! The reference's tiles: the last ones of a row or column are moved inwards, the weights are Gaussian.
//!
//! Source: `make_tiled_fn`, `sliding_windows` and `gaussian_weights`, diffbir/utils/common.py at 3f8b530.

use std::str::FromStr;

use ndarray::{Array2, Array4};
use serde::{Deserialize, Serialize};

use super::{Grid, Layout, OnTile, Window};
use crate::error::{Error, Result};

/// The size and stride of square tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Tiles {
    /// Edge of a tile.
    pub size: usize,
    /// Distance between the corners of adjacent tiles, at most the size.
    pub stride: usize,
}

/// The notations of tiles: `SIZE`, `SIZE:STRIDE`, or a mapping.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Size(usize),
    Text(String),
    Sizes { size: usize, stride: usize },
}

impl TryFrom<Written> for Tiles {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Size(size) => size.to_string().parse(),
            Written::Text(text) => text.parse(),
            Written::Sizes { size, stride } => Ok(Tiles { size, stride }),
        }
    }
}

impl FromStr for Tiles {
    type Err = Error;

    /// `SIZE:STRIDE`, or `SIZE` with a stride of half the size.
    fn from_str(text: &str) -> Result<Self> {
        let (size, stride) = match text.split_once(':') {
            Some((size, stride)) => (size.parse().ok(), stride.parse().ok()),
            None => {
                let size: Option<usize> = text.parse().ok();
                (size, size.map(|size| size / 2))
            }
        };
        match size.zip(stride) {
            Some((size, stride)) => Ok(Tiles { size, stride }),
            None => Err(Error::option(format!(
                "`{text}`: expected SIZE or SIZE:STRIDE, in pixels"
            ))),
        }
    }
}

impl Tiles {
    /// Whether an array of this size has room for a tile; smaller arrays are not tiled.
    pub fn fit(&self, (height, width): (usize, usize)) -> bool {
        height >= self.size && width >= self.size
    }

    /// The windows that cover an array of this size, row by row; the last ones of a row or column are moved inwards.
    /// `scale` is the ratio of the result's size to the array's.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) if no tile fits, or if the stride is 0 or leaves gaps (the
    /// reference returns NaN there).
    pub fn grid(&self, (height, width): (usize, usize), scale: usize) -> Result<Grid> {
        let Tiles { size, stride } = *self;
        if stride == 0 || stride > size || !self.fit((height, width)) {
            return Err(Error::option(format!(
                "tiles of {size} with a stride of {stride} do not cover {width}x{height}: the stride has to be 1 to {size}, and the \
                 tile no larger than the picture"
            )));
        }
        Ok(Grid::new(Layout::Reference(*self), (height, width), scale))
    }

    /// Number of windows over `length`.
    pub(super) fn count(&self, length: usize) -> usize {
        (length - self.size).div_ceil(self.stride) + 1
    }

    /// Start of window `k`.
    pub(super) fn start(&self, length: usize, k: usize) -> usize {
        (k * self.stride).min(length - self.size)
    }

    /// The weights of the rows and columns of a tile's result, the same for all tiles.
    pub(super) fn weights(&self, scale: usize) -> (Vec<f64>, Vec<f64>) {
        let edge = self.size * scale;
        (rows(edge), columns(edge))
    }

    /// Runs `f` on every window of `x` `[N, C, H, W]`, one by one, and blends the results, which are `scale` times as
    /// large and have any number of channels; `on_tile` is called before each window.
    ///
    /// # Errors
    /// As [`grid`](Self::grid), and those of `on_tile` and `f`.
    pub fn blend(
        &self,
        x: &Array4<f32>,
        scale: usize,
        on_tile: &OnTile<'_>,
        mut f: impl FnMut(Array4<f32>, Window) -> Result<Array4<f32>>,
    ) -> Result<Array4<f32>> {
        let (_, _, h, w) = x.dim();
        let grid = self.grid((h, w), scale)?;
        grid.blend(x, 1, on_tile, |tile, windows| match windows {
            [window] => Ok(vec![f(tile, *window)?]),
            _ => Err(Error::internal("more than one tile came at once")),
        })
    }
}

/// A Gaussian over `length` elements, with a standard deviation of a tenth of their number.
fn line(length: usize, centre: f64) -> Vec<f64> {
    let variance = 0.01;
    let square = (length * length) as f64;
    (0..length)
        .map(|i| {
            let distance = i as f64 - centre;
            (-distance * distance / square / (2.0 * variance)).exp()
                / (2.0 * std::f64::consts::PI * variance).sqrt()
        })
        .collect()
}

fn columns(width: usize) -> Vec<f64> {
    line(width, (width as f64 - 1.0) / 2.0)
}

/// The centre is half an element below the middle, as in the reference.
fn rows(height: usize) -> Vec<f64> {
    line(height, height as f64 / 2.0)
}

/// The weight of each element of a tile, `[height, width]`. The vertical centre is half an element below the middle,
/// as in the reference.
pub fn gaussian_weights(width: usize, height: usize) -> Array2<f64> {
    let (columns, rows) = (columns(width), rows(height));
    Array2::from_shape_fn((height, width), |(y, x)| rows[y] * columns[x])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blending_what_was_cut_out_gives_it_back(
            h in 8..40_usize, w in 8..40_usize, size in 2..9_usize, stride in 1..9_usize
        ) {
            let tiles = Tiles { size, stride: stride.min(size) };
            let x = Array4::from_shape_fn((1, 2, h, w), |(_, c, y, x)| (c * 31 + y * 7 + x) as f32);
            let blended = tiles.blend(&x, 1, &|_, _| Ok(()), |tile, _| Ok(tile)).unwrap();
            prop_assert!((blended - &x).iter().all(|d| d.abs() < 1e-3));
        }
    }

    #[test]
    fn gaps_and_oversized_tiles_are_refused() {
        let tiles = |size, stride| Tiles { size, stride };
        for (tiles, size) in [
            (tiles(8, 9), (20, 20)),
            (tiles(8, 0), (20, 20)),
            (tiles(8, 4), (7, 20)),
        ] {
            assert!(tiles.grid(size, 1).is_err());
        }
        assert_eq!(tiles(8, 4).grid((8, 13), 1).unwrap().count(), 3);
    }
}
