//! The singlestep method: a step of order n makes n denoiser calls and uses no earlier outputs.

use super::{ModelOutput, ModelTimesteps, Prediction, Solver, scaled_difference};
use crate::error::{Error, Result};
use crate::samplers::{Run, Sampling, add_scaled};
use crate::schedule::linspace;
use crate::tensor::Latent;

/// Denoises `x_t` with the singlestep solver of `order` 1 to 3. `steps` is the number of denoiser calls (NFE): they
/// are divided into steps of that order and one or two of lower order at the end. The observer receives each step.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for 0 steps, and errors of the run.
pub fn singlestep(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    prediction: Prediction,
    order: usize,
) -> Result<Latent> {
    if sampling.steps == 0 {
        return Err(Error::option("steps: expected at least 1, found 0"));
    }
    let solver = Solver::new(sampling, prediction, ModelTimesteps::Stretched);
    let times = linspace(1.0, solver.schedule.end(), sampling.steps + 1);
    let orders = orders(sampling.steps, order);
    let mut x = x_t;
    let mut done = 0;
    for (index, &order) in orders.iter().enumerate() {
        let (from, to) = (times[done], times[done + order]);
        let (next, first) = update(&solver, run, &x, from, to, order)?;
        x = next;
        done += order;
        let timestep = solver.model_timestep(from);
        run.step((index, orders.len()), timestep, &x, &first.pred_x0)?;
    }
    Ok(x)
}

/// The orders of the steps that take `evaluations` denoiser calls in all.
fn orders(evaluations: usize, order: usize) -> Vec<usize> {
    let whole = vec![order; evaluations / order];
    match (order, evaluations % order) {
        (3, 0) => [&whole[1..], &[2, 1]].concat(),
        (_, 0) => whole,
        (_, rest) => [whole, vec![rest]].concat(),
    }
}

/// A step of `order` from `from` to `to`, and its first model output.
fn update(
    solver: &Solver<'_>,
    run: &mut Run<'_>,
    x: &Latent,
    from: f32,
    to: f32,
    order: usize,
) -> Result<(Latent, ModelOutput)> {
    let h = solver.distance(from, to);
    let inner = linspace(from, to, order + 1);
    // Position of the intermediate times on the step, in lambda.
    let share = |i: usize| solver.distance(inner[0], inner[i]) / solver.distance(inner[0], to);
    let inner_time = |r: f32| solver.schedule.time(solver.schedule.lambda(from) + r * h);
    let c = solver.coefficients(from, to, h);
    let next_time = |i: usize| if i < order { inner[i] } else { to };
    let first = solver.call(run, x, from, next_time(1))?;
    let mut next = c.first(x, &first.value);
    if order == 1 {
        return Ok((next, first));
    }

    let r1 = share(1);
    let time_1 = inner_time(r1);
    let x_1 = solver
        .coefficients(from, time_1, r1 * h)
        .first(x, &first.value);
    let value_1 = solver.call(run, &x_1, time_1, next_time(2))?.value;
    if order == 2 {
        let slope = scaled_difference(0.5 / r1, &value_1, &first.value);
        add_scaled(&mut next, -(c.gain * c.phi_1), &slope);
        return Ok((next, first));
    }

    let r2 = share(2);
    let time_2 = inner_time(r2);
    let c_2 = solver.coefficients(from, time_2, r2 * h);
    let mut x_2 = c_2.first(x, &first.value);
    let slope = scaled_difference(r2 / r1, &value_1, &first.value);
    add_scaled(&mut x_2, c_2.gain * c_2.phi_2, &slope);
    let value_2 = solver.call(run, &x_2, time_2, to)?.value;
    let slope = scaled_difference(1.0 / r2, &value_2, &first.value);
    add_scaled(&mut next, c.gain * c.phi_2, &slope);
    Ok((next, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_evaluation_is_used() {
        for order in 1..=3 {
            for evaluations in 1..=20 {
                let orders = orders(evaluations, order);
                assert_eq!(orders.iter().sum::<usize>(), evaluations);
                assert!(orders.is_sorted_by(|a, b| a >= b));
            }
        }
        assert_eq!(orders(6, 3), [3, 2, 1]);
        assert_eq!(orders(7, 3), [3, 3, 1]);
        assert_eq!(orders(8, 3), [3, 3, 2]);
        assert_eq!(orders(5, 2), [2, 2, 1]);
    }
}
