//! Options of NVIDIA's providers.
//!
//! Keys are those of ONNX Runtime 1.31 (`cuda_provider_options.h`, `tensorrt_provider_options.h`) and of version 0.5.0
//! of the TensorRT for RTX plugin (`tensorrt_rtx_provider_options.h`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Provider;
use super::flag;
use crate::memory::Bytes;

/// How cuDNN's convolution algorithms are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvSearch {
    /// Every algorithm is timed when a shape first occurs: slow first run, fastest afterwards.
    #[default]
    Exhaustive,
    /// By cuDNN's heuristic.
    Heuristic,
    /// The same algorithm for all.
    Default,
}

/// Options of CUDA.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CudaOptions {
    /// CUDA device number. Default: 0.
    pub device_id: u32,
    /// Maximum size of a session's arena in bytes of device memory, without the memory of cuDNN and CUDA themselves.
    /// Default: no limit.
    pub memory_limit: Option<Bytes>,
    /// Captures a CUDA graph for each shape and replays it. Default: false.
    pub cuda_graph: bool,
    /// Computes 32-bit products in TF32: faster, with a result that differs from the reference's. Default: false.
    pub tf32: bool,
    /// How convolution algorithms are chosen. Default: exhaustive.
    pub conv_search: ConvSearch,
    /// The arena grows by the requested size instead of by powers of two: less memory, more allocations. Default:
    /// false.
    pub tight_arena: bool,
}

impl CudaOptions {
    pub(super) fn ort_options(&self) -> Vec<(&'static str, String)> {
        let search = match self.conv_search {
            ConvSearch::Exhaustive => "EXHAUSTIVE",
            ConvSearch::Heuristic => "HEURISTIC",
            ConvSearch::Default => "DEFAULT",
        };
        let arena = match self.tight_arena {
            true => "kSameAsRequested",
            false => "kNextPowerOfTwo",
        };
        let mut options = vec![
            ("device_id", self.device_id.to_string()),
            ("enable_cuda_graph", flag(self.cuda_graph)),
            // ONNX Runtime's own default has changed between versions.
            ("use_tf32", flag(self.tf32)),
            ("cudnn_conv_algo_search", search.to_owned()),
            ("arena_extend_strategy", arena.to_owned()),
            // The fast kernel computes an fp16 layer normalisation's mean and variance in fp16.
            ("enable_skip_layer_norm_strict_mode", flag(true)),
        ];
        options.extend(limit("gpu_mem_limit", self.memory_limit));
        options
    }
}

/// Options of TensorRT. Shapes of optimisation profiles are passed through: `trt_profile_min_shapes`, `_opt_` and
/// `_max_`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TensorrtOptions {
    /// CUDA device number. Default: 0.
    pub device_id: u32,
    /// Allows layers to compute in fp16. Default: false.
    pub fp16: bool,
    /// Folder for engines and layer timings: building an engine takes minutes. Engines are in subfolders, named by
    /// everything that they depend on. Default: none, engines are rebuilt for every session.
    pub engine_cache: Option<PathBuf>,
    /// Captures a CUDA graph for each shape and replays it. Default: false.
    pub cuda_graph: bool,
    /// Maximum workspace of a layer in bytes of device memory. Default: no limit.
    pub memory_limit: Option<Bytes>,
}

impl TensorrtOptions {
    pub(super) fn ort_options(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![
            ("device_id", self.device_id.to_string()),
            ("trt_fp16_enable", flag(self.fp16)),
            ("trt_cuda_graph_enable", flag(self.cuda_graph)),
        ];
        options.extend(limit("trt_max_workspace_size", self.memory_limit));
        if let Some(folder) = &self.engine_cache {
            options.extend(Self::cache_options(folder));
        }
        options
    }

    /// Options that cache engines and timings in `folder`.
    pub(in crate::runtime) fn cache_options(folder: &Path) -> [(&'static str, String); 4] {
        let folder = folder.to_string_lossy().into_owned();
        [
            ("trt_engine_cache_enable", flag(true)),
            ("trt_engine_cache_path", folder.clone()),
            ("trt_timing_cache_enable", flag(true)),
            ("trt_timing_cache_path", folder),
        ]
    }
}

/// Options of TensorRT for RTX.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TensorrtRtxOptions {
    /// The plugin's library. Default: none, search in the per-user cache and in Python environments.
    pub library: Option<PathBuf>,
    /// Index of the device among those that the provider offers. Default: 0.
    pub device_id: u32,
    /// Folder for kernels compiled for the device. Default: none.
    pub runtime_cache: Option<PathBuf>,
    /// Captures a CUDA graph and replays it. Refused, see [`Provider::check_replay`]. Default: false.
    pub cuda_graph: bool,
    /// Maximum workspace of a layer in bytes of device memory. Default: no limit.
    pub memory_limit: Option<Bytes>,
}

impl TensorrtRtxOptions {
    /// Without the device: a session is given it directly, not by an option.
    pub(super) fn ort_options(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![("enable_cuda_graph", flag(self.cuda_graph))];
        options.extend(limit("nv_max_workspace_size", self.memory_limit));
        let cache = self.runtime_cache.as_ref();
        options.extend(cache.map(|folder| {
            (
                "nv_runtime_cache_path",
                folder.to_string_lossy().into_owned(),
            )
        }));
        options
    }
}

fn limit(key: &'static str, bytes: Option<Bytes>) -> Option<(&'static str, String)> {
    bytes.map(|bytes| (key, bytes.0.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut options: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
        options.sort();
        options
    }

    fn list(options: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let owned = options.iter();
        owned
            .map(|(key, value)| (*key, value.to_string()))
            .collect()
    }

    #[test]
    fn cuda() {
        let options = CudaOptions {
            device_id: 1,
            memory_limit: Some(Bytes(20 << 30)),
            cuda_graph: true,
            tf32: true,
            conv_search: ConvSearch::Heuristic,
            tight_arena: true,
        };
        let expected = list(&[
            ("arena_extend_strategy", "kSameAsRequested"),
            ("cudnn_conv_algo_search", "HEURISTIC"),
            ("device_id", "1"),
            ("enable_cuda_graph", "1"),
            ("enable_skip_layer_norm_strict_mode", "1"),
            ("gpu_mem_limit", "21474836480"),
            ("use_tf32", "1"),
        ]);
        assert_eq!(sorted(options.ort_options()), expected);
        let expected = list(&[
            ("arena_extend_strategy", "kNextPowerOfTwo"),
            ("cudnn_conv_algo_search", "EXHAUSTIVE"),
            ("device_id", "0"),
            ("enable_cuda_graph", "0"),
            ("enable_skip_layer_norm_strict_mode", "1"),
            ("use_tf32", "0"),
        ]);
        assert_eq!(sorted(CudaOptions::default().ort_options()), expected);
    }

    #[test]
    fn tensorrt() {
        let options = TensorrtOptions {
            device_id: 2,
            fp16: true,
            engine_cache: Some("/trt".into()),
            cuda_graph: true,
            memory_limit: Some(Bytes(1 << 30)),
        };
        let expected = list(&[
            ("device_id", "2"),
            ("trt_cuda_graph_enable", "1"),
            ("trt_engine_cache_enable", "1"),
            ("trt_engine_cache_path", "/trt"),
            ("trt_fp16_enable", "1"),
            ("trt_max_workspace_size", "1073741824"),
            ("trt_timing_cache_enable", "1"),
            ("trt_timing_cache_path", "/trt"),
        ]);
        assert_eq!(sorted(options.ort_options()), expected);
        let expected = list(&[
            ("device_id", "0"),
            ("trt_cuda_graph_enable", "0"),
            ("trt_fp16_enable", "0"),
        ]);
        assert_eq!(sorted(TensorrtOptions::default().ort_options()), expected);
    }

    #[test]
    fn tensorrt_for_rtx() {
        let options = TensorrtRtxOptions {
            device_id: 1,
            runtime_cache: Some("/rtx".into()),
            memory_limit: Some(Bytes(4096)),
            ..TensorrtRtxOptions::default()
        };
        let expected = list(&[
            ("enable_cuda_graph", "0"),
            ("nv_max_workspace_size", "4096"),
            ("nv_runtime_cache_path", "/rtx"),
        ]);
        assert_eq!(sorted(options.ort_options()), expected);
    }
}
