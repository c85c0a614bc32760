//! Checks that options and a bundle's graphs are compatible.

use super::registration::{SkippedProvider, check_providers};
use super::{GraphFile, RuntimeOptions};
use crate::error::{Error, Result, nearest};

/// Checks `options` against the bundle's `graphs`, tries all providers in them, and returns the optional ones that do
/// not load.
///
/// # Errors
/// [`Config`](crate::error::ErrorKind::Config): an override for an unknown graph, or an unsupported option.
/// [`Runtime`](crate::error::ErrorKind::Runtime): no library, or a required provider does not load; the message names
/// the missing library and how to install it.
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

/// Refuses `runtime.int8` if no graph can run in int8.
///
/// # Errors
/// [`Bundle`](crate::error::ErrorKind::Bundle) if no graph has an int8 variant,
/// [`Option`](crate::error::ErrorKind::Option) if other options rule out all of them.
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
