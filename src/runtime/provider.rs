//! Execution providers as options of our own, which the configuration fills.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Keys and values passed to ONNX Runtime as they are.
pub type Untyped = BTreeMap<String, Scalar>;

/// A value that ONNX Runtime takes as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` is passed as `1`, `false` as `0`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A fraction.
    Float(f64),
    /// Any text.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(x) => write!(f, "{}", u8::from(*x)),
            Scalar::Int(x) => write!(f, "{x}"),
            Scalar::Float(x) => write!(f, "{x}"),
            Scalar::Text(x) => f.write_str(x),
        }
    }
}

/// Which execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// The CPU provider, in every build of ONNX Runtime.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
}

impl ProviderKind {
    /// ONNX Runtime's name of the provider.
    pub fn ort_name(self) -> &'static str {
        match self {
            ProviderKind::Cpu => "CPUExecutionProvider",
            ProviderKind::Cuda => "CUDAExecutionProvider",
            ProviderKind::Tensorrt => "TensorrtExecutionProvider",
        }
    }

    /// What a user installs so that the provider can load.
    pub fn remedy(self) -> &'static str {
        match self {
            ProviderKind::Cpu => "every build of ONNX Runtime has it",
            ProviderKind::Cuda => {
                "it needs an onnxruntime-gpu library (`diffbir runtime install --gpu`), an NVIDIA driver, CUDA 13 and cuDNN 9"
            }
            ProviderKind::Tensorrt => {
                "it needs an onnxruntime-gpu library (`diffbir runtime install --gpu`) and TensorRT 10 (libnvinfer.so.10)"
            }
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProviderKind::Cpu => "cpu",
            ProviderKind::Cuda => "cuda",
            ProviderKind::Tensorrt => "tensorrt",
        })
    }
}

/// One execution provider and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provider {
    /// Which one.
    pub kind: ProviderKind,
    /// Threads of the CPU provider. Default: 0, as many as this process may use at once.
    pub threads: usize,
    /// Skips a provider that cannot load instead of failing. Default: false.
    pub optional: bool,
    /// The provider's own options, passed through as they are.
    pub options: Untyped,
}

impl Provider {
    /// A provider of `kind` with default options.
    pub fn new(kind: ProviderKind) -> Self {
        Provider {
            kind,
            threads: 0,
            optional: false,
            options: Untyped::new(),
        }
    }
}
