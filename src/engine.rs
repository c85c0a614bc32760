//! The engine: restores pictures with a bundle and its networks.

mod pool;
mod warm_up;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;

use ndarray::Array4;
use serde::Serialize;

use crate::bundle::Bundle;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::imageio::{BitDepth, Pixels};
use crate::nets::{NetworkInfo, Networks};
use crate::options::{Options, SeedMode};
use crate::pipeline::{Event, Lq, Observer, Pipeline, Plan};
use crate::prompts::Prompts;
use crate::rng::Draws;
use crate::tensor;

use pool::Pool;

/// Restores pictures with one bundle.
///
/// An engine is `Sync`: threads may share one. It runs as many requests at once as it has sets of networks, one for
/// each of [`RuntimeOptions::devices`](crate::runtime::RuntimeOptions::devices); further requests wait.
pub struct Engine {
    bundle: Bundle,
    prompts: Prompts,
    networks: Pool,
    warming: Mutex<()>,
}

/// Source of a request's noise.
#[derive(Debug, Clone, Default)]
pub enum Noise {
    /// The generator [`SamplingOptions::rng`](crate::options::SamplingOptions::rng), seeded.
    #[default]
    Seed,
    /// Recorded draws in the reference's order, for tests of parity.
    Replay(Vec<Array4<f32>>),
}

impl Noise {
    /// Reads recorded draws from a safetensors file: `noise.0`, `noise.1` …, each `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), naming the file: unreadable, a tensor of another type or rank, or no
    /// `noise.0`.
    pub fn read(path: &Path) -> Result<Self> {
        let bad =
            |e: &dyn fmt::Display| Error::option(format!("recorded noise {}: {e}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| bad(&e))?;
        let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| bad(&e))?;
        let mut draws = Vec::new();
        while let Ok(view) = file.tensor(&format!("noise.{}", draws.len())) {
            let values = tensor::f32_from_safetensor(&view).map_err(|e| bad(&e))?;
            let &[n, c, h, w] = view.shape() else {
                let (k, shape) = (draws.len(), view.shape());
                return Err(bad(&format!(
                    "noise.{k} has shape {shape:?}, expected four axes"
                )));
            };
            draws.push(Array4::from_shape_vec((n, c, h, w), values).map_err(|e| bad(&e))?);
        }
        match draws.is_empty() {
            true => Err(bad(&"no tensor `noise.0`")),
            false => Ok(Noise::Replay(draws)),
        }
    }
}

/// A picture to restore, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The low-quality picture.
    pub lq: Pixels,
    /// Bits per channel of the results. Default: 8.
    pub depth: BitDepth,
    /// The options.
    pub options: Options,
    /// The noise.
    pub noise: Noise,
    /// Stops the work. Default: never.
    pub cancel: Cancel,
}

impl Request {
    /// Restores `lq` with `options` from the seed.
    pub fn new(lq: impl Into<Pixels>, options: Options) -> Self {
        Request {
            lq: lq.into(),
            depth: BitDepth::default(),
            options,
            noise: Noise::Seed,
            cancel: Cancel::default(),
        }
    }
}

/// The samples of a restored picture and how they were made.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The samples, as many as [`SamplingOptions::samples`](crate::options::SamplingOptions::samples) asks for.
    pub samples: Vec<Pixels>,
    /// The plan: tiles and memory of each stage.
    pub plan: Plan,
    /// The provenance.
    pub provenance: Provenance,
}

/// Provenance of a picture: everything that affects its pixels, and no timings, so that equal runs give equal files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// This crate's version.
    pub engine: &'static str,
    /// SHA-256 of `bundle.yaml`.
    pub bundle: String,
    /// The bundle's family.
    pub family: String,
    /// The options, including the seed.
    #[serde(flatten)]
    pub options: Options,
    /// `seeded`, or `replayed`.
    pub noise: &'static str,
    /// For each graph that ran: its provider and precision.
    pub graphs: BTreeMap<String, RanOn>,
}

/// Where a graph ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RanOn {
    /// ONNX Runtime's name of the execution provider with most of its nodes.
    pub provider: String,
    /// The precision of the graph or variant that ran.
    pub precision: String,
    /// The variant that ran, if not the graph itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Keyword of the PNG text chunk with the provenance.
const CHUNK: &str = "diffbir";

impl Provenance {
    /// The text chunks of sample `k`'s PNG, by keyword.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) only.
    pub fn text(&self, k: usize) -> Result<BTreeMap<String, String>> {
        let mut value = serde_json::to_value(self)
            .map_err(|e| Error::internal("the provenance cannot be written").with_source(e))?;
        value["sample"] = k.into();
        Ok(BTreeMap::from([(CHUNK.to_owned(), value.to_string())]))
    }
}

impl Engine {
    /// An engine on ONNX Runtime. No graph is loaded yet.
    #[cfg(feature = "onnx")]
    pub fn open(bundle: Bundle, options: crate::runtime::RuntimeOptions) -> Self {
        let sets = options.sets().into_iter().map(|options| {
            let sessions = crate::runtime::Sessions::new(bundle.graph_files(), options);
            Box::new(sessions) as Box<dyn Networks>
        });
        let sets = sets.collect();
        Engine::from_sets(bundle, sets)
    }

    /// An engine on the caller's networks, such as fakes in a test.
    pub fn from_networks(bundle: Bundle, networks: Box<dyn Networks>) -> Self {
        Engine::from_sets(bundle, vec![networks])
    }

    /// An engine on several sets of networks, at least one, each of which serves one request at a time.
    pub fn from_sets(bundle: Bundle, sets: Vec<Box<dyn Networks>>) -> Self {
        Engine {
            bundle,
            prompts: Prompts::default(),
            networks: Pool::new(sets),
            warming: Mutex::default(),
        }
    }

    /// Number of requests that run at once.
    pub fn width(&self) -> usize {
        self.networks.width()
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Checks `options` against the bundle without loading a graph, and returns the pipeline.
    ///
    /// # Errors
    /// As [`restore`](Self::restore) before any graph is loaded.
    pub fn check(&self, options: &Options) -> Result<Pipeline> {
        Pipeline::new(&self.bundle, options, &self.prompts)
    }

    /// Plans a picture of `lq` (height, width) pixels, without loading a graph.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Resources`](crate::error::ErrorKind::Resources) if no plan fits the memory.
    pub fn plan(&self, lq: (usize, usize), options: &Options) -> Result<Plan> {
        self.check(options)?
            .plan(lq, self.networks.take(&Cancel::default())?.networks())
    }

    /// Restores one picture. `observe` receives stages, steps and intermediate results, and may stop the work with an
    /// error.
    ///
    /// # Errors
    /// [`Option`](crate::error::ErrorKind::Option), before any graph is loaded: a value that is not accepted or not
    /// supported by the bundle. [`Cancelled`](crate::error::ErrorKind::Cancelled) after [`Cancel::cancel`]. Errors of
    /// the bundle and the runtime.
    pub fn restore(&self, request: &Request, observe: &mut Observer<'_>) -> Result<Restored> {
        let pipeline = self.check(&request.options)?;
        let mut lease = self.networks.take(&request.cancel)?;
        self.restore_on(lease.networks(), &pipeline, request, observe)
    }

    fn restore_on(
        &self,
        networks: &mut dyn Networks,
        pipeline: &Pipeline,
        request: &Request,
        observe: &mut Observer<'_>,
    ) -> Result<Restored> {
        let (mut draws, noise) = draws_of(request);
        let mut stoppable = |event: Event<'_>| {
            request.cancel.check()?;
            observe(event)
        };
        request.cancel.check()?;
        networks.cancelled_by(&request.cancel);
        let plan = pipeline.plan(request.lq.size(), networks)?;
        stoppable(Event::Planned(&plan))?;
        let lq = Lq {
            pixels: &request.lq,
            depth: request.depth,
        };
        let samples = pipeline.run(
            lq,
            &plan,
            &self.prompts,
            networks,
            &mut draws,
            &mut stoppable,
        )?;
        Ok(Restored {
            samples,
            plan,
            provenance: self.provenance(request, noise, pipeline, networks.info())?,
        })
    }

    fn provenance(
        &self,
        request: &Request,
        noise: &'static str,
        pipeline: &Pipeline,
        info: NetworkInfo,
    ) -> Result<Provenance> {
        let manifest = self.bundle.manifest();
        let ran_on = |(graph, provider, variant): (String, String, Option<String>)| {
            let listed = manifest.graphs.get(&graph);
            let listed = listed.ok_or_else(|| {
                Error::internal(format!("`{graph}` ran but is not in the bundle"))
            })?;
            let mut variants = listed.variants.iter();
            let found = variants.find(|listed| Some(&listed.name) == variant.as_ref());
            let precision = found.map_or(&listed.precision, |found| &found.precision);
            let precision = precision.clone();
            let ran_on = RanOn {
                provider,
                precision,
                variant,
            };
            Ok((graph, ran_on))
        };
        let used = info
            .graphs
            .into_iter()
            .filter(|(graph, _)| pipeline.uses(graph));
        let ran = used.filter_map(|(graph, info)| Some((graph, info.provider?, info.variant)));
        Ok(Provenance {
            engine: env!("CARGO_PKG_VERSION"),
            bundle: self.bundle.hash().to_owned(),
            family: manifest.family.clone(),
            options: request.options.without_memory(),
            noise,
            graphs: ran.map(ran_on).collect::<Result<_>>()?,
        })
    }
}

/// Every request seeds its own generator, so that a result does not depend on earlier requests.
fn draws_of(request: &Request) -> (Draws, &'static str) {
    let sampling = &request.options.sampling;
    match (&request.noise, sampling.seed_mode) {
        (Noise::Replay(draws), _) => (Draws::replay(draws.clone()), "replayed"),
        (Noise::Seed, SeedMode::PerSample) => {
            (Draws::per_sample(sampling.rng, sampling.seed), "seeded")
        }
        (Noise::Seed, SeedMode::Stream) => (Draws::stream(sampling.rng, sampling.seed), "seeded"),
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    #[test]
    fn recorded_noise_is_read_in_order_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("noise.safetensors");
        let read = |tensors: &[(&str, &[usize])]| {
            let bytes = [0; 32];
            let view = |shape: &[usize]| {
                let size = 4 * shape.iter().product::<usize>();
                TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..size]).unwrap()
            };
            let views = tensors.iter().map(|(name, shape)| (*name, view(shape)));
            let file = safetensors::serialize(views, None).unwrap();
            std::fs::write(&path, file).unwrap();
            Noise::read(&path).map(|noise| match noise {
                Noise::Replay(draws) => draws.iter().map(|draw| draw.dim()).collect(),
                Noise::Seed => Vec::new(),
            })
        };
        let draws = read(&[("noise.1", &[2, 1, 1, 2]), ("noise.0", &[1, 1, 2, 3])]);
        assert_eq!(draws.unwrap(), [(1, 1, 2, 3), (2, 1, 1, 2)]);
        for (tensor, shape, said) in [
            ("noise.0", &[1, 2, 3][..], "expected four axes"),
            ("noise.1", &[1, 1, 1, 1], "no tensor `noise.0`"),
        ] {
            let error = read(&[(tensor, shape)]).unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("noise.safetensors"),
                "{error}"
            );
        }
    }
}
