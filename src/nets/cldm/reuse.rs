//! Deep features that one evaluation of the denoiser leaves for the next (DeepCache, Ma et al., arXiv 2312.00858).

use ndarray::s;

use super::of_tile;
use crate::denoise::Branch;
use crate::error::Result;
use crate::tensor::{Latent, stack_batch};
use crate::tiling::Window;

/// What the last whole evaluation has left, tile by tile.
#[derive(Debug, Default)]
pub(super) struct Kept {
    branches: Vec<Branch>,
    /// A tile's window (none where the denoiser sees the whole) and its hidden state `[branches * N, C, h, w]`.
    tiles: Vec<(Option<Window>, Latent)>,
}

impl Kept {
    /// Forgets all, for an evaluation of `branches`.
    pub(super) fn begin(&mut self, branches: &[Branch]) {
        self.branches = branches.to_vec();
        self.tiles.clear();
    }

    /// Whether `branches` can be taken from what there is.
    pub(super) fn serves(&self, branches: &[Branch]) -> bool {
        !self.tiles.is_empty() && self.branches.starts_with(branches)
    }

    /// Keeps the hidden states of `windows`, `[branches * windows * n, C, h, w]`.
    pub(super) fn put(&mut self, deep: Latent, windows: &[Window], n: usize) -> Result<()> {
        for (k, window) in windows.iter().enumerate() {
            let tile = of_tile(&deep, k, windows.len(), n)?;
            self.tiles.push((Some(*window), tile));
        }
        if windows.is_empty() {
            self.tiles.push((None, deep));
        }
        Ok(())
    }

    /// The hidden states of `windows` for the first `branches` branches, as they were put.
    pub(super) fn of(&self, windows: &[Window], n: usize, branches: usize) -> Option<Latent> {
        let find = |window: Option<Window>| {
            let found = self.tiles.iter().find(|(there, _)| *there == window);
            found.map(|(_, deep)| deep)
        };
        let tiles: Vec<&Latent> = match windows {
            [] => vec![find(None)?],
            windows => windows
                .iter()
                .map(|w| find(Some(*w)))
                .collect::<Option<_>>()?,
        };
        let branch = |k: usize| {
            let rows = k * n..(k + 1) * n;
            tiles
                .iter()
                .map(move |tile| tile.slice(s![rows.clone(), .., .., ..]))
        };
        stack_batch(&(0..branches).flat_map(branch).collect::<Vec<_>>()).ok()
    }
}
