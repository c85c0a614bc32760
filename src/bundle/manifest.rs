//! The contents of `bundle.yaml`, and reading it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nets::contract::GraphKind;
use crate::runtime::Role;
use crate::schedule::DiffusionConfig;
use crate::yaml;

/// The format of `bundle.yaml` that this engine reads.
pub const FORMAT: u64 = 1;

/// Name of the precision of variants that compute partly in 8 bits.
pub const INT8: &str = "int8";

const SCHEMA: &str = include_str!("../../export/diffbir_export/bundle.schema.json");

/// The contents of `bundle.yaml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, [`FORMAT`].
    pub format: u64,
    /// `v1`, `v2`, `v2.1` or `custom`.
    pub family: String,
    /// Origin of the weights.
    pub weights: Weights,
    /// Versions of the exporter and its packages.
    pub exporter: BTreeMap<String, serde_json::Value>,
    /// The checkpoints that were read.
    pub checkpoints: Vec<Checkpoint>,
    /// Constants of the diffusion process; like the latent space, defaults and prompt embeddings absent from a bundle
    /// of restoration modules alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diffusion: Option<DiffusionConfig>,
    /// Constants of the latent space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentConstants>,
    /// Pictures with a shorter edge than this are upscaled to it before restoration, in pixels (official: 512).
    pub min_short_edge: usize,
    /// The supported tasks.
    pub tasks: BTreeMap<String, Task>,
    /// The options of the family's published commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// Precomputed prompt embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Contexts>,
    /// The tokenizer of the text encoder, if the bundle has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<HashedFile>,
    /// The graphs by their names.
    pub graphs: BTreeMap<String, Graph>,
}

/// Origin of a bundle's weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Weights {
    /// `checkpoints`, `random` or `trained`.
    pub source: String,
    /// The seed of random weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A checkpoint that the exporter read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// `sd`, `control` or `cleaner.TASK`.
    pub role: String,
    /// Its file name.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// Constants of the latent space. The graphs apply the scale factor themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LatentConstants {
    /// Channels of a latent.
    pub channels: usize,
    /// Image pixels per latent pixel in each direction.
    pub downscale: usize,
    /// Factor on the encoder's output.
    pub scale_factor: f64,
}

/// A task of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The graph of stage 1.
    pub cleaner: String,
}

/// The options of the family's published commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Defaults {
    /// The sampler, by the reference's name.
    pub sampler: String,
    /// Steps of the sampler.
    pub steps: usize,
    /// Scale of classifier-free guidance.
    pub cfg_scale: f64,
    /// The positive prompt.
    pub prompt: String,
    /// The negative prompt.
    pub negative_prompt: String,
}

/// Precomputed prompt embeddings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contexts {
    /// A safetensors file with one `[tokens, width]` tensor per prompt.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
    /// Tokens of an embedding.
    pub tokens: usize,
    /// Channels of an embedding.
    pub width: usize,
    /// Which tensor belongs to which prompt.
    pub prompts: Vec<ContextEntry>,
}

/// One precomputed prompt embedding.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContextEntry {
    /// The tensor's name in the file.
    pub tensor: String,
    /// The prompt it was computed from.
    pub prompt: String,
}

/// A file and its SHA-256.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HashedFile {
    /// Its name in the bundle.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// One graph of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Graph {
    /// Its contract.
    pub kind: GraphKind,
    /// The architecture, such as `swinir`.
    pub architecture: String,
    /// The `.onnx` file.
    pub file: String,
    /// `fp32` or `fp16`.
    pub precision: String,
    /// Height and width of the input must be multiples of this.
    pub multiple: usize,
    /// Height of the output over height of the input.
    pub scale: f64,
    /// SHA-256 of the graph's file and of its external data.
    pub files: BTreeMap<String, String>,
    /// For the VAE: the file that describes the segments of its strip-streamed form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<String>,
    /// Radius of the receptive field in input pixels, for stage-1 networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halo: Option<usize>,
    /// Measured deviation from PyTorch.
    pub verified: Vec<BTreeMap<String, serde_json::Value>>,
    /// Variants of the graph, each for one provider.
    #[serde(default)]
    pub variants: Vec<Variant>,
}

/// A variant of a graph for one provider. It uses the graph's external data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Variant {
    /// Its name among the graph's variants.
    pub name: String,
    /// The provider's name in the configuration.
    pub provider: String,
    /// The `.onnx` file.
    pub file: String,
    /// `fp32`, `fp16` or `int8`.
    pub precision: String,
    /// Whether it computes the whole graph or a part. Default: [`Role::Whole`].
    #[serde(default)]
    pub role: Role,
    /// See [`GraphInfo::shares_prefix`](crate::nets::GraphInfo::shares_prefix). Default: false.
    #[serde(default)]
    pub shares_prefix: bool,
    /// The tensor of deep features that the whole graph outputs and the [shallow](Role::Shallow) variant takes as
    /// input, if any.
    #[serde(default, rename = "deep", skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// Number of cached values per batch row and latent pixel that a run outputs for later denoiser calls. Default: 0.
    #[serde(default, rename = "left")]
    pub values_per_pixel: usize,
    /// Graph rewrites, and how often each was applied.
    #[serde(default)]
    pub rewrites: BTreeMap<String, u64>,
    /// SHA-256 of its own files.
    pub files: BTreeMap<String, String>,
    /// Measured deviation from the graph.
    pub verified: Vec<BTreeMap<String, serde_json::Value>>,
}

/// Parses a manifest: the format version first, so that a newer one is reported as such, then the schema, then the
/// types.
pub(super) fn parse(text: &str) -> Result<Manifest> {
    let invalid =
        |e: &dyn std::fmt::Display| Error::bundle(format!("not a valid bundle description: {e}"));
    let value = yaml::parse(text).map_err(|e| invalid(&e))?;
    let value: serde_json::Value = serde_yaml::from_value(value).map_err(|e| invalid(&e))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => {
            return Err(Error::bundle(format!(
                "bundle format {newer}, but this engine reads format {FORMAT}: update diffbir, or export the bundle anew"
            )));
        }
        _ => {
            return Err(Error::bundle(format!(
                "no usable `format`, expected {FORMAT}"
            )));
        }
    }
    let schema: serde_json::Value = serde_json::from_str(SCHEMA)
        .map_err(|e| Error::internal("the bundle schema is no JSON").with_source(e))?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|e| Error::internal(format!("the bundle schema is not valid: {e}")))?;
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .take(3)
        .map(|e| format!("{} {e}", e.instance_path()))
        .collect();
    if !errors.is_empty() {
        return Err(invalid(&errors.join("; ").trim()));
    }
    serde_json::from_value(value).map_err(|e| invalid(&e))
}
