//! What one evaluation of the denoiser leaves for the next ones: deep features (DeepCache, Ma et al., arXiv 2312.00858), or
//! what its control module says.

use ndarray::s;

use super::of_tile;
use crate::denoise::Branch;
use crate::error::{Error, Result};
use crate::nets::{Deep, Form, Halves};
use crate::tensor::{Latent, stack_batch};
use crate::tiling::Window;

/// What evaluations take over from earlier ones: an evaluation at timestep `t` from one that is at most `share * (t + 30)`
/// timesteps away. The later the step, the faster all this changes, and the less is left of the run to mend what is wrong: one
/// age for all timesteps loses about twice as much in the same time (`docs/speed.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Reuse {
    /// Nothing: exact.
    #[default]
    Nothing,
    /// The [`Deep`] hidden state: they compute the last layers alone.
    Deep(f32),
    /// The control module's residuals: they compute the UNet alone, see [`Halves`].
    Control(f32),
}

/// Added to a timestep, so that something may be taken over near 0 too. Small enough that the last of 50 even steps, which
/// the picture is made of, is whole in every preset.
const BEYOND_THE_LAST: f32 = 30.0;

/// How evaluations run, and on which networks besides the whole.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Whole,
    Deep(Deep),
    Halves(Halves),
}

impl Reuse {
    pub(super) fn way(self, form: &Form) -> Result<Way> {
        let (key, found) = match self {
            Reuse::Nothing => return Ok(Way::Whole),
            Reuse::Deep(_) => ("deep", form.deep.clone().map(Way::Deep)),
            Reuse::Control(_) => ("control", form.halves.clone().map(Way::Halves)),
        };
        found.ok_or_else(|| {
            Error::option(format!(
                "sampling.{key}_reuse: this bundle's denoiser has no such variants for what it runs on, or runs in parts: \
                 `python -m diffbir_export.variants BUNDLE` adds them for the CPU"
            ))
        })
    }

    /// The networks that evaluations of `graph` run on.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) where `form` does not offer what is to be reused.
    pub fn networks(self, graph: &str, form: &Form) -> Result<Vec<String>> {
        Ok(match self.way(form)? {
            Way::Whole => vec![graph.to_owned()],
            Way::Deep(deep) => vec![graph.to_owned(), deep.shallow],
            Way::Halves(halves) => vec![halves.control, halves.unet],
        })
    }

    /// How many values are kept between evaluations for each row and latent cell.
    pub fn left(self, form: &Form) -> usize {
        match self {
            Reuse::Nothing => 0,
            Reuse::Deep(_) => form.deep.as_ref().map_or(0, |deep| deep.left),
            Reuse::Control(_) => form.halves.as_ref().map_or(0, |halves| halves.left),
        }
    }

    /// How far away what is taken over at `timestep` may be.
    fn reach(self, timestep: f32) -> f32 {
        match self {
            Reuse::Nothing => 0.0,
            Reuse::Deep(share) | Reuse::Control(share) => share * (timestep + BEYOND_THE_LAST),
        }
    }
}

/// What the last whole evaluation has left, tile by tile.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Its timestep.
    at: Option<f32>,
    branches: Vec<Branch>,
    /// A tile's window (none where the denoiser sees the whole) and its values `[branches * N, C, h, w]`.
    tiles: Vec<(Option<Window>, Vec<Latent>)>,
}

impl Kept {
    /// Decides whether an evaluation of `branches` at `timestep` is of the whole, and then forgets what there is.
    pub(super) fn begin(&mut self, timestep: f32, branches: &[Branch], reuse: Reuse) -> bool {
        let is_near = self
            .at
            .is_some_and(|at| (timestep - at).abs() <= reuse.reach(timestep));
        if is_near && !self.tiles.is_empty() && self.branches.starts_with(branches) {
            return false;
        }
        self.at = Some(timestep);
        self.branches = branches.to_vec();
        self.tiles.clear();
        true
    }

    /// Keeps the values of `windows`, `[branches * windows * n, C, h, w]` each.
    pub(super) fn put(&mut self, values: Vec<Latent>, windows: &[Window], n: usize) -> Result<()> {
        for (k, window) in windows.iter().enumerate() {
            let tile = |value| of_tile(value, k, windows.len(), n);
            let tiles = values.iter().map(tile).collect::<Result<_>>()?;
            self.tiles.push((Some(*window), tiles));
        }
        if windows.is_empty() {
            self.tiles.push((None, values));
        }
        Ok(())
    }

    /// The values of `windows` for the first `branches` branches, as they were put.
    pub(super) fn of(&self, windows: &[Window], n: usize, branches: usize) -> Result<Vec<Latent>> {
        let gone = || Error::internal("what a tile's evaluation left is gone");
        let find = |window: Option<Window>| {
            let found = self.tiles.iter().find(|(there, _)| *there == window);
            found.map(|(_, values)| values).ok_or_else(gone)
        };
        let tiles: Vec<&Vec<Latent>> = match windows {
            [] => vec![find(None)?],
            windows => windows
                .iter()
                .map(|w| find(Some(*w)))
                .collect::<Result<_>>()?,
        };
        let count = tiles.first().map_or(0, |values| values.len());
        let value = |v: usize| {
            let rows = (0..branches).flat_map(|k| tiles.iter().map(move |tile| (k, &tile[v])));
            let views = rows.map(|(k, x)| x.slice(s![k * n..(k + 1) * n, .., .., ..]));
            stack_batch(&views.collect::<Vec<_>>())
        };
        (0..count).map(value).collect()
    }
}
