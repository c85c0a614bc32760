//! The multistep method: one denoiser call per step, with the outputs of earlier steps.

use super::{ModelOutput, ModelTimesteps, Prediction, Solver, scaled_difference};
use crate::error::{Error, Result};
use crate::samplers::{Run, Sampling, add_scaled};
use crate::schedule::linspace;
use crate::tensor::Latent;

/// Below this number of steps the last ones are of lower order.
const FEW_STEPS: usize = 10;

/// Denoises `x_t` with the multistep solver of `order` 1 to 3, in at least `order` steps. The first steps are of lower
/// order, and with fewer than 10 steps the last ones too.
///
/// # Errors
/// [`Option`](crate::error::ErrorKind::Option) for fewer steps than the order, and errors of the run.
pub fn multistep(
    sampling: &Sampling<'_>,
    run: &mut Run<'_>,
    x_t: Latent,
    prediction: Prediction,
    order: usize,
) -> Result<Latent> {
    let steps = sampling.steps;
    if steps < order {
        return Err(Error::option(format!(
            "steps: the multistep solver of order {order} needs at least {order}, found {steps}"
        )));
    }
    let solver = Solver::new(sampling, prediction, ModelTimesteps::Stretched);
    let times = linspace(1.0, solver.schedule.end(), steps + 1);
    let mut past: Vec<ModelOutput> = Vec::new(); // latest first
    let mut x = x_t;
    for step in 1..=steps {
        past.insert(0, solver.call(run, &x, times[step - 1], times[step])?);
        past.truncate(order);
        let usable = match steps < FEW_STEPS && step >= order {
            true => past.len().min(steps + 1 - step),
            false => past.len(),
        };
        x = update(&solver, &x, &past[..usable], times[step]);
        let timestep = solver.model_timestep(past[0].time);
        run.step((step - 1, steps), timestep, &x, &past[0].pred_x0)?;
    }
    Ok(x)
}

/// A step to the time `to`; the number of outputs in `past` determines its order.
fn update(solver: &Solver<'_>, x: &Latent, past: &[ModelOutput], to: f32) -> Latent {
    let now = &past[0];
    let h = solver.distance(now.time, to);
    let c = solver.coefficients(now.time, to, h);
    let mut next = c.first(x, &now.value);
    let ratio = |i: usize| solver.distance(past[i + 1].time, past[i].time) / h;
    let slope = |i: usize| {
        let (newer, older) = (&past[i].value, &past[i + 1].value);
        scaled_difference(1.0 / ratio(i), newer, older)
    };
    match past.len() {
        1 => {}
        2 => add_scaled(&mut next, -(0.5 * (c.gain * c.phi_1)), &slope(0)),
        _ => {
            let (r0, r1) = (ratio(0), ratio(1));
            let (d1_0, d1_1) = (slope(0), slope(1));
            ndarray::Zip::from(&mut next)
                .and(&d1_0)
                .and(&d1_1)
                .for_each(|x, &a, &b| {
                    let d1 = a + (r0 / (r0 + r1)) * (a - b);
                    let d2 = (1.0 / (r0 + r1)) * (a - b);
                    *x = *x + (c.gain * c.phi_2) * d1 - (c.gain * c.phi_3) * d2;
                });
        }
    }
    next
}
