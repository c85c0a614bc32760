//! Tiles of the reference: overlapping windows whose results are blended with Gaussian weights.
//!
//! Source: `make_tiled_fn`, `sliding_windows` and `gaussian_weights`, diffbir/utils/common.py at 3f8b530.

use ndarray::{Array2, Array4, s};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The size and stride of square tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiles {
    /// Edge of a tile.
    pub size: usize,
    /// Distance of two tiles' corners, at most the size.
    pub stride: usize,
}

/// A rectangle: rows `y..y + height`, columns `x..x + width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub y: usize,
    /// First column.
    pub x: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// Told that a tile begins: its number from 0, and how many there are. An error stops the work there.
pub type OnTile<'a> = dyn Fn(usize, usize) -> Result<()> + 'a;

impl Window {
    /// The part of `x` in the window.
    pub fn of(&self, x: &Array4<f32>) -> Array4<f32> {
        let (rows, columns) = (self.y..self.y + self.height, self.x..self.x + self.width);
        x.slice(s![.., .., rows, columns]).to_owned()
    }
}

impl Tiles {
    /// Whether an array of this size has room for a tile; where not, it is better left whole.
    pub fn fit(&self, (height, width): (usize, usize)) -> bool {
        height >= self.size && width >= self.size
    }

    /// The windows that cover an array of this size, row by row; the last ones of a row or column are moved inwards.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) where no tile fits, or the stride is 0 or leaves gaps (the
    /// reference returns NaN there).
    pub fn windows(&self, (height, width): (usize, usize)) -> Result<Vec<Window>> {
        let Tiles { size, stride } = *self;
        if stride == 0 || stride > size || !self.fit((height, width)) {
            return Err(Error::option(format!(
                "tiles of {size} with a stride of {stride} do not cover {width}x{height}: the stride has to be 1 to {size}, and the \
                 tile no larger than the picture"
            )));
        }
        let starts = |length: usize| -> Vec<usize> {
            let mut starts: Vec<usize> = (0..=length - size).step_by(stride).collect();
            if !(length - size).is_multiple_of(stride) {
                starts.push(length - size);
            }
            starts
        };
        let columns = starts(width);
        let window = |y, x| Window {
            y,
            x,
            height: size,
            width: size,
        };
        let rows = starts(height).into_iter();
        Ok(rows
            .flat_map(|y| columns.iter().map(move |&x| window(y, x)))
            .collect())
    }

    /// Runs `f` on every window of `x` `[N, C, H, W]` and blends what it returns, `scale` times as large and of any
    /// number of channels; `on_tile` is told of each first.
    ///
    /// # Errors
    /// As [`windows`](Self::windows), and what `on_tile` and `f` report.
    pub fn blend(
        &self,
        x: &Array4<f32>,
        scale: usize,
        on_tile: &OnTile<'_>,
        mut f: impl FnMut(Array4<f32>, Window) -> Result<Array4<f32>>,
    ) -> Result<Array4<f32>> {
        let (_, _, h, w) = x.dim();
        let edge = self.size * scale;
        let weights = gaussian_weights(edge, edge).mapv(|weight| weight as f32);
        let mut sum: Option<Array4<f32>> = None;
        let mut total = Array2::<f32>::zeros((h * scale, w * scale));
        let windows = self.windows((h, w))?;
        let count = windows.len();
        for (k, window) in windows.into_iter().enumerate() {
            on_tile(k, count)?;
            let tile = f(window.of(x), window)?;
            let (n, c, height, width) = tile.dim();
            if (height, width) != (edge, edge) {
                return Err(Error::internal("a tile came back in another size"));
            }
            let sum = sum.get_or_insert_with(|| Array4::zeros((n, c, h * scale, w * scale)));
            let (y, x) = (window.y * scale, window.x * scale);
            let mut place = sum.slice_mut(s![.., .., y..y + edge, x..x + edge]);
            place += &(tile * &weights);
            let mut place = total.slice_mut(s![y..y + edge, x..x + edge]);
            place += &weights;
        }
        let sum = sum.ok_or_else(|| Error::internal("no tile covers the picture"))?;
        Ok(sum / total)
    }
}

/// The weight of each cell of a tile, `[height, width]`. The vertical centre lies half a cell below the middle, as in
/// the reference.
pub fn gaussian_weights(width: usize, height: usize) -> Array2<f64> {
    let line = |length: usize, centre: f64| -> Vec<f64> {
        let variance = 0.01;
        let square = (length * length) as f64;
        (0..length)
            .map(|i| {
                let distance = i as f64 - centre;
                (-distance * distance / square / (2.0 * variance)).exp()
                    / (2.0 * std::f64::consts::PI * variance).sqrt()
            })
            .collect()
    };
    let columns = line(width, (width as f64 - 1.0) / 2.0);
    let rows = line(height, height as f64 / 2.0);
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
            assert!(tiles.windows(size).is_err());
        }
        assert_eq!(tiles(8, 4).windows((8, 13)).unwrap().len(), 3);
    }
}
