//! The memory model of a bundle's graphs: `memory.yaml` in the bundle, measured by `diffbir bench --graphs`.
//!
//! The figures decide whether a stage runs untiled or in tiles, never its result, so the file is not part of the
//! bundle's hash and may be measured again on any machine.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::read_text;
use crate::memory::MAX_COUNTED;
use crate::nets::contract::GraphKind;
use crate::yaml;

/// The file's name.
pub const MEMORY: &str = "memory.yaml";

/// Memory of graphs, by name; variants as `GRAPH.VARIANT`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryModel {
    /// One entry for each graph and variant that was measured.
    pub graphs: BTreeMap<String, GraphMemory>,
}

/// Memory of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphMemory {
    /// Bytes held while loaded.
    pub load: u64,
    /// Additional bytes during a run: a constant, and for each member of the batch a linear and a quadratic term in the
    /// number of pixels of its input (an image or a latent).
    pub run: [f64; 3],
}

impl GraphMemory {
    /// Additional bytes of a run on a batch of `n` inputs of so many pixels each, without [`load`](Self::load).
    pub fn run_bytes(&self, n: usize, pixels: usize) -> u64 {
        let (n, pixels) = (n as f64, pixels as f64);
        let [constant, linear, squared] = self.run;
        let bytes = constant + n * pixels * (linear + pixels * squared);
        (bytes.max(0.0) as u64).min(MAX_COUNTED)
    }

    /// Assumed figures of an unmeasured graph of `scale` with files of `bytes`: those of the official sizes, measured on random
    /// weights (the decoder's backward pass: 5 times its linear and 3 times its quadratic term).
    pub fn unmeasured(kind: GraphKind, scale: f64, bytes: u64) -> Self {
        let run = match kind {
            // Features of RRDBNet's enlarged picture, beyond the scale of the other modules.
            GraphKind::Cleaner => [64e6, 800.0 * scale.max(1.0).powi(2), 0.0],
            GraphKind::VaeEncoder => [64e6, 2_600.0, 8.0 / 4096.0],
            GraphKind::VaeDecoder => [440e6, 130_000.0, 14.0],
            GraphKind::VaeDecoderVjp => [440e6, 650_000.0, 42.0],
            GraphKind::Denoiser | GraphKind::Control | GraphKind::Unet => [64e6, 140_000.0, 22.0],
            GraphKind::TextEncoder => [64e6, 0.0, 0.0],
        };
        GraphMemory {
            load: bytes * 5 / 4,
            run,
        }
    }
}

/// Reads `memory.yaml` of a bundle's folder; empty if there is none.
pub(super) fn read(dir: &Path) -> Result<MemoryModel> {
    let path = dir.join(MEMORY);
    let text = match read_text(&path, yaml::MAX_BYTES) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(MemoryModel::default()),
        Err(e) => {
            return Err(Error::bundle(format!("cannot read {}", path.display())).with_source(e));
        }
    };
    // Without the cause, which could disclose contents if the file is a link.
    let invalid = || {
        Error::bundle(format!(
            "{}: not valid; `diffbir bench --graphs --write --bundle {}` makes it anew",
            path.display(),
            dir.display()
        ))
    };
    let model = yaml::parse(&text)
        .ok()
        .and_then(|value| serde_yaml::from_value(value).ok());
    let model: MemoryModel = model.ok_or_else(invalid)?;
    let is_sound = |graph: &GraphMemory| {
        graph.load <= MAX_COUNTED && graph.run.iter().all(|figure| figure.is_finite())
    };
    match model.graphs.iter().find(|(_, graph)| !is_sound(graph)) {
        Some((name, _)) => Err(invalid().at(format!("graphs.{name}"))),
        None => Ok(model),
    }
}
