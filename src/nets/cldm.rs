//! Control module and UNet as the noise model that a sampler asks.

mod reuse;

use std::cell::RefCell;

use ndarray::{Array1, Array2, Array3, ArrayView4, Axis, Ix3, s};

use crate::denoise::{Branch, NoiseModel};
use crate::error::{Error, ErrorKind, Result};
use crate::nets::contract::CONTROLS;
use crate::nets::{Deep, Form, Input, Shared, expect_shape, run_image, run_images};
use crate::tensor::{Latent, size, stack_batch};
use crate::tiling::{Layout, OnTile, Window};

use reuse::Kept;

/// A text context: `[77, C]`.
pub type Context = Array2<f32>;

/// What the denoiser is told besides `x_t` and the timestep.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The latent of the stage-1 picture: `[N, 4, h, w]`, or `[1, 4, h, w]` for the whole batch.
    pub c_img: Latent,
    /// The positive prompt's context, `[77, C]`.
    pub c_txt: Context,
    /// The negative prompt's context, `[77, C]`.
    pub uncond_txt: Context,
    /// The weight of each of the control module's residuals.
    pub strength: [f32; CONTROLS],
}

/// How the denoiser runs in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentTiles {
    /// Where they lie, in latent cells.
    pub layout: Layout,
    /// How many run at once, at least 1: the result is the same but for rounding.
    pub batch: usize,
}

/// How the denoiser is evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The tiles, if any.
    pub tiles: Option<LatentTiles>,
    /// An evaluation computes the last layers alone where a whole one has left its [`Deep`] hidden state at a timestep that is
    /// at most so far away. 0 is exact.
    pub deep_reuse: f32,
}

/// The fused denoiser graph under a fixed [`Condition`], on the whole latent or in tiles.
pub struct Denoiser<'a, 'n> {
    networks: &'a Shared<'n>,
    graph: &'a str,
    form: Form,
    condition: Condition,
    strength: Array1<f32>,
    how: Evaluation,
    on_tile: &'a OnTile<'a>,
    /// The timestep of the last whole evaluation, and whether the present one is whole.
    whole_at: f32,
    is_whole: bool,
    kept: RefCell<Kept>,
}

impl<'a, 'n> Denoiser<'a, 'n> {
    /// A noise model that runs `graph` (kind `denoiser`) under `condition`; `on_tile` is told of each tile.
    ///
    /// # Errors
    /// [`Option`](ErrorKind::Option) where the network's [`Form`] does not offer what `how` asks for.
    pub fn new(
        networks: &'a Shared<'n>,
        graph: &'a str,
        condition: Condition,
        how: Evaluation,
        on_tile: &'a OnTile<'a>,
    ) -> Result<Self> {
        let form = networks.form(graph)?;
        check_reuse(&form, how.deep_reuse)?;
        let strength = Array1::from(condition.strength.to_vec());
        Ok(Denoiser {
            networks,
            graph,
            form,
            condition,
            strength,
            how,
            on_tile,
            whole_at: f32::NAN,
            is_whole: true,
            kept: RefCell::default(),
        })
    }

    /// The contexts of `branches`, each repeated for a batch of `n`: `[branches * n, 77, C]`.
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
            .map_err(|e| Error::bundle("the prompts' contexts differ in shape").with_source(e))?;
        contexts
            .into_dimensionality::<Ix3>()
            .map_err(|e| Error::internal("contexts have another rank than 3").with_source(e))
    }

    /// All branches in one batch, branch by branch: `[branches * N, 4, h, w]`, on `windows`, or on the whole where there are
    /// none. `hint` is the condition for `x_t`; `n` rows of it belong to one window.
    fn run(
        &self,
        x_t: ArrayView4<'_, f32>,
        (windows, n): (&[Window], usize),
        hint: &Latent,
        timestep: f32,
        branches: &[Branch],
    ) -> Result<Latent> {
        let rows = x_t.dim().0;
        let copies = if self.form.shares_prefix {
            1
        } else {
            branches.len()
        };
        let x = stack_batch(&vec![x_t; copies])?;
        let hint = stack_batch(&vec![hint.view(); copies * rows / hint.dim().0])?;
        let timesteps = Array1::from_elem(rows * copies, timestep);
        let context = self.contexts(branches, rows)?;
        let mut inputs: Vec<(&str, Input<'_>)> = vec![
            ("x", (&x).into()),
            ("timestep", (&timesteps).into()),
            ("context", (&context).into()),
            ("hint", (&hint).into()),
            ("strength", (&self.strength).into()),
        ];
        let output = match self.reused() {
            None => self
                .networks
                .with(self.graph, |net| run_image(net, &inputs, OUTPUT))?,
            Some((deep, true)) => {
                let names = [OUTPUT, &deep.value];
                let [output, state] = self
                    .networks
                    .with(self.graph, |net| run_images(net, &inputs, names))?;
                self.kept.borrow_mut().put(state, windows, n)?;
                output
            }
            Some((deep, false)) => {
                let state = self.kept.borrow().of(windows, n, branches.len());
                let state = state.ok_or_else(|| Error::internal("a tile's deep state is gone"))?;
                inputs.push((&deep.value, (&state).into()));
                self.networks
                    .with(&deep.shallow, |net| run_image(net, &inputs, OUTPUT))?
            }
        };
        let (_, channels, height, width) = x.dim();
        let expected = (branches.len() * rows, channels, height, width);
        expect_shape("the denoiser", &output, expected)?;
        Ok(output)
    }

    /// The hidden state that passes between evaluations, if any does, and whether this evaluation is of the whole.
    fn reused(&self) -> Option<(&Deep, bool)> {
        let deep = self.form.deep.as_ref()?;
        (self.how.deep_reuse > 0.0).then_some((deep, self.is_whole))
    }

    /// Decides whether the evaluation of `branches` at `timestep` is of the whole, or of the last layers alone.
    fn begin(&mut self, timestep: f32, branches: &[Branch]) {
        let kept = self.kept.get_mut();
        let is_near = (timestep - self.whole_at).abs() <= self.how.deep_reuse;
        self.is_whole = !(is_near && kept.serves(branches));
        if self.is_whole {
            self.whole_at = timestep;
            kept.begin(branches);
        }
    }
}

/// What the graph's output is called.
const OUTPUT: &str = "output";

/// Refuses to reuse what a network does not leave.
///
/// # Errors
/// [`Option`](ErrorKind::Option).
pub fn check_reuse(form: &Form, deep_reuse: f32) -> Result<()> {
    if deep_reuse == 0.0 || form.deep.is_some() {
        return Ok(());
    }
    Err(Error::option(format!(
        "sampling.deep_reuse is {deep_reuse}, but this bundle's denoiser has no shallow variant for what it runs on, or runs in \
         parts: `python -m diffbir_export.variants BUNDLE` adds one for the CPU"
    )))
}

impl Denoiser<'_, '_> {
    /// All branches in tiles, branch by branch.
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

    /// `windows` at once; where that runs out of memory, in two halves one after the other.
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
        self.begin(timestep, branches);
        let whole = (&[] as &[Window], x_t.dim().0);
        let output = match self.how.tiles {
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
