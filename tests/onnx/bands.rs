//! The exact stages in tiles on real networks: the VAE in bands, the cleaner in tiles with a halo.

use std::cell::Cell;
use std::path::Path;

use diffbir::bundle::Bundle;
use diffbir::canvas::{Place, Store};
use diffbir::engine::{Engine, Request};
use diffbir::imageio::Rgb;
use diffbir::memory::Bytes;
use diffbir::nets::segments::{BandHeight, Bands, MOST_KEYS};
use diffbir::options::{DenoiserTiles, Options, TilingOptions};
use diffbir::pipeline::{CleanerPlan, Event, Stage, VaePlan};
use diffbir::runtime::{RuntimeOptions, Sessions};
use ndarray::{Array3, Array4, Axis, s};

use super::{Made, made, tiny};
use crate::program::Program;
use crate::seams::psnr;

/// Decibels that tiled and untiled may be apart.
const BOUND: f64 = 60.0;

fn engine(bundle: Bundle) -> Engine {
    Engine::open(bundle, RuntimeOptions::default())
}

fn demo() -> Bundle {
    Program::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/demo");
    Bundle::open(&dir).unwrap()
}

fn request(lq: Rgb, tiling: TilingOptions) -> Request {
    let mut options = Options {
        tiling,
        ..Options::default()
    };
    options.restore.upscale = Some(1.0);
    options.sampling.steps = 2;
    Request::new(lq, options)
}

/// A picture with structure of many sizes.
fn picture(height: usize, width: usize) -> Rgb {
    let wave = |x: usize, length: f32| (x as f32 / length).sin();
    Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
        let value = wave(x, 3.0 + c as f32) + wave(y, 17.0) + wave(x + 2 * y, 90.0);
        (127.0 + 40.0 * value) as u8
    })
}

/// Peak signal-to-noise ratio of what two runs made, in dB: stage 1, its latent, the decoded picture.
fn likeness(tiled: &Made, whole: &Made) -> [f64; 3] {
    let largest = whole.c_img.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    [
        psnr(&tiled.stage1, &whole.stage1),
        psnr(&(&tiled.c_img / largest), &(&whole.c_img / largest)),
        psnr(&(&tiled.decoded / 2.0), &(&whole.decoded / 2.0)),
    ]
}

/// Tiles of the exact stages, so small that every stage has nine or more.
const SMALL: TilingOptions = TilingOptions {
    memory_budget: Some(Bytes(1 << 50)),
    cleaner: None,
    cldm: DenoiserTiles::None,
    cleaner_exact: Some(64),
    vae_encoder: Some(32),
    vae_decoder: Some(32),
};

const WHOLE: TilingOptions = TilingOptions {
    cleaner_exact: None,
    vae_encoder: None,
    vae_decoder: None,
    ..SMALL
};

#[test]
fn bands_and_exact_tiles_give_what_the_whole_gives() {
    for (name, bundle, height, width) in [("tiny", tiny(), 450, 520), ("demo", demo(), 290, 256)] {
        let engine = engine(bundle);
        let lq = picture(height, width);
        let whole = made(&engine, &request(lq.clone(), WHOLE));
        let tiled = made(&engine, &request(lq, SMALL));
        let likeness = likeness(&tiled, &whole);
        eprintln!("{name}: stage 1, latent, decoded: {likeness:.1?} dB");
        assert!(
            likeness.iter().all(|&psnr| psnr >= BOUND),
            "{name}: {likeness:?}"
        );
    }
}

#[test]
fn every_stage_runs_in_as_many_tiles_as_are_told() {
    let engine = engine(tiny());
    let counts =
        [Stage::Cleaner, Stage::VaeEncoder, Stage::VaeDecoder].map(|of| (of, Cell::new(0)));
    let mut count = |event: Event<'_>| {
        if let Event::Tile(stage, ..) = event {
            let found = counts.iter().find(|(of, _)| *of == stage);
            found
                .iter()
                .for_each(|(_, tiles)| tiles.set(tiles.get() + 1));
        }
        Ok(())
    };
    engine
        .restore(&request(picture(300, 300), SMALL), &mut count)
        .unwrap();
    for (stage, tiles) in &counts {
        assert!(tiles.get() >= 9, "{stage:?}: {}", tiles.get());
    }
}

#[test]
fn a_small_budget_gives_the_same_picture_and_a_smaller_one_is_refused() {
    let engine = engine(tiny());
    let lq = picture(320, 384);
    let plan = |bytes| {
        let tiling = TilingOptions {
            memory_budget: Some(Bytes(bytes)),
            ..WHOLE
        };
        let request = request(lq.clone(), tiling);
        engine
            .plan((320, 384), &request.options)
            .map(|plan| (plan, request))
    };
    let refused = plan(1 << 20).unwrap_err().to_string();
    let named = refused
        .split("smallest budget that would do is ")
        .nth(1)
        .unwrap();
    let smallest: Bytes = named.split([';', ' ']).next().unwrap().parse().unwrap();
    let (small, request) = plan(smallest.0).unwrap();
    // The encoder takes less than stage 1 does, and so runs whole even then.
    assert!(matches!(small.decoder, VaePlan::Bands { .. }), "{small:?}");
    assert!(plan(smallest.0 - (2 << 20)).is_err());
    let (large, all) = plan(1 << 50).unwrap();
    assert!(
        matches!(large.cleaner, CleanerPlan::Whole { .. }) && large.keep,
        "{large:?}"
    );
    let psnr = likeness(&made(&engine, &request), &made(&engine, &all));
    assert!(psnr.iter().all(|&psnr| psnr >= BOUND), "{psnr:?}");
    // What memory there was decides nothing about the result's text either.
    let text = |request: &Request| {
        let restored = engine.restore(request, &mut |_| Ok(())).unwrap();
        restored.provenance.text(0).unwrap()
    };
    assert_eq!(text(&request), text(&all));
}

#[test]
fn rrdbnet_in_strips_gives_what_the_whole_gives() {
    Program::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bundle = Bundle::open(&root.join("tests/fixtures/rrdbnet/bundle")).unwrap();
    let engine = engine(bundle);
    let (height, width) = (700, 500);
    let of_budget = |bytes| {
        let tiling = TilingOptions {
            memory_budget: Some(Bytes(bytes)),
            ..WHOLE
        };
        let mut request = request(picture(height, width), tiling);
        request.options.restore.upscale = Some(2.0);
        request.options.restore.stage1_only = true;
        request
    };
    let plan = |bytes| engine.plan((height, width), &of_budget(bytes).options);
    let smallest = plan(1 << 20).unwrap_err().smallest_budget().unwrap();
    let small = plan(smallest).unwrap();
    assert!(
        matches!(small.cleaner, CleanerPlan::Bands { .. }),
        "{small:?}"
    );
    assert!(!small.is_whole());
    let whole = engine
        .restore(&of_budget(1 << 50), &mut |_| Ok(()))
        .unwrap();
    assert!(matches!(whole.plan.cleaner, CleanerPlan::Whole { .. }));
    let strips = engine
        .restore(&of_budget(smallest), &mut |_| Ok(()))
        .unwrap();
    let levels = |pixels: &diffbir::imageio::Pixels| pixels.to_u8().mapv(f32::from);
    let (whole, strips) = (levels(&whole.samples[0]), levels(&strips.samples[0]));
    assert_eq!(whole.dim(), (2 * height, 2 * width, 3));
    assert!((&whole - &strips).iter().all(|d| d.abs() <= 1.0));
    let off = (&whole - &strips).iter().filter(|d| **d != 0.0).count();
    assert!(off < whole.len() / 1000, "{off} values are a level apart");
}

/// A picture of the repository by its path from `docs`, enlarged: real content of any size.
fn photograph(name: &str, height: usize, width: usize) -> Rgb {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    let lq =
        diffbir::imageio::read(&path, diffbir::imageio::DecodeOptions::up_to(1 << 22)).unwrap();
    diffbir::resize::pillow_bicubic(lq.pixels.to_u8().view(), height, width)
}

#[test]
#[ignore = "minutes: prints figures"]
fn figures_of_exact_tiles() {
    let engine = engine(demo());
    let pictures = [
        ("../onnx/demo/pictures/astronaut.png", 1024, 1024),
        ("../onnx/demo/pictures/coffee.png", 1024, 1024),
        ("../onnx/demo/pictures/coffee.png", 1024, 1536),
    ];
    let rows = pictures.map(|(name, height, width)| {
        let lq = photograph(name, height, width);
        let tiling = TilingOptions {
            cleaner_exact: Some(320),
            vae_encoder: Some(96),
            vae_decoder: Some(96),
            ..SMALL
        };
        let whole = made(&engine, &request(lq.clone(), WHOLE));
        let likeness = likeness(&made(&engine, &request(lq, tiling)), &whole);
        eprintln!("{name} {width}x{height}: stage 1, latent, decoded: {likeness:.1?} dB");
        likeness
    });
    assert!(rows.iter().flatten().all(|&psnr| psnr >= BOUND));
}

#[test]
#[ignore = "minutes: prints figures"]
fn figures_of_thinned_attention() {
    let engine = engine(demo());
    for (name, lq) in [
        (
            "coffee",
            photograph("../onnx/demo/pictures/coffee.png", 1024, 1024),
        ),
        ("sheet", photograph("demo.jpg", 1024, 1024)),
    ] {
        let z = made(&engine, &request(lq, WHOLE)).c_img;
        thinned_against_exact(&engine, name, &z);
    }
}

fn thinned_against_exact(engine: &Engine, name: &str, z: &Array4<f32>) {
    let bundle = engine.bundle();
    let mut sessions = Sessions::new(bundle.graph_files(), RuntimeOptions::default());
    let plan = bundle.segments("vae_decoder").unwrap().unwrap();
    let mut decode = |most_keys| {
        let bands = Bands {
            plan: &plan,
            graph: "vae_decoder",
            height: BandHeight::Memory(1 << 30),
            place: Place::Memory,
            store: &Store::default(),
            most_keys,
        };
        let read = |rows| Ok(z.slice(s![.., .., rows, ..]).to_owned());
        let size = (z.len_of(Axis(2)), z.len_of(Axis(3)));
        let made = bands
            .run(&mut sessions, size, &read, &|_, _| Ok(()))
            .unwrap();
        made.to_array().unwrap() / 2.0
    };
    let exact = decode(MOST_KEYS);
    // Where there are more cells than `most_keys`, a quarter of it is left.
    for keys in [1024, 256, 64, 16] {
        eprintln!(
            "{name}: {keys} keys of 16384: {:.1} dB",
            psnr(&decode(4 * keys), &exact)
        );
    }
}
