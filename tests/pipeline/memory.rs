//! What a picture's plan is under a budget, and what happens where an allocator fails all the same.

use std::collections::BTreeMap;
use std::path::Path;

use diffbir::bundle::Bundle;
use diffbir::error::Result;
use diffbir::nets::{Input, Network, NetworkInfo, Networks};
use diffbir::pipeline::{CleanerPlan, Plan, VaePlan};
use ndarray::{ArrayD, Ix4, concatenate, s};

use super::*;

/// The fakes' VAE in three segments each, which halve or double.
fn segments(input: &str, output: &str, channels: [usize; 4], up: bool) -> String {
    let names = [input, "a", "b", output];
    let scale = |k: usize| match up {
        true => (1 << k, 1),
        false => (1, 1 << k),
    };
    let canvases: BTreeMap<&str, serde_json::Value> = (0..4)
        .map(|k| {
            (
                names[k],
                serde_json::json!({ "channels": channels[k], "scale": scale(k) }),
            )
        })
        .collect();
    let steps: Vec<serde_json::Value> = (0..3)
        .map(|k| {
            serde_json::json!({
                "graph": k.to_string(), "norm": null, "bands": [names[k]], "outputs": [names[k + 1]], "halo": 2
            })
        })
        .collect();
    serde_json::json!({ "version": 1, "input": input, "output": output, "canvases": canvases, "steps": steps }).to_string()
}

/// A bundle whose cleaner has a halo and whose VAE has segments.
fn bundle(dir: &Path) -> Bundle {
    write_bundle(dir, "swinir", 1, 64);
    let write = |graph: &str, plan: String| {
        let metadata = std::collections::HashMap::from([("plan".to_owned(), plan)]);
        let none: [(&str, safetensors::tensor::TensorView<'_>); 0] = [];
        let path = dir.join(format!("{graph}.segments.safetensors"));
        safetensors::serialize_to_file(none, Some(metadata), &path).unwrap();
    };
    write(
        "vae_encoder",
        segments("image", "latent", [3, 3, 3, 4], false),
    );
    write(
        "vae_decoder",
        segments("latent", "image", [4, 4, 4, 3], true),
    );
    let mut text = fakes::manifest("swinir", 1, 64);
    let sha = "0".repeat(64);
    for graph in ["vae_encoder", "vae_decoder"] {
        let file = format!("{graph}.segments.safetensors");
        text = text.replace(
            &format!("files: {{ {graph}.onnx:"),
            &format!("segments: {file}\n    files: {{ {file}: \"{sha}\", {graph}.onnx:"),
        );
    }
    let text = text.replace(
        "architecture: swinir\n",
        "architecture: swinir\n    halo: 64\n",
    );
    std::fs::write(dir.join("bundle.yaml"), text).unwrap();
    Bundle::open(dir).unwrap()
}

/// Fakes that refuse inputs of more than so many values, as an allocator would, and note what they were asked.
struct Limited {
    fakes: FakeNetworks,
    limits: BTreeMap<&'static str, usize>,
    asked: (String, Option<String>),
    runs: std::sync::Arc<std::sync::Mutex<Vec<(String, usize, bool)>>>,
}

impl Networks for Limited {
    fn stage(&mut self, _: &[&str], _: bool) {}

    fn get(&mut self, graph: &str) -> Result<&mut dyn Network> {
        self.asked = (graph.to_owned(), None);
        Ok(self)
    }

    fn segment(&mut self, graph: &str, segment: &str) -> Result<&mut dyn Network> {
        self.asked = (graph.to_owned(), Some(segment.to_owned()));
        Ok(self)
    }

    fn info(&self) -> NetworkInfo {
        self.fakes.info()
    }
}

impl Network for Limited {
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        let (graph, segment) = self.asked.clone();
        let values = inputs[0].1.shape().iter().product();
        let most = self
            .limits
            .get(graph.as_str())
            .copied()
            .unwrap_or(usize::MAX);
        let mut runs = self.runs.lock().unwrap();
        runs.push((graph.clone(), values, values <= most));
        if values > most {
            return Err(Error::new(
                ErrorKind::Resources,
                "Failed to allocate memory",
            ));
        }
        let (Some(segment), Input::F32(x)) = (segment, &inputs[0].1) else {
            return self.fakes.get(&graph)?.run(inputs, outputs);
        };
        let x = x.to_owned().into_dimensionality::<Ix4>().unwrap();
        Ok(vec![half_or_double(&graph, &segment, &x).into_dyn()])
    }
}

fn half_or_double(graph: &str, segment: &str, x: &Array4<f32>) -> Array4<f32> {
    let (n, c, h, w) = x.dim();
    let last = segment == "2";
    if graph == "vae_decoder" {
        let channels = if last { 3 } else { c };
        return Array4::from_shape_fn((n, channels, 2 * h, 2 * w), |(i, c, y, k)| {
            x[[i, c, y / 2, k / 2]]
        });
    }
    let half = x.slice(s![.., .., ..;2, ..;2]).to_owned();
    if !last {
        return half;
    }
    let mean = (0..3).map(|c| half.slice(s![.., c..c + 1, .., ..]).to_owned());
    let mean = mean.reduce(|a, b| a + b).unwrap() / 3.0;
    concatenate(Axis(1), &[half.view(), mean.view()]).unwrap()
}

/// What was restored, its plan, and the runs: graph, values of the first input, whether there was memory for them.
fn restored(
    request: &Request,
    limits: &[(&'static str, usize)],
) -> (Rgb, Plan, Vec<(String, usize, bool)>) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let runs = std::sync::Arc::default();
    let limited = Limited {
        fakes: FakeNetworks::of(&bundle).0,
        limits: limits.iter().copied().collect(),
        asked: Default::default(),
        runs: std::sync::Arc::clone(&runs),
    };
    let engine = Engine::from_networks(bundle, Box::new(limited));
    let mut restored = engine.restore(request, &mut |_| Ok(())).unwrap();
    let runs = runs.lock().unwrap().clone();
    (restored.samples.remove(0).into_u8(), restored.plan, runs)
}

fn large() -> Request {
    let mut request = request(300, 260, 1.0, 3);
    request.options.tiling.memory_budget = Some(Bytes(1 << 50));
    request
}

#[test]
fn a_stage_that_runs_out_of_memory_goes_on_in_parts_with_the_same_result() {
    let (whole, plan, _) = restored(&large(), &[]);
    assert!(matches!(plan.cleaner, CleanerPlan::Whole { .. }));
    assert_eq!(
        (plan.encoder, plan.decoder),
        (VaePlan::Whole, VaePlan::Whole)
    );
    let limits = [
        ("cleaner_sr", 3 * 256 * 256),
        ("vae_encoder", 3 * 64 * 320),
        ("vae_decoder", 4 * 6 * 160),
    ];
    let (made, _, runs) = restored(&large(), &limits);
    assert_eq!(made, whole);
    for (graph, most) in limits {
        let of_graph: Vec<_> = runs.iter().filter(|(name, ..)| name == graph).collect();
        assert!(!of_graph[0].2, "{graph}: the whole has to fail first");
        assert!(
            of_graph.iter().filter(|(.., there)| *there).count() > 3,
            "{graph}"
        );
        assert!(
            of_graph
                .iter()
                .all(|(_, values, there)| *there == (*values <= most)),
            "{graph}"
        );
    }
    let cleaned = runs
        .iter()
        .filter(|(name, _, there)| name == "cleaner_sr" && *there)
        .count();
    let tried = runs
        .iter()
        .filter(|(name, ..)| name == "cleaner_sr")
        .count();
    assert!(
        tried < 2 * cleaned,
        "what was computed is kept: {tried} runs for {cleaned} tiles"
    );
}

#[test]
fn tiles_of_the_denoiser_that_do_not_fit_at_once_run_in_smaller_batches() {
    let mut request = large();
    request.options.tiling.cldm = DenoiserTiles::Reference(Tiles {
        size: 128,
        stride: 64,
    });
    let (whole, plan, runs) = restored(&request, &[]);
    assert!(plan.tile_batch > 2, "{plan:?}");
    let largest = runs
        .iter()
        .filter(|(name, ..)| name == "denoiser")
        .map(|(_, values, _)| *values);
    assert_eq!(largest.max().unwrap(), plan.tile_batch * 4 * 16 * 16);
    let (made, _, _) = restored(&request, &[("denoiser", 4 * 16 * 16)]);
    assert_eq!(made, whole);
}

#[test]
fn what_cannot_be_made_smaller_is_an_error_of_resources() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    for graph in ["cleaner_sr", "vae_encoder", "denoiser", "vae_decoder"] {
        let limited = Limited {
            fakes: FakeNetworks::of(&bundle).0,
            limits: BTreeMap::from([(graph, 1)]),
            asked: Default::default(),
            runs: Default::default(),
        };
        let engine = Engine::from_networks(bundle.clone(), Box::new(limited));
        let error = engine.restore(&large(), &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resources, "{graph}: {error}");
    }
}

#[test]
fn the_smallest_budget_that_is_named_does_and_gives_the_same_picture() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let engine = Engine::from_networks(bundle.clone(), Box::new(FakeNetworks::of(&bundle).0));
    let plan = |bytes, request: &mut Request| {
        request.options.tiling.memory_budget = Some(Bytes(bytes));
        engine.plan((1500, 1300), &request.options)
    };
    let mut request = request(1500, 1300, 1.0, 3);
    request.options.tiling.cldm = DenoiserTiles::Reference(Tiles {
        size: 128,
        stride: 64,
    });
    let refused = plan(1 << 20, &mut request).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Resources);
    let refused = refused.to_string();
    let named = refused
        .split("smallest budget that would do is ")
        .nth(1)
        .unwrap();
    let smallest: Bytes = named.split([';', ' ']).next().unwrap().parse().unwrap();
    let small = plan(smallest.0, &mut request).unwrap();
    assert!(small.peak() <= smallest, "{small:?}");
    assert!(matches!(small.decoder, VaePlan::Bands { .. }), "{small:?}");
    assert!(!small.keep);
    let (made, ..) = restored(&request, &[]);
    request.options.tiling.memory_budget = Some(Bytes(1 << 50));
    let (whole, plan, _) = restored(&request, &[]);
    assert_eq!(plan.decoder, VaePlan::Whole);
    assert_eq!(made, whole);
    assert_eq!(
        plan.denoiser, small.denoiser,
        "the denoiser's tiles follow from the options alone"
    );
}

#[test]
fn every_plan_keeps_within_its_budget_and_no_larger_budget_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let engine = Engine::from_networks(bundle.clone(), Box::new(FakeNetworks::of(&bundle).0));
    for size in [
        (1, 1),
        (1, 4000),
        (4000, 1),
        (37, 53),
        (511, 513),
        (2048, 2048),
    ] {
        let mut fits = false;
        // From 64 MiB to 66 GiB, each a tenth more than the one before.
        for step in 0..74 {
            let budget = Bytes(((64 << 20) as f64 * 1.1f64.powi(step)) as u64);
            let mut request = request(1, 1, 4.0, 3);
            request.options.tiling.memory_budget = Some(budget);
            match engine.plan(size, &request.options) {
                Ok(plan) => {
                    assert!(plan.peak() <= budget, "{size:?} in {budget}: {plan:?}");
                    fits = true;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Resources);
                    assert!(!fits, "{size:?} in {budget}: {e}");
                }
            }
        }
        assert!(fits);
    }
}
