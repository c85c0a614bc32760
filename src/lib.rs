//! diffbir

pub mod color;
pub mod denoise;
pub mod error;
pub mod resize;
pub mod rng;
pub mod samplers;
pub mod schedule;
pub mod tensor;
