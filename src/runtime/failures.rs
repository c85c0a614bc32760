//! ONNX Runtime's failures as errors of the engine.

use std::path::Path;

use ort::value::Outlet;

use crate::error::{Error, ErrorKind, Result};

/// Checks that a graph has every input or output of its contract, and no further inputs.
pub(super) fn expect_names(
    what: &str,
    contract: &[String],
    found: &[Outlet],
    path: &Path,
) -> Result<()> {
    let names: Vec<&str> = found.iter().map(Outlet::name).collect();
    let complete = contract.iter().all(|name| names.contains(&name.as_str()));
    if complete && (what == "output" || names.len() == contract.len()) {
        return Ok(());
    }
    Err(Error::bundle(format!(
        "{}: the graph has the {what}s {names:?}, expected {contract:?}",
        path.display()
    )))
}

/// The error for a graph that ONNX Runtime cannot load.
pub(super) fn load_error(error: &ort::Error) -> Error {
    if is_out_of_memory(error.message()) {
        return Error::new(
            ErrorKind::Resources,
            format!("not enough memory to load the graph: {}", error.message()),
        );
    }
    let message = format!("ONNX Runtime cannot load the graph: {}", error.message());
    match is_of_a_device(error.message()) {
        true => Error::runtime(message),
        false => Error::bundle(message),
    }
}

/// Whether a provider's library reports this, rather than ONNX Runtime about the graph.
fn is_of_a_device(message: &str) -> bool {
    ["CUDA", "CUDNN", "CUBLAS", "TensorRT", "OpenVINO"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Whether this is an allocator's out-of-memory message.
pub(super) fn is_out_of_memory(message: &str) -> bool {
    [
        "Failed to allocate memory",
        "bad_alloc",
        "out of memory",
        "BFCArena",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}
