//! The random generator, and how its seed determines the noise of a picture's samples.

use std::fmt;
use std::str::FromStr;

use ndarray::Array4;
use serde::{Deserialize, Serialize};

use super::{NoiseSource, PerSample, Replay, TorchCpu, TorchCuda};
use crate::error::{Error, Result};

/// A random generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Rng {
    /// torch's CPU generator.
    #[default]
    TorchCpu,
    /// torch's generator on a CUDA device.
    TorchCuda {
        /// Multiprocessors of the device, at least 1. The result depends on their number only for draws of more values
        /// than the device has threads.
        multiprocessors: usize,
        /// Threads per multiprocessor, at least 256: 2048 on data centre devices, 1536 on GeForce RTX 30 and 40.
        threads: usize,
    },
}

/// Multiprocessors of an H100 or H200.
const MULTIPROCESSORS: usize = 132;
const THREADS: usize = 2048;

impl Rng {
    /// The generator after `torch.manual_seed(seed)`.
    pub fn seeded(self, seed: u64) -> Box<dyn NoiseSource + Send> {
        match self {
            Rng::TorchCpu => Box::new(TorchCpu::new(seed)),
            Rng::TorchCuda {
                multiprocessors,
                threads,
            } => Box::new(TorchCuda::with_threads(seed, multiprocessors, threads)),
        }
    }
}

impl fmt::Display for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rng::TorchCpu => f.write_str("torch-cpu"),
            Rng::TorchCuda {
                multiprocessors,
                threads: THREADS,
            } => write!(f, "torch-cuda:{multiprocessors}"),
            Rng::TorchCuda {
                multiprocessors,
                threads,
            } => write!(f, "torch-cuda:{multiprocessors}x{threads}"),
        }
    }
}

impl FromStr for Rng {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let device = match text {
            "torch-cpu" => return Ok(Rng::TorchCpu),
            "torch-cuda" => Some((MULTIPROCESSORS, THREADS)),
            _ => text.strip_prefix("torch-cuda:").and_then(device),
        };
        let (multiprocessors, threads) = device.ok_or_else(|| {
            Error::option(format!(
                "rng `{text}`: expected torch-cpu, torch-cuda, torch-cuda:MULTIPROCESSORS or torch-cuda:MULTIPROCESSORSxTHREADS, \
                 such as torch-cuda:132 or torch-cuda:128x1536"
            ))
        })?;
        Ok(Rng::TorchCuda {
            multiprocessors,
            threads,
        })
    }
}

/// Multiprocessors, and threads per multiprocessor.
fn device(text: &str) -> Option<(usize, usize)> {
    let (multiprocessors, threads) = match text.split_once('x') {
        Some((multiprocessors, threads)) => (multiprocessors, threads.parse().ok()?),
        None => (text, THREADS),
    };
    let multiprocessors = multiprocessors.parse().ok()?;
    (multiprocessors > 0 && threads >= 256).then_some((multiprocessors, threads))
}

impl TryFrom<String> for Rng {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Rng> for String {
    fn from(rng: Rng) -> Self {
        rng.to_string()
    }
}

/// The noise of a picture's samples, drawn batch by batch.
pub struct Draws(Seeding);

enum Seeding {
    PerSample {
        rng: Rng,
        seed: u64,
        current: PerSample,
    },
    Stream(Box<dyn NoiseSource + Send>),
}

impl Draws {
    /// Sample k has a generator of its own with seed `seed + k` (wrapping).
    pub fn per_sample(rng: Rng, seed: u64) -> Self {
        Draws(Seeding::PerSample {
            rng,
            seed,
            current: PerSample::new(Vec::new()),
        })
    }

    /// One generator with seed `seed` for all samples; a batch is one draw.
    pub fn stream(rng: Rng, seed: u64) -> Self {
        Draws(Seeding::Stream(rng.seeded(seed)))
    }

    /// Recorded draws.
    pub fn replay(draws: Vec<Array4<f32>>) -> Self {
        Draws(Seeding::Stream(Box::new(Replay::new(draws))))
    }

    /// The noise source of the `n` samples from `first` on. Batches are requested in order.
    pub fn batch(&mut self, first: usize, n: usize) -> &mut dyn NoiseSource {
        match &mut self.0 {
            Seeding::PerSample { rng, seed, current } => {
                let seeds = (first..first + n).map(|k| seed.wrapping_add(k as u64));
                *current = PerSample::new(seeds.map(|seed| rng.seeded(seed)).collect());
                current
            }
            Seeding::Stream(source) => source.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["torch-cpu", "torch-cuda:132", "torch-cuda:128x1536"] {
            assert_eq!(name.parse::<Rng>().unwrap().to_string(), name);
        }
        assert_eq!(
            "torch-cuda".parse::<Rng>().unwrap().to_string(),
            "torch-cuda:132"
        );
        for name in [
            "torch",
            "torch-cuda:",
            "torch-cuda:0",
            "torch-cuda:1x2",
            "torch-cuda:x",
        ] {
            let error = name.parse::<Rng>().unwrap_err().to_string();
            assert!(error.contains("torch-cuda:132"), "{error}");
        }
    }

    #[test]
    fn a_batch_is_its_samples() {
        let mut draws = Draws::per_sample(Rng::TorchCpu, 7);
        let two = draws.batch(1, 2).randn([2, 4, 3, 5]).unwrap();
        let one = draws.batch(2, 1).randn([1, 4, 3, 5]).unwrap();
        assert_eq!(two.slice(ndarray::s![1..2, .., .., ..]), one);
        assert_eq!(one, TorchCpu::new(9).randn([1, 4, 3, 5]).unwrap());
    }
}
