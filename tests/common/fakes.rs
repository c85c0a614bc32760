//! Networks that compute something simple and remember what they were asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use diffbir::bundle::Bundle;
use diffbir::error::{Error, Result};
use diffbir::nets::contract::GraphKind;
use diffbir::nets::{
    FeatureCache, GraphInfo, Input, Network, NetworkInfo, Networks, SplitDenoiser,
};
use ndarray::{Array4, ArrayD, Axis, Ix4, concatenate};

/// One run of a fake network: the graph, and each input's name and shape.
pub type Call = (String, Vec<(String, Vec<usize>)>);

/// The calls of all networks, in order.
pub type Calls = Arc<Mutex<Vec<Call>>>;

/// A cleaner that returns its input, a VAE that pools and repeats, a denoiser that returns `0.1 * x + 0.2 * hint`.
pub struct FakeNetworks {
    nets: BTreeMap<String, FakeNetwork>,
    denoiser: GraphInfo,
}

struct FakeNetwork {
    graph: String,
    kind: GraphKind,
    scale: usize,
    calls: Calls,
}

impl FakeNetworks {
    /// A fake for every graph of `bundle`.
    pub fn of(bundle: &Bundle) -> (Self, Calls) {
        let calls = Calls::default();
        let graphs = &bundle.manifest().graphs;
        let fake = |name: &String| FakeNetwork {
            graph: name.clone(),
            kind: graphs[name].kind,
            scale: graphs[name].scale.max(1.0) as usize,
            calls: calls.clone(),
        };
        let nets = graphs
            .keys()
            .map(|name| (name.clone(), fake(name)))
            .collect();
        let denoiser = GraphInfo::default();
        (FakeNetworks { nets, denoiser }, calls)
    }

    /// The same, the denoiser in a form that computes once what all branches share, and leaves a deep state: the mean of `x`
    /// in each row, plus the timestep. Its output is `0.1 * x + 0.2 * hint` plus a thousandth of that state. In halves, the
    /// control module adds a thirteenth each of `0.2 * hint` plus a thousandth of that state.
    #[allow(dead_code)] // not every test has a use for it
    pub fn reusing(bundle: &Bundle) -> (Self, Calls) {
        let (mut networks, calls) = FakeNetworks::of(bundle);
        let shallow = "denoiser/shallow".to_owned();
        networks.denoiser = GraphInfo {
            provider: None,
            variant: Some("fake".to_owned()),
            shares_prefix: true,
            features: Some(FeatureCache {
                tensor: "deep".to_owned(),
                values_per_pixel: 1,
                shallow: shallow.clone(),
            }),
            split: Some(SplitDenoiser {
                values_per_pixel: 13,
                control: "denoiser/control".to_owned(),
                unet: "denoiser/unet".to_owned(),
            }),
        };
        for (graph, kind) in [
            (shallow, GraphKind::Denoiser),
            ("denoiser/control".to_owned(), GraphKind::Control),
            ("denoiser/unet".to_owned(), GraphKind::Unet),
        ] {
            let net = FakeNetwork {
                graph: graph.clone(),
                kind,
                scale: 1,
                calls: calls.clone(),
            };
            networks.nets.insert(graph, net);
        }
        (networks, calls)
    }
}

impl Networks for FakeNetworks {
    fn stage(&mut self, _: &[&str], _: bool) {}

    fn get(&mut self, graph: &str) -> Result<&mut dyn Network> {
        let net = self.nets.get_mut(graph);
        Ok(net.ok_or_else(|| Error::bundle(format!("the bundle has no graph `{graph}`")))?)
    }

    fn info(&self) -> NetworkInfo {
        let of_graph = |graph: &String| {
            let info = match graph.as_str() {
                "denoiser" => self.denoiser.clone(),
                _ => GraphInfo::default(),
            };
            let provider = Some("Fake".to_owned());
            (graph.clone(), GraphInfo { provider, ..info })
        };
        NetworkInfo {
            graphs: self.nets.keys().map(of_graph).collect(),
            ..NetworkInfo::default()
        }
    }
}

impl FakeNetwork {
    fn compute(&self, inputs: &BTreeMap<&str, Array4<f32>>) -> Array4<f32> {
        match self.kind {
            GraphKind::Cleaner => repeat(&inputs["image"], self.scale),
            GraphKind::VaeEncoder => encode(&inputs["image"]),
            GraphKind::VaeDecoder => decode(&inputs["latent"]),
            GraphKind::Denoiser => &inputs["x"] * 0.1 + &inputs["hint"] * 0.2,
            GraphKind::Control => &inputs["hint"] * (0.2 / 13.0),
            GraphKind::Unet => &inputs["x"] * 0.1,
            other => panic!("the pipeline does not run {other:?}"),
        }
    }
}

impl Network for FakeNetwork {
    fn run(&mut self, inputs: &[(&str, Input<'_>)], outputs: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        let shapes = inputs
            .iter()
            .map(|(name, x)| (name.to_string(), x.shape().to_vec()))
            .collect();
        self.calls
            .lock()
            .unwrap()
            .push((self.graph.clone(), shapes));
        let mut names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        let mut contract = self.kind.inputs();
        let is_shallow = self.graph.ends_with("shallow");
        contract.extend(is_shallow.then(|| "deep".to_owned()));
        names.sort();
        contract.sort();
        assert_eq!(names, contract, "inputs of {}", self.graph);
        let images = inputs.iter().filter_map(|(name, input)| match input {
            Input::F32(x) if x.ndim() == 4 => {
                Some((*name, x.to_owned().into_dimensionality::<Ix4>().unwrap()))
            }
            _ => None,
        });
        let images: BTreeMap<&str, Array4<f32>> = images.collect();
        let output = self.compute(&images);
        if self.kind != GraphKind::Denoiser {
            assert_eq!(outputs, self.kind.outputs(), "outputs of {}", self.graph);
        }
        if !inputs.iter().any(|(name, _)| *name == "context") {
            return Ok(vec![output.into_dyn()]);
        }
        let of = |wanted| &inputs.iter().find(|(name, _)| *name == wanted).unwrap().1;
        let branches = of("context").shape()[0] / images["x"].dim().0;
        let timestep = match of("timestep") {
            Input::F32(t) => *t.first().unwrap(),
            Input::I64(_) => panic!("the timestep is a float"),
        };
        let repeat = |x: &Array4<f32>| concatenate(Axis(0), &vec![x.view(); branches]).unwrap();
        let state = repeat(&deep_state(&images["x"], timestep));
        match self.kind {
            GraphKind::Control => {
                let residual = repeat(&output) + &state * (1e-3 / 13.0);
                return Ok(vec![residual.into_dyn(); 13]);
            }
            GraphKind::Unet => {
                let residuals = images
                    .iter()
                    .filter(|(name, _)| name.starts_with("control_"));
                let all = residuals.fold(repeat(&output), |all, (_, residual)| all + residual);
                return Ok(vec![all.into_dyn()]);
            }
            _ => {}
        }
        let deep = images.get("deep").cloned().unwrap_or(state);
        let is_plain = outputs == ["output"] && !images.contains_key("deep");
        let mut output = repeat(&output);
        if !is_plain {
            output = output + &deep * 1e-3;
        }
        let all = [output.into_dyn(), deep.into_dyn()].into_iter();
        Ok(all.take(outputs.len()).collect())
    }
}

/// The mean of each row of the batch, plus the timestep: `[N, 1, 1, 1]`.
fn deep_state(x: &Array4<f32>, timestep: f32) -> Array4<f32> {
    let means = x.outer_iter().map(|x| x.mean().unwrap() + timestep);
    Array4::from_shape_vec((x.dim().0, 1, 1, 1), means.collect()).unwrap()
}

/// Every pixel `scale` times in each direction.
fn repeat(x: &Array4<f32>, scale: usize) -> Array4<f32> {
    let (n, c, h, w) = x.dim();
    Array4::from_shape_fn((n, c, h * scale, w * scale), |(i, j, y, k)| {
        x[[i, j, y / scale, k / scale]]
    })
}

/// The top left pixel of every 8x8 block, and the mean of its channels as fourth.
fn encode(image: &Array4<f32>) -> Array4<f32> {
    let (n, _, h, w) = image.dim();
    Array4::from_shape_fn((n, 4, h / 8, w / 8), |(i, c, y, x)| match c {
        3 => (0..3).map(|c| image[[i, c, y * 8, x * 8]]).sum::<f32>() / 3.0,
        c => image[[i, c, y * 8, x * 8]],
    })
}

fn decode(z: &Array4<f32>) -> Array4<f32> {
    let (n, _, h, w) = z.dim();
    Array4::from_shape_fn((n, 3, h * 8, w * 8), |(i, c, y, x)| z[[i, c, y / 8, x / 8]])
}

/// A bundle of empty graph files: enough for an engine on fakes.
pub fn write_bundle(dir: &Path, cleaner: &str, scale: usize, short_edge: usize) -> Bundle {
    let contexts = BTreeMap::from([("empty", safetensors_of(77, 4))]);
    safetensors::serialize_to_file(&contexts, None, &dir.join("contexts.safetensors")).unwrap();
    std::fs::write(
        dir.join("bundle.yaml"),
        manifest(cleaner, scale, short_edge),
    )
    .unwrap();
    Bundle::open(dir).unwrap()
}

fn safetensors_of(rows: usize, columns: usize) -> safetensors::tensor::TensorView<'static> {
    let zeros: &'static [u8] = Box::leak(vec![0_u8; rows * columns * 4].into_boxed_slice());
    safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![rows, columns], zeros)
        .unwrap()
}

/// A `bundle.yaml` in format 1 with the four graphs that the pipeline runs.
pub fn manifest(cleaner: &str, scale: usize, short_edge: usize) -> String {
    let multiple = if cleaner == "swinir" { 64 } else { 1 };
    let sha = "0".repeat(64);
    let graph = |name: &str, kind: &str, architecture: &str, multiple: usize, scale: f64| {
        format!(
            "  {name}:\n    kind: {kind}\n    architecture: {architecture}\n    file: {name}.onnx\n    precision: fp32\n    \
             multiple: {multiple}\n    scale: {scale}\n    files: {{ {name}.onnx: \"{sha}\" }}\n    verified: []\n    variants: []\n"
        )
    };
    let graphs = [
        graph("cleaner_sr", "cleaner", cleaner, multiple, scale as f64),
        graph("vae_encoder", "vae_encoder", "autoencoder_kl", 8, 0.125),
        graph("denoiser", "denoiser", "unet", 8, 1.0),
        graph("vae_decoder", "vae_decoder", "autoencoder_kl", 1, 8.0),
    ]
    .concat();
    format!(
        "format: 1\nfamily: v1\nweights: {{ source: random, seed: 0 }}\nexporter: {{ version: 0.1.0, torch: 2.15.0, onnx: 1.23.2, \
         onnxscript: 0.7.2, onnxruntime: 1.32.0, opset: 18 }}\ncheckpoints: []\ndiffusion: {{ timesteps: 1000, linear_start: \
         0.00085, linear_end: 0.012, zero_snr: false, parameterization: eps }}\nlatent: {{ channels: 4, downscale: 8, \
         scale_factor: 0.18215 }}\nmin_short_edge: {short_edge}\ntasks: {{ sr: {{ cleaner: cleaner_sr }} }}\ndefaults: {{ sampler: \
         spaced, steps: 50, cfg_scale: 1.0, prompt: \"\", negative_prompt: \"\" }}\ncontexts: {{ file: contexts.safetensors, \
         sha256: \"{sha}\", tokens: 77, width: 4, prompts: [ {{ tensor: empty, prompt: \"\" }} ] }}\ngraphs:\n{graphs}"
    )
}
