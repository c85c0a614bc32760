//! The denoiser's tiles on real networks: batches of them, and whether their borders show.

use std::path::{Path, PathBuf};

use diffbir::bundle::Bundle;
use diffbir::engine::{Engine, Request};
use diffbir::imageio::{DecodeOptions, Rgb, read};
use diffbir::memory::Bytes;
use diffbir::options::{AUTO_TILES, DenoiserTiles, Options, RestoreOptions, SamplingOptions};
use diffbir::pipeline::{Event, Intermediate, Lq, Pipeline};
use diffbir::prompts::Prompts;
use diffbir::resize;
use diffbir::rng::Draws;
use diffbir::runtime::{RuntimeOptions, Sessions};
use diffbir::tiling::{EvenTiles, Tiles};
use ndarray::{Array2, Array3, Array4, s};
use safetensors::tensor::{Dtype, TensorView};

use crate::program::Program;
use crate::seams::{Lines, psnr, seam, seam_against};

/// The most that the seam metric may be.
const BOUND: f64 = 1.05;

/// The two plans of the denoiser: the reference's, and this engine's with the same size of tiles.
fn plans(size: usize) -> [(&'static str, DenoiserTiles); 2] {
    let (stride, overlap) = (size / 2, size / 4);
    [
        (
            "reference",
            DenoiserTiles::Reference(Tiles { size, stride }),
        ),
        ("even", DenoiserTiles::Even(EvenTiles { size, overlap })),
    ]
}

#[test]
fn the_metric_sees_a_seam_of_one_level() {
    let lines = Lines {
        rows: vec![128],
        columns: vec![96, 128],
    };
    let gradient = |step: f32, round: bool| {
        Array4::from_shape_fn((1, 3, 256, 256), |(_, c, y, x)| {
            let seam = if x < 128 { 0.0 } else { step };
            let value = 40.0 + 0.3 * x as f32 + 0.2 * y as f32 + 9.0 * c as f32 + seam;
            (if round { value.round() } else { value }) / 255.0
        })
    };
    for round in [false, true] {
        let whole = gradient(0.0, round);
        assert!((0.99..1.01).contains(&seam(&whole, &lines)));
        for step in [1.0, 2.0] {
            let found = seam(&gradient(step, round), &lines);
            assert!(found > BOUND, "a step of {step}, rounded {round}: {found}");
            assert!(seam_against(&gradient(step, round), &whole, &lines) > BOUND);
        }
    }
}

/// The demo's bundle.
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/demo")
}

/// The demo's bundle with a second prompt, `other`, whose context is half the first one's: with the one that it has,
/// classifier-free guidance would change nothing.
fn demo_with_two_prompts(dir: &Path) -> Bundle {
    for entry in std::fs::read_dir(demo())
        .unwrap()
        .map(|entry| entry.unwrap())
    {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    let context = Bundle::open(dir).unwrap().context("").unwrap().unwrap();
    let bytes = |x: &Array2<f32>| -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let (empty, other) = (bytes(&context), bytes(&(&context * 0.5)));
    let view = |bytes| TensorView::new(Dtype::F32, context.shape().to_vec(), bytes).unwrap();
    let contexts = [("empty", view(&empty)), ("other", view(&other))];
    safetensors::serialize_to_file(contexts, None, &dir.join("contexts.safetensors")).unwrap();
    let manifest = std::fs::read_to_string(dir.join("bundle.yaml")).unwrap();
    let entry = "  - tensor: empty\n    prompt: ''\n";
    let both = format!("{entry}  - tensor: other\n    prompt: other\n");
    assert!(manifest.contains(entry));
    std::fs::write(dir.join("bundle.yaml"), manifest.replace(entry, &both)).unwrap();
    Bundle::open(dir).unwrap()
}

/// One of the demo's pictures, of 96x96 pixels.
pub fn demo_picture(name: &str) -> Rgb {
    let file = demo().join(format!("pictures/{name}.png"));
    read(&file, DecodeOptions::up_to(1 << 20))
        .unwrap()
        .pixels
        .into_u8()
}

fn flat_gradient(height: usize, width: usize) -> Rgb {
    Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
        let (y, x) = (y as f64 / height as f64, x as f64 / width as f64);
        (70.0 + 80.0 * x + 40.0 * y + 10.0 * c as f64).round() as u8
    })
}

fn request(lq: Rgb, upscale: f64, steps: usize) -> Request {
    let options = Options {
        restore: RestoreOptions {
            upscale: Some(upscale),
            ..RestoreOptions::default()
        },
        sampling: SamplingOptions {
            steps,
            cfg_scale: 4.0,
            negative_prompt: "other".to_owned(),
            ..SamplingOptions::default()
        },
        ..Options::default()
    };
    let mut request = Request::new(lq, options);
    // The demo's networks take far less than what is said of networks that have not been measured.
    request.options.tiling.memory_budget = Some(Bytes(1 << 50));
    request
}

/// The decoded picture and the colour-corrected one, in `[0, 1]`.
fn pictures(engine: &Engine, request: &Request) -> [Array4<f32>; 2] {
    let (mut decoded, mut fixed) = (None, None);
    let mut keep = |event: Event<'_>| {
        match event {
            Event::Picture(Intermediate::Decoded, _, x) => {
                decoded = Some(x.to_array()?.mapv_into(|x| (x + 1.0) / 2.0));
            }
            Event::Picture(Intermediate::ColorFixed, _, x) => fixed = Some(x.to_array()?),
            _ => {}
        }
        Ok(())
    };
    engine.restore(request, &mut keep).unwrap();
    [decoded.unwrap(), fixed.unwrap()]
}

/// What tiles do to a picture: before colour correction, and after it.
struct Figures {
    tiles: usize,
    /// PSNR to the picture made without tiles.
    psnr: [f64; 2],
    seam: [f64; 2],
    /// The seam metric against the picture made without tiles.
    against: [f64; 2],
}

/// Restores `request` without tiles and in each of `plans`.
fn compare(
    engine: &Engine,
    mut request: Request,
    what: &str,
    plans: [(&'static str, DenoiserTiles); 2],
) -> [Figures; 2] {
    request.options.tiling.cldm = DenoiserTiles::None;
    let whole = pictures(engine, &request);
    plans.map(|(name, tiles)| {
        request.options.tiling.cldm = tiles;
        let tiled = pictures(engine, &request);
        let (_, _, h, w) = whole[0].dim();
        let size = (h.next_multiple_of(64) / 8, w.next_multiple_of(64) / 8);
        let grid = tiles.layout(size).unwrap().grid(size).unwrap();
        let lines = Lines::of(&grid, 8);
        let figures = Figures {
            tiles: grid.count(),
            psnr: [0, 1].map(|k| psnr(&tiled[k], &whole[k])),
            seam: [0, 1].map(|k| seam(&tiled[k], &lines)),
            against: [0, 1].map(|k| seam_against(&tiled[k], &whole[k], &lines)),
        };
        let Figures { tiles, psnr, seam, against } = &figures;
        eprintln!(
            "{what} {h}x{w}, {name}: {tiles} tiles; decoded {:.2} dB to the whole, seam {:.4}, against the whole {:.4}; \
             corrected {:.2} dB, {:.4}, {:.4}",
            psnr[0], seam[0], against[0], psnr[1], seam[1], against[1]
        );
        figures
    })
}

#[test]
fn tiles_leave_no_seams() {
    Program::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(demo_with_two_prompts(dir.path()), RuntimeOptions::default());
    let flat = request(flat_gradient(128, 128), 4.0, 5);
    let coffee = request(demo_picture("coffee"), 512.0 / 96.0, 5);
    for (what, request) in [("flat gradient", flat), ("coffee", coffee)] {
        for figures in compare(&engine, request, what, plans(256)) {
            assert_eq!(figures.tiles, 9);
            let found = figures.against;
            assert!(found.iter().all(|&seam| seam <= BOUND), "{what}: {found:?}");
            assert!(figures.psnr[0] > 35.0, "{what}: {:?}", figures.psnr);
        }
    }
}

/// The bound is worth something: with what the networks draw on a flat gradient, a step of one level along a single line
/// is beyond it.
#[test]
fn a_step_of_one_level_in_a_restored_gradient_is_a_seam() {
    Program::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(demo_with_two_prompts(dir.path()), RuntimeOptions::default());
    let [whole, _] = pictures(&engine, &request(flat_gradient(128, 128), 4.0, 5));
    for (name, tiles) in plans(256) {
        let grid = tiles.layout((64, 64)).unwrap().grid((64, 64)).unwrap();
        let lines = Lines::of(&grid, 8);
        let mut stepped = whole.clone();
        let mut right = stepped.slice_mut(s![.., .., .., lines.columns[0]..]);
        right.mapv_inplace(|x| x + 1.0 / 255.0);
        let found = seam_against(&stepped, &whole, &lines);
        assert!(found > BOUND, "{name}: {found}");
    }
}

#[test]
#[ignore = "minutes: prints what tiles do at the sizes that they are for"]
fn figures_at_1024x1024_and_1536x1024() {
    Program::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(demo_with_two_prompts(dir.path()), RuntimeOptions::default());
    let plans = || [plans(512)[0], ("auto", DenoiserTiles::Even(AUTO_TILES))];
    for width in [256, 384] {
        for name in ["astronaut", "coffee"] {
            let picture = demo_picture(name);
            let rows = 96 * 256 / width;
            let part = picture.slice(s![(96 - rows) / 2..(96 + rows) / 2, .., ..]);
            let lq = resize::pillow_bicubic(part, 256, width);
            compare(&engine, request(lq, 4.0, 10), name, plans());
        }
        let lq = flat_gradient(256, width);
        compare(&engine, request(lq, 4.0, 10), "flat gradient", plans());
    }
}

/// The sampled latents of two samples on the tiny bundle, up to `tile_batch` tiles at once.
fn latents(tiles: DenoiserTiles, tile_batch: usize) -> Array4<f32> {
    let bundle = super::tiny();
    let mut request = super::request(128);
    request.options.tiling.cldm = tiles;
    let sampling = &mut request.options.sampling;
    (sampling.samples, sampling.batch_size) = (2, 2);
    let prompts = Prompts::default();
    let pipeline = Pipeline::new(&bundle, &request.options, &prompts).unwrap();
    let mut sessions = Sessions::new(bundle.graph_files(), RuntimeOptions::default());
    let mut plan = pipeline.plan((128, 128), &sessions).unwrap();
    plan.tile_batch = tile_batch;
    let sampling = &request.options.sampling;
    let mut draws = Draws::per_sample(sampling.rng, sampling.seed);
    let mut found = None;
    let mut keep = |event: Event<'_>| {
        if let Event::Tensor(Intermediate::Z, _, z) = event {
            found = Some(z.clone());
        }
        Ok(())
    };
    let lq = Lq::from(&request.lq);
    let run = pipeline.run(lq, &plan, &prompts, &mut sessions, &mut draws, &mut keep);
    run.unwrap();
    found.unwrap()
}

#[test]
fn batches_of_tiles_give_what_single_ones_give() {
    for (name, tiles) in plans(64) {
        let single = latents(tiles, 1);
        for batch in [4, 7] {
            let largest = super::largest(&(latents(tiles, batch) - &single));
            let relative = largest / super::largest(&single);
            assert!(
                relative < 1e-5,
                "{name} in batches of {batch}: {relative:e}"
            );
        }
    }
}
