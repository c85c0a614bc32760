//! `--replay-noise`: recorded noise instead of the seed's.

use std::path::Path;

use ndarray::Array4;

use crate::error::{Error, Result};
use crate::tensor;

/// Reads a safetensors file: noise.0, noise.1 … , each `[N, C, H, W]`.
pub fn read(path: &Path) -> Result<Vec<Array4<f32>>> {
    let bad = |e: &dyn std::fmt::Display| {
        Error::option(format!("--replay-noise {}: {e}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|e| bad(&e))?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| bad(&e))?;
    let mut draws = Vec::new();
    while let Ok(view) = file.tensor(&format!("noise.{}", draws.len())) {
        let values = tensor::f32_from_safetensor(&view).map_err(|e| bad(&e))?;
        let &[n, c, h, w] = view.shape() else {
            return Err(bad(&format!(
                "noise.{} has shape {:?}, expected four axes",
                draws.len(),
                view.shape()
            )));
        };
        draws.push(Array4::from_shape_vec((n, c, h, w), values).map_err(|e| bad(&e))?);
    }
    if draws.is_empty() {
        return Err(bad(&"no tensor `noise.0`"));
    }
    Ok(draws)
}
