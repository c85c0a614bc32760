//! diffbir

pub mod denoise;
pub mod error;
pub mod rng;
pub mod samplers;
pub mod schedule;
pub mod tensor;
