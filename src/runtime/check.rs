//! Whether options and a bundle's graphs go together.

use super::registration::{SkippedProvider, check_providers};
use super::{GraphFile, RuntimeOptions};
use crate::error::{Error, Result, nearest};

/// Compares `options` with the bundle's `graphs`, tries all providers that they name, and returns the optional ones that
/// do not load.
///
/// # Errors
/// [`Config`](crate::error::ErrorKind::Config): an override for a graph that is not there, or an option that is not served.
/// [`Runtime`](crate::error::ErrorKind::Runtime): no library, or a provider does not load that is not optional. The
/// message names what is missing and how to install it.
pub fn check(graphs: &[GraphFile], options: &RuntimeOptions) -> Result<Vec<SkippedProvider>> {
    check_names(graphs, options)?;
    check_int8(graphs, options)?;
    check_providers(options)
}

fn check_names(graphs: &[GraphFile], options: &RuntimeOptions) -> Result<()> {
    let known: Vec<&str> = graphs.iter().map(|graph| graph.name.as_str()).collect();
    let mut named = options.graphs.keys();
    match named.find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Error::config(format!(
            "runtime.graphs.{name}: the bundle has no such graph: did you mean `{}`? It has {}",
            nearest(name, known.iter().copied()),
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Refuses `runtime.int8` where no graph can run in 8 bits.
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle) where no graph has such a variant, [`Option`](crate::error::ErrorKind::Option)
/// where other options keep every one from being taken.
pub(super) fn check_int8(graphs: &[GraphFile], options: &RuntimeOptions) -> Result<()> {
    if !options.int8 || graphs.iter().any(|graph| graph.runs_int8(options)) {
        return Ok(());
    }
    let mut variants = graphs.iter().flat_map(|graph| &graph.variants);
    if !variants.any(|variant| variant.int8) {
        return Err(Error::bundle(
            "runtime.int8 is true, but the bundle has no graph in int8: `python -m diffbir_export.quantize BUNDLE --pictures DIR` \
             adds some for the CPU",
        ));
    }
    Err(Error::option(
        "runtime.int8 is true, but no graph would run in int8: it is for graphs whose first provider is the CPU, with \
         runtime.variants on, and for the denoiser without runtime.memory: least",
    ))
}
