//! The denoiser as seen by a sampler, classifier-free guidance, and `pred_x0`.

use crate::error::{Error, Result};
use crate::rng::NoiseSource;
use crate::tensor::Latent;

/// A branch of classifier-free guidance, with its own prompt embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// The positive prompt.
    Cond,
    /// The negative prompt.
    Uncond,
}

/// Prediction type: the meaning of the network's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parameterization {
    /// The noise in `x_t`.
    Eps,
    /// Velocity: `sqrt(alpha_cumprod) * noise - sqrt(1 - alpha_cumprod) * x0` (Salimans and Ho, arXiv 2202.00512).
    V,
}

/// The denoiser under a fixed condition: the interface between samplers and networks.
pub trait NoiseModel {
    /// The network's output (eps or v) for `x_t` `[N, 4, h, w]` at `timestep` (in `0..=999`, fractional for some
    /// solvers): one output of the same shape for each of `branches`, in their order.
    ///
    /// # Errors
    /// Errors of the network.
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>>;
}

/// Restoration guidance: pulls the predicted clean latent towards a target during sampling.
pub trait Guide {
    /// Moves `pred_x0` `[N, 4, h, w]`, predicted at `timestep`. `x0_weight`, not 0, is the weight of `pred_x0` in the
    /// latent of the next step. May draw from `noise`.
    ///
    /// # Errors
    /// Errors of the networks and the noise source.
    fn steer(
        &mut self,
        pred_x0: &mut Latent,
        timestep: f32,
        x0_weight: f32,
        noise: &mut dyn NoiseSource,
    ) -> Result<()>;

    /// The mean loss, taken before each move, since the last call of this function; `None` if there was no move.
    fn take_loss(&mut self) -> Option<f64>;
}

/// Classifier-free guidance (Ho and Salimans, arXiv 2207.12598).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cfg {
    /// Guidance scale; 1 skips the uncond branch. Default: 1.
    pub scale: f64,
    /// Raises the scale from 1 at timestep 1000 to `scale + 1` at 0. Default: false.
    pub rescale: bool,
    /// The lowest and highest timestep with guidance; outside of them the scale is 1. Default: `None`, guidance at
    /// every timestep.
    pub interval: Option<(f64, f64)>,
}

impl Default for Cfg {
    fn default() -> Self {
        Cfg {
            scale: 1.0,
            rescale: false,
            interval: None,
        }
    }
}

impl Cfg {
    /// The guidance scale at `timestep`.
    ///
    /// Source: `Sampler.get_cfg_scale`, diffbir/sampler/sampler.py at 3f8b530.
    pub fn scale_at(&self, timestep: f64) -> f64 {
        if let Some((low, high)) = self.interval
            && !(low..=high).contains(&timestep)
        {
            return 1.0;
        }
        if !self.rescale || self.scale <= 1.0 {
            return self.scale;
        }
        let progress = ((1000.0 - timestep) / 1000.0).powf(5.0);
        1.0 + self.scale * ((1.0 - (std::f64::consts::PI * progress).cos()) / 2.0)
    }
}

/// The guided prediction of `model`: `uncond + scale * (cond - uncond)`, or `cond` alone where `scale` is 1.
///
/// `convert` maps the network's output to the prediction that is guided. A linear `convert` could as well be applied
/// after guidance, up to rounding, but some solvers amplify rounding errors ten-thousandfold.
///
/// # Errors
/// Errors of the model.
pub fn guided(
    model: &mut dyn NoiseModel,
    x_t: &Latent,
    timestep: f32,
    scale: f64,
    convert: &dyn Fn(Latent) -> Latent,
) -> Result<Latent> {
    let branches: &[Branch] = if scale == 1.0 {
        &[Branch::Cond]
    } else {
        &[Branch::Cond, Branch::Uncond]
    };
    let outputs = model.predict(x_t, timestep, branches)?;
    if outputs.iter().any(|output| output.dim() != x_t.dim()) {
        return Err(Error::internal(
            "the denoiser's output differs from its input in shape",
        ));
    }
    let mut outputs = outputs.into_iter().map(convert);
    match (outputs.next(), outputs.next()) {
        (Some(cond), None) if branches.len() == 1 => Ok(cond),
        (Some(mut cond), Some(uncond)) if branches.len() == 2 => {
            let scale = scale as f32;
            cond.zip_mut_with(&uncond, |c, &u| *c = u + scale * (*c - u));
            Ok(cond)
        }
        _ => Err(Error::internal(
            "the denoiser answered with another number of branches than asked for",
        )),
    }
}
