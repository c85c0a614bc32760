//! Measures the memory of each graph of a bundle and fits the cost model.

use std::collections::BTreeMap;

use ndarray::{Array1, Array3, Array4};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::child;
use crate::bundle::{Bundle, Graph, GraphMemory, MEMORY, MemoryModel, Variant};
use crate::cli::args::Bench;
use crate::cli::report::Reporter;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::imageio;
use crate::memory::{self, Bytes};
use crate::nets::contract::{CONTROLS, GraphKind};
use crate::nets::vae::DOWNSCALE;
use crate::nets::{Input, Networks};
use crate::runtime::{MemoryPolicy, Sessions};

/// Edges of the inputs that a graph is measured on, in pixels of its input: small, so that full-size graphs can be
/// measured too.
const PIXELS: [usize; 3] = [256, 512, 768];
const CELLS: [usize; 3] = [32, 64, 96];

/// Measures every graph and every variant that some memory policy runs, and writes the cost model with `--write`.
pub(super) fn run(
    args: &Bench,
    config: &Config,
    bundle: &Bundle,
    reporter: &Reporter,
) -> Result<()> {
    let mut model = MemoryModel::default();
    for (name, measured) in measured(config, bundle) {
        let points = measured.points(bundle)?;
        let fitted = fit(&points, measured.squared_cell());
        let [constant, linear, squared] = fitted.run;
        reporter.result(
            &json!({ "event": "graph", "graph": name, "memory": fitted, "points": points }),
            &format!(
                "{name:18} {:>9} loaded; a run {} + {linear:.0} B per pixel + {squared:.3} B per squared pixel",
                Bytes(fitted.load).to_string(),
                Bytes(constant as u64)
            ),
        )?;
        model.graphs.insert(name, fitted);
    }
    if args.write {
        write(bundle, &model)?;
    }
    Ok(())
}

/// A graph or variant, and its configuration.
struct Measured<'a> {
    graph: &'a str,
    listed: &'a Graph,
    variant: Option<&'a Variant>,
    config: Config,
}

/// Every graph and variant that some memory policy runs, by `GRAPH` or `GRAPH.VARIANT`.
fn measured<'a>(config: &Config, bundle: &'a Bundle) -> BTreeMap<String, Measured<'a>> {
    let mut found = BTreeMap::new();
    for (variants, memory) in [
        (false, MemoryPolicy::Keep),
        (true, MemoryPolicy::Keep),
        (true, MemoryPolicy::Least),
    ] {
        let mut config = config.clone();
        (config.runtime.variants, config.runtime.memory) = (variants, memory);
        let info = Sessions::new(bundle.graph_files(), config.runtime.clone()).info();
        for (graph, listed) in &bundle.manifest().graphs {
            if listed.kind == GraphKind::TextEncoder {
                continue;
            }
            let variant = info.graph(graph).variant;
            let variant = variant.and_then(|name| listed.variants.iter().find(|v| v.name == name));
            let name = variant.map_or(graph.clone(), |v| format!("{graph}.{}", v.name));
            found.entry(name).or_insert(Measured {
                graph,
                listed,
                variant,
                config: config.clone(),
            });
        }
    }
    found
}

impl Measured<'_> {
    /// Measures it on inputs of three sizes, each in a child process.
    fn points(&self, bundle: &Bundle) -> Result<Vec<GraphPoint>> {
        let edges = match self.listed.kind {
            GraphKind::Cleaner | GraphKind::VaeEncoder => PIXELS,
            _ => CELLS,
        };
        let point = |edge: usize| {
            let edge = edge.next_multiple_of(self.listed.multiple);
            child(&self.config, bundle, &format!("{}={edge}", self.graph))
        };
        edges.into_iter().map(point).collect()
    }

    /// Lower bound of the quadratic term, in bytes.
    fn squared_cell(&self) -> f64 {
        match self.variant {
            // Fused attention holds only a part of its logits at a time.
            Some(variant) if variant.rewrites.contains_key("attention") => 0.0,
            _ => attention(self.listed.kind),
        }
    }
}

fn write(bundle: &Bundle, model: &MemoryModel) -> Result<()> {
    let text = serde_yaml::to_string(model)
        .map_err(|e| Error::internal("the cost model cannot be written").with_source(e))?;
    let head = "# Memory of the graphs in bytes, measured by `diffbir bench --graphs --write`.\n";
    let path = bundle.dir().join(MEMORY);
    imageio::write_atomic(&path, format!("{head}{text}").as_bytes(), true)
}

/// One measurement of a graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GraphPoint {
    cells: usize,
    load: u64,
    /// Additional peak of loading.
    loading: u64,
    run: u64,
}

/// Quadratic term of the VAE's attention in bytes, for the latent's pixels: one head's logits and their softmax. At
/// sizes that any machine can measure, other layers dominate and hide it.
fn attention(kind: GraphKind) -> f64 {
    let pixels = DOWNSCALE as f64;
    match kind {
        GraphKind::VaeDecoder => 8.0,
        GraphKind::VaeDecoderVjp => 24.0,
        GraphKind::VaeEncoder => 8.0 / pixels.powi(4),
        _ => 0.0,
    }
}

/// A model that is too low at no measured point: the growth between the points, and a constant. `least_squared` is the
/// minimum of the quadratic term.
fn fit(points: &[GraphPoint], least_squared: f64) -> GraphMemory {
    let at = |k: usize| (points[k].cells as f64, points[k].run as f64);
    let ((x0, y0), (x1, y1), (x2, y2)) = (at(0), at(1), at(2));
    let (low, high) = ((y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1));
    let squared = ((high - low) / (x2 - x0)).max(0.0);
    let linear = points
        .iter()
        .filter(|point| point.cells > points[0].cells)
        .map(|point| {
            let (x, y) = (point.cells as f64, point.run as f64);
            (y - y0 - squared * (x * x - x0 * x0)) / (x - x0)
        })
        .fold(0.0, f64::max);
    let rest = points.iter().map(|point| {
        let (x, y) = (point.cells as f64, point.run as f64);
        y - linear * x - squared * x * x
    });
    let loading = points.iter().map(|point| point.loading).max().unwrap_or(0);
    GraphMemory {
        load: points.iter().map(|point| point.load).max().unwrap_or(0),
        run: [
            rest.fold(loading as f64, f64::max),
            linear,
            squared.max(least_squared),
        ],
    }
}

/// In a child process: loads one graph and runs it once.
pub(super) fn measure(
    bundle: &Bundle,
    config: &Config,
    name: &str,
    edge: usize,
) -> Result<GraphPoint> {
    let graph = bundle.manifest().graphs.get(name);
    let graph = graph.ok_or_else(|| Error::option(format!("--measure: no graph `{name}`")))?;
    let mut sessions = Sessions::new(bundle.graph_files(), config.runtime.clone());
    let unknown = || Error::runtime("this system does not report the memory of a process");
    let before = memory::resident().ok_or_else(unknown)?;
    let network = sessions.get(name)?;
    let (loaded, loading) = (
        memory::resident().ok_or_else(unknown)?,
        memory::peak().ok_or_else(unknown)?,
    );
    memory::forget_peak();
    let contexts = bundle.manifest().contexts.as_ref();
    let inputs = Inputs::of(
        graph.kind,
        edge,
        contexts.map_or(0, |contexts| contexts.width),
    );
    let outputs = graph.kind.outputs();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    network.run(&inputs.named(), &outputs)?;
    let ran = memory::peak().ok_or_else(unknown)?;
    Ok(GraphPoint {
        cells: edge * edge,
        load: loaded.saturating_sub(before),
        loading: loading.saturating_sub(loaded),
        run: ran.saturating_sub(loaded),
    })
}

/// Inputs of a graph of any kind.
struct Inputs {
    images: Vec<(&'static str, Array4<f32>)>,
    vectors: Vec<(&'static str, Array1<f32>)>,
    context: Option<Array3<f32>>,
}

impl Inputs {
    fn of(kind: GraphKind, edge: usize, width: usize) -> Self {
        let image = |channels, edge| Array4::from_elem((1, channels, edge, edge), 0.3_f32);
        let mut inputs = Inputs {
            images: Vec::new(),
            vectors: Vec::new(),
            context: None,
        };
        match kind {
            GraphKind::Cleaner | GraphKind::VaeEncoder => {
                inputs.images.push(("image", image(3, edge)))
            }
            GraphKind::VaeDecoder => inputs.images.push(("latent", image(4, edge))),
            GraphKind::VaeDecoderVjp => {
                inputs.images.extend([
                    ("latent", image(4, edge)),
                    ("cotangent", image(3, 8 * edge)),
                ]);
            }
            _ => {
                inputs
                    .images
                    .extend([("x", image(4, edge)), ("hint", image(4, edge))]);
                inputs
                    .vectors
                    .push(("timestep", Array1::from_elem(1, 500.0)));
                inputs
                    .vectors
                    .push(("strength", Array1::from_elem(CONTROLS, 1.0)));
                inputs.context = Some(Array3::zeros((1, 77, width)));
            }
        }
        inputs
    }

    fn named(&self) -> Vec<(&str, Input<'_>)> {
        let images = self
            .images
            .iter()
            .map(|(name, array)| (*name, array.into()));
        let vectors = self
            .vectors
            .iter()
            .map(|(name, array)| (*name, array.into()));
        let context = self.context.iter().map(|array| ("context", array.into()));
        images.chain(vectors).chain(context).collect()
    }
}
