//! Noise sources of samplers: torch's generators, or recorded draws.

mod box_muller;
mod brownian;
mod kind;
mod philox;
mod seed_sequence;
mod torch_cpu;
mod torch_cuda;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::{Array4, ArrayView4};

use crate::error::{Error, Result};
use crate::tensor::stack_batch;

pub use brownian::BrownianTree;
pub use kind::{Draws, Rng};
pub use torch_cpu::TorchCpu;
pub use torch_cuda::TorchCuda;

/// A source of standard normal noise. Samplers draw from it in the reference's order.
pub trait NoiseSource {
    /// The next draw, of `shape` `[N, C, H, W]`, standard normal.
    ///
    /// # Errors
    /// An exhausted recording, or one with another shape.
    fn randn(&mut self, shape: [usize; 4]) -> Result<Array4<f32>>;

    /// A Brownian path over `[low, high]`, of `shape` `[N, C, H, W]`. Draws the path's seed from this source.
    ///
    /// # Errors
    /// As [`randn`](Self::randn).
    fn path(&mut self, shape: [usize; 4], low: f32, high: f32) -> Result<Box<dyn Path>>;
}

/// A Brownian path `W`, the noise of the SDE samplers, independent of the steps taken.
pub trait Path {
    /// `(W(to) - W(from)) / sqrt(|to - from|)`, standard normal, of the path's shape. Both times are in the path's
    /// range, in either order.
    ///
    /// # Errors
    /// As [`NoiseSource::randn`].
    fn increment(&mut self, from: f32, to: f32) -> Result<Array4<f32>>;
}

/// Recorded draws, returned in order. Clones and paths share one sequence.
#[derive(Debug, Clone)]
pub struct Replay {
    draws: Arc<Mutex<VecDeque<Array4<f32>>>>,
    recorded: usize,
}

impl Replay {
    /// Replays `draws`, in order.
    pub fn new(draws: Vec<Array4<f32>>) -> Self {
        Replay {
            recorded: draws.len(),
            draws: Arc::new(Mutex::new(draws.into())),
        }
    }

    /// Number of remaining draws.
    pub fn remaining(&self) -> usize {
        self.draws().len()
    }

    fn draws(&self) -> MutexGuard<'_, VecDeque<Array4<f32>>> {
        self.draws.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, shape: [usize; 4]) -> Result<Array4<f32>> {
        let mut draws = self.draws();
        let drawn = self.recorded - draws.len();
        match draws.front() {
            None => Err(Error::input(format!(
                "the recorded noise ended after {drawn} draws, another of shape {shape:?} was asked for"
            ))),
            Some(next) if next.shape() != shape => Err(Error::input(format!(
                "the recorded noise {drawn} has the shape {:?}, {shape:?} was asked for",
                next.shape()
            ))),
            Some(_) => draws
                .pop_front()
                .ok_or_else(|| Error::internal("the recorded noise vanished")),
        }
    }
}

impl NoiseSource for Replay {
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input) if no draw remains or the next one has another shape (it then stays
    /// in the sequence).
    fn randn(&mut self, shape: [usize; 4]) -> Result<Array4<f32>> {
        self.next(shape)
    }

    /// A path whose increments are the next recorded draws, independent of the times.
    fn path(&mut self, shape: [usize; 4], _: f32, _: f32) -> Result<Box<dyn Path>> {
        let replay = self.clone();
        Ok(Box::new(ReplayedPath { replay, shape }))
    }
}

struct ReplayedPath {
    replay: Replay,
    shape: [usize; 4],
}

impl Path for ReplayedPath {
    fn increment(&mut self, _: f32, _: f32) -> Result<Array4<f32>> {
        self.replay.next(self.shape)
    }
}

/// One source for each sample of a batch: sample `k` does not depend on the batch size.
pub struct PerSample {
    sources: Vec<Box<dyn NoiseSource + Send>>,
}

impl PerSample {
    /// Draws element `k` of a batch from `sources[k]`.
    pub fn new(sources: Vec<Box<dyn NoiseSource + Send>>) -> Self {
        PerSample { sources }
    }
}

impl PerSample {
    /// The shape of one sample of a batch of `shape`.
    fn single(&self, [n, c, h, w]: [usize; 4]) -> Result<[usize; 4]> {
        if n == self.sources.len() {
            return Ok([1, c, h, w]);
        }
        Err(Error::internal(format!(
            "noise for {n} samples was asked of {} sources",
            self.sources.len()
        )))
    }
}

impl NoiseSource for PerSample {
    /// Draws `[1, C, H, W]` from each source and joins them.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) if the batch size of `shape` is not the number of sources;
    /// otherwise errors of the sources.
    fn randn(&mut self, shape: [usize; 4]) -> Result<Array4<f32>> {
        let single = self.single(shape)?;
        join(self.sources.iter_mut().map(|source| source.randn(single)))
    }

    /// One path for each sample, all over the same range.
    fn path(&mut self, shape: [usize; 4], low: f32, high: f32) -> Result<Box<dyn Path>> {
        let single = self.single(shape)?;
        let paths = self.sources.iter_mut();
        let paths = paths.map(|source| source.path(single, low, high));
        Ok(Box::new(PerSamplePath(paths.collect::<Result<_>>()?)))
    }
}

struct PerSamplePath(Vec<Box<dyn Path>>);

impl Path for PerSamplePath {
    fn increment(&mut self, from: f32, to: f32) -> Result<Array4<f32>> {
        join(self.0.iter_mut().map(|path| path.increment(from, to)))
    }
}

/// Concatenates one draw per sample to a batch.
fn join(draws: impl Iterator<Item = Result<Array4<f32>>>) -> Result<Array4<f32>> {
    let draws = draws.collect::<Result<Vec<_>>>()?;
    let views: Vec<ArrayView4<'_, f32>> = draws.iter().map(|draw| draw.view()).collect();
    stack_batch(&views)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    #[test]
    fn replay_ends_with_a_clear_error() {
        let mut replay = Replay::new(vec![Array4::zeros((1, 4, 2, 2))]);
        assert!(replay.randn([1, 4, 2, 3]).is_err());
        assert_eq!(replay.remaining(), 1);
        assert!(replay.randn([1, 4, 2, 2]).is_ok());
        let error = replay.randn([1, 4, 2, 2]).unwrap_err().to_string();
        assert_eq!(
            error,
            "the recorded noise ended after 1 draws, another of shape [1, 4, 2, 2] was asked for"
        );
    }

    #[test]
    fn a_sample_does_not_depend_on_its_batch() {
        let seeded = |seed| Box::new(TorchCpu::new(seed)) as Box<dyn NoiseSource + Send>;
        let mut batch = PerSample::new(vec![seeded(7), seeded(8), seeded(9)]);
        let mut alone = PerSample::new(vec![seeded(9)]);
        for _ in 0..2 {
            let three = batch.randn([3, 4, 3, 5]).unwrap();
            let one = alone.randn([1, 4, 3, 5]).unwrap();
            assert_eq!(three.slice(s![2..3, .., .., ..]), one);
        }
        assert!(batch.randn([2, 4, 3, 5]).is_err());
    }
}
