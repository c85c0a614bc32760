//! What a denoiser call keeps for the next ones: its features (DeepCache, Ma et al., arXiv 2312.00858), or the residuals of
//! its ControlNet.

use ndarray::s;

use super::of_tile;
use crate::denoise::Branch;
use crate::error::{Error, Result};
use crate::nets::{FeatureCache, GraphInfo, SplitDenoiser};
use crate::tensor::{Latent, stack_batch};
use crate::tiling::Window;

/// What denoiser calls reuse: a call at timestep `t` may take it from a call that is at most `share * (t + 30)` timesteps
/// away. The later the step, the faster all this changes, and the fewer steps are left to correct an error: one age for all
/// timesteps loses about twice as much in the same time (`docs/speed.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum CachePolicy {
    /// Nothing: exact.
    #[default]
    Off,
    /// Features, by this share: calls run the last layers alone, see [`FeatureCache`].
    Features(f32),
    /// The ControlNet's residuals, by this share: calls run the UNet alone, see [`SplitDenoiser`].
    Residuals(f32),
}

/// Added to a timestep, so that something may be reused near 0 too. Small enough that the last of 50 even steps, which
/// the picture is made of, is a full call in every preset.
const BEYOND_THE_LAST: f32 = 30.0;

/// Which networks denoiser calls run on.
#[derive(Debug, Clone)]
pub(super) enum Execution {
    Whole,
    Features(FeatureCache),
    Residuals(SplitDenoiser),
}

impl CachePolicy {
    pub(super) fn execution(self, info: &GraphInfo) -> Result<Execution> {
        let (key, found) = match self {
            CachePolicy::Off => return Ok(Execution::Whole),
            CachePolicy::Features(_) => ("deep", info.features.clone().map(Execution::Features)),
            CachePolicy::Residuals(_) => ("control", info.split.clone().map(Execution::Residuals)),
        };
        found.ok_or_else(|| {
            Error::option(format!(
                "sampling.{key}_reuse: this bundle's denoiser has no such variants for what it runs on, or runs in parts: \
                 `python -m diffbir_export.variants BUNDLE` adds them for the CPU"
            ))
        })
    }

    /// The networks that calls of the denoiser `graph` run on.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) where the graph's variants do not offer what is to be reused.
    pub fn networks(self, graph: &str, info: &GraphInfo) -> Result<Vec<String>> {
        Ok(match self.execution(info)? {
            Execution::Whole => vec![graph.to_owned()],
            Execution::Features(cache) => vec![graph.to_owned(), cache.shallow],
            Execution::Residuals(split) => vec![split.control, split.unet],
        })
    }

    /// How many values are cached between calls for each row and latent pixel.
    pub fn values_per_pixel(self, info: &GraphInfo) -> usize {
        match self {
            CachePolicy::Off => 0,
            CachePolicy::Features(_) => info.features.as_ref().map_or(0, |c| c.values_per_pixel),
            CachePolicy::Residuals(_) => info.split.as_ref().map_or(0, |s| s.values_per_pixel),
        }
    }

    /// How many timesteps away a call may be whose values one at `timestep` reuses.
    fn reach(self, timestep: f32) -> f32 {
        match self {
            CachePolicy::Off => 0.0,
            CachePolicy::Features(share) | CachePolicy::Residuals(share) => {
                share * (timestep + BEYOND_THE_LAST)
            }
        }
    }
}

/// The values of the last full denoiser call, tile by tile.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Its timestep.
    timestep: Option<f32>,
    branches: Vec<Branch>,
    /// A tile's window (none where the denoiser sees the whole) and its values `[branches * N, C, h, w]`.
    tiles: Vec<(Option<Window>, Vec<Latent>)>,
}

impl Cache {
    /// Decides whether a call of `branches` at `timestep` has to run in full, and then drops the values.
    pub(super) fn begin(
        &mut self,
        timestep: f32,
        branches: &[Branch],
        policy: CachePolicy,
    ) -> bool {
        let reach = policy.reach(timestep);
        let is_near = self
            .timestep
            .is_some_and(|cached| (timestep - cached).abs() <= reach);
        if is_near && !self.tiles.is_empty() && self.branches.starts_with(branches) {
            return false;
        }
        self.timestep = Some(timestep);
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
        let gone = || Error::internal("a tile has no cached values");
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
