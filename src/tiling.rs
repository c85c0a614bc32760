//! Tiles: overlapping windows of an array that are processed one by one, with blended results.
//!
//! A [`Layout`] defines the positions and weights of windows: [`Tiles`] is the reference's, [`EvenTiles`] the engine's
//! own. A [`Grid`] is a layout on an array of one size.

mod even;
mod reference;

use ndarray::{Array2, Array4, Axis, s};
use serde::Serialize;

use crate::canvas::bands;
use crate::error::{Error, Result};
use crate::tensor::stack_batch;

pub use even::EvenTiles;
pub use reference::{Tiles, gaussian_weights};

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

/// Called before each tile, with its index from 0 and the number of tiles. An error stops the work.
pub type OnTile<'a> = dyn Fn(usize, usize) -> Result<()> + 'a;

impl Window {
    /// The part of `x` in the window.
    pub fn of(&self, x: &Array4<f32>) -> Array4<f32> {
        let (rows, columns) = (self.y..self.y + self.height, self.x..self.x + self.width);
        x.slice(s![.., .., rows, columns]).to_owned()
    }
}

/// Positions and weights of windows over an array; sizes in elements of the array (pixels or latent pixels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Layout {
    /// The reference's layout.
    Reference(Tiles),
    /// Evenly spaced, with smooth weights.
    Even(EvenTiles),
}

impl Layout {
    /// Height and width of a tile, for an array of this size.
    pub fn tile(&self, (height, width): (usize, usize)) -> (usize, usize) {
        match self {
            Layout::Reference(tiles) => (tiles.size, tiles.size),
            Layout::Even(tiles) => (tiles.size.min(height), tiles.size.min(width)),
        }
    }

    /// The windows over an array of this size (height, width).
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) if the layout does not cover such an array.
    pub fn grid(&self, size: (usize, usize)) -> Result<Grid> {
        match self {
            Layout::Reference(tiles) => tiles.grid(size, 1),
            Layout::Even(tiles) => tiles.grid(size),
        }
    }

    /// Number of windows along an axis of `length`.
    fn count(&self, length: usize) -> usize {
        match self {
            Layout::Reference(tiles) => tiles.count(length),
            Layout::Even(tiles) => tiles.count(length),
        }
    }

    /// Start of window `k` along an axis.
    fn start(&self, length: usize, k: usize) -> usize {
        match self {
            Layout::Reference(tiles) => tiles.start(length, k),
            Layout::Even(tiles) => tiles.start(length, k),
        }
    }
}

/// Windows of equal size that cover an array, row by row, and their weights. Windows are computed on demand, so the
/// memory of a grid does not depend on the array's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    layout: Layout,
    /// Height and width of the array.
    size: (usize, usize),
    /// Height and width of a window.
    tile: (usize, usize),
    /// Number of rows and of columns of windows.
    count: (usize, usize),
    /// Ratio of the result's size to the array's.
    scale: usize,
}

impl Grid {
    fn new(layout: Layout, (height, width): (usize, usize), scale: usize) -> Self {
        Grid {
            layout,
            size: (height, width),
            tile: layout.tile((height, width)),
            count: (layout.count(height), layout.count(width)),
            scale,
        }
    }

    /// Number of windows.
    pub fn count(&self) -> usize {
        self.count.0.saturating_mul(self.count.1)
    }

    /// Height and width of every window.
    pub fn tile(&self) -> (usize, usize) {
        self.tile
    }

    /// The windows, row by row.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        (0..self.count()).map(|k| self.window(k))
    }

    /// Window number `k`, below [`count`](Self::count).
    fn window(&self, k: usize) -> Window {
        Window {
            y: self.layout.start(self.size.0, k / self.count.1),
            x: self.layout.start(self.size.1, k % self.count.1),
            height: self.tile.0,
            width: self.tile.1,
        }
    }

    /// The blending weights of window `k`, `[scale * height, scale * width]`.
    fn weights(&self, k: usize) -> Array2<f32> {
        let (row, column) = (k / self.count.1, k % self.count.1);
        let (rows, columns) = match self.layout {
            Layout::Reference(tiles) => tiles.weights(self.scale),
            Layout::Even(tiles) => (
                tiles.weights(self.size.0, row),
                tiles.weights(self.size.1, column),
            ),
        };
        Array2::from_shape_fn((rows.len(), columns.len()), |(y, x)| {
            (rows[y] * columns[x]) as f32
        })
    }

    /// Runs `f` on every window of `x` `[N, C, H, W]`, up to `batch` (at least 1) at once, and blends the results;
    /// `on_tile` is called before each window.
    ///
    /// `f` receives the windows of `x` concatenated along the batch axis: `[windows * N, C, h, w]`. It returns an
    /// array for each window, all of the same shape, of any batch size and channels, and larger than the window by the
    /// grid's scale. Results are summed in the windows' order, for any `batch`.
    ///
    /// # Errors
    /// Errors of `on_tile` and `f`; [`Internal`](crate::error::ErrorKind::Internal) if `f` returns other shapes.
    pub fn blend(
        &self,
        x: &Array4<f32>,
        batch: usize,
        on_tile: &OnTile<'_>,
        mut f: impl FnMut(Array4<f32>, &[Window]) -> Result<Vec<Array4<f32>>>,
    ) -> Result<Array4<f32>> {
        let count = self.count();
        let mut sum = Sum::new(self.size.0 * self.scale, self.size.1 * self.scale);
        for numbers in bands(count, batch) {
            numbers.clone().try_for_each(|k| on_tile(k, count))?;
            let windows: Vec<Window> = numbers.clone().map(|k| self.window(k)).collect();
            let parts: Vec<_> = windows.iter().map(|window| window.of(x)).collect();
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            let tiles = f(stack_batch(&views)?, &windows)?;
            if tiles.len() != windows.len() {
                return Err(Error::internal("another number of tiles came back"));
            }
            for ((tile, window), k) in tiles.into_iter().zip(&windows).zip(numbers) {
                let corner = (window.y * self.scale, window.x * self.scale);
                sum.add(tile, corner, &self.weights(k))?;
            }
        }
        sum.mean()
    }
}

/// A weighted mean under construction.
struct Sum {
    values: Option<Array4<f32>>,
    weights: Array2<f32>,
}

impl Sum {
    fn new(height: usize, width: usize) -> Self {
        Sum {
            values: None,
            weights: Array2::zeros((height, width)),
        }
    }

    /// Adds `tile` with its top left corner at (y, x).
    fn add(
        &mut self,
        tile: Array4<f32>,
        (y, x): (usize, usize),
        weights: &Array2<f32>,
    ) -> Result<()> {
        let (n, c, height, width) = tile.dim();
        if (height, width) != weights.dim() {
            return Err(Error::internal("a tile came back in another size"));
        }
        let (h, w) = self.weights.dim();
        let values = self
            .values
            .get_or_insert_with(|| Array4::zeros((n, c, h, w)));
        if (values.len_of(Axis(0)), values.len_of(Axis(1))) != (n, c) {
            return Err(Error::internal("tiles differ in shape"));
        }
        let mut place = values.slice_mut(s![.., .., y..y + height, x..x + width]);
        place += &(tile * weights);
        let mut place = self.weights.slice_mut(s![y..y + height, x..x + width]);
        place += weights;
        Ok(())
    }

    fn mean(self) -> Result<Array4<f32>> {
        let values = self
            .values
            .ok_or_else(|| Error::internal("no tile covers the picture"))?;
        Ok(values / self.weights)
    }
}
