//! What went wrong with a graph, in the engine's terms.

use std::path::Path;

use ort::value::Outlet;

use crate::error::{Error, ErrorKind, Result};

/// Checks that every name of the contract is there and nothing else is wanted.
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

/// What ONNX Runtime says of a graph that it does not load.
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

/// Whether a provider's own library says this, and not ONNX Runtime of the graph.
fn is_of_a_device(message: &str) -> bool {
    ["CUDA", "CUDNN", "CUBLAS", "TensorRT", "OpenVINO"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// Whether this is what an allocator says that has no more.
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
