//! diffbir

pub mod bundle;
pub mod cancel;
#[cfg(feature = "cli")]
pub mod cli;
pub mod color;
pub mod config;
pub mod denoise;
pub mod engine;
pub mod error;
pub mod imageio;
pub mod nets;
pub mod options;
pub mod pipeline;
pub mod resize;
pub mod rng;
pub mod runtime;
pub mod samplers;
pub mod schedule;
pub mod tensor;
