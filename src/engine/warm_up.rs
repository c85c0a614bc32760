//! What a first request would wait for, done beforehand.

use std::sync::Barrier;
use std::thread;

use super::{Engine, Request};
use crate::error::{Error, Result};
use crate::imageio::Rgb;
use crate::options::Options;

/// The first run of a shape finds kernels, the second binds and records them, the third is as all later ones.
const STEPS: usize = 3;
const GREY: u8 = 127;

impl Engine {
    /// Restores a grey picture whose result has `size` (height, width) in three steps, on every set of networks: graphs are
    /// loaded, TensorRT's engines built, cuDNN's algorithms chosen and CUDA graphs recorded for the shapes of such pictures
    /// under `options`. Where graphs are released between stages, they are loaded again later.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn warm_up(&self, (height, width): (usize, usize), options: &Options) -> Result<()> {
        // Two at once would wait for each other's sets.
        let turn = self.warming.lock();
        let upscale = options.restore.upscale;
        let of_lq = |length: usize| ((length as f64 / upscale) as usize).max(1);
        let (height, width) = (of_lq(height), of_lq(width));
        self.check(options)?.sizes((height, width))?;
        let lq = Rgb::from_elem((height, width, 3), GREY);
        let mut options = options.clone();
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
