//! `diffbir bench`: what graphs and whole runs take of memory and time.
//!
//! Every figure is measured in a process of its own, since allocators keep what they once had.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use ndarray::{Array1, Array3, Array4};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bundle::{Bundle, GraphMemory, MEMORY, MemoryModel};
use crate::cli::args::{Bench, Size};
use crate::cli::report::Reporter;
use crate::cli::setup::{self, Setup};
use crate::config::Config;
use crate::engine::{Engine, Request};
use crate::error::{Error, Result};
use crate::imageio::{self, Rgb};
use crate::memory::{self, Bytes};
use crate::nets::contract::{CONTROLS, GraphKind};
use crate::nets::vae::DOWNSCALE;
use crate::nets::{Input, Networks};
use crate::pipeline::Event;
use crate::runtime::Sessions;

/// Edges of the inputs that a graph is measured on, in its cells: small, so that full-size graphs can be measured too.
const PIXELS: [usize; 3] = [256, 512, 768];
const CELLS: [usize; 3] = [32, 64, 96];

/// Runs the command.
///
/// # Errors
/// A bundle or a runtime that cannot be used, a measurement that fails.
pub fn run(args: &Bench, reporter: &Reporter) -> Result<()> {
    if let Some(one) = &args.measure {
        return measure(args, one);
    }
    let fallback = Some(Path::new("onnx/demo").to_owned());
    let Setup { config, bundle } = setup::prepare(&args.common, fallback)?;
    setup::verify(&bundle, false, &mut |message| reporter.note(&message))?;
    setup::ensure_runtime(&config, &mut |message| reporter.note(&message))?;
    if args.graphs {
        return graphs(args, &config, &bundle, reporter);
    }
    sizes(args, &config, &bundle, reporter)
}

/// Measures every graph, and writes the cost model where that is asked for.
fn graphs(args: &Bench, config: &Config, bundle: &Bundle, reporter: &Reporter) -> Result<()> {
    let mut model = MemoryModel::default();
    for (name, graph) in &bundle.manifest().graphs {
        let (edges, downscale) = match graph.kind {
            GraphKind::TextEncoder => continue,
            GraphKind::Cleaner | GraphKind::VaeEncoder => (PIXELS, graph.multiple),
            _ => (CELLS, graph.multiple),
        };
        let mut points = Vec::new();
        for edge in edges {
            let edge = edge.next_multiple_of(downscale);
            points.push(child::<GraphPoint>(
                config,
                bundle,
                &format!("{name}={edge}"),
            )?);
        }
        let fitted = fit(&points, attention(graph.kind));
        let [constant, linear, squared] = fitted.run;
        reporter.picture(
            &json!({ "event": "graph", "graph": name, "memory": fitted, "points": points }),
            &format!(
                "{name:18} {:>9} loaded; a run {} + {linear:.0} B a cell + {squared:.3} B a squared cell",
                Bytes(fitted.load).to_string(),
                Bytes(constant as u64)
            ),
        );
        model.graphs.insert(name.clone(), fitted);
    }
    if args.write {
        let text = serde_yaml::to_string(&model)
            .map_err(|e| Error::internal("the cost model cannot be written").with_source(e))?;
        let head = "# What the graphs take of memory, in bytes; measured by `diffbir bench --graphs --write`.\n";
        let path = bundle.dir().join(MEMORY);
        imageio::write_atomic(&path, format!("{head}{text}").as_bytes(), true)?;
    }
    Ok(())
}

/// Measures whole restorations of several sizes.
fn sizes(args: &Bench, config: &Config, bundle: &Bundle, reporter: &Reporter) -> Result<()> {
    for &Size(height, width) in &args.sizes {
        let point = child::<RunPoint>(config, bundle, &format!("restore={width}x{height}"))?;
        let all =
            |of: fn(&StagePoint) -> u64| Bytes(point.stages.values().map(of).max().unwrap_or(0));
        let seconds = point
            .stages
            .values()
            .map(|stage| stage.seconds)
            .sum::<f64>();
        let mut text = format!(
            "{width}x{height}: at most {}, planned {}; {seconds:.1} s",
            all(|stage| stage.peak),
            all(|stage| stage.planned)
        );
        for (name, stage) in &point.stages {
            text.push_str(&format!(
                "\n  {name:12} {:>9} of {:>9} {:8.1} s",
                Bytes(stage.peak).to_string(),
                Bytes(stage.planned).to_string(),
                stage.seconds
            ));
        }
        let record = json!({ "event": "run", "width": width, "height": height, "run": point });
        reporter.picture(&record, &text);
    }
    Ok(())
}

/// One measurement of a graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GraphPoint {
    cells: usize,
    load: u64,
    /// What loading took for a moment besides.
    loading: u64,
    run: u64,
}

/// One measurement of a restoration: each stage by its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RunPoint {
    stages: BTreeMap<String, StagePoint>,
}

/// A stage of it: bytes that the process held at most meanwhile, those that were planned, and seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StagePoint {
    peak: u64,
    planned: u64,
    seconds: f64,
}

/// Bytes a squared cell that the VAE's attention takes, one head's logits and their softmax. In sizes that any machine
/// can measure other layers take more, so that it does not show there.
fn attention(kind: GraphKind) -> f64 {
    let pixels = DOWNSCALE as f64;
    match kind {
        GraphKind::VaeDecoder => 8.0,
        GraphKind::VaeDecoderVjp => 24.0,
        GraphKind::VaeEncoder => 8.0 / pixels.powi(4),
        _ => 0.0,
    }
}

/// A model that is nowhere below the measured points: the growth between them, and the rest as a constant. `least_squared` is
/// the least of what a squared cell takes.
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

/// Measures `what` in a process of its own.
fn child<T: serde::de::DeserializeOwned>(
    config: &Config,
    bundle: &Bundle,
    what: &str,
) -> Result<T> {
    let failed = |e: &dyn std::fmt::Display| Error::runtime(format!("measuring {what}: {e}"));
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut command = Command::new(program);
    command
        .arg("bench")
        .arg("--bundle")
        .arg(bundle.dir())
        .args(["--measure", what]);
    let config = serde_yaml::to_string(config).map_err(|e| failed(&e))?;
    let mut file = tempfile::NamedTempFile::with_suffix(".yaml").map_err(|e| failed(&e))?;
    file.write_all(config.as_bytes()).map_err(|e| failed(&e))?;
    command.arg("--config").arg(file.path());
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| failed(&e))?;
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(&e))
}

/// In a child: measures one thing and prints it.
fn measure(args: &Bench, what: &str) -> Result<()> {
    let wrong = || {
        Error::option(format!(
            "--measure {what}: expected GRAPH=EDGE or restore=WxH"
        ))
    };
    let (what, size) = what.split_once('=').ok_or_else(wrong)?;
    let size: Size = size.parse().map_err(|_| wrong())?;
    let Setup { config, bundle } = setup::prepare(&args.common, None)?;
    setup::ensure_runtime(&config, &mut |_| {})?;
    let value = match what {
        "restore" => serde_json::to_value(restoration(bundle, &config, size)?),
        graph => serde_json::to_value(graph_point(&bundle, &config, graph, size.0)?),
    };
    let value = value.map_err(|e| Error::internal("a figure cannot be written").with_source(e))?;
    println!("{value}");
    Ok(())
}

fn graph_point(bundle: &Bundle, config: &Config, name: &str, edge: usize) -> Result<GraphPoint> {
    let graph = bundle.manifest().graphs.get(name);
    let graph = graph.ok_or_else(|| Error::option(format!("--measure: no graph `{name}`")))?;
    let mut sessions = Sessions::new(bundle.graph_files(), config.runtime.options()?);
    let unknown = || Error::runtime("this system does not tell what a process takes of memory");
    let before = memory::resident().ok_or_else(unknown)?;
    let network = sessions.get(name)?;
    let (loaded, loading) = (
        memory::resident().ok_or_else(unknown)?,
        memory::peak().ok_or_else(unknown)?,
    );
    memory::forget_peak();
    let inputs = Inputs::of(graph.kind, edge, bundle.manifest().contexts.width);
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

/// Restores a picture to `size`.
fn restoration(bundle: Bundle, config: &Config, Size(height, width): Size) -> Result<RunPoint> {
    let options = config.options();
    let engine = Engine::open(bundle, config.runtime.options()?);
    // Waves of several lengths: a picture with structure, from nothing.
    let wave = |x: usize, length: f32| (x as f32 / length).sin();
    let input = |length: usize| ((length as f64 / options.restore.upscale) as usize).max(1);
    let lq = Rgb::from_shape_fn((input(height), input(width), 3), |(y, x, c)| {
        let value = wave(x, 9.0 + c as f32) + wave(y, 23.0) + wave(x + y, 140.0);
        (127.0 + 40.0 * value) as u8
    });
    let mut measured = Vec::new();
    let restored = engine.restore(&Request::new(lq, options), &mut |event| {
        match event {
            Event::Started(_) => memory::forget_peak(),
            Event::Finished(stage, seconds) => {
                measured.push((stage, seconds, memory::peak().unwrap_or(0)));
            }
            _ => {}
        }
        Ok(())
    })?;
    let planned = &restored.plan.stages;
    let stages = measured.into_iter().map(|(stage, seconds, peak)| {
        let planned = planned.get(&stage).map_or(0, |bytes| bytes.0);
        let point = StagePoint {
            peak,
            planned,
            seconds,
        };
        (stage.name().to_owned(), point)
    });
    Ok(RunPoint {
        stages: stages.collect(),
    })
}
