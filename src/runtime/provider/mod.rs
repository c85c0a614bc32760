//! Execution providers as the configuration describes them, independent of `ort`.

mod cpu;
mod kind;
mod nvidia;
mod openvino;
mod parse;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::IoBinding;

pub use cpu::CpuOptions;
pub use kind::ProviderKind;
pub use nvidia::{ConvSearch, CudaOptions, TensorrtOptions, TensorrtRtxOptions};
pub use openvino::{OpenVinoOptions, Precision};

/// Keys and values passed to ONNX Runtime unchanged.
pub type Untyped = BTreeMap<String, Scalar>;

/// A value that is passed to ONNX Runtime as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Passed as `1` or `0`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
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

/// A provider's typed options.
#[derive(Debug, Clone, PartialEq)]
pub enum Settings {
    /// CPU.
    Cpu(CpuOptions),
    /// CUDA.
    Cuda(CudaOptions),
    /// TensorRT.
    Tensorrt(TensorrtOptions),
    /// TensorRT for RTX.
    TensorrtRtx(TensorrtRtxOptions),
    /// OpenVINO.
    OpenVino(OpenVinoOptions),
}

impl Settings {
    /// The default options of `kind`.
    pub fn of(kind: ProviderKind) -> Self {
        match kind {
            ProviderKind::Cpu => Settings::Cpu(CpuOptions::default()),
            ProviderKind::Cuda => Settings::Cuda(CudaOptions::default()),
            ProviderKind::Tensorrt => Settings::Tensorrt(TensorrtOptions::default()),
            ProviderKind::TensorrtRtx => Settings::TensorrtRtx(TensorrtRtxOptions::default()),
            ProviderKind::OpenVino => Settings::OpenVino(OpenVinoOptions::default()),
        }
    }

    /// The provider that they belong to.
    pub fn kind(&self) -> ProviderKind {
        match self {
            Settings::Cpu(_) => ProviderKind::Cpu,
            Settings::Cuda(_) => ProviderKind::Cuda,
            Settings::Tensorrt(_) => ProviderKind::Tensorrt,
            Settings::TensorrtRtx(_) => ProviderKind::TensorrtRtx,
            Settings::OpenVino(_) => ProviderKind::OpenVino,
        }
    }

    /// Sets the device number, for providers that have one.
    pub(super) fn stand_on(&mut self, device: u32) {
        match self {
            Settings::Cuda(options) => options.device_id = device,
            Settings::Tensorrt(options) => options.device_id = device,
            Settings::TensorrtRtx(options) => options.device_id = device,
            Settings::Cpu(_) | Settings::OpenVino(_) => {}
        }
    }

    /// Turns `cuda_graph` off.
    #[cfg(feature = "onnx")]
    pub(super) fn record_nothing(&mut self) {
        match self {
            Settings::Cuda(options) => options.cuda_graph = false,
            Settings::Tensorrt(options) => options.cuda_graph = false,
            Settings::TensorrtRtx(options) => options.cuda_graph = false,
            Settings::Cpu(_) | Settings::OpenVino(_) => {}
        }
    }

    /// The CUDA device number, for providers whose tensors ONNX Runtime can copy to and from the device.
    pub fn cuda_device(&self) -> Option<u32> {
        match self {
            Settings::Cuda(options) => Some(options.device_id),
            Settings::Tensorrt(options) => Some(options.device_id),
            Settings::TensorrtRtx(_) | Settings::Cpu(_) | Settings::OpenVino(_) => None,
        }
    }

    fn ort_options(&self) -> Vec<(&'static str, String)> {
        match self {
            Settings::Cpu(_) => Vec::new(),
            Settings::Cuda(options) => options.ort_options(),
            Settings::Tensorrt(options) => options.ort_options(),
            Settings::TensorrtRtx(options) => options.ort_options(),
            Settings::OpenVino(options) => options.ort_options(),
        }
    }
}

/// One execution provider and its options.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// The provider and its typed options.
    pub settings: Settings,
    /// Skips a provider that cannot load instead of failing. Default: false.
    pub optional: bool,
    /// The provider's own options, passed through unchanged; they override typed ones. Default: none.
    pub options: Untyped,
}

impl Provider {
    /// A provider of `kind` with default options.
    pub fn new(kind: ProviderKind) -> Self {
        Provider {
            settings: Settings::of(kind),
            optional: false,
            options: Untyped::new(),
        }
    }

    /// The provider.
    pub fn kind(&self) -> ProviderKind {
        self.settings.kind()
    }

    /// Threads of the CPU provider; 0 (as many as this process may use) for other providers.
    pub fn threads(&self) -> usize {
        match &self.settings {
            Settings::Cpu(options) => options.threads,
            _ => 0,
        }
    }

    /// Whether it runs in host memory.
    pub fn on_host(&self) -> bool {
        match &self.settings {
            Settings::Cpu(_) => true,
            Settings::OpenVino(options) => options.device == "CPU",
            _ => false,
        }
    }

    /// Whether it captures CUDA graphs.
    pub fn records(&self) -> bool {
        match &self.settings {
            Settings::Cuda(options) => options.cuda_graph,
            Settings::Tensorrt(options) => options.cuda_graph,
            Settings::TensorrtRtx(options) => options.cuda_graph,
            Settings::Cpu(_) | Settings::OpenVino(_) => false,
        }
    }

    /// Refuses `cuda_graph` unless inputs stay at fixed addresses: ONNX Runtime would replay the graph on its first
    /// inputs.
    ///
    /// # Errors
    /// [`Config`](crate::error::ErrorKind::Config).
    pub fn check_replay(&self, binding: IoBinding) -> Result<()> {
        let stay = self.settings.cuda_device().is_some() && binding != IoBinding::Never;
        match self.records() && !stay {
            true => Err(Error::config(format!(
                "{}.cuda_graph: ONNX Runtime would replay a graph on its first inputs: it needs runtime.io_binding to be auto or \
                 always, and CUDA or TensorRT",
                self.kind()
            ))),
            false => Ok(()),
        }
    }

    /// Keys and values as passed to ONNX Runtime: typed options, overridden by those passed through.
    pub fn ort_options(&self) -> BTreeMap<String, String> {
        let typed = self.settings.ort_options().into_iter();
        let untyped = self.options.iter();
        typed
            .map(|(key, value)| (key.to_owned(), value))
            .chain(untyped.map(|(key, value)| (key.clone(), value.to_string())))
            .collect()
    }
}

/// `1` or `0`, as most of ONNX Runtime's options expect.
fn flag(x: bool) -> String {
    u8::from(x).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_are_those_of_serde() {
        for kind in ProviderKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(Settings::of(kind).kind(), kind);
        }
    }

    #[test]
    fn a_replay_on_other_inputs_is_refused() {
        let plain = Provider::new(ProviderKind::Cuda);
        plain.check_replay(IoBinding::Never).unwrap();
        let recording = |settings| Provider {
            settings,
            ..plain.clone()
        };
        let cuda = recording(Settings::Cuda(CudaOptions {
            cuda_graph: true,
            ..CudaOptions::default()
        }));
        cuda.check_replay(IoBinding::Auto).unwrap();
        let error = cuda.check_replay(IoBinding::Never).unwrap_err().to_string();
        assert!(error.starts_with("cuda.cuda_graph: "), "{error}");
        let rtx = recording(Settings::TensorrtRtx(TensorrtRtxOptions {
            cuda_graph: true,
            ..TensorrtRtxOptions::default()
        }));
        rtx.check_replay(IoBinding::Auto).unwrap_err();
    }

    #[test]
    fn what_is_passed_through_wins() {
        let mut provider = Provider::new(ProviderKind::Cuda);
        provider
            .options
            .insert("use_tf32".to_owned(), Scalar::Bool(true));
        provider
            .options
            .insert("prefer_nhwc".to_owned(), Scalar::Int(1));
        let options = provider.ort_options();
        assert_eq!(
            (
                options["use_tf32"].as_str(),
                options["prefer_nhwc"].as_str()
            ),
            ("1", "1")
        );
        assert_eq!(options["device_id"], "0");
    }
}
