//! Sizes and whole runs of the reference's own pipeline on the same networks (tests/goldens/pipeline/make.py).

use diffbir::engine::{Engine, Request};
use diffbir::imageio::Pixels;
use diffbir::memory::Bytes;
use diffbir::options::{DenoiserTiles, Options, SemanticsOption};
use diffbir::pipeline::{CleanerPlan, Event, Intermediate, Pipeline, Plan, Sizes};
use diffbir::prompts::Prompts;
use diffbir::schedule::Fidelity;
use diffbir::tensor::round_up;
use diffbir::tiling::Tiles;
use ndarray::{Array3, Array4, Ix3, Ix4, s};
use serde_json::Value;

use crate::common::{Goldens, abs, assert_close};
use crate::fakes::{FakeNetworks, write_bundle};
use crate::{Bench, request};

/// The multiple of a restoration module's input, and its scale.
fn module(cleaner: &str) -> (usize, usize) {
    match cleaner {
        "swinir" => (64, 1),
        "bsrnet" => (1, 4),
        _ => (1, 1),
    }
}

fn tiles(size: usize) -> Option<Tiles> {
    let tiles = Tiles {
        size,
        stride: size / 2,
    };
    (size > 0).then_some(tiles)
}

/// As the reference runs: whole unless tiles are asked for, with black padding.
fn set_reference(options: &mut Options, cleaner: usize, cldm: usize, encoder: usize) {
    options.restore.fidelity = Fidelity::Reference;
    options.tiling.memory_budget = Some(Bytes(1 << 50));
    options.tiling.cleaner = tiles(cleaner);
    options.tiling.cldm = tiles(cldm).map_or(DenoiserTiles::None, DenoiserTiles::Reference);
    options.tiling.vae_encoder = (encoder > 0).then_some(encoder);
}

/// The rows of a table of sizes.json: the first column, and the numbers of the others.
fn rows(table: &str) -> Vec<(String, Vec<usize>)> {
    let text = include_str!("../goldens/pipeline/sizes.json");
    let tables: Value = serde_json::from_str(text).unwrap();
    let row = |row: &Value| {
        let row = row.as_array().unwrap();
        let numbers = row.iter().filter_map(Value::as_u64);
        let name = row[0].as_str().unwrap_or("swinir").to_owned();
        (name, numbers.map(|number| number as usize).collect())
    };
    tables[table].as_array().unwrap().iter().map(row).collect()
}

/// Sizes and plan of a picture by a bundle with each of the three modules.
struct Planner(Vec<(&'static str, tempfile::TempDir)>);

impl Planner {
    fn new() -> Self {
        let cleaners = ["swinir", "bsrnet", "scunet"];
        Planner(
            cleaners
                .map(|name| (name, tempfile::tempdir().unwrap()))
                .into(),
        )
    }

    fn plan(&self, cleaner: &str, lq: (usize, usize), options: &Options) -> (Sizes, Plan) {
        let (_, dir) = self.0.iter().find(|(name, _)| *name == cleaner).unwrap();
        let bundle = write_bundle(dir.path(), cleaner, module(cleaner).1, 512);
        let (networks, _) = FakeNetworks::of(&bundle);
        let pipeline = Pipeline::new(&bundle, options, &Prompts::default()).unwrap();
        let plan = pipeline.plan(lq, &networks).unwrap();
        (pipeline.sizes(lq).unwrap(), plan)
    }
}

#[test]
fn sizes_of_stage_1_are_those_of_the_reference() {
    let planner = Planner::new();
    let rows = rows("cleaner");
    assert!(rows.len() > 500);
    for (cleaner, row) in rows {
        let [upscale, tile, height, width, rest @ ..] = &row[..] else {
            panic!("{row:?}");
        };
        let mut options = Options::default();
        options.restore.upscale = Some(*upscale as f64 / 100.0);
        set_reference(&mut options, *tile, 0, 0);
        let (sizes, plan) = planner.plan(&cleaner, (*height, *width), &options);
        let multiple = module(&cleaner).0;
        let (h, w) = sizes.network;
        let input = match plan.cleaner {
            CleanerPlan::Tiles(tiles) => (tiles.size, tiles.size),
            _ => (round_up(h, multiple), round_up(w, multiple)),
        };
        let found = [input, sizes.cond, sizes.output];
        let found: Vec<usize> = found.iter().flat_map(|&(h, w)| [h, w]).collect();
        assert_eq!(found, rest, "{cleaner} {row:?}");
    }
}

#[test]
fn sizes_of_stage_2_are_those_of_the_reference() {
    let planner = Planner::new();
    let rows = rows("cldm");
    assert!(rows.len() > 300);
    for (_, row) in rows {
        let [height, width, cldm, encoder, rest @ ..] = &row[..] else {
            panic!("{row:?}");
        };
        let mut options = Options::default();
        options.restore.upscale = Some(1.0);
        set_reference(&mut options, 0, *cldm, *encoder);
        let (sizes, plan) = planner.plan("swinir", (*height, *width), &options);
        assert_eq!(sizes.cond, (*height, *width));
        let calls = plan
            .denoiser
            .map_or(1, |layout| layout.grid(sizes.sampled).unwrap().count());
        let ((h, w), sampled) = (sizes.latent, sizes.sampled);
        let found = [8 * h, 8 * w, sampled.0, sampled.1, h, w, calls];
        assert_eq!(found, *rest, "{row:?}");
    }
}

/// Runs `request` and compares what was recorded as `name`.
fn check_run(engine: &Engine, request: &Request, name: &str) {
    let goldens = Goldens::of_module("pipeline");
    let golden = |key: &str| goldens.array::<Ix4>(&format!("{name}.{key}"));
    let close = |key: &str, found: &Array4<f32>| {
        assert_close(&format!("{name}.{key}"), found, &golden(key), abs(2e-5));
    };
    let mut seen = 0;
    let mut observe = |event: Event<'_>| {
        let (key, x) = match event {
            Event::Picture(Intermediate::Stage1, _, x) => (
                "stage1.sub",
                x.to_array()?.slice(s![.., .., ..;16, ..;16]).to_owned(),
            ),
            Event::Tensor(Intermediate::CImg, _, x) => ("c_img.sub", latent_sub(x)),
            Event::Tensor(Intermediate::Z, _, x) => ("z.sub", latent_sub(x)),
            _ => return Ok(()),
        };
        close(key, &x);
        seen += 1;
        Ok(())
    };
    let restored = engine.restore(request, &mut observe).unwrap();
    assert_eq!(seen, 3);
    let found: Array3<u8> = restored
        .samples
        .into_iter()
        .map(Pixels::into_u8)
        .next()
        .unwrap();
    let expected = goldens.u8(&format!("{name}.result.sub"));
    let expected: Array3<u8> = expected.into_dimensionality::<Ix3>().unwrap();
    let found = found.slice(s![..;16, ..;16, ..]);
    assert_eq!(found.dim(), expected.dim(), "{name}");
    let worst = found
        .iter()
        .zip(&expected)
        .map(|(&f, &e)| f.abs_diff(e))
        .max();
    assert!(worst <= Some(1), "{name}: {worst:?}");
}

fn latent_sub(x: &Array4<f32>) -> Array4<f32> {
    x.slice(s![.., .., ..;5, ..;5]).to_owned()
}

#[test]
fn whole_runs_are_those_of_the_reference() {
    // Name; restoration module; the picture's height and width; upscale; tiles of stage 1, the denoiser, the encoder.
    for (name, cleaner, (height, width), upscale, (stage_1, cldm, encoder)) in [
        ("bsrnet_down", "bsrnet", (130, 150), 2.0, (0, 0, 0)),
        ("bsrnet_up", "bsrnet", (90, 70), 4.0, (0, 0, 0)),
        ("bsrnet_tiled", "bsrnet", (130, 150), 4.5, (128, 0, 0)),
        ("swinir_tiled", "swinir", (300, 280), 1.5, (256, 0, 0)),
        ("scunet_small_tile", "scunet", (200, 150), 1.5, (0, 1024, 0)),
        (
            "swinir_encoder_tile",
            "swinir",
            (130, 150),
            4.0,
            (0, 0, 1024),
        ),
        ("swinir_plain", "swinir", (130, 150), 4.0, (0, 0, 0)),
    ] {
        let bench = Bench::new(cleaner, module(cleaner).1, 512);
        let mut request = request(height, width, upscale, 3);
        set_reference(&mut request.options, stage_1, cldm, encoder);
        check_run(&bench.engine, &request, name);
    }
}

/// In a step outside of the window v1 draws once for guidance, so that the noise of all later steps moves on by one draw.
#[test]
fn latent_guidance_of_v1_outside_of_its_window_is_that_of_the_reference() {
    let goldens = Goldens::of_module("pipeline");
    let bench = Bench::new("swinir", 1, 64);
    let mut request = request(64, 64, 1.0, 5);
    let guidance = &mut request.options.guidance;
    guidance.semantics = SemanticsOption::V1;
    (guidance.scale, guidance.start, guidance.stop) = (5.0, 700, 200);
    guidance.repeat = Some(2);
    let mut observe = |event: Event<'_>| {
        let (key, found) = match event {
            Event::Tensor(Intermediate::XT, _, x) => ("x_T", x),
            Event::Tensor(Intermediate::Z, _, x) => ("z", x),
            _ => return Ok(()),
        };
        let name = format!("v1.window.{key}");
        assert_close(&name, found, &goldens.array::<Ix4>(&name), abs(1e-4));
        Ok(())
    };
    bench.engine.restore(&request, &mut observe).unwrap();
}
