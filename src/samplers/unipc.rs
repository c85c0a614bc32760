//! UniPC (Zhao et al., arXiv 2302.04867): a predictor of order 2 or 3 and a corrector without additional denoiser
//! calls.
//!
//! The variant B2(h) with data prediction. Not in the reference.

use super::dpm::{Coefficients, ModelOutput, ModelTimesteps, Prediction, Solver};
use super::{Run, Sampling, add_scaled};
use crate::error::{Error, Result};
use crate::schedule::linspace;
use crate::tensor::Latent;

/// Denoises `x_t` with UniPC of `order` 2 (the default) or 3, evenly spaced in time; one denoiser call per step, no
/// draws. The first and last steps are of lower order. Ends at the first training timestep, as the DPM solvers do.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for 0 steps, and errors of the run.
pub fn sample(sampling: &Sampling<'_>, run: &mut Run<'_>, x_t: Latent) -> Result<Latent> {
    let (steps, order) = (sampling.steps, sampling.parameters.order.unwrap_or(2));
    if steps == 0 {
        return Err(Error::option("steps: expected at least 1, found 0"));
    }
    let solver = Solver::new(sampling, Prediction::Data, ModelTimesteps::True);
    let times = linspace(1.0, solver.schedule.end(), steps + 1);
    let mut past: Vec<ModelOutput> = Vec::new(); // latest first
    let mut x = x_t; // corrected, at the time of the latest call
    let mut predicted = x.clone();
    for step in 1..=steps {
        let now = solver.call(run, &predicted, times[step - 1], times[step])?;
        if !past.is_empty() {
            x = Step::new(&solver, &past, now.time).corrected(&x, &past, &now);
        }
        past.insert(0, now);
        past.truncate(order.min(steps + 1 - step));
        predicted = Step::new(&solver, &past, times[step]).predicted(&x, &past);
        let timestep = solver.model_timestep(past[0].time);
        run.step((step - 1, steps), timestep, &predicted, &past[0].pred_x0)?;
    }
    Ok(predicted)
}

/// A step from the time of the latest denoiser call to another time.
struct Step {
    c: Coefficients,
    /// Times of the earlier calls relative to the latest, in units of the step; negative.
    ratios: Vec<f64>,
    /// The right-hand sides of the order conditions, divided by B(h).
    conditions: Vec<f64>,
}

impl Step {
    fn new(solver: &Solver<'_>, past: &[ModelOutput], to: f32) -> Self {
        let now = past[0].time;
        let h = solver.distance(now, to);
        let ratios: Vec<f64> = past[1..]
            .iter()
            .map(|earlier| f64::from(solver.distance(now, earlier.time) / h))
            .collect();
        Step {
            c: solver.coefficients(now, to, h),
            conditions: conditions(f64::from(-h), past.len()),
            ratios,
        }
    }

    /// The latent at the step's end, from the model outputs in `past` (predictor, equation 5).
    fn predicted(&self, x: &Latent, past: &[ModelOutput]) -> Latent {
        let mut next = self.c.first(x, &past[0].value);
        // For order 2 the paper uses one half, which also meets the order condition.
        let weights = match self.ratios.len() {
            1 => vec![0.5],
            n => solve(&self.ratios, &self.conditions[..n]),
        };
        self.add_slopes(&mut next, past, &weights);
        next
    }

    /// The same with the model output `end` at the predicted latent as a further point (corrector, equation 3).
    fn corrected(&self, x: &Latent, past: &[ModelOutput], end: &ModelOutput) -> Latent {
        let mut next = self.c.first(x, &past[0].value);
        let nodes = [self.ratios.as_slice(), &[1.0]].concat();
        let weights = match nodes.len() {
            1 => vec![0.5],
            n => solve(&nodes, &self.conditions[..n]),
        };
        self.add_slopes(&mut next, past, &weights[..self.ratios.len()]);
        let mut slope = end.value.clone();
        slope -= &past[0].value;
        add_scaled(&mut next, self.gain(weights[self.ratios.len()]), &slope);
        next
    }

    fn add_slopes(&self, next: &mut Latent, past: &[ModelOutput], weights: &[f64]) {
        for ((earlier, ratio), weight) in past[1..].iter().zip(&self.ratios).zip(weights) {
            let mut slope = earlier.value.clone();
            slope -= &past[0].value;
            add_scaled(next, self.gain(weight / ratio), &slope);
        }
    }

    /// B2(h) is expm1(-h), the step's phi_1.
    fn gain(&self, weight: f64) -> f32 {
        -(self.c.gain * self.c.phi_1) * weight as f32
    }
}

/// `n! * phi_{n+1}(z) / phi_1(z)` times z for n from 1 to `count`, with `phi_{n+1}(z) = (phi_n(z) - 1/n!) / z`.
fn conditions(z: f64, count: usize) -> Vec<f64> {
    let expm1 = z.exp_m1();
    let mut phi = expm1 / z - 1.0;
    let mut factorial = 1.0;
    (1..=count)
        .map(|n| {
            factorial *= n as f64;
            let condition = phi * factorial / expm1;
            phi = phi / z - 1.0 / (factorial * (n + 1) as f64);
            condition
        })
        .collect()
}

/// The `weights` with `sum(weight * node^k) = conditions[k]` for every k below the number of `nodes`: a Vandermonde
/// system, solved by elimination, of at most three distinct nodes.
fn solve(nodes: &[f64], conditions: &[f64]) -> Vec<f64> {
    let n = nodes.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|k| {
            let powers = nodes.iter().map(|node| node.powi(k as i32));
            powers.chain([conditions[k]]).collect()
        })
        .collect();
    for pivot in 0..n {
        // The leading minors are Vandermonde determinants of distinct nodes, so no pivot is 0.
        let lead = rows[pivot].clone();
        for (k, row) in rows.iter_mut().enumerate() {
            if k != pivot {
                let factor = row[pivot] / lead[pivot];
                row.iter_mut()
                    .zip(&lead)
                    .for_each(|(value, lead)| *value -= factor * lead);
            }
        }
    }
    (0..n).map(|k| rows[k][n] / rows[k][k]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_their_conditions() {
        let (nodes, conditions) = ([-1.3, -0.6, 1.0], [0.5, 0.2, 0.1]);
        let weights = solve(&nodes, &conditions);
        for (k, condition) in conditions.iter().enumerate() {
            let sum: f64 = nodes
                .iter()
                .zip(&weights)
                .map(|(x, w)| w * x.powi(k as i32))
                .sum();
            assert!((sum - condition).abs() < 1e-12);
        }
    }
}
