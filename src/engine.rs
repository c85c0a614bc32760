//! The library's front door: a bundle, its networks, and pictures in and out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ndarray::{Array4, Axis};
use serde::Serialize;

use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::imageio::Rgb;
use crate::nets::Networks;
use crate::options::{RestoreOptions, SamplingOptions};
use crate::pipeline::{Event, Observer, Pipeline};
use crate::rng::{NoiseSource, PerSample, Replay};

/// Restores pictures with one bundle.
///
/// An engine is `Sync`: threads may share one. Its networks run one request at a time, others wait for their turn.
pub struct Engine {
    bundle: Bundle,
    networks: Mutex<Box<dyn Networks>>,
}

/// Where a request's noise comes from.
#[derive(Debug, Clone, Default)]
pub enum Noise {
    /// torch's CPU generator, seeded with [`SamplingOptions::seed`].
    #[default]
    Seed,
    /// Recorded draws in the reference's order, for tests of parity.
    Replay(Vec<Array4<f32>>),
}

/// What to restore and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The low-quality picture.
    pub lq: Rgb,
    /// What to do to it.
    pub restore: RestoreOptions,
    /// How stage 2 samples.
    pub sampling: SamplingOptions,
    /// Where the noise comes from.
    pub noise: Noise,
    /// A way to stop the work. Default: nobody stops it.
    pub cancel: Cancel,
}

impl Request {
    /// Restores `lq` with `restore` and `sampling` from the seed.
    pub fn new(lq: Rgb, restore: RestoreOptions, sampling: SamplingOptions) -> Self {
        Request {
            lq,
            restore,
            sampling,
            noise: Noise::Seed,
            cancel: Cancel::default(),
        }
    }
}

/// A restored picture and how it was made.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The picture.
    pub rgb: Rgb,
    /// How it was made.
    pub provenance: Provenance,
}

/// How a picture was made: everything that decides its pixels, and no timings, so that equal runs give equal files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// This crate's version.
    pub engine: &'static str,
    /// SHA-256 of `bundle.yaml`.
    pub bundle: String,
    /// The bundle's family.
    pub family: String,
    /// What was asked.
    pub restore: RestoreOptions,
    /// What was asked of the sampler, the seed among it.
    pub sampling: SamplingOptions,
    /// `torch-cpu`, or `replayed`.
    pub noise: &'static str,
    /// For each graph that ran: its provider and precision.
    pub graphs: BTreeMap<String, RanOn>,
}

/// Where a graph ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RanOn {
    /// ONNX Runtime's name of the execution provider with most of its nodes.
    pub provider: String,
    /// The graph's precision.
    pub precision: String,
}

impl Engine {
    /// An engine on ONNX Runtime. No graph is loaded yet.
    #[cfg(feature = "onnx")]
    pub fn open(bundle: Bundle, options: crate::runtime::RuntimeOptions) -> Self {
        let sessions = crate::runtime::Sessions::new(bundle.graph_files(), options);
        Engine::from_networks(bundle, Box::new(sessions))
    }

    /// An engine on networks of the caller's, such as fakes in a test.
    pub fn from_networks(bundle: Bundle, networks: Box<dyn Networks>) -> Self {
        Engine {
            bundle,
            networks: Mutex::new(networks),
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Restores one picture. `observe` is told of stages, steps and intermediate results, and may stop the work with
    /// an error.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), found out before any graph is loaded: a value that is not
    /// accepted or not served by the bundle. [`Cancelled`](crate::error::ErrorKind::Cancelled) after
    /// [`Cancel::cancel`]. Else what the bundle and the runtime report.
    pub fn restore(&self, request: &Request, observe: &mut Observer<'_>) -> Result<Restored> {
        let pipeline = Pipeline::new(&self.bundle, &request.restore, &request.sampling)?;
        let lq = request.lq.view().insert_axis(Axis(0)).to_owned();
        let (mut noise, noise_name) = noise_of(request);
        let mut stoppable = |event: Event<'_>| {
            request.cancel.check()?;
            observe(event)
        };
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        request.cancel.check()?;
        let batch = pipeline.run(&lq, networks.as_mut(), noise.as_mut(), &mut stoppable)?;
        let providers = networks.providers();
        drop(networks);
        let rgb = batch.index_axis_move(Axis(0), 0);
        Ok(Restored {
            rgb,
            provenance: self.provenance(request, noise_name, &pipeline, providers)?,
        })
    }

    fn provenance(
        &self,
        request: &Request,
        noise: &'static str,
        pipeline: &Pipeline,
        providers: Vec<(String, String)>,
    ) -> Result<Provenance> {
        let manifest = self.bundle.manifest();
        let ran = |(graph, provider): (String, String)| {
            let listed = manifest.graphs.get(&graph);
            let listed = listed.ok_or_else(|| {
                Error::internal(format!("`{graph}` ran but is not in the bundle"))
            })?;
            Ok((
                graph,
                RanOn {
                    provider,
                    precision: listed.precision.clone(),
                },
            ))
        };
        Ok(Provenance {
            engine: env!("CARGO_PKG_VERSION"),
            bundle: self.bundle.hash().to_owned(),
            family: manifest.family.clone(),
            restore: request.restore.clone(),
            sampling: request.sampling.clone(),
            noise,
            graphs: providers
                .into_iter()
                .filter(|(graph, _)| pipeline.uses(graph))
                .map(ran)
                .collect::<Result<_>>()?,
        })
    }
}

/// Every request starts from its seed afresh, so that a result does not depend on what ran before it.
fn noise_of(request: &Request) -> (Box<dyn NoiseSource>, &'static str) {
    match &request.noise {
        Noise::Seed => (
            Box::new(PerSample::torch_cpu(request.sampling.seed, 0, 1)),
            "torch-cpu",
        ),
        Noise::Replay(draws) => (Box::new(Replay::new(draws.clone())), "replayed"),
    }
}
