//! Samplers against an oracle: where the data are normal with mean `MU` and standard deviation `S`, the exact denoiser
//! is known, and so is what a sampler must end with.

#![allow(clippy::unwrap_used)]

use diffbir::denoise::{Branch, Cfg, NoiseModel, Parameterization};
use diffbir::error::Result;
use diffbir::rng::{NoiseSource, TorchCpu};
use diffbir::samplers::{Sampling, by_name};
use diffbir::schedule::{Diffusion, DiffusionConfig};
use diffbir::tensor::Latent;

const MU: f64 = 1.5;
const S: f64 = 0.6;

/// The exact denoiser: the noise, or velocity, expected at `x_t`.
struct Exact<'a> {
    diffusion: &'a Diffusion,
}

impl NoiseModel for Exact<'_> {
    fn predict(&mut self, x_t: &Latent, timestep: f32, branches: &[Branch]) -> Result<Vec<Latent>> {
        let alpha = self.diffusion.alphas_cumprod()[timestep as usize];
        let (signal, sigma) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let gain = signal * S * S / (alpha * S * S + 1.0 - alpha);
        let output = x_t.mapv(|x| {
            let surplus = f64::from(x) - signal * MU;
            let x0 = MU + gain * surplus;
            // (x - signal * x0) / sigma, without the loss of digits where sigma is small
            let eps = surplus * (1.0 - signal * gain) / sigma;
            match self.diffusion.parameterization {
                Parameterization::Eps => eps as f32,
                Parameterization::V => (signal * eps - sigma * x0) as f32,
            }
        });
        Ok(vec![output; branches.len()])
    }
}

/// Mean and standard deviation of what sampler `name` ends with.
fn moments(name: &str, parameterization: Parameterization, steps: usize) -> (f64, f64) {
    let diffusion = Diffusion::new(&DiffusionConfig {
        zero_snr: parameterization == Parameterization::V,
        parameterization,
        ..DiffusionConfig::default()
    })
    .unwrap();
    let sampling = Sampling {
        diffusion: &diffusion,
        steps,
        cfg: Cfg::default(),
    };
    let mut noise = TorchCpu::new(42);
    let x_t = noise.randn([1, 4, 64, 64]).unwrap();
    let mut model = Exact {
        diffusion: &diffusion,
    };
    let sample = by_name(name).unwrap().sample;
    let x = sample(&sampling, &mut model, x_t, &mut noise, &mut |_| Ok(())).unwrap();
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = x
        .iter()
        .map(|&x| (f64::from(x) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean, variance.sqrt())
}

#[test]
fn spaced_ends_with_the_data() {
    for parameterization in [Parameterization::Eps, Parameterization::V] {
        // 16384 values: the sampling error is 0.005 for the mean and 0.003 for the deviation.
        let (mean, std) = moments("spaced", parameterization, 1000);
        assert!(
            (mean - MU).abs() < 0.015,
            "{parameterization:?}: mean {mean}"
        );
        assert!(
            (std - S).abs() < 0.012,
            "{parameterization:?}: deviation {std}"
        );
    }
}

#[test]
fn spaced_comes_closer_with_more_steps() {
    for parameterization in [Parameterization::Eps, Parameterization::V] {
        let errors = [5, 20, 100].map(|steps| {
            let (_, std) = moments("spaced", parameterization, steps);
            (std - S).abs()
        });
        assert!(
            errors.is_sorted_by(|a, b| *a > 1.5 * b),
            "{parameterization:?}: {errors:?}"
        );
    }
}
