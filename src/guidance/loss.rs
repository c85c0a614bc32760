//! The losses of restoration guidance and their gradients in closed form.

use ndarray::{Array4, s};

use crate::tensor::Image;

/// The loss function.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum LossKind {
    /// Mean square error
    #[default]
    Mse,
    /// Mean square error with less weight on edges; in rgb only
    #[cfg_attr(feature = "cli", value(alias = "w_mse"))]
    WMse,
}

/// The loss weight of each pixel: `[N, 1, H, W]`, in `[0, 1]`; or 1 everywhere.
#[derive(Debug, Clone)]
pub struct Weights(Option<Array4<f32>>);

impl Weights {
    /// 1 everywhere.
    pub fn none() -> Self {
        Weights(None)
    }

    /// The weights for loss `kind` and `target` `[N, 3, H, W]` in `[-1, 1]`, H and W even.
    pub fn of(kind: LossKind, target: &Image) -> Self {
        match kind {
            LossKind::Mse => Weights(None),
            LossKind::WMse => Weights(Some(sobel_weights(target))),
        }
    }

    /// The weight map; `None`: 1 everywhere.
    pub fn map(&self) -> Option<&Array4<f32>> {
        self.0.as_ref()
    }
}

/// The loss, the sum over the batch of `mean(weight * (pred - target)^2)`, and `-scale` times its gradient at `pred`.
///
/// Source: `MSEGuidance` and `WeightedMSEGuidance`, utils/cond_fn.py at 858068f.
pub fn loss_and_delta(
    pred: &Array4<f32>,
    target: &Array4<f32>,
    weights: &Weights,
    scale: f32,
) -> (f64, Array4<f32>) {
    let mut delta = pred - target;
    let size = delta.len() / delta.dim().0.max(1);
    let weighted = match &weights.0 {
        Some(map) => &delta * map,
        None => delta.clone(),
    };
    let loss: f64 = delta
        .iter()
        .zip(&weighted)
        .map(|(&d, &w)| f64::from(d) * f64::from(w))
        .sum();
    let gain = -scale * 2.0 / size as f32;
    delta.zip_mut_with(&weighted, |d, &w| *d = gain * w);
    (loss / size as f64, delta)
}

/// `1 - tanh` of the Sobel magnitude summed over blocks of 2x2 pixels.
fn sobel_weights(target: &Image) -> Array4<f32> {
    let (n, _, h, w) = target.dim();
    let unit = target.mapv(|x| (x + 1.0) / 2.0);
    let grey = |i: usize, y: usize, x: usize| {
        let at = |c: usize| unit[[i, c, y, x]];
        0.2989 * at(0) + 0.5870 * at(1) + 0.1140 * at(2)
    };
    let grey = Array4::from_shape_fn((n, 1, h, w), |(i, _, y, x)| grey(i, y, x));
    let magnitude = Array4::from_shape_fn((n, 1, h, w), |(i, _, y, x)| {
        // Edges are replicated.
        let at = |dy: usize, dx: usize| {
            let (y, x) = ((y + dy).saturating_sub(1), (x + dx).saturating_sub(1));
            grey[[i, 0, y.min(h - 1), x.min(w - 1)]]
        };
        let horizontal = at(0, 0) - at(0, 2) + 2.0 * (at(1, 0) - at(1, 2)) + at(2, 0) - at(2, 2);
        let vertical = at(0, 0) - at(2, 0) + 2.0 * (at(0, 1) - at(2, 1)) + at(0, 2) - at(2, 2);
        horizontal.hypot(vertical)
    });
    Array4::from_shape_fn((n, 1, h, w), |(i, _, y, x)| {
        let (y, x) = (y - y % 2, x - x % 2);
        let block = magnitude.slice(s![i, 0, y..(y + 2).min(h), x..(x + 2).min(w)]);
        1.0 - block.sum().tanh()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delta_is_the_gradient(values in proptest::collection::vec(-1.0_f32..1.0, 48), k in 0..48_usize) {
            let pred = Array4::from_shape_vec((1, 3, 4, 4), values).unwrap();
            let target = pred.mapv(|x| (x * 5.0).sin());
            for kind in [LossKind::Mse, LossKind::WMse] {
                let weights = Weights::of(kind, &target);
                let (_, delta) = loss_and_delta(&pred, &target, &weights, 1.0);
                let moved = |by: f32| {
                    let mut pred = pred.clone();
                    pred.as_slice_mut().unwrap()[k] += by;
                    loss_and_delta(&pred, &target, &weights, 1.0).0
                };
                // The loss is quadratic, so the central difference is exact.
                let slope = (moved(0.25) - moved(-0.25)) / 0.5;
                prop_assert!((slope + f64::from(delta.as_slice().unwrap()[k])).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn flat_targets_weigh_fully_and_edges_less() {
        let flat = Array4::from_elem((1, 3, 4, 6), 0.3);
        let weights = Weights::of(LossKind::WMse, &flat);
        assert!(
            weights
                .map()
                .unwrap()
                .iter()
                .all(|&w| (w - 1.0).abs() < 1e-6)
        );
        let mut edge = flat;
        edge.slice_mut(s![.., .., .., 3..]).fill(-1.0);
        let weights = Weights::of(LossKind::WMse, &edge);
        assert!(weights.map().unwrap()[[0, 0, 1, 2]] < 0.2);
        assert!(weights.map().unwrap()[[0, 0, 1, 0]] > 0.9);
    }
}
