//! Tiles: overlapping windows of an array, each worked on alone, whose results are blended.
//!
//! A [`Layout`] says where windows lie and what they weigh: [`Tiles`] is the reference's, [`EvenTiles`] this engine's.
//! A [`Grid`] is a layout on an array of one size.

mod even;
mod reference;

use ndarray::{Array2, Array4, Axis, s};
use serde::Serialize;

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

/// Told that a tile begins: its number from 0, and how many there are. An error stops the work there.
pub type OnTile<'a> = dyn Fn(usize, usize) -> Result<()> + 'a;

impl Window {
    /// The part of `x` in the window.
    pub fn of(&self, x: &Array4<f32>) -> Array4<f32> {
        let (rows, columns) = (self.y..self.y + self.height, self.x..self.x + self.width);
        x.slice(s![.., .., rows, columns]).to_owned()
    }
}

/// How windows are laid over an array and weighted; sizes in the array's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Layout {
    /// The reference's.
    Reference(Tiles),
    /// Evenly spread, under smooth weights.
    Even(EvenTiles),
}

impl Layout {
    /// Height and width of a tile of an array of this size.
    pub fn tile(&self, (height, width): (usize, usize)) -> (usize, usize) {
        match self {
            Layout::Reference(tiles) => (tiles.size, tiles.size),
            Layout::Even(tiles) => (tiles.size.min(height), tiles.size.min(width)),
        }
    }

    /// The windows over an array of this size (height, width).
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) where the layout does not cover such an array.
    pub fn grid(&self, size: (usize, usize)) -> Result<Grid> {
        match self {
            Layout::Reference(tiles) => tiles.grid(size, 1),
            Layout::Even(tiles) => tiles.grid(size),
        }
    }
}

/// The part of an axis that a row or column of windows takes, and the weight of each cell of the result there.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    start: usize,
    length: usize,
    weights: Vec<f64>,
}

/// Windows of equal size that cover an array, row by row, and their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    rows: Vec<Span>,
    columns: Vec<Span>,
    /// How many times as large as the array the result is.
    scale: usize,
}

impl Grid {
    /// The windows, row by row.
    pub fn windows(&self) -> Vec<Window> {
        let spans = self.spans();
        spans
            .map(|(row, column)| Window {
                y: row.start,
                x: column.start,
                height: row.length,
                width: column.length,
            })
            .collect()
    }

    fn spans(&self) -> impl Iterator<Item = (&Span, &Span)> {
        let rows = self.rows.iter();
        rows.flat_map(|row| self.columns.iter().map(move |column| (row, column)))
    }

    /// Runs `f` on every window of `x` `[N, C, H, W]`, up to `batch` (at least 1) at once, and blends what it returns;
    /// `on_tile` is told of each first.
    ///
    /// `f` is given the windows' parts of `x`, one after the other along the batch axis: `[windows * N, C, h, w]`. It
    /// returns an array for each window, of any batch and channels but all of the same shape, and as many times as
    /// large as the grid was made for. They are summed up in the windows' order, whatever the batch.
    ///
    /// # Errors
    /// What `on_tile` and `f` report; [`Internal`](crate::error::ErrorKind::Internal) where `f` returns anything else.
    pub fn blend(
        &self,
        x: &Array4<f32>,
        batch: usize,
        on_tile: &OnTile<'_>,
        mut f: impl FnMut(Array4<f32>, &[Window]) -> Result<Vec<Array4<f32>>>,
    ) -> Result<Array4<f32>> {
        let (_, _, h, w) = x.dim();
        let windows = self.windows();
        let mut sum = Sum::new(h * self.scale, w * self.scale);
        let mut spans = self.spans();
        for (k, chunk) in windows.chunks(batch.max(1)).enumerate() {
            for tile in 0..chunk.len() {
                on_tile(k * batch.max(1) + tile, windows.len())?;
            }
            let parts: Vec<_> = chunk.iter().map(|window| window.of(x)).collect();
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            let tiles = f(stack_batch(&views)?, chunk)?;
            if tiles.len() != chunk.len() {
                return Err(Error::internal("another number of tiles came back"));
            }
            for (tile, (row, column)) in tiles.into_iter().zip(spans.by_ref()) {
                sum.add(tile, (row, column), self.scale)?;
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

    fn add(
        &mut self,
        tile: Array4<f32>,
        (row, column): (&Span, &Span),
        scale: usize,
    ) -> Result<()> {
        let weights = Array2::from_shape_fn((row.weights.len(), column.weights.len()), |(y, x)| {
            (row.weights[y] * column.weights[x]) as f32
        });
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
        let (y, x) = (row.start * scale, column.start * scale);
        let mut place = values.slice_mut(s![.., .., y..y + height, x..x + width]);
        place += &(tile * &weights);
        let mut place = self.weights.slice_mut(s![y..y + height, x..x + width]);
        place += &weights;
        Ok(())
    }

    fn mean(self) -> Result<Array4<f32>> {
        let values = self
            .values
            .ok_or_else(|| Error::internal("no tile covers the picture"))?;
        Ok(values / self.weights)
    }
}
