//! Reuse between denoiser calls: of UNet features (DeepCache, Ma et al., arXiv 2312.00858), or of ControlNet
//! residuals.

use ndarray::s;

use super::of_tile;
use crate::denoise::Branch;
use crate::error::{Error, Result};
use crate::nets::{FeatureCache, GraphInfo, SplitDenoiser};
use crate::tensor::{Latent, stack_batch};
use crate::tiling::Window;

/// Feature-cache policy: a call at timestep `t` may reuse values computed at most `share * (t + 30)` timesteps away.
/// The limit shrinks with `t` because towards the last steps the values change faster and fewer steps are left to
/// correct an error; a constant limit loses about twice as much quality for the same speed (`docs/speed.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum CachePolicy {
    /// No reuse: exact.
    #[default]
    Off,
    /// Reuse of UNet features with this share; calls run the last layers alone, see [`FeatureCache`].
    Features(f32),
    /// Reuse of ControlNet residuals with this share; calls run the UNet alone, see [`SplitDenoiser`].
    Residuals(f32),
}

/// Added to a timestep, so that values may be reused near 0 too. Small enough that the last of 50 even steps, which
/// determines the picture, is a full call in every preset.
const BEYOND_THE_LAST: f32 = 30.0;

/// The networks of a denoiser call.
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

    /// The networks for calls of the denoiser `graph`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option) if the graph's variants do not support this policy.
    pub fn networks(self, graph: &str, info: &GraphInfo) -> Result<Vec<String>> {
        Ok(match self.execution(info)? {
            Execution::Whole => vec![graph.to_owned()],
            Execution::Features(cache) => vec![graph.to_owned(), cache.shallow],
            Execution::Residuals(split) => vec![split.control, split.unet],
        })
    }

    /// Number of cached values for each batch row and latent pixel.
    pub fn values_per_pixel(self, info: &GraphInfo) -> usize {
        match self {
            CachePolicy::Off => 0,
            CachePolicy::Features(_) => info.features.as_ref().map_or(0, |c| c.values_per_pixel),
            CachePolicy::Residuals(_) => info.split.as_ref().map_or(0, |s| s.values_per_pixel),
        }
    }

    /// The largest distance in timesteps between a call at `timestep` and the call whose values it reuses.
    fn reach(self, timestep: f32) -> f32 {
        match self {
            CachePolicy::Off => 0.0,
            CachePolicy::Features(share) | CachePolicy::Residuals(share) => {
                share * (timestep + BEYOND_THE_LAST)
            }
        }
    }
}

/// The cached values of the last full denoiser call, tile by tile.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Its timestep.
    timestep: Option<f32>,
    branches: Vec<Branch>,
    /// A tile's window (`None`: the whole latent) and its values `[branches * N, C, h, w]`.
    tiles: Vec<(Option<Window>, Vec<Latent>)>,
}

impl Cache {
    /// Decides whether a call of `branches` at `timestep` has to run in full; if so, clears the cache.
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

    /// Caches the values of `windows`, `[branches * windows * n, C, h, w]` each.
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

    /// The cached values of `windows` for the first `branches` branches, in the layout of [`put`](Self::put).
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
