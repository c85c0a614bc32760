//! diffbir

pub mod denoise;
pub mod error;
pub mod rng;
pub mod tensor;
