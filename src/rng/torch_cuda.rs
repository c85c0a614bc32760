//! torch's CUDA generator.

use ndarray::Array4;

use super::philox::philox;
use super::{BrownianTree, NoiseSource, Path, TorchCpu};
use crate::error::{Error, Result};

/// Threads per block of torch's kernel.
const BLOCK: usize = 256;
/// Normal values per call of Philox.
const UNROLL: usize = 4;

/// torch's CUDA generator after `torch.manual_seed(seed)`, computed on the CPU.
///
/// Random words and their order equal those of the device. A value may differ by about 1e-6, because the device uses
/// approximate intrinsics for sine and cosine.
///
/// A draw of up to `multiprocessors * threads` values (the number of threads on the device) is the same on all
/// devices; the order of larger draws depends on that number.
///
/// Source: `aten/src/ATen/native/cuda/DistributionTemplates.h`, torch 2.15; NVIDIA's `curand_normal4`.
#[derive(Debug, Clone)]
pub struct TorchCuda {
    stream: Stream,
    /// `torch.manual_seed` also seeds the CPU generator, from which the reference draws the entropy of a path.
    cpu: TorchCpu,
}

impl TorchCuda {
    /// Seeds as `torch.manual_seed(seed)` does, for a device of `multiprocessors` (at least 1) with 2048 threads each,
    /// as on NVIDIA's data centre devices.
    pub fn new(seed: u64, multiprocessors: usize) -> Self {
        TorchCuda::with_threads(seed, multiprocessors, 2048)
    }

    /// The same for multiprocessors with `threads` (at least 256) threads each: 1536 for compute capability 8.6 and
    /// 8.9, 1024 for 7.5.
    pub fn with_threads(seed: u64, multiprocessors: usize, threads: usize) -> Self {
        TorchCuda {
            stream: Stream {
                seed,
                calls: 0,
                max_blocks: (multiprocessors * (threads / BLOCK)).max(1),
            },
            cpu: TorchCpu::new(seed),
        }
    }

    /// `torch.randn(n, device="cuda")` in f32.
    pub fn randn_f32(&mut self, n: usize) -> Vec<f32> {
        self.stream.randn(n)
    }
}

impl NoiseSource for TorchCuda {
    fn randn(&mut self, shape: [usize; 4]) -> Result<Array4<f32>> {
        let values = self.randn_f32(shape.iter().product());
        Array4::from_shape_vec(shape, values)
            .map_err(|e| Error::internal("noise of a wrong size").with_source(e))
    }

    /// The reference's path: its entropy is drawn by the CPU generator, its normals by the CUDA generator.
    fn path(&mut self, shape: [usize; 4], low: f32, high: f32) -> Result<Box<dyn Path>> {
        let entropy = self.cpu.randint63() as u64;
        let max_blocks = self.stream.max_blocks;
        let normals = move |seed: u32, n| {
            let mut stream = Stream {
                seed: seed.into(),
                calls: 0,
                max_blocks,
            };
            stream.randn(n)
        };
        Ok(Box::new(BrownianTree::new(
            shape, low, high, entropy, normals,
        )?))
    }
}

/// The CUDA generator itself.
#[derive(Debug, Clone)]
struct Stream {
    seed: u64,
    /// Number of Philox calls per thread, a quarter of torch's offset.
    calls: u64,
    max_blocks: usize,
}

impl Stream {
    fn randn(&mut self, n: usize) -> Vec<f32> {
        let mut values = vec![0.0; n];
        let threads = BLOCK * n.div_ceil(BLOCK).min(self.max_blocks);
        // One call in all threads fills a chunk: the first value of each thread, then the second …
        for chunk in values.chunks_mut((threads * UNROLL).max(1)) {
            for thread in 0..threads.min(chunk.len()) {
                let words = self.words(thread as u64);
                for (pair, &[u, v]) in words.as_chunks().0.iter().enumerate() {
                    let first = thread + 2 * pair * threads;
                    if first >= chunk.len() {
                        break;
                    }
                    let (sin, cos) = box_muller(u, v);
                    chunk[first] = sin;
                    if let Some(second) = chunk.get_mut(first + threads) {
                        *second = cos;
                    }
                }
            }
            self.calls += 1;
        }
        values
    }

    /// The words of a thread's next call.
    fn words(&self, thread: u64) -> [u32; 4] {
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        let ([a, b], [c, d]) = (halves(self.calls), halves(thread));
        philox([a, b, c, d], halves(self.seed))
    }
}

/// Two normal values, by sine and cosine, from two words.
fn box_muller(u: u32, v: u32) -> (f32, f32) {
    const STEP: f32 = 1.0 / 4_294_967_296.0;
    const ANGLE: f32 = STEP * std::f32::consts::TAU;
    let u = (u as f32).mul_add(STEP, STEP / 2.0);
    let v = (v as f32).mul_add(ANGLE, ANGLE / 2.0);
    // In f64 and rounded, for the same result on all platforms.
    let radius = (-2.0 * f64::from(u).ln() as f32).sqrt();
    let (sin, cos) = f64::from(v).sin_cos();
    (radius * sin as f32, radius * cos as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with the values in the emulation by AUTOMATIC1111's stable-diffusion-webui (`rng_philox.py`).
    #[test]
    fn seed_0_gives_the_published_values() {
        let published = [
            -0.92466259,
            -0.42534415,
            -2.6438457,
            0.14518388,
            -0.12086647,
            -0.57972564,
            -0.62285122,
            -0.32838709,
            -1.07454231,
            -0.36314407,
            -1.67105067,
            2.26550497,
        ];
        let found = TorchCuda::new(0, 108).randn_f32(12);
        for (found, published) in found.iter().zip(published) {
            assert!((f64::from(*found) - published).abs() < 1e-6, "{found}");
        }
    }

    /// Each thread's work, in the order of torch's kernel.
    fn kernel(seed: u64, offset: u64, blocks: usize, n: usize) -> Vec<f32> {
        let mut values = vec![f32::NAN; n];
        let stride = BLOCK * blocks;
        let rounded = ((n - 1) / (stride * 4) + 1) * stride * 4;
        for thread in 0..stride {
            let first = u128::from(offset / 4) | (thread as u128) << 64;
            for (call, base) in (thread..rounded).step_by(stride * 4).enumerate() {
                let counter = first + call as u128;
                let words = [0, 32, 64, 96].map(|shift| (counter >> shift) as u32);
                let [a, b, c, d] = philox(words, [seed as u32, (seed >> 32) as u32]);
                let (x, y) = box_muller(a, b);
                let (z, w) = box_muller(c, d);
                for (k, value) in [x, y, z, w].into_iter().enumerate() {
                    if let Some(place) = values.get_mut(base + k * stride) {
                        *place = value;
                    }
                }
            }
        }
        values
    }

    #[test]
    fn values_lie_where_the_kernel_puts_them() {
        for seed in [3, u64::MAX - 5] {
            let mut offset = 0;
            let mut rng = TorchCuda::with_threads(seed, 3, 700);
            // 3 * (700 / 256) = 6 blocks of 256 threads: 1536 threads, 6144 values per round.
            for n in [
                1,
                255,
                256,
                257,
                1536,
                1537,
                3072,
                6000,
                6144,
                6145,
                20_000_usize,
            ] {
                let blocks = n.div_ceil(256).min(6);
                let expected = kernel(seed, offset, blocks, n);
                assert_eq!(rng.randn_f32(n), expected, "{n}");
                offset += 4 * ((n as u64 - 1) / (256 * blocks as u64 * 4) + 1);
            }
        }
    }

    #[test]
    fn nothing_drawn_moves_nothing() {
        let mut rng = TorchCuda::new(1, 1);
        assert!(rng.randn_f32(0).is_empty());
        assert_eq!(rng.randn_f32(5), TorchCuda::new(1, 1).randn_f32(5));
    }

    #[test]
    fn a_small_draw_does_not_depend_on_the_device() {
        let n = 80 * 2048;
        let small = TorchCuda::new(5, 80).randn_f32(n);
        assert_eq!(small, TorchCuda::new(5, 132).randn_f32(n));
    }

    #[test]
    fn extreme_words_give_finite_values() {
        for u in [0, 1, u32::MAX] {
            for v in [0, 1 << 31, u32::MAX] {
                let (sin, cos) = box_muller(u, v);
                assert!(sin.is_finite() && cos.is_finite(), "{u} {v}");
            }
        }
    }

    #[test]
    fn moments_are_those_of_a_standard_normal() {
        // All four values of each call.
        let x = TorchCuda::new(1, 1).randn_f32(200_000);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.015, "{variance}");
    }

    #[test]
    fn paths_are_seeded_by_the_cpu_and_drawn_by_the_device() {
        let shape = [1, 4, 2, 2];
        let mut cuda = TorchCuda::new(9, 1);
        let mut cpu = TorchCpu::new(9);
        let mut seen = Vec::new();
        for _ in 0..2 {
            // A draw of the CUDA generator does not advance the CPU generator.
            cuda.randn(shape).unwrap();
            let normals = |seed: u32, n| TorchCuda::new(seed.into(), 1).randn_f32(n);
            let entropy = cpu.randint63() as u64;
            let mut expected = BrownianTree::new(shape, 0.1, 9.0, entropy, normals).unwrap();
            let expected = expected.increment(9.0, 4.0).unwrap();
            let mut path = cuda.path(shape, 0.1, 9.0).unwrap();
            assert_eq!(path.increment(9.0, 4.0).unwrap(), expected);
            seen.push(expected);
        }
        assert_ne!(seen[0], seen[1]);
    }
}
