//! torch's CPU generator.

use std::f64::consts::PI;

use ndarray::Array4;
use rand_mt::Mt;

use super::{BrownianTree, NoiseSource, Path, box_muller};
use crate::error::{Error, Result};

/// torch's CPU generator after `torch.manual_seed(seed)`, with the kinds of draws that the reference makes.
///
/// `rand` and `randint63` are bit-equal to torch. `randn` of at least 16 values is bit-equal to torch's AVX2 and
/// AVX-512 builds, which run on every x86-64 machine of the last decade; torch's scalar build (other processors)
/// differs from them by up to 1.4e-6. `randn` of fewer values is computed in f64 with the platform's `log1p`, `sin`
/// and `cos`.
///
/// Source: `aten/src/ATen/core/DistributionsHelper.h` and `aten/src/ATen/native/cpu/DistributionTemplates.h`, torch
/// 2.15.
#[derive(Debug, Clone)]
pub struct TorchCpu {
    mt: Mt,
    /// The second normal of a pair drawn by the small path (fewer than 16 values). torch caches it across calls of any
    /// size.
    cached: Option<f64>,
}

/// From this number of values on torch fills whole blocks instead of drawing single values.
const BLOCK: usize = 16;

impl TorchCpu {
    /// Seeds as `torch.manual_seed(seed)` does: with the low 32 bits.
    pub fn new(seed: u64) -> Self {
        TorchCpu {
            mt: Mt::new(seed as u32),
            cached: None,
        }
    }

    /// 64 random bits; the word drawn first is the high one.
    fn random64(&mut self) -> u64 {
        let high = u64::from(self.mt.next_u32());
        high << 32 | u64::from(self.mt.next_u32())
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-24.
    fn uniform(&mut self) -> f32 {
        (self.mt.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    fn uniform_f64(&mut self) -> f64 {
        (self.random64() & 0x1f_ffff_ffff_ffff) as f64 / 9_007_199_254_740_992.0
    }

    /// `torch.rand(n)` in f32: uniform in `[0, 1)`.
    pub fn rand(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.uniform()).collect()
    }

    /// `torch.randint(0, 2**63 - 1, ())`.
    pub fn randint63(&mut self) -> i64 {
        (self.random64() % (i64::MAX as u64)) as i64
    }

    /// `torch.randn(n)` in f32. As in torch, another algorithm is used below 16 values.
    pub fn randn_f32(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.normal() as f32).collect();
        }
        let mut values = self.rand(n);
        values
            .as_chunks_mut()
            .0
            .iter_mut()
            .for_each(box_muller::avx2);
        if !n.is_multiple_of(BLOCK) {
            // torch redraws the last block of 16 instead of filling the remainder.
            let tail = values[n - BLOCK..].iter_mut();
            let mut block = std::array::from_fn(|_| self.uniform());
            box_muller::avx2(&mut block);
            tail.zip(block).for_each(|(value, new)| *value = new);
        }
        values
    }

    /// `torch.randn(n, dtype=torch.float64)`.
    pub fn randn_f64(&mut self, n: usize) -> Vec<f64> {
        if n < BLOCK {
            return (0..n).map(|_| self.normal()).collect();
        }
        let mut values: Vec<f64> = (0..n).map(|_| self.uniform_f64()).collect();
        values
            .as_chunks_mut()
            .0
            .iter_mut()
            .for_each(box_muller::scalar);
        if !n.is_multiple_of(BLOCK) {
            let tail = values[n - BLOCK..].iter_mut();
            let mut block = std::array::from_fn(|_| self.uniform_f64());
            box_muller::scalar(&mut block);
            tail.zip(block).for_each(|(value, new)| *value = new);
        }
        values
    }

    /// One normal value of the small path: Box-Muller in f64; returns the cosine's first and caches the sine's.
    fn normal(&mut self) -> f64 {
        if let Some(value) = self.cached.take() {
            return value;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let (sin, cos) = (2.0 * PI * u1).sin_cos();
        self.cached = Some(radius * sin);
        radius * cos
    }
}

impl NoiseSource for TorchCpu {
    fn randn(&mut self, shape: [usize; 4]) -> Result<Array4<f32>> {
        let values = self.randn_f32(shape.iter().product());
        Array4::from_shape_vec(shape, values)
            .map_err(|e| Error::internal("noise of a wrong size").with_source(e))
    }

    /// The reference's path: one tree of the whole shape, with entropy drawn by [`randint63`](TorchCpu::randint63).
    fn path(&mut self, shape: [usize; 4], low: f32, high: f32) -> Result<Box<dyn Path>> {
        let entropy = self.randint63() as u64;
        let normals = |seed: u32, n| TorchCpu::new(seed.into()).randn_f32(n);
        Ok(Box::new(BrownianTree::new(
            shape, low, high, entropy, normals,
        )?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_count_modulo_two_to_the_32() {
        assert_eq!(
            TorchCpu::new(5).rand(9),
            TorchCpu::new((1 << 40) + 5).rand(9)
        );
    }

    #[test]
    fn moments_are_those_of_a_standard_normal() {
        let x = TorchCpu::new(1).randn_f32(200_000);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.015, "{variance}");
    }
}
