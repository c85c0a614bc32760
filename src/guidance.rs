//! Restoration guidance: moves the predicted clean latent towards the stage-1 picture (paper, section "restoration
//! guidance"; v1 calls it latent image guidance).
//!
//! In each step within the window, `repeat` times: `delta = -scale * dLoss / dpred_x0`. [`Semantics`] defines how a
//! `delta` is applied. Sources: utils/cond_fn.py and utils/sampler.py at 858068f (v2), model/cond_fn.py and
//! model/spaced_sampler.py at 86bf0f8 (v1). The reference guides the spaced sampler alone; here every sampler is
//! guided, by the weight of the predicted latent in the latent of the next step (for `spaced`, the reference's
//! `posterior_mean_coef1`).

mod loss;

use crate::cancel::Checkpoint;
use crate::denoise::Guide;
use crate::error::Result;
use crate::rng::NoiseSource;
use crate::tensor::{Image, Latent, shape};

pub use loss::{LossKind, Weights, loss_and_delta};

/// How a `delta` is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Semantics {
    /// The scale is used as given. Each `delta` moves the prediction for the step's following iterations; half of
    /// their sum moves the next latent.
    V1,
    /// The scale is multiplied by 3000. Each `delta` moves the next latent.
    V2,
}

/// Where the loss is computed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Space {
    /// Latent space: the gradient has a closed form
    #[default]
    Latent,
    /// Pixel space, through the VAE decoder's backward pass; needs a bundle exported with --guidance-graph
    Rgb,
}

/// Parameters of guidance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// How a `delta` is applied.
    pub semantics: Semantics,
    /// Guidance scale, in the units of the model family's command line.
    pub scale: f64,
    /// Only timesteps below this are guided, numbered from 1 to 1000.
    pub start: i64,
    /// Only timesteps above this are guided, numbered from 1 to 1000.
    pub stop: i64,
    /// Number of iterations in each step.
    pub repeat: usize,
}

impl Rule {
    /// Whether `timestep` (from 0) is inside the window; both ends are excluded.
    pub fn applies(&self, timestep: f32) -> bool {
        let now = f64::from(timestep) + 1.0;
        (self.stop as f64) < now && now < self.start as f64
    }

    /// The factor on the gradient.
    pub fn effective_scale(&self) -> f32 {
        match self.semantics {
            Semantics::V1 => self.scale as f32,
            Semantics::V2 => (self.scale * 3000.0) as f32,
        }
    }
}

/// The VAE decoder and its backward pass.
pub trait Decoder {
    /// Decodes the latent `z` `[N, 4, h, w]` to a picture `[N, 3, 8h, 8w]`, nominally in `[-1, 1]`.
    ///
    /// # Errors
    /// Errors of the network.
    fn decode(&mut self, z: &Latent) -> Result<Image>;

    /// Vector-Jacobian product: the decoder's transposed Jacobian at `z`, times `cotangent` `[N, 3, 8h, 8w]`.
    ///
    /// # Errors
    /// Errors of the network.
    fn pull_back(&mut self, z: &Latent, cotangent: &Image) -> Result<Latent>;
}

/// The target that the prediction is pulled towards.
pub enum Target<'a> {
    /// A latent, `[N, 4, h, w]`.
    Latent {
        /// The mode of the stage-1 picture's posterior.
        target: Latent,
        /// Draws and discards noise in each iteration. The reference samples the target from the posterior in each
        /// iteration, v1 also once in a step that is not guided, while the mode needs no draw; discarding keeps later
        /// draws in sync with the reference.
        discard_draws: bool,
    },
    /// A picture, `[N, 3, 8h, 8w]`, in `[-1, 1]`.
    Rgb {
        /// The stage-1 picture.
        target: Image,
        /// The loss weight of each pixel.
        weights: Weights,
        /// Maps latents to pictures, and gradients back.
        decoder: Box<dyn Decoder + 'a>,
    },
}

/// Guidance by a [`Rule`] towards a [`Target`].
pub struct Guidance<'a> {
    rule: Rule,
    target: Target<'a>,
    losses: Vec<f64>,
    checkpoint: &'a Checkpoint<'a>,
}

impl<'a> Guidance<'a> {
    /// Guides by `rule` towards `target`.
    pub fn new(rule: Rule, target: Target<'a>) -> Self {
        Guidance {
            rule,
            target,
            losses: Vec::new(),
            checkpoint: &|| Ok(()),
        }
    }

    /// As [`new`](Self::new); `checkpoint` is called before each iteration and may stop the work with an error.
    pub fn with_checkpoint(self, checkpoint: &'a Checkpoint<'a>) -> Self {
        Guidance { checkpoint, ..self }
    }

    /// The draw for a latent target, which the mode does not need.
    fn discard_draw(&self, noise: &mut dyn NoiseSource) -> Result<()> {
        match &self.target {
            Target::Latent {
                target,
                discard_draws: true,
            } => noise.randn(shape(target)).map(drop),
            _ => Ok(()),
        }
    }

    /// Loss and `delta` at `pred_x0`.
    fn delta(&mut self, pred_x0: &Latent) -> Result<(f64, Latent)> {
        let scale = self.rule.effective_scale();
        match &mut self.target {
            Target::Latent { target, .. } => {
                let weights = Weights::none();
                Ok(loss::loss_and_delta(pred_x0, target, &weights, scale))
            }
            Target::Rgb {
                target,
                weights,
                decoder,
            } => {
                let image = decoder.decode(pred_x0)?;
                let (loss, delta) = loss::loss_and_delta(&image, target, weights, scale);
                Ok((loss, decoder.pull_back(pred_x0, &delta)?))
            }
        }
    }
}

impl Guide for Guidance<'_> {
    fn steer(
        &mut self,
        pred_x0: &mut Latent,
        timestep: f32,
        x0_weight: f32,
        noise: &mut dyn NoiseSource,
    ) -> Result<()> {
        if !self.rule.applies(timestep) {
            // v1 draws the step's first target before it asks whether the step is guided.
            return match self.rule.semantics {
                Semantics::V1 => self.discard_draw(noise),
                Semantics::V2 => Ok(()),
            };
        }
        // v1 computes the next latent from the prediction before the iterations, and moves it by half of every delta.
        let (unmoved, delta_weight) = match self.rule.semantics {
            Semantics::V1 => (Some(pred_x0.clone()), 1.0),
            Semantics::V2 => (None, 1.0 / x0_weight),
        };
        let mut sum = Latent::zeros(pred_x0.raw_dim());
        for _ in 0..self.rule.repeat {
            (self.checkpoint)()?;
            self.discard_draw(noise)?;
            let (loss, delta) = self.delta(pred_x0)?;
            self.losses.push(loss);
            pred_x0.zip_mut_with(&delta, |x, &d| *x += d * delta_weight);
            sum += &delta;
        }
        if let Some(unmoved) = unmoved {
            *pred_x0 = unmoved;
            pred_x0.zip_mut_with(&sum, |x, &d| *x += 0.5 * d / x0_weight);
        }
        Ok(())
    }

    fn take_loss(&mut self) -> Option<f64> {
        let losses = std::mem::take(&mut self.losses);
        let n = losses.len();
        (n > 0).then(|| losses.iter().sum::<f64>() / n as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Replay;

    fn guidance(semantics: Semantics, scale: f64, repeat: usize) -> Guidance<'static> {
        let rule = Rule {
            semantics,
            scale,
            start: 1001,
            stop: -1,
            repeat,
        };
        let target = Target::Latent {
            target: Latent::zeros((1, 4, 2, 2)),
            discard_draws: false,
        };
        Guidance::new(rule, target)
    }

    fn steered(semantics: Semantics, scale: f64, repeat: usize, weight: f32) -> f32 {
        let mut x0 = Latent::from_elem((1, 4, 2, 2), 1.0);
        let mut guide = guidance(semantics, scale, repeat);
        guide
            .steer(&mut x0, 500.0, weight, &mut Replay::new(Vec::new()))
            .unwrap();
        assert!(guide.take_loss().is_some());
        assert!(guide.take_loss().is_none());
        x0[[0, 0, 0, 0]]
    }

    #[test]
    fn one_repeat_moves_the_next_latent_by_delta_or_half_of_it() {
        // The gradient of the mean of 16 squares at 1 is 2/16.
        let delta = -0.125;
        let v2 = steered(Semantics::V2, 1.0 / 3000.0, 1, 0.25);
        assert!((v2 - (1.0 + delta / 0.25)).abs() < 1e-6, "{v2}");
        let v1 = steered(Semantics::V1, 1.0, 1, 0.25);
        assert!((v1 - (1.0 + 0.5 * delta / 0.25)).abs() < 1e-6, "{v1}");
    }

    #[test]
    fn the_window_excludes_its_ends() {
        let rule = Rule {
            semantics: Semantics::V2,
            scale: 1.0,
            start: 700,
            stop: 200,
            repeat: 1,
        };
        assert!(rule.applies(698.0) && rule.applies(200.0));
        assert!(!rule.applies(699.0) && !rule.applies(199.0));
    }

    #[test]
    fn draws_are_discarded_once_a_repeat_and_by_v1_once_outside_of_the_window() {
        for (semantics, start, draws) in [
            (Semantics::V1, 1001, 3),
            (Semantics::V2, 1001, 3),
            (Semantics::V1, 1, 1),
            (Semantics::V2, 1, 0),
        ] {
            let mut noise = Replay::new(vec![Latent::zeros((1, 4, 2, 2)); 3]);
            let mut guide = guidance(semantics, 0.1, 3);
            guide.rule.start = start;
            if let Target::Latent { discard_draws, .. } = &mut guide.target {
                *discard_draws = true;
            }
            let mut x0 = Latent::ones((1, 4, 2, 2));
            guide.steer(&mut x0, 1.0, 1.0, &mut noise).unwrap();
            assert_eq!(3 - noise.remaining(), draws, "{semantics:?} {start}");
        }
    }
}
