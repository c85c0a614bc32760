//! Where a sampler's noise comes from: torch's CPU generator, or a recorded sequence.

use ndarray::Array4;

use crate::error::Result;

/// A source of standard normal noise. Samplers draw from it in the reference's order.
pub trait NoiseSource {
    /// The next draw, of `shape` `[N, C, H, W]`, standard normal.
    ///
    /// # Errors
    /// A recorded sequence that is exhausted or holds another shape.
    fn randn(&mut self, shape: [usize; 4]) -> Result<Array4<f32>>;
}
