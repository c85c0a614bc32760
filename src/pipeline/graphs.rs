//! The graphs of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::{Bundle, GraphMemory, Variant};
use crate::error::{Error, Result};
use crate::guidance::Space;
use crate::nets::NetworkInfo;
use crate::nets::contract::GraphKind;
use crate::nets::segments::SegmentPlan;
use crate::options::Options;

/// The graphs of stage 2.
#[derive(Debug, Clone)]
pub(super) struct Graphs {
    pub(super) text_encoder: Option<String>,
    pub(super) encoder: Graph,
    pub(super) denoiser: Graph,
    pub(super) decoder: Graph,
    /// The decoder's backward pass, if guidance needs it.
    pub(super) vjp: Option<Graph>,
}

/// One graph, with its memory costs and the ways to tile it.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    /// Its name in the bundle.
    pub(super) name: String,
    pub(super) memory: GraphMemory,
    /// Memory costs of its variants, by name.
    pub(super) variants: BTreeMap<String, GraphMemory>,
    pub(super) halo: Option<usize>,
    pub(super) segments: Option<Arc<SegmentPlan>>,
}

impl Graph {
    pub(super) fn of(bundle: &Bundle, name: &str) -> Result<Self> {
        let listed = bundle.manifest().graphs.get(name);
        let variants = listed.iter().flat_map(|graph| &graph.variants);
        let of_variant = |variant: &Variant| {
            let memory = bundle.memory_of(name, Some(&variant.name))?;
            Ok((variant.name.clone(), memory))
        };
        Ok(Graph {
            name: name.to_owned(),
            memory: bundle.memory_of(name, None)?,
            variants: variants.map(of_variant).collect::<Result<_>>()?,
            halo: listed.and_then(|graph| graph.halo),
            segments: bundle.segments(name)?,
        })
    }

    /// Replaces the costs of the plain graph by those of the variant in use according to `info`.
    pub(super) fn take_cost_of(&mut self, info: &NetworkInfo) {
        let variant = info.graph(&self.name).variant;
        let memory = variant.and_then(|variant| self.variants.get(&variant));
        self.memory = memory.copied().unwrap_or(self.memory);
    }
}

impl Graphs {
    /// Finds the graphs for `options` in `bundle`.
    ///
    /// # Errors
    /// [`Bundle`](crate::error::ErrorKind::Bundle) for a missing graph, [`Option`](crate::error::ErrorKind::Option) if
    /// guidance needs one that the bundle does not have.
    pub(super) fn find(bundle: &Bundle, options: &Options) -> Result<Self> {
        let graph = |kind| Graph::of(bundle, bundle.graph_of(kind)?);
        let text_encoder = bundle.graph_of(GraphKind::TextEncoder).ok();
        Ok(Graphs {
            text_encoder: text_encoder.map(str::to_owned),
            encoder: graph(GraphKind::VaeEncoder)?,
            denoiser: graph(GraphKind::Denoiser)?,
            decoder: graph(GraphKind::VaeDecoder)?,
            vjp: derivative(bundle, options)?,
        })
    }

    /// The graphs that run on pictures and latents.
    pub(super) fn all(&self) -> impl Iterator<Item = &Graph> {
        let always = [&self.encoder, &self.denoiser, &self.decoder];
        always.into_iter().chain(&self.vjp)
    }

    /// As [`all`](Self::all), to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Graph> {
        let always = [&mut self.encoder, &mut self.denoiser, &mut self.decoder];
        always.into_iter().chain(&mut self.vjp)
    }
}

/// The decoder's backward pass, for guidance in pixel space.
fn derivative(bundle: &Bundle, options: &Options) -> Result<Option<Graph>> {
    let rule = options.guidance.rule(&bundle.manifest().family);
    if rule.is_none() || options.guidance.space == Space::Latent {
        return Ok(None);
    }
    let found = bundle.graph_of(GraphKind::VaeDecoderVjp);
    let found = found.and_then(|name| Graph::of(bundle, name));
    found.map(Some).map_err(|_| {
        Error::option(
            "guidance.space is rgb, but this bundle has no graph of the VAE decoder's derivative: export it with \
             --guidance-graph, or use guidance.space=latent",
        )
    })
}
