//! The schedule in continuous time, for DPM-Solver.

use super::Diffusion;

/// The schedule is truncated where half the log-SNR falls below this value.
const LOWEST_LAMBDA: f32 = -5.1;

/// Signal and noise at any time in `(0, 1]`, by linear interpolation of `log(alpha)` between training timesteps.
///
/// In f32 throughout: the reference computes times, and hence model timesteps, in f32. The schedule is truncated where
/// half the log-SNR falls below -5.1 (zero SNR: 986 of 1000 timesteps remain).
///
/// Source: `NoiseScheduleVP`, diffbir/sampler/dpm_solver_pytorch.py at 3f8b530 (Lu et al., arXiv 2206.00927).
#[derive(Debug, Clone)]
pub struct LogSnrSchedule {
    times: Vec<f32>,
    log_alphas: Vec<f32>,
}

impl LogSnrSchedule {
    /// The schedule of `diffusion`.
    pub fn new(diffusion: &Diffusion) -> Self {
        let mut sum = 0.0_f64;
        let log_alphas: Vec<f32> = diffusion
            .betas()
            .iter()
            .map(|&beta| {
                sum += f64::from((1.0 - beta as f32).ln());
                0.5 * sum as f32
            })
            .take_while(|&log_alpha| lambda(log_alpha) >= LOWEST_LAMBDA)
            .collect();
        let n = log_alphas.len();
        LogSnrSchedule {
            times: linspace(0.0, 1.0, n + 1)[1..].to_vec(),
            log_alphas,
        }
    }

    /// Number of training timesteps after truncation.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether no timestep remains.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The last time, that of the first training timestep.
    pub fn end(&self) -> f32 {
        (1.0 / self.len() as f64) as f32
    }

    /// `log(alpha)` at `time`.
    pub fn log_alpha(&self, time: f32) -> f32 {
        interpolate(time, &self.times, &self.log_alphas)
    }

    /// `alpha`, the signal coefficient.
    pub fn alpha(&self, time: f32) -> f32 {
        self.log_alpha(time).exp()
    }

    /// `sigma`, the noise coefficient.
    pub fn sigma(&self, time: f32) -> f32 {
        (1.0 - (2.0 * self.log_alpha(time)).exp()).sqrt()
    }

    /// `lambda = log(alpha / sigma)`, half the log-SNR; it rises as time falls.
    pub fn lambda(&self, time: f32) -> f32 {
        lambda(self.log_alpha(time))
    }

    /// The time at which half the log-SNR is `lambda`.
    pub fn time(&self, lambda: f32) -> f32 {
        // log(1 + exp(-2 lambda)), without overflow
        let x = -2.0 * lambda;
        let log_alpha = -0.5 * (x.max(0.0) + (-x.abs()).exp().ln_1p());
        let reversed = |values: &[f32]| values.iter().rev().copied().collect::<Vec<f32>>();
        interpolate(
            log_alpha,
            &reversed(&self.log_alphas),
            &reversed(&self.times),
        )
    }
}

fn lambda(log_alpha: f32) -> f32 {
    log_alpha - 0.5 * (1.0 - (2.0 * log_alpha).exp()).ln()
}

/// `count` numbers from `start` to `end`, computed from the nearer end, as in torch.
pub fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                start + step * i as f32
            } else {
                end - step * (count - 1 - i) as f32
            }
        })
        .collect()
}

/// The piecewise linear function through `(xs, ys)`, `xs` ascending, at `x`, with linear extrapolation.
fn interpolate(x: f32, xs: &[f32], ys: &[f32]) -> f32 {
    let above = xs.partition_point(|&known| known < x);
    let i = above.clamp(1, xs.len() - 1) - 1;
    ys[i] + (x - xs[i]) * (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::DiffusionConfig;

    #[test]
    fn time_undoes_lambda() {
        for zero_snr in [false, true] {
            let diffusion = Diffusion::new(&DiffusionConfig {
                zero_snr,
                ..DiffusionConfig::default()
            })
            .unwrap();
            let schedule = LogSnrSchedule::new(&diffusion);
            assert_eq!(schedule.len(), if zero_snr { 986 } else { 1000 });
            for time in [1.0, 0.77, 0.5, 0.123, schedule.end()] {
                let back = schedule.time(schedule.lambda(time));
                assert!((back - time).abs() < 2e-5, "{time}: {back}");
            }
        }
    }

    #[test]
    fn alpha_and_sigma_keep_the_variance() {
        let schedule = LogSnrSchedule::new(&Diffusion::new(&DiffusionConfig::default()).unwrap());
        for i in 1..=100 {
            let time = i as f32 / 100.0;
            let power = schedule.alpha(time).powi(2) + schedule.sigma(time).powi(2);
            assert!((power - 1.0).abs() < 1e-6);
        }
    }
}
