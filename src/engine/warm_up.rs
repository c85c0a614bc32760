//! Warm-up: one-time work of the first request, done at start-up.

use std::sync::Barrier;
use std::thread;

use super::{Engine, Request};
use crate::error::{Error, Result};
use crate::imageio::Rgb;
use crate::options::Options;

/// The first run of a shape selects kernels, the second binds buffers and captures the CUDA graph, the third is a
/// regular one.
const STEPS: usize = 3;
const GREY: u8 = 127;

impl Engine {
    /// Restores a grey picture with a result of `size` (height, width) in three steps, on every set of networks: loads
    /// the graphs, builds TensorRT engines, selects cuDNN algorithms and captures CUDA graphs for these shapes under
    /// `options`. Graphs that are released between stages are loaded again later.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn warm_up(&self, (height, width): (usize, usize), options: &Options) -> Result<()> {
        // Two concurrent warm-ups would deadlock on each other's sets.
        let turn = self.warming.lock();
        let (mut options, upscale) = options.clone().by_factor();
        let of_lq = |length: usize| ((length as f64 / upscale) as usize).max(1);
        let (height, width) = (of_lq(height), of_lq(width));
        self.check(&options)?.sizes((height, width))?;
        let lq = Rgb::from_elem((height, width, 3), GREY);
        options.sampling.steps = options.sampling.steps.min(STEPS);
        let request = Request::new(lq, options);
        let pipeline = self.check(&request.options)?;
        let all_there = Barrier::new(self.width());
        let one = || {
            let mut lease = self.networks.take(&request.cancel)?;
            all_there.wait();
            let networks = lease.networks();
            self.restore_on(networks, &pipeline, &request, &mut |_| Ok(()))
                .map(drop)
        };
        let done = thread::scope(|scope| {
            let others: Vec<_> = (1..self.width()).map(|_| scope.spawn(one)).collect();
            let mine = one();
            let died = |_| Err(Error::internal("a thread that warmed up has died"));
            let join =
                |other: thread::ScopedJoinHandle<'_, Result<()>>| other.join().unwrap_or_else(died);
            others.into_iter().map(join).fold(mine, Result::and)
        });
        drop(turn);
        done
    }
}
