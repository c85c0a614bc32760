//! Conversion of tensors to and from ONNX Runtime's values.

use half::f16;
use ndarray::ArrayD;
use ort::session::{SessionInputValue, SessionOutputs};
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef, ValueRef};

use crate::nets::Input;

/// Element type of the input or output `name`; 32-bit floats if there is none.
pub(super) fn type_of(outlets: &[Outlet], name: &str) -> TensorElementType {
    let outlet = outlets.iter().find(|outlet| outlet.name() == name);
    let kind = outlet.and_then(|outlet| outlet.dtype().tensor_type());
    kind.unwrap_or(TensorElementType::Float32)
}

/// An input as a value of ONNX Runtime, borrowed if possible.
pub(super) fn to_value<'v>(
    input: &'v Input<'_>,
    as_f16: bool,
) -> ort::Result<SessionInputValue<'v>> {
    Ok(match input {
        Input::F32(x) if as_f16 => Tensor::from_array(x.mapv(f16::from_f32))?.into(),
        Input::F32(x) if x.is_standard_layout() => TensorRef::from_array_view(x.view())?.into(),
        Input::F32(x) => Tensor::from_array(x.as_standard_layout().into_owned())?.into(),
        Input::I64(x) => Tensor::from_array(x.as_standard_layout().into_owned())?.into(),
    })
}

/// A tensor in host memory as 32-bit floats.
pub(super) fn to_f32(value: &ValueRef<'_>) -> ort::Result<ArrayD<f32>> {
    Ok(match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => value.try_extract_array::<f16>()?.mapv(f16::to_f32),
        _ => value.try_extract_array::<f32>()?.to_owned(),
    })
}

/// The tensors called `outputs`, in that order, from a run's outputs.
pub(super) fn collect(
    found: &SessionOutputs<'_>,
    outputs: &[&str],
) -> ort::Result<Vec<ArrayD<f32>>> {
    let missing = |name: &str| {
        let code = ort::error::ErrorCode::InvalidGraph;
        ort::Error::new_with_code(code, format!("it has no output `{name}`"))
    };
    outputs
        .iter()
        .map(|name| to_f32(&found.get(name).ok_or_else(|| missing(name))?.view()))
        .collect()
}
