//! ControlNet and UNet as the noise model of a sampler.

mod cache;

use std::cell::RefCell;

use ndarray::{Array1, Array2, Array3, ArrayView4, Axis, Ix3, s};

use crate::denoise::{Branch, NoiseModel};
use crate::error::{Error, ErrorKind, Result};
use crate::nets::contract::{CONTROLS, controls};
use crate::nets::{
    FeatureCache, GraphInfo, Input, Network, Shared, SplitDenoiser, expect_shape, run_image,
    run_images,
};
use crate::tensor::{Latent, size, stack_batch};
use crate::tiling::{Layout, OnTile, Window};

pub use cache::CachePolicy;
use cache::{Cache, Execution};

/// A prompt embedding: `[77, C]`.
pub type Context = Array2<f32>;

/// The denoiser's inputs apart from `x_t` and the timestep.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The latent of the stage-1 picture: `[N, 4, h, w]`, or `[1, 4, h, w]` for the whole batch.
    pub c_img: Latent,
    /// Embedding of the positive prompt, `[77, C]`.
    pub c_txt: Context,
    /// Embedding of the negative prompt, `[77, C]`.
    pub uncond_txt: Context,
    /// The scale of each of the ControlNet's residuals.
    pub strength: [f32; CONTROLS],
}

/// How the denoiser runs in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentTiles {
    /// Position of the tiles, in latent pixels.
    pub layout: Layout,
    /// Number of tiles per denoiser call, at least 1; it changes the result by rounding alone.
    pub batch: usize,
}

/// How the denoiser is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallOptions {
    /// The tiles; `None`: the denoiser runs on the whole latent.
    pub tiles: Option<LatentTiles>,
    /// Feature caching.
    pub cache: CachePolicy,
}

/// The fused denoiser graph under a fixed [`Condition`], on the whole latent or in tiles.
pub struct Denoiser<'a, 'n> {
    networks: &'a Shared<'n>,
    graph: &'a str,
    info: GraphInfo,
    execution: Execution,
    condition: Condition,
    strength: Array1<f32>,
    options: CallOptions,
    on_tile: &'a OnTile<'a>,
    /// Whether the current call runs in full and reuses nothing.
    is_full: bool,
    cache: RefCell<Cache>,
}

impl<'a, 'n> Denoiser<'a, 'n> {
    /// A noise model that runs `graph` (kind `denoiser`) under `condition`. `on_tile` is called before each tile.
    ///
    /// # Errors
    /// [`Option`](ErrorKind::Option) if the graph's variants do not support `options`.
    pub fn new(
        networks: &'a Shared<'n>,
        graph: &'a str,
        condition: Condition,
        options: CallOptions,
        on_tile: &'a OnTile<'a>,
    ) -> Result<Self> {
        let info = networks.lock()?.info().graph(graph);
        let execution = options.cache.execution(&info)?;
        let strength = Array1::from(condition.strength.to_vec());
        Ok(Denoiser {
            networks,
            graph,
            info,
            execution,
            condition,
            strength,
            options,
            on_tile,
            is_full: true,
            cache: RefCell::default(),
        })
    }

    /// The prompt embeddings of `branches`, each repeated for a batch of `n`: `[branches * n, 77, C]`.
    fn contexts(&self, branches: &[Branch], n: usize) -> Result<Array3<f32>> {
        let rows: Vec<_> = branches
            .iter()
            .flat_map(|branch| {
                let context = match branch {
                    Branch::Cond => &self.condition.c_txt,
                    Branch::Uncond => &self.condition.uncond_txt,
                };
                std::iter::repeat_n(context.view().insert_axis(Axis(0)), n)
            })
            .collect();
        let contexts = ndarray::concatenate(Axis(0), &rows)
            .map_err(|e| Error::bundle("the prompt embeddings differ in shape").with_source(e))?;
        contexts.into_dimensionality::<Ix3>().map_err(|e| {
            Error::internal("prompt embeddings have another rank than 3").with_source(e)
        })
    }

    /// Runs all branches in one batch, branch by branch: `[branches * N, 4, h, w]`, on `windows`, or on the whole
    /// latent if there are none. `hint` is the condition for `x_t`, `n` rows for each window.
    fn run(
        &self,
        x_t: ArrayView4<'_, f32>,
        (windows, n): (&[Window], usize),
        hint: &Latent,
        timestep: f32,
        branches: &[Branch],
    ) -> Result<Latent> {
        let rows = x_t.dim().0;
        let copies = if self.info.shares_prefix {
            1
        } else {
            branches.len()
        };
        let x = stack_batch(&vec![x_t; copies])?;
        let hint = stack_batch(&vec![hint.view(); copies * rows / hint.dim().0])?;
        let timesteps = Array1::from_elem(rows * copies, timestep);
        let context = self.contexts(branches, rows)?;
        let inputs: Inputs<'_> = vec![
            ("x", (&x).into()),
            ("timestep", (&timesteps).into()),
            ("context", (&context).into()),
            ("hint", (&hint).into()),
            ("strength", (&self.strength).into()),
        ];
        let place = (windows, n, branches.len());
        let output = match &self.execution {
            Execution::Whole => self
                .networks
                .with(self.graph, |net| run_image(net, &inputs, OUTPUT))?,
            Execution::Features(cache) => self.run_on_features(cache, &inputs, place)?,
            Execution::Residuals(split) => self.run_on_residuals(split, &inputs, place)?,
        };
        let (_, channels, height, width) = x.dim();
        let expected = (branches.len() * rows, channels, height, width);
        expect_shape("the denoiser", &output, expected)?;
        Ok(output)
    }

    /// A full call, which caches the features, or a call of the last layers on the cached ones.
    fn run_on_features(
        &self,
        cache: &FeatureCache,
        inputs: &Inputs<'_>,
        (windows, n, branches): (&[Window], usize, usize),
    ) -> Result<Latent> {
        if self.is_full {
            let names = [OUTPUT, &cache.tensor];
            let run = |net: &mut dyn Network| run_images(net, inputs, names);
            let [output, features] = self.networks.with(self.graph, run)?;
            self.cache.borrow_mut().put(vec![features], windows, n)?;
            return Ok(output);
        }
        let features = self.cache.borrow().of(windows, n, branches)?;
        let inputs = with(inputs, &[], [cache.tensor.as_str()], &features);
        self.networks
            .with(&cache.shallow, |net| run_image(net, &inputs, OUTPUT))
    }

    /// A call of the UNet with the ControlNet's residuals: recomputed in a full call, else the cached ones.
    fn run_on_residuals(
        &self,
        split: &SplitDenoiser,
        inputs: &Inputs<'_>,
        (windows, n, branches): (&[Window], usize, usize),
    ) -> Result<Latent> {
        let names = controls();
        let names: [&str; CONTROLS] = std::array::from_fn(|k| names[k].as_str());
        if self.is_full {
            let run = |net: &mut dyn Network| run_images(net, inputs, names);
            let made = self.networks.with(&split.control, run)?;
            self.cache.borrow_mut().put(made.into(), windows, n)?;
        }
        let residuals = self.cache.borrow().of(windows, n, branches)?;
        let inputs = with(inputs, &["hint", "strength"], names, &residuals);
        self.networks
            .with(&split.unet, |net| run_image(net, &inputs, OUTPUT))
    }
}

/// `inputs` without those in `omitted`, plus `values` under `names`.
fn with<'a, const N: usize>(
    inputs: &'a Inputs<'_>,
    omitted: &[&str],
    names: [&'a str; N],
    values: &'a [Latent],
) -> Inputs<'a> {
    let rest = inputs.iter().filter(|(name, _)| !omitted.contains(name));
    let rest = rest.map(|(name, input)| (*name, input.view()));
    let more = names.into_iter().zip(values.iter().map(Input::from));
    rest.chain(more).collect()
}

const OUTPUT: &str = "output";

type Inputs<'a> = Vec<(&'a str, Input<'a>)>;

impl Denoiser<'_, '_> {
    /// Runs all branches in tiles, branch by branch.
    fn run_tiled(
        &self,
        tiles: LatentTiles,
        x_t: &Latent,
        timestep: f32,
        branches: &[Branch],
    ) -> Result<Latent> {
        let n = x_t.dim().0;
        let grid = tiles.layout.grid(size(x_t))?;
        grid.blend(x_t, tiles.batch, self.on_tile, |x, windows| {
            self.run_windows(x.view(), windows, n, timestep, branches)
        })
    }

    /// Runs `windows` in one call; if that runs out of memory, in two halves one after the other.
    fn run_windows(
        &self,
        x: ArrayView4<'_, f32>,
        windows: &[Window],
        n: usize,
        timestep: f32,
        branches: &[Branch],
    ) -> Result<Vec<Latent>> {
        let hints = self.hints(windows, n)?;
        match self.run(x, (windows, n), &hints, timestep, branches) {
            Ok(output) => {
                let tile = |k| of_tile(&output, k, windows.len(), n);
                (0..windows.len()).map(tile).collect()
            }
            Err(e) if e.kind() == ErrorKind::Resources && windows.len() > 1 => {
                let half = windows.len() / 2;
                let (left, right) = x.split_at(Axis(0), half * n);
                let mut made = self.run_windows(left, &windows[..half], n, timestep, branches)?;
                made.extend(self.run_windows(right, &windows[half..], n, timestep, branches)?);
                Ok(made)
            }
            Err(e) => Err(e),
        }
    }

    /// The condition in each of `windows`, for a batch of `n`: `[windows * n, 4, h, w]`.
    fn hints(&self, windows: &[Window], n: usize) -> Result<Latent> {
        let c_img = &self.condition.c_img;
        let hints: Vec<Latent> = windows.iter().map(|window| window.of(c_img)).collect();
        let copies = n / c_img.dim().0;
        let views = hints
            .iter()
            .flat_map(|hint| std::iter::repeat_n(hint.view(), copies));
        stack_batch(&views.collect::<Vec<_>>())
    }
}

/// Tile `k` of a batch `[branches * tiles * n, 4, h, w]`, branch by branch: `[branches * n, 4, h, w]`.
fn of_tile(output: &Latent, k: usize, tiles: usize, n: usize) -> Result<Latent> {
    let branches = output.dim().0 / (tiles * n);
    let of_branch = |branch: usize| {
        let first = (branch * tiles + k) * n;
        output.slice(s![first..first + n, .., .., ..])
    };
    stack_batch(&(0..branches).map(of_branch).collect::<Vec<_>>())
}

impl NoiseModel for Denoiser<'_, '_> {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let cache = self.cache.get_mut();
        self.is_full = cache.begin(timestep, branches, self.options.cache);
        let whole = (&[] as &[Window], x_t.dim().0);
        let output = match self.options.tiles {
            None => self.run(x_t.view(), whole, &self.condition.c_img, timestep, branches)?,
            Some(tiles) => self.run_tiled(tiles, x_t, timestep, branches)?,
        };
        if branches.len() == 1 {
            return Ok(vec![output]);
        }
        let n = x_t.dim().0;
        Ok((0..branches.len())
            .map(|k| output.slice(s![k * n..(k + 1) * n, .., .., ..]).to_owned())
            .collect())
    }
}
