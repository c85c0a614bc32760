//! Control module and UNet as the noise model that a sampler asks.

use ndarray::{Array1, Array2, Array3, Axis, Ix3, s};

use crate::denoise::{Branch, NoiseModel};
use crate::error::{Error, Result};
use crate::nets::contract::CONTROLS;
use crate::nets::{Network, expect_shape, run_image};
use crate::tensor::{Latent, stack_batch};

/// A text context: `[77, C]`.
pub type Context = Array2<f32>;

/// What the denoiser is told besides `x_t` and the timestep. The same for the whole batch.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The latent of the stage-1 picture, `[N, 4, h, w]`.
    pub c_img: Latent,
    /// The positive prompt's context, `[77, C]`.
    pub c_txt: Context,
    /// The negative prompt's context, `[77, C]`.
    pub uncond_txt: Context,
    /// The weight of each of the control module's residuals.
    pub strength: [f32; CONTROLS],
}

/// The fused denoiser graph under a fixed [`Condition`].
pub struct Denoiser<'a> {
    net: &'a mut dyn Network,
    condition: &'a Condition,
    strength: Array1<f32>,
}

impl<'a> Denoiser<'a> {
    /// A noise model that runs `net` (kind `denoiser`) under `condition`.
    pub fn new(net: &'a mut dyn Network, condition: &'a Condition) -> Self {
        let strength = Array1::from(condition.strength.to_vec());
        Denoiser {
            net,
            condition,
            strength,
        }
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
}

impl NoiseModel for Denoiser<'_> {
    /// Runs all branches in one batch, branch by branch.
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let n = x_t.dim().0;
        let x = stack_batch(&vec![x_t.view(); branches.len()])?;
        let hint = stack_batch(&vec![self.condition.c_img.view(); branches.len()])?;
        let timesteps = Array1::from_elem(n * branches.len(), timestep);
        let context = self.contexts(branches, n)?;
        let inputs = [
            ("x", (&x).into()),
            ("timestep", (&timesteps).into()),
            ("context", (&context).into()),
            ("hint", (&hint).into()),
            ("strength", (&self.strength).into()),
        ];
        let output = run_image(self.net, &inputs, "output")?;
        expect_shape("the denoiser", &output, x.dim())?;
        if branches.len() == 1 {
            return Ok(vec![output]);
        }
        Ok((0..branches.len())
            .map(|k| output.slice(s![k * n..(k + 1) * n, .., .., ..]).to_owned())
            .collect())
    }
}
