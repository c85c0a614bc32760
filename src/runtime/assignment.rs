//! Which execution provider each node of a session ended up on, as ONNX Runtime reports it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr;

use ort::AsPointer;
use ort::sys;

use crate::error::{Error, Result};

/// The session option that makes ONNX Runtime keep the assignment.
pub(super) const RECORD_KEY: &str = "session.record_ep_graph_assignment_info";

/// How many nodes each provider runs, by ONNX Runtime's names of the providers.
pub(super) fn nodes_per_provider(
    session: &ort::session::Session,
) -> Result<BTreeMap<String, usize>> {
    let api = ort::api();
    let mut subgraphs: *const *const sys::OrtEpAssignedSubgraph = ptr::null();
    let mut count = 0_usize;
    // SAFETY: the session is alive, and both out-pointers are valid for the call. The array belongs to the session.
    check(unsafe {
        (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut subgraphs, &mut count)
    })?;
    let mut nodes = BTreeMap::new();
    for i in 0..count {
        // SAFETY: ONNX Runtime returned an array of `count` pointers, valid while the session is.
        let subgraph = unsafe { *subgraphs.add(i) };
        let mut name = ptr::null();
        // SAFETY: `subgraph` comes from the array above; the name it returns lives as long as the session.
        check(unsafe { (api.EpAssignedSubgraph_GetEpName)(subgraph, &mut name) })?;
        let mut list = ptr::null();
        let mut length = 0_usize;
        // SAFETY: as above; only the length is used.
        check(unsafe { (api.EpAssignedSubgraph_GetNodes)(subgraph, &mut list, &mut length) })?;
        // SAFETY: a name returned without error is a C string.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        *nodes.entry(name).or_insert(0) += length;
    }
    Ok(nodes)
}

fn check(status: sys::OrtStatusPtr) -> Result<()> {
    // SAFETY: the pointer is the status that the call just returned, and nothing else owns it.
    unsafe { ort::Error::result_from_status(status) }.map_err(|e| {
        Error::internal("ONNX Runtime does not report the assignment of nodes").with_source(e)
    })
}
