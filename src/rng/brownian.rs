//! Brownian tree: Brownian motion by bisection of its range, equal to torchsde's.
//!
//! `W` over the whole range is drawn first. The range is halved recursively, with one normal draw for each halved
//! interval: given `W` over an interval, `W` over its left half is normal (the Brownian bridge), and `W` over the
//! right half is the remainder. The seed of each draw depends only on the interval's position in the tree, so the path
//! does not depend on the queries or their order.

use std::collections::HashMap;

use ndarray::Array4;

use super::Path;
use super::seed_sequence::SeedSequence;
use crate::error::{Error, Result};

/// The largest time; up to here an f64 resolves 6 decimals.
const MAX_TIME: f64 = 1e9;

/// Maximum number of bytes cached from the last increment for the next one.
const KEPT: usize = 64 << 20;

/// A Brownian path. `W` is bit-equal to that of `torchsde.BrownianTree(t0=low, w0=zeros(shape), t1=high,
/// entropy=entropy)` if `normals(seed, n)` is `torch.randn(n, generator=torch.Generator().manual_seed(seed))`.
///
/// An increment is within 2 units in the last place of k-diffusion's on a CPU, since torch's square root of `|to -
/// from|` is not always the nearest f32.
///
/// Times are rounded to 6 decimals and clamped to the range.
///
/// An [`increment`](Path::increment) draws the normals of about `2 * log2((high - low) * 1e6)` intervals, half as many
/// if it begins or ends at an end of the last one. During the call up to half as many arrays of the path's shape
/// exist. Between calls `W` over the whole range is stored, and at most 64 MiB from the last increment.
///
/// Source: `torchsde/_brownian/brownian_interval.py`, torchsde 0.2.6, as k-diffusion's `BrownianTreeNoiseSampler`
/// uses it.
pub struct BrownianTree<N> {
    shape: [usize; 4],
    entropy: u64,
    normals: N,
    range: Interval,
    /// `W(high) - W(low)`.
    whole: Vec<f32>,
    /// `W` over the left halves of the intervals that the last increment halved, by number and depth. Successive steps
    /// are adjacent, so most of their intervals are the same.
    kept: Kept,
}

type Kept = HashMap<(u64, u64), Vec<f32>>;

/// A query of the tree, and the partial result.
struct Query {
    from: f64,
    to: f64,
    /// The cache from the last increment.
    last: Kept,
    sum: Vec<f32>,
}

/// A node of the tree. Its ends are rounded to 6 decimals.
#[derive(Debug, Clone, Copy)]
struct Interval {
    start: f64,
    end: f64,
    /// Its index among the nodes of its depth, from the left.
    number: u64,
    depth: u64,
}

impl Interval {
    fn middle(self) -> f64 {
        round(0.5 * (self.end + self.start))
    }

    fn left(self) -> Self {
        Interval {
            end: self.middle(),
            number: 2 * self.number,
            depth: self.depth + 1,
            ..self
        }
    }

    fn right(self) -> Self {
        Interval {
            start: self.middle(),
            number: 2 * self.number + 1,
            depth: self.depth + 1,
            ..self
        }
    }
}

/// Rounds to 6 decimals as Python's `round(t, 6)`: correctly on the exact value, hence by its decimal digits.
fn round(t: f64) -> f64 {
    format!("{t:.6}").parse().unwrap_or(t)
}

/// torchsde's first seed for an interval, or for the whole range. The other seeds are for Levy areas.
fn seed(entropy: u64, spawn_key: &[u64]) -> u32 {
    let sequence = SeedSequence::<24>::new(entropy, spawn_key);
    sequence.seeds(1).next().unwrap_or_default()
}

impl<N: Fn(u32, usize) -> Vec<f32>> BrownianTree<N> {
    /// A path of `shape` over `[low, high]`, which may be a single point. `entropy` determines the seeds of `normals`
    /// and thereby the path.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) unless `0 <= low <= high <= 1e9`.
    pub fn new(shape: [usize; 4], low: f32, high: f32, entropy: u64, normals: N) -> Result<Self> {
        let (low, high) = (f64::from(low), f64::from(high));
        if !(0.0 <= low && low <= high && high <= MAX_TIME) {
            return Err(Error::internal(format!(
                "a Brownian path over [{low}, {high}] was asked for; the ends must be ordered and in [0, 1e9]"
            )));
        }
        let mut whole = normals(seed(entropy, &[]), shape.iter().product());
        let deviation = (high - low).sqrt() as f32;
        whole.iter_mut().for_each(|w| *w *= deviation);
        let range = Interval {
            start: round(low),
            end: round(high),
            number: 0,
            depth: 0,
        };
        Ok(BrownianTree {
            shape,
            entropy,
            normals,
            range,
            whole,
            kept: HashMap::new(),
        })
    }

    /// `W` over the left half of `interval`, given `w`, `W` over `interval`.
    fn bridge(&self, interval: Interval, w: &[f32]) -> Vec<f32> {
        let per_width = 1.0 / (interval.end - interval.start);
        let left = interval.middle() - interval.start;
        let right = interval.end - interval.middle();
        let deviation = (left * right * per_width).sqrt() as f32;
        // torch rounds scalars to f32 before they are combined with an array.
        let (left, per_width) = (left as f32, per_width as f32);
        let seed = seed(self.entropy, &[interval.number, interval.depth]);
        let mut half = (self.normals)(seed, w.len());
        for (noise, w) in half.iter_mut().zip(w) {
            *noise = left * w * per_width + deviation * *noise;
        }
        half
    }

    /// [`bridge`](Self::bridge), or its cached value from the last increment. Caches it for the next one.
    fn left_half(&mut self, interval: Interval, w: &[f32], last: &mut Kept) -> Vec<f32> {
        let key = (interval.number, interval.depth);
        let left = last.remove(&key);
        let left = left.unwrap_or_else(|| self.bridge(interval, w));
        if (self.kept.len() + 1) * size_of_val(w) <= KEPT {
            self.kept.insert(key, left.clone());
        }
        left
    }

    /// Adds `W` over the queried part of `interval`, which is longer than a point, to the sum, from left to right. `w`
    /// is `W` over `interval`.
    fn add(&mut self, interval: Interval, mut w: Vec<f32>, query: &mut Query) {
        if query.from <= interval.start && interval.end <= query.to {
            query.sum.iter_mut().zip(w).for_each(|(sum, w)| *sum += w);
            return;
        }
        let middle = interval.middle();
        let left = self.left_half(interval, &w, &mut query.last);
        w.iter_mut().zip(&left).for_each(|(w, left)| *w -= left);
        if query.from < middle {
            self.add(interval.left(), left, query);
        }
        if middle < query.to {
            self.add(interval.right(), w, query);
        }
    }

    /// A query's time, rounded and clamped.
    fn time(&self, t: f32) -> f64 {
        round(f64::from(t).clamp(self.range.start, self.range.end))
    }
}

impl<N: Fn(u32, usize) -> Vec<f32>> Path for BrownianTree<N> {
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) if `from` and `to` are the same time after rounding.
    fn increment(&mut self, from: f32, to: f32) -> Result<Array4<f32>> {
        let mut query = Query {
            from: self.time(from.min(to)),
            to: self.time(from.max(to)),
            last: std::mem::take(&mut self.kept),
            sum: vec![0.0; self.whole.len()],
        };
        if from.is_nan() || to.is_nan() || query.from >= query.to {
            return Err(Error::internal(format!(
                "no time passes between {from} and {to} on a Brownian path over [{}, {}]",
                self.range.start, self.range.end
            )));
        }
        self.add(self.range, self.whole.clone(), &mut query);
        let deviation = (to - from).abs().sqrt().copysign(to - from);
        query.sum.iter_mut().for_each(|w| *w /= deviation);
        Array4::from_shape_vec(self.shape, query.sum)
            .map_err(|e| Error::internal("a Brownian path of a wrong size").with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchCpu;

    const SHAPE: [usize; 4] = [1, 4, 5, 3];

    fn path(shape: [usize; 4], entropy: u64) -> impl Path {
        let normals = |seed: u32, n| TorchCpu::new(seed.into()).randn_f32(n);
        BrownianTree::new(shape, 0.03, 14.6, entropy, normals).unwrap()
    }

    #[test]
    fn times_are_rounded_as_python_rounds() {
        for (t, rounded) in [
            (1.0 / 128.0, 0.007812),
            (3.0 / 128.0, 0.023438),
            (1.0000005, 1.000001),
            (1.5e-6, 2e-6),
            (f64::from(0.0291_f32), 0.0291),
            (1e9, 1e9),
        ] {
            assert_eq!(round(t), rounded);
        }
    }

    #[test]
    fn increments_add_up() {
        let mut path = path(SHAPE, 1);
        for [a, b, c] in [[0.03, 1.0, 14.6], [0.5, 0.75, 0.8], [9.0, 3.0, 4.0]] {
            let mut w =
                |from: f32, to: f32| path.increment(from, to).unwrap() * (to - from).abs().sqrt();
            let difference = w(a, b) + w(b, c) - w(a, c);
            assert!(difference.iter().all(|d| d.abs() < 5e-6), "{difference}");
        }
    }

    #[test]
    fn what_was_asked_before_does_not_matter() {
        let times = [
            (14.6, 6.0),
            (6.0, 8.5),
            (6.0, 0.1),
            (0.1, 0.03),
            (0.03, 0.1),
        ];
        let mut used = path(SHAPE, 2);
        let in_order = times.map(|(from, to)| used.increment(from, to).unwrap());
        for ((from, to), expected) in times.into_iter().zip(in_order).rev() {
            assert_eq!(used.increment(from, to).unwrap(), expected);
            assert_eq!(path(SHAPE, 2).increment(from, to).unwrap(), expected);
        }
    }

    #[test]
    fn steps_in_succession_share_their_draws() {
        let drawn = std::cell::Cell::new(0);
        let normals = |seed: u32, n| {
            drawn.set(drawn.get() + 1);
            TorchCpu::new(seed.into()).randn_f32(n)
        };
        let mut path = BrownianTree::new(SHAPE, 0.03, 14.6, 5, normals).unwrap();
        let mut draws = |from, to| {
            drawn.set(0);
            path.increment(from, to).unwrap();
            drawn.get()
        };
        // log2(14.57e6) = 23.8 intervals for each end inside the range.
        assert!((20..=24).contains(&draws(14.6, 6.0)));
        assert!((20..=24).contains(&draws(6.0, 2.5)));
        assert_eq!(draws(2.5, 6.0), 0);
        assert!(draws(5.0, 1.0) > 40);
    }

    #[test]
    fn back_is_the_opposite_of_forth() {
        let mut path = path(SHAPE, 3);
        let forth = path.increment(0.7, 3.3).unwrap();
        assert_eq!(path.increment(3.3, 0.7).unwrap(), -forth);
    }

    /// Moments of two increments that share a bound, and of their product.
    #[test]
    fn increments_are_standard_normal_and_independent() {
        let mut path = path([1, 1, 200, 500], 4);
        let a = path.increment(6.0, 2.5).unwrap();
        let b = path.increment(2.5, 1.1).unwrap();
        let mean = |x: Array4<f32>| x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
        for x in [&a, &b] {
            assert!(mean(x.clone()).abs() < 0.013);
            assert!((mean(x * x) - 1.0).abs() < 0.018);
        }
        assert!(mean(a * b).abs() < 0.013);
    }

    #[test]
    fn what_has_no_answer_is_an_error() {
        let normals = |_: u32, n| vec![0.0; n];
        let tree = |low, high| BrownianTree::new(SHAPE, low, high, 0, normals);
        for (low, high) in [(1.0, 0.5), (-1.0, 1.0), (0.0, 2e9), (f32::NAN, 1.0)] {
            assert!(tree(low, high).is_err(), "{low} {high}");
        }
        let mut path = tree(1.0, 2.0).unwrap();
        let nan = f32::NAN;
        for (from, to) in [(1.5, 1.5), (0.0, 0.5), (nan, 1.5), (1.5, nan), (nan, nan)] {
            assert!(path.increment(from, to).is_err(), "{from} {to}");
        }
        // A single step needs no increment, but has a path.
        assert!(tree(1.0, 1.0).unwrap().increment(1.0, 1.0).is_err());
    }
}
