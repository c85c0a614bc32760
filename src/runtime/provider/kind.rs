//! Execution providers by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    /// The CPU provider, in every build of ONNX Runtime.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    Tensorrt,
    /// NVIDIA TensorRT for RTX, a plugin.
    TensorrtRtx,
    /// Intel OpenVINO, a plugin. Its CPU device runs on any x86 processor.
    #[serde(rename = "openvino")]
    OpenVino,
}

impl ProviderKind {
    /// All providers.
    pub const ALL: [ProviderKind; 5] = [
        ProviderKind::Cpu,
        ProviderKind::Cuda,
        ProviderKind::Tensorrt,
        ProviderKind::TensorrtRtx,
        ProviderKind::OpenVino,
    ];

    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            ProviderKind::Cpu => "cpu",
            ProviderKind::Cuda => "cuda",
            ProviderKind::Tensorrt => "tensorrt",
            ProviderKind::TensorrtRtx => "tensorrt-rtx",
            ProviderKind::OpenVino => "openvino",
        }
    }

    /// The provider with this name in a configuration.
    pub fn by_name(name: &str) -> Option<Self> {
        ProviderKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// ONNX Runtime's name of the provider.
    pub fn ort_name(self) -> &'static str {
        match self {
            ProviderKind::Cpu => "CPUExecutionProvider",
            ProviderKind::Cuda => "CUDAExecutionProvider",
            ProviderKind::Tensorrt => "TensorrtExecutionProvider",
            ProviderKind::TensorrtRtx => "NvTensorRTRTXExecutionProvider",
            ProviderKind::OpenVino => "OpenVINOExecutionProvider",
        }
    }

    /// The software that the provider needs.
    pub fn remedy(self) -> &'static str {
        match self {
            ProviderKind::Cpu => "every build of ONNX Runtime has it",
            ProviderKind::Cuda => {
                "`diffbir runtime install --gpu`, an NVIDIA driver, and CUDA 13 and cuDNN 9 where the loader finds them or in the \
                 active Python environment (pip install nvidia-cuda-runtime nvidia-cublas nvidia-curand nvidia-cudnn-cu13)"
            }
            ProviderKind::Tensorrt => {
                "`diffbir runtime install --gpu`, what `cuda` needs, and TensorRT 10 where the loader finds it or in the active \
                 Python environment (pip install 'tensorrt-cu13<11')"
            }
            ProviderKind::TensorrtRtx => {
                "`diffbir runtime install --tensorrt-rtx`, an NVIDIA driver for CUDA 13, and an RTX card of the 30 series or newer"
            }
            ProviderKind::OpenVino => {
                "`diffbir runtime install --openvino`, and an Intel processor, GPU or NPU that the option `device` names"
            }
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
