//! Ancestral DDPM sampling on evenly spaced timesteps.
//!
//! | here | DDPM (Ho et al., arXiv 2006.11239) |
//! |---|---|
//! | `x` | x_t |
//! | `pred_x0` | the estimate of x_0, from equation 4 solved for x_0 (eps), or from the definition of v |
//! | `mean_from_x0`, `mean_from_x` | the two weights in the mean of q(x_{t-1} \| x_t, x_0), equation 7 |
//! | `sigma` | the root of its variance, equation 7 |

use super::{Run, Sampling, needs_v};
use crate::error::Result;
use crate::schedule::{SpacedSchedule, SpacedStep};
use crate::tensor::Latent;

/// Denoises `x_t` in `sampling.steps` steps (2 to the number of training timesteps), from the highest timestep down to
/// 0.
///
/// Draws from `noise` once per step, of `x_t`'s shape, after the denoiser call; the draw of the last step is
/// discarded, as in the reference. Arithmetic is in f32 in the reference's order of operations. The uncond branch is
/// skipped in a step with a guidance scale of exactly 1 (with `rescale` that is timestep 999).
///
/// Source: `SpacedSampler`, diffbir/sampler/spaced_sampler.py at 3f8b530.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for an invalid number of steps,
/// [`Bundle`](crate::error::ErrorKind::Bundle) for an eps model with a zero-SNR schedule, and errors of the model, the
/// noise source and the observer.
pub fn sample(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let schedule = SpacedSchedule::new(sampling.diffusion, sampling.steps)?;
    let parameterization = sampling.diffusion.parameterization;
    let total = schedule.steps();
    if schedule
        .sqrt_recip_alphas_cumprod
        .iter()
        .any(|weight| weight.is_infinite())
    {
        needs_v("spaced", parameterization)?;
    }

    let mut x = x_t;
    for index in 0..total {
        let step = schedule.step(total - 1 - index, parameterization);
        let timestep = step.timestep as f32;
        let output = run.predict(sampling.cfg, &x, timestep, &|output| output)?;
        let mut pred_x0 = predict_x0(&step, &x, output);
        run.steer(&mut pred_x0, timestep, step.mean_from_x0)?;
        let noise = run.randn_like(&x)?;
        x = posterior_sample(&step, x, &pred_x0, &noise);
        run.step((index, total), timestep, &x, &pred_x0)?;
    }
    Ok(x)
}

/// `pred_x0` from the network's `output` at `x`.
fn predict_x0(step: &SpacedStep, x: &Latent, mut output: Latent) -> Latent {
    output.zip_mut_with(x, |o, &x| {
        *o = step.x0_from_x * x - step.x0_from_output * *o;
    });
    output
}

/// A sample from the posterior of the previous timestep, given `x` and `pred_x0`.
fn posterior_sample(step: &SpacedStep, mut x: Latent, pred_x0: &Latent, noise: &Latent) -> Latent {
    ndarray::Zip::from(&mut x)
        .and(pred_x0)
        .and(noise)
        .for_each(|x, &x0, &n| {
            *x = (step.mean_from_x0 * x0 + step.mean_from_x * *x) + step.sigma * n;
        });
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::{Branch, Cfg, NoiseModel, Parameterization};
    use crate::error::{Error, ErrorKind};
    use crate::rng::{NoiseSource, Replay, TorchCpu};
    use crate::samplers::Observer;
    use crate::schedule::{Diffusion, DiffusionConfig};
    use ndarray::Array4;

    /// Returns zeros and counts the calls.
    #[derive(Default)]
    struct Zeros {
        branches: Vec<usize>,
        timesteps: Vec<f32>,
    }

    impl NoiseModel for Zeros {
        fn predict(&mut self, x: &Latent, t: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
            self.branches.push(branches.len());
            self.timesteps.push(t);
            Ok(vec![Array4::zeros(x.raw_dim()); branches.len()])
        }
    }

    fn diffusion(zero_snr: bool, parameterization: Parameterization) -> Diffusion {
        Diffusion::new(&DiffusionConfig {
            zero_snr,
            parameterization,
            ..DiffusionConfig::default()
        })
        .unwrap()
    }

    fn run<'a>(
        diffusion: &Diffusion,
        cfg: Cfg,
        noise: &'a mut dyn NoiseSource,
        observe: &'a mut Observer<'a>,
    ) -> (Zeros, Result<Latent>) {
        let mut model = Zeros::default();
        let sampling = Sampling {
            cfg,
            ..Sampling::new(diffusion, 4)
        };
        let mut run = Run {
            model: &mut model,
            noise,
            guide: None,
            observe,
        };
        let result = sample(&sampling, &mut run, Array4::ones((1, 4, 2, 3)));
        (model, result)
    }

    #[test]
    fn one_draw_per_step_and_no_uncond_call_at_scale_one() {
        let eps = diffusion(false, Parameterization::Eps);
        let mut noise = Replay::new(vec![Array4::zeros((1, 4, 2, 3)); 4]);
        let cfg = Cfg {
            scale: 4.0,
            rescale: true,
            ..Cfg::default()
        };
        let (model, result) = run(&eps, cfg, &mut noise, &mut |_| Ok(()));
        assert!(result.is_ok());
        assert_eq!(noise.remaining(), 0);
        assert_eq!(model.timesteps, [999.0, 666.0, 333.0, 0.0]);
        assert_eq!(model.branches, [1, 2, 2, 2]);
    }

    #[test]
    fn the_last_draw_changes_nothing() {
        let v = diffusion(true, Parameterization::V);
        let mut draws = vec![Array4::ones((1, 4, 2, 3)); 4];
        let (_, a) = run(
            &v,
            Cfg::default(),
            &mut Replay::new(draws.clone()),
            &mut |_| Ok(()),
        );
        draws[3].fill(1e6);
        let (_, b) = run(&v, Cfg::default(), &mut Replay::new(draws), &mut |_| Ok(()));
        assert_eq!(a.unwrap(), b.unwrap());
    }

    #[test]
    fn an_observer_can_stop_it() {
        let eps = diffusion(false, Parameterization::Eps);
        let (model, result) = run(&eps, Cfg::default(), &mut TorchCpu::new(0), &mut |info| {
            assert_eq!(info.total, 4);
            assert_eq!(info.x.dim(), info.pred_x0.dim());
            if info.index == 1 {
                return Err(Error::cancelled());
            }
            Ok(())
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(model.timesteps, [999.0, 666.0]);
    }

    #[test]
    fn eps_at_zero_snr_is_refused_before_the_model_is_asked() {
        let eps = diffusion(true, Parameterization::Eps);
        let (model, result) = run(&eps, Cfg::default(), &mut TorchCpu::new(0), &mut |_| Ok(()));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Bundle);
        assert!(model.timesteps.is_empty());
    }

    #[test]
    fn noise_that_ends_early_is_reported() {
        let eps = diffusion(false, Parameterization::Eps);
        let mut noise = Replay::new(vec![Array4::zeros((1, 4, 2, 3)); 3]);
        let (_, result) = run(&eps, Cfg::default(), &mut noise, &mut |_| Ok(()));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Input);
    }
}
