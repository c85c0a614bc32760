//! The whole pipeline on ONNX Runtime against what the reference computed with the same tiny weights, for every run it
//! recorded except the one with a tiled VAE.
//!
//! Needs the reference goldens and the bundles that `tests/run.sh` exports from them (`DIFFBIR_GOLDEN_BUNDLE`: v2 with
//! all three cleaners, a text encoder and the decoder's derivative; v2.1 with precomputed contexts alone).

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "common/analytic.rs"]
#[allow(dead_code)] // the samplers' goldens need more of it
mod analytic;
mod common;
#[path = "common/program.rs"]
#[allow(dead_code)] // the goldens need little of it
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use analytic::{AnalyticModel, diffusion, replay};
use common::{Goldens, with_reference};
use diffbir::bundle::Bundle;
use diffbir::denoise::Parameterization;
use diffbir::engine::{Engine, Noise, Request};
use diffbir::guidance::{Decoder, Guidance, LossKind, Rule, Semantics, Target, Weights};
use diffbir::imageio::{self, DecodeOptions, Rgb};
use diffbir::nets::vae::GuidingDecoder;
use diffbir::nets::{Networks, Shared};
use diffbir::options::{DenoiserTiles, Options, SeedMode, StartPoint, Strength};
use diffbir::pipeline::{Event, Intermediate, Stage};
use diffbir::runtime::{RuntimeOptions, Sessions};
use diffbir::samplers::{Run, Sampling, spaced};
use diffbir::schedule::Fidelity;
use diffbir::tiling::Tiles;
use ndarray::{Array4, Axis, Ix4, concatenate, s};
use program::Program;
use serde_json::Value;

/// Relative RMS error allowed between ONNX Runtime's and PyTorch's arithmetic, accumulated over the pipeline.
const RELATIVE_RMS: f64 = 1e-3;

/// Runs `test` with the goldens and the folder of bundles; says so where one is missing.
fn with_bundles(name: &str, test: impl FnOnce(&Path, &Path)) {
    let Some(bundles) = std::env::var_os("DIFFBIR_GOLDEN_BUNDLE").map(PathBuf::from) else {
        eprintln!("SKIPPED (no bundle exported from the reference goldens): {name}");
        return;
    };
    with_reference(name, |folder| test(folder, &bundles));
}

/// One run of the reference.
struct Recorded {
    name: String,
    index: Value,
    folder: PathBuf,
}

impl Recorded {
    /// Every run whose VAE was not tiled.
    fn all(folder: &Path) -> Vec<Recorded> {
        let folder = folder.join("tiny");
        let index = std::fs::read(folder.join("e2e/index.json")).unwrap();
        let index: BTreeMap<String, Value> = serde_json::from_slice(&index).unwrap();
        let run = |(name, index)| Recorded {
            name,
            index,
            folder: folder.clone(),
        };
        let whole = |run: &Recorded| run.arg("vae_encoder_tiled") == false;
        index.into_iter().map(run).filter(whole).collect()
    }

    fn arg(&self, name: &str) -> &Value {
        &self.index["args"][name]
    }

    /// The name of the bundle with this run's schedule.
    fn bundle(&self) -> &'static str {
        match self.index["parameterization"].as_str().unwrap() {
            "eps" => "v2",
            _ => "v2.1",
        }
    }

    /// The task that has this run's cleaner in its bundle.
    fn task(&self) -> &'static str {
        match (self.bundle(), self.index["cleaner"].as_str().unwrap()) {
            ("v2", "swinir") => "face",
            ("v2", "scunet") => "denoise",
            _ => "sr",
        }
    }

    fn goldens(&self) -> Goldens {
        Goldens::open(self.folder.join(format!("e2e/{}.safetensors", self.name)))
    }

    fn lq(&self) -> PathBuf {
        self.folder.join(self.index["picture"].as_str().unwrap())
    }

    fn batch(&self) -> usize {
        self.index["batch"].as_u64().unwrap() as usize
    }

    fn request(&self) -> Request {
        let number = |name: &str| self.arg(name).as_f64().unwrap();
        let integer = |name: &str| self.arg(name).as_u64().unwrap() as usize;
        let text = |name: &str| self.arg(name).as_str().unwrap().to_owned();
        let tiles = |stage: &str| {
            let on = self.arg(&format!("{stage}_tiled")) == true;
            on.then(|| Tiles {
                size: integer(&format!("{stage}_tile_size")),
                stride: integer(&format!("{stage}_tile_stride")),
            })
        };
        let mut options = Options::default();
        options.restore.task = self.task().to_owned();
        options.restore.upscale = self.index["upscale"].as_f64();
        options.restore.fidelity = Fidelity::Reference;
        let sampling = &mut options.sampling;
        sampling.sampler = text("sampler_type");
        sampling.steps = integer("steps");
        sampling.cfg_scale = number("cfg_scale");
        sampling.rescale_cfg = self.arg("rescale_cfg") == true;
        sampling.prompt = text("pos_prompt");
        sampling.negative_prompt = text("neg_prompt");
        sampling.strength = Strength::All(number("strength"));
        sampling.noise_aug = integer("noise_aug");
        if self.arg("start_point_type") == "cond" {
            sampling.start_point = StartPoint::Cond;
        }
        sampling.samples = self.batch();
        sampling.batch_size = self.batch();
        sampling.seed_mode = SeedMode::Stream;
        options.tiling.cleaner = tiles("cleaner");
        if let Some(tiles) = tiles("cldm") {
            options.tiling.cldm = DenoiserTiles::Reference(tiles);
        }
        Request::new(
            imageio::read(&self.lq(), DecodeOptions::up_to(1 << 20))
                .unwrap()
                .pixels,
            options,
        )
    }

    /// The recorded noise; what was drawn without effect was not recorded.
    fn noise(&self, goldens: &Goldens) -> Vec<Array4<f32>> {
        let draws = self.index["noise"].as_array().unwrap().iter().enumerate();
        let x_t: Array4<f32> = goldens.array("x_T");
        draws
            .map(|(i, draw)| match goldens.has(&format!("noise.{i}")) {
                true => goldens.array(&format!("noise.{i}")),
                false if draw["same_as"] == "x_T" => x_t.clone(),
                false => Array4::zeros(x_t.dim()),
            })
            .collect()
    }

    /// The flags of this run, in the reference's spelling.
    fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--upscale={}", self.index["upscale"]),
            format!("--seed={}", self.index["seed"]),
            format!("--n_samples={}", self.batch()),
            format!("--batch_size={}", self.batch()),
            "--seed-mode=stream".to_owned(),
            "--fidelity=reference".to_owned(),
        ];
        for (name, value) in self.index["args"].as_object().unwrap() {
            let name = match name.as_str() {
                // What the sampler ignores is refused, so it cannot be passed on at its default.
                "s_churn" | "s_tmin" | "s_tmax" | "s_noise" | "eta" | "order" => continue,
                "sampler_type" => "sampler",
                name => name,
            };
            match value {
                Value::Bool(true) => flags.push(format!("--{name}")),
                Value::Bool(false) => {}
                Value::String(text) => flags.push(format!("--{name}={text}")),
                number => flags.push(format!("--{name}={number}")),
            }
        }
        flags
    }
}

fn relative_rms(found: &Array4<f32>, expected: &Array4<f32>) -> f64 {
    assert_eq!(found.dim(), expected.dim());
    let square = |x: f32| f64::from(x).powi(2);
    let pairs = found.iter().zip(expected);
    let error: f64 = pairs.map(|(&f, &e)| square(f - e)).sum();
    (error / expected.iter().map(|&e| square(e)).sum::<f64>()).sqrt()
}

/// Every sixteenth pixel, as the goldens keep pictures.
fn sub(x: &Array4<f32>) -> Array4<f32> {
    x.slice(s![.., .., ..;16, ..;16]).to_owned()
}

fn engine(bundles: &Path, name: &str) -> Engine {
    let bundle = Bundle::open(&bundles.join(name)).unwrap();
    Engine::open(bundle, RuntimeOptions::default())
}

/// Parity level 1: with the reference's own noise, every intermediate result.
#[test]
fn e2e_with_replayed_noise() {
    with_bundles("e2e_with_replayed_noise", |folder, bundles| {
        Program::new();
        let runs = Recorded::all(folder);
        assert_eq!(runs.len(), 9);
        for bundle in ["v2", "v2.1"] {
            let engine = engine(bundles, bundle);
            for run in runs.iter().filter(|run| run.bundle() == bundle) {
                check_intermediates(run, &engine);
            }
        }
    });
}

fn check_intermediates(run: &Recorded, engine: &Engine) {
    let goldens = run.goldens();
    let mut request = run.request();
    request.noise = Noise::Replay(run.noise(&goldens));
    // The EDM samplers' recorded steps are what each denoiser call saw.
    let shift = usize::from(request.options.sampling.sampler.starts_with("edm"));
    let mut found = BTreeMap::new();
    let mut colors = Vec::new();
    let mut keep = |event: Event<'_>| {
        let (name, array) = match event {
            Event::Step(_, step) => (format!("step.{}", step.index + shift), step.x.clone()),
            Event::Tensor(Intermediate::CImg, _, x) => ("c_img".to_owned(), x.clone()),
            Event::Tensor(Intermediate::XT, _, x) => ("x_T".to_owned(), x.clone()),
            Event::Tensor(Intermediate::Z, _, x) => ("z".to_owned(), x.clone()),
            Event::Picture(Intermediate::Stage1, _, x) => {
                ("stage1.sub".to_owned(), sub(&x.to_array()?))
            }
            Event::Picture(Intermediate::ColorFixed, _, x) => {
                colors.push(sub(&x.to_array()?));
                return Ok(());
            }
            _ => return Ok(()),
        };
        found.insert(name, array);
        Ok(())
    };
    engine.restore(&request, &mut keep).unwrap();
    let views: Vec<_> = colors.iter().map(|x| x.view()).collect();
    let colors = concatenate(Axis(0), &views).unwrap();
    found.insert("color_fixed.sub".to_owned(), colors);
    for name in ["stage1.sub", "c_img", "x_T", "z", "color_fixed.sub"] {
        assert!(found.contains_key(name) && goldens.has(name), "{name}");
    }
    // Not every step was kept.
    let kept = found.iter().filter(|(name, _)| goldens.has(name));
    for (name, found) in kept {
        let expected = goldens.array::<Ix4>(name);
        // What serves all samples is computed once here.
        let expected = expected.slice(s![..found.dim().0, .., .., ..]).to_owned();
        let error = relative_rms(found, &expected);
        eprintln!("{} {name}: relative RMS error {error:.1e}", run.name);
        assert!(error < RELATIVE_RMS, "{} {name}: {error:.2e}", run.name);
    }
}

/// Parity level 2: from the seed alone, through the program, the written 8-bit pictures.
#[test]
fn e2e_from_the_seed_through_the_program() {
    with_bundles(
        "e2e_from_the_seed_through_the_program",
        |folder, bundles| {
            let program = Program::new();
            for run in Recorded::all(folder) {
                let (lq, bundle) = (run.lq(), bundles.join(run.bundle()));
                let flags = run.flags();
                let mut args = vec![
                    "restore",
                    "-o",
                    "r.png",
                    "--overwrite",
                    "--task",
                    run.task(),
                ];
                args.extend(["--input", lq.to_str().unwrap()]);
                args.extend(["--bundle", bundle.to_str().unwrap()]);
                args.extend(flags.iter().map(String::as_str));
                program.run(&args).code(0);
                for k in 0..run.batch() {
                    check_picture(&run, k, program.dir());
                }
            }
        },
    );
}

fn check_picture(run: &Recorded, k: usize, dir: &Path) {
    let numbered = |stem: &str| match run.batch() {
        1 => format!("{stem}.png"),
        _ => format!("{stem}_{k}.png"),
    };
    let read = |path: &Path| {
        imageio::read(path, DecodeOptions::up_to(1 << 20))
            .unwrap()
            .pixels
            .into_u8()
    };
    let found = read(&dir.join(numbered("r")));
    let recorded = run.folder.join("e2e").join(numbered(&run.name));
    let (found, expected): (Rgb, Rgb) = if recorded.exists() {
        (found, read(&recorded))
    } else {
        // Of large results every fourth pixel was kept.
        let kept = run.goldens().u8("final_u8.sub");
        let kept = kept.into_dimensionality::<Ix4>().unwrap();
        let found = found.slice(s![..;4, ..;4, ..]).to_owned();
        (found, kept.index_axis_move(Axis(0), 0))
    };
    let difference = (&found.mapv(i32::from) - &expected.mapv(i32::from)).mapv(i32::abs);
    let mean = f64::from(difference.sum()) / difference.len() as f64;
    let max = difference.iter().max().unwrap();
    eprintln!(
        "{} {k} from the seed: mean difference {mean:.5} levels, largest {max}",
        run.name
    );
    assert!(mean <= 0.05 && *max <= 2, "{}: {mean}, {max}", run.name);
}

/// The way from latents to pictures and back that guidance takes between pictures.
#[test]
fn guidance_through_the_decoder() {
    with_bundles("guidance_through_the_decoder", |folder, bundles| {
        Program::new();
        let bundle = Bundle::open(&bundles.join("v2")).unwrap();
        let mut sessions = Sessions::new(bundle.graph_files(), RuntimeOptions::default());
        let mut decoder = GuidingDecoder {
            networks: &Shared::new(&mut sessions as &mut dyn Networks),
            decoder: "vae_decoder",
            vjp: "vae_decoder_vjp",
        };
        let goldens = Goldens::open(folder.join("guidance.safetensors"));
        for loss in ["mse", "w_mse"] {
            let golden = |key: &str| goldens.array::<Ix4>(&format!("tinyvae.rgb.{loss}.{key}"));
            let image = decoder.decode(&golden("z")).unwrap();
            let gradient = decoder.pull_back(&golden("z"), &golden("g_rgb")).unwrap();
            let errors = [
                relative_rms(&image, &golden("decoded")),
                relative_rms(&gradient, &golden("grad_z")),
            ];
            eprintln!("{loss}: relative RMS errors of image and gradient {errors:?}");
            assert!(errors.iter().all(|error| *error < 1e-4), "{errors:?}");
        }
    });
}

/// A whole run, guided in every step through the decoder and its derivative; the denoiser is the analytic one.
#[test]
fn guidance_run_through_the_decoder() {
    with_bundles("guidance_run_through_the_decoder", |folder, bundles| {
        Program::new();
        let bundle = Bundle::open(&bundles.join("v2")).unwrap();
        let mut sessions = Sessions::new(bundle.graph_files(), RuntimeOptions::default());
        let shared = Shared::new(&mut sessions as &mut dyn Networks);
        let goldens = Goldens::open(folder.join("guidance.safetensors"));
        let golden = |key: &str| goldens.array::<Ix4>(&format!("tinyvae.spaced_rgb_wmse.{key}"));
        let rule = Rule {
            semantics: Semantics::V2,
            scale: 0.02,
            start: 1001,
            stop: -1,
            repeat: 1,
        };
        let target = Target::Rgb {
            weights: Weights::of(LossKind::WMse, &golden("target_rgb")),
            target: golden("target_rgb"),
            decoder: Box::new(GuidingDecoder {
                networks: &shared,
                decoder: "vae_decoder",
                vjp: "vae_decoder_vjp",
            }),
        };
        let mut model = AnalyticModel {
            c_img: golden("c_img"),
            recorded: None,
            rows: Vec::new(),
        };
        let mut run = Run {
            model: &mut model,
            noise: &mut replay(&goldens, "tinyvae.spaced_rgb_wmse.noise"),
            guide: Some(&mut Guidance::new(rule, target)),
            observe: &mut |_| Ok(()),
        };
        let diffusion = diffusion(false, Parameterization::Eps);
        let sampling = Sampling::new(&diffusion, 5);
        let result = spaced::sample(&sampling, &mut run, golden("x_T")).unwrap();
        let error = relative_rms(&result, &golden("result"));
        eprintln!("relative RMS error {error:.1e}");
        assert!(error < 1e-4, "{error:e}");
    });
}

/// Prompts that the bundle has no context for go through its text encoder, once; what does not fit is told.
#[test]
fn prompts_through_the_text_encoder() {
    with_bundles("prompts_through_the_text_encoder", |folder, bundles| {
        let program = Program::new();
        let engine = engine(bundles, "v2");
        let run = Recorded::all(folder).remove(0);
        let mut request = run.request();
        request.options.sampling.prompt = "a photograph of a cat".to_owned();
        request.options.sampling.samples = 1;
        let mut encoded = 0;
        for _ in 0..2 {
            let mut count = |event: Event<'_>| {
                encoded += usize::from(matches!(event, Event::Started(Stage::TextEncoder)));
                Ok(())
            };
            engine.restore(&request, &mut count).unwrap();
        }
        assert_eq!(encoded, 1, "the context is kept");

        let lq = std::fs::read(run.lq()).unwrap();
        std::fs::write(program.dir().join("a.png"), lq).unwrap();
        std::fs::write(program.dir().join("a.txt"), "a cat").unwrap();
        let (bundle, long) = (bundles.join("v2"), "very ".repeat(100));
        let args = [
            "restore", "a.png", "-o", "r.png", "--steps", "2", "--task", "face", "--json",
        ];
        let more = [
            "--upscale",
            "1",
            "--bundle",
            bundle.to_str().unwrap(),
            "--prompt",
            &long,
        ];
        let run = program.run(&[&args[..], &more].concat());
        run.code(0);
        let stdout = run.stdout();
        let lines = stdout.lines().map(serde_json::from_str);
        let lines: Vec<Value> = lines.collect::<Result<_, _>>().unwrap();
        let note = lines.iter().find(|line| line["event"] == "note").unwrap();
        // A comma and "a cat" stand before the hundred; 75 tokens fit.
        let message = note["message"].as_str().unwrap();
        assert!(
            message.ends_with("its last 28 tokens are ignored"),
            "{message}"
        );
        let done = lines
            .iter()
            .find(|line| line["event"] == "picture")
            .unwrap();
        let prompt = done["provenance"]["sampling"]["prompt"].as_str().unwrap();
        assert!(prompt.starts_with("a cat, very very"), "{prompt}");
    });
}
