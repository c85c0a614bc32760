//! The pipeline and the engine on fake networks: sizes, order of stages and draws, stopping, noise.

#![allow(clippy::unwrap_used)] // what fails here fails the test

#[path = "pipeline/ahead.rs"]
mod ahead;
#[path = "pipeline/bounds.rs"]
mod bounds;
#[path = "common/mod.rs"]
mod common;
#[path = "common/fakes.rs"]
mod fakes;
#[path = "pipeline/loading.rs"]
mod loading;
#[path = "pipeline/memory.rs"]
mod memory;
#[path = "pipeline/reference.rs"]
mod reference;
#[path = "pipeline/sets.rs"]
mod sets;
#[path = "pipeline/shortcuts.rs"]
mod shortcuts;
#[path = "pipeline/stage1.rs"]
mod stage1;
#[path = "pipeline/stopping.rs"]
mod stopping;
#[path = "pipeline/tiles.rs"]
mod tiles;

use diffbir::bundle::Bundle;
use diffbir::cancel::Cancel;
use diffbir::engine::{Engine, Noise, Request};
use diffbir::error::{Error, ErrorKind};
use diffbir::guidance::{LossKind, Space};
use diffbir::imageio::{Pixels, Rgb};
use diffbir::memory::Bytes;
use diffbir::nets::Networks;
use diffbir::options::{
    Cleaner, ColorFix, DenoiserTiles, Options, RestoreOptions, SamplingOptions, SeedMode,
    StartPoint, Strength,
};
use diffbir::pipeline::{Event, Intermediate, Lq, Observer, Pipeline, Plan, Stage};
use diffbir::prompts::Prompts;
use diffbir::rng::{Draws, NoiseSource, TorchCpu};
use diffbir::samplers::SAMPLERS;
use diffbir::schedule::{Diffusion, DiffusionConfig};
use diffbir::tiling::{EvenTiles, Tiles};
use diffbir::{resize, tensor};
use fakes::{Calls, FakeNetworks, write_bundle};
use ndarray::{Array3, Array4, Axis};

struct Bench {
    engine: Engine,
    calls: Calls,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(cleaner: &str, scale: usize, short_edge: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bundle = write_bundle(dir.path(), cleaner, scale, short_edge);
        let (networks, calls) = FakeNetworks::of(&bundle);
        Bench {
            engine: Engine::from_networks(bundle, Box::new(networks)),
            calls,
            _dir: dir,
        }
    }

    /// The shapes of the cleaner's, encoder's and first denoiser step's main inputs.
    fn shapes(&self, graph: &str, input: &str) -> Vec<Vec<usize>> {
        let calls = self.calls.lock().unwrap();
        let of_graph = calls.iter().filter(|(name, _)| name == graph);
        of_graph
            .flat_map(|(_, inputs)| inputs.iter().filter(|(name, _)| name == input))
            .map(|(_, s)| s.clone())
            .collect()
    }
}

fn request(height: usize, width: usize, upscale: f64, steps: usize) -> Request {
    let lq = Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
        (y * 7 + x * 3 + c * 50) as u8
    });
    let options = Options {
        restore: RestoreOptions {
            upscale: Some(upscale),
            ..RestoreOptions::default()
        },
        sampling: SamplingOptions {
            steps,
            ..SamplingOptions::default()
        },
        ..Options::default()
    };
    Request::new(lq, options)
}

/// Runs the pipeline itself on `networks`, up to `tile_batch` tiles of the denoiser at once; the plan.
fn run_on(
    bundle: &Bundle,
    networks: &mut dyn Networks,
    request: &Request,
    tile_batch: usize,
    observe: &mut Observer<'_>,
) -> Plan {
    let prompts = Prompts::default();
    let pipeline = Pipeline::new(bundle, &request.options, &prompts).unwrap();
    let mut plan = pipeline.plan(request.lq.size(), networks).unwrap();
    plan.tile_batch = tile_batch;
    let sampling = &request.options.sampling;
    let mut draws = Draws::per_sample(sampling.rng, sampling.seed);
    let lq = Lq::from(&request.lq);
    let run = pipeline.run(lq, &plan, &prompts, networks, &mut draws, observe);
    run.unwrap();
    plan
}

fn run(bench: &Bench, request: &Request) -> Rgb {
    run_all(bench, request).remove(0)
}

/// All samples.
fn run_all(bench: &Bench, request: &Request) -> Vec<Rgb> {
    let restored = bench.engine.restore(request, &mut |_| Ok(())).unwrap();
    assert_eq!(restored.samples.len(), request.options.sampling.samples);
    restored.samples.into_iter().map(Pixels::into_u8).collect()
}

#[test]
fn swinir_enlarges_first_and_pads_to_64() {
    let bench = Bench::new("swinir", 1, 128);
    let result = run(&bench, &request(30, 40, 2.0, 2));
    assert_eq!(result.dim(), (60, 80, 3));
    // 60x80 to a short edge of 128 is 128x170; padded to multiples of 64.
    assert_eq!(bench.shapes("cleaner_sr", "image"), [[1, 3, 128, 192]]);
    assert_eq!(bench.shapes("vae_encoder", "image"), [[1, 3, 128, 192]]);
    assert_eq!(
        bench.shapes("denoiser", "x"),
        [[1, 4, 16, 24], [1, 4, 16, 24]]
    );
    assert_eq!(bench.shapes("denoiser", "strength"), [[13], [13]]);
    assert_eq!(bench.shapes("vae_decoder", "latent"), [[1, 4, 16, 24]]);
}

#[test]
fn scunet_enlarges_after_the_network() {
    let bench = Bench::new("scunet", 1, 128);
    let result = run(&bench, &request(30, 40, 2.0, 2));
    assert_eq!(result.dim(), (60, 80, 3));
    assert_eq!(bench.shapes("cleaner_sr", "image"), [[1, 3, 60, 80]]);
    assert_eq!(bench.shapes("vae_encoder", "image"), [[1, 3, 128, 192]]);
}

#[test]
fn bsrnet_sees_the_picture_itself_and_is_resized_to_the_output() {
    let bench = Bench::new("bsrnet", 4, 64);
    let result = run(&bench, &request(30, 40, 3.0, 2));
    assert_eq!(result.dim(), (90, 120, 3));
    assert_eq!(bench.shapes("cleaner_sr", "image"), [[1, 3, 30, 40]]);
    assert_eq!(bench.shapes("vae_encoder", "image"), [[1, 3, 128, 128]]);
}

#[test]
fn every_size_from_one_pixel_up() {
    let bench = Bench::new("swinir", 1, 64);
    for (height, width) in [(1, 1), (1, 300), (300, 1), (37, 53), (65, 64), (511, 513)] {
        let result = run(&bench, &request(height, width, 1.0, 2));
        assert_eq!(result.dim(), (height, width, 3));
    }
}

#[test]
fn a_long_strip_is_padded_to_an_aspect_ratio_of_8() {
    let bench = Bench::new("swinir", 1, 64);
    run(&bench, &request(1, 1600, 1.0, 2));
    assert_eq!(
        bench.shapes("cleaner_sr", "image"),
        [[1, 3, 256, 1600]],
        "1x1600 becomes 200x1600, padded to 64"
    );
}

#[test]
fn stages_come_in_order_and_each_is_timed_once() {
    let bench = Bench::new("swinir", 1, 64);
    let mut seen = Vec::new();
    let mut note = |event: Event<'_>| {
        seen.push(match event {
            Event::Started(stage) => format!("{stage:?} starts"),
            Event::Finished(stage, _) => format!("{stage:?} ends"),
            Event::Step(_, step) => {
                format!("step {} of {} at {}", step.index, step.total, step.timestep)
            }
            Event::Tensor(what, ..) | Event::Picture(what, ..) => format!("{what:?}"),
            _ => return Ok(()),
        });
        Ok(())
    };
    bench
        .engine
        .restore(&request(8, 8, 1.0, 3), &mut note)
        .unwrap();
    let expected = [
        "Cleaner starts",
        "Stage1",
        "Cleaner ends",
        "VaeEncoder starts",
        "CImg",
        "VaeEncoder ends",
        "Sampling starts",
        "XT",
        "step 0 of 3 at 999",
        "step 1 of 3 at 500",
        "step 2 of 3 at 0",
        "Z",
        "Sampling ends",
        "VaeDecoder starts",
        "Decoded",
        "VaeDecoder ends",
        "Finish starts",
        "ColorFixed",
        "Finish ends",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_cancelled_request_stops_after_the_step() {
    let bench = Bench::new("swinir", 1, 64);
    let cancel = Cancel::default();
    let mut request = request(8, 8, 1.0, 50);
    request.cancel = cancel.clone();
    let mut stop_at_3 = |event: Event<'_>| {
        if let Event::Step(_, step) = event
            && step.index == 3
        {
            cancel.cancel();
        }
        Ok(())
    };
    let error = bench.engine.restore(&request, &mut stop_at_3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(
        bench.shapes("denoiser", "x").len(),
        4,
        "no denoiser call follows the request"
    );
}

#[test]
fn an_observers_error_is_the_result_and_the_engine_lives_on() {
    let bench = Bench::new("swinir", 1, 64);
    let mut fail = |event: Event<'_>| match event {
        Event::Finished(Stage::VaeEncoder, _) => Err(Error::input("disk full")),
        _ => Ok(()),
    };
    let error = bench
        .engine
        .restore(&request(8, 8, 1.0, 2), &mut fail)
        .unwrap_err();
    assert_eq!(error.to_string(), "disk full");
    run(&bench, &request(8, 8, 1.0, 2));
}

#[test]
fn a_result_depends_on_its_seed_alone() {
    let bench = Bench::new("swinir", 1, 64);
    let seeded = |seed| {
        let mut request = request(16, 16, 1.0, 4);
        request.options.sampling.seed = seed;
        run(&bench, &request)
    };
    let first = seeded(231);
    assert_ne!(first, seeded(232));
    assert_eq!(first, seeded(231), "what ran in between must not matter");
}

#[test]
fn replayed_noise_gives_what_the_seed_gives() {
    let bench = Bench::new("swinir", 1, 64);
    let mut request = request(16, 16, 1.0, 4);
    let from_seed = run(&bench, &request);
    let mut generator = TorchCpu::new(231);
    let mut draw = || generator.randn([1, 4, 8, 8]).unwrap();
    let draws: Vec<Array4<f32>> = (0..5).map(|_| draw()).collect();
    request.noise = Noise::Replay(draws.clone());
    assert_eq!(
        run(&bench, &request),
        from_seed,
        "x_T, then one draw a step"
    );
    request.noise = Noise::Replay(draws[..4].to_vec());
    assert!(
        bench.engine.restore(&request, &mut |_| Ok(())).is_err(),
        "a recording that is too short is an error"
    );
}

#[test]
fn strength_and_colour_fix_reach_their_stage() {
    let bench = Bench::new("swinir", 1, 64);
    let colours = |fix| {
        let mut request = request(16, 16, 1.0, 3);
        request.options.restore.color_fix = fix;
        let mut fixed = None;
        let mut keep = |event: Event<'_>| {
            if let Event::Picture(Intermediate::ColorFixed, _, array) = event {
                fixed = Some(array.to_array()?);
            }
            Ok(())
        };
        bench.engine.restore(&request, &mut keep).unwrap();
        fixed.unwrap()
    };
    let (wavelet, adain, none) = (
        colours(ColorFix::Wavelet),
        colours(ColorFix::Adain),
        colours(ColorFix::None),
    );
    assert_ne!(wavelet, none);
    assert_ne!(adain, none);
    assert_ne!(adain, wavelet);
}

#[test]
fn bad_options_are_refused_before_any_network_runs() {
    let bench = Bench::new("swinir", 1, 64);
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = request(8, 8, 1.0, 2);
        change(&mut request);
        let error = bench.engine.restore(&request, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{error}");
        error.to_string()
    };
    assert!(refused(&|r| r.options.sampling.steps = 0).contains("at least 2"));
    assert!(refused(&|r| r.options.sampling.steps = 1001).contains("at most 1000"));
    assert!(refused(&|r| r.options.restore.upscale = Some(f64::NAN)).contains("upscale"));
    assert!(refused(&|r| r.options.restore.upscale = Some(0.0)).contains("upscale"));
    assert!(refused(&|r| r.options.sampling.cfg_scale = f64::NAN).contains("cfg_scale"));
    assert!(
        refused(&|r| r.options.sampling.sampler = "spacd".into()).contains("did you mean `spaced`")
    );
    assert!(refused(&|r| r.options.restore.task = "face".into()).contains("serves sr"));
    assert!(refused(&|r| r.options.sampling.prompt = "a cat".into()).contains("no text encoder"));
    assert!(refused(&|r| r.options.sampling.prompt = "a cat".into()).contains("serve are \"\""));
    assert!(refused(&|r| r.options.sampling.eta = Some(0.5)).contains("spaced ignores it"));
    assert!(refused(&|r| r.options.sampling.noise_aug = 1000).contains("at most 999"));
    assert!(refused(&|r| r.options.sampling.samples = 0).contains("samples is 0"));
    assert!(refused(&|r| r.options.sampling.batch_size = 0).contains("batch_size is 0"));
    let three = Strength::Each(vec![1.0; 3]);
    assert!(refused(&|r| r.options.sampling.strength = three.clone()).contains("1 or 13"));
    assert!(refused(&|r| r.options.guidance.scale = -1.0).contains("guidance.scale"));
    assert!(refused(&|r| r.options.guidance.repeat = Some(0)).contains("guidance.repeat"));
    assert!(refused(&|r| r.options.guidance.stop = 1001).contains("above stop"));
    assert!(refused(&|r| r.options.guidance.loss = LossKind::WMse).contains("rgb"));
    let rgb = |r: &mut Request| {
        r.options.guidance.scale = 1.0;
        r.options.guidance.space = Space::Rgb;
    };
    assert!(refused(&rgb).contains("--guidance-graph"));
    let tiles = |size, stride| Tiles { size, stride };
    let reference = |size, stride| DenoiserTiles::Reference(tiles(size, stride));
    let even = |size, overlap| DenoiserTiles::Even(EvenTiles { size, overlap });
    assert!(refused(&|r| r.options.tiling.cldm = reference(96, 32)).contains("multiple of 64"));
    assert!(refused(&|r| r.options.tiling.cldm = reference(64, 128)).contains("at most SIZE"));
    assert!(refused(&|r| r.options.tiling.cldm = even(96, 32)).contains("multiple of 64"));
    assert!(refused(&|r| r.options.tiling.cldm = even(64, 40)).contains("at most half"));
    assert!(refused(&|r| r.options.tiling.cldm = even(64, 0)).contains("at most half"));
    assert!(
        refused(&|r| r.options.tiling.cleaner = Some(tiles(48, 24))).contains("multiple of 64")
    );
    assert!(bench.calls.lock().unwrap().is_empty());
}

#[test]
fn both_branches_run_in_one_batch() {
    let bench = Bench::new("swinir", 1, 64);
    let mut request = request(8, 8, 1.0, 2);
    request.options.sampling.cfg_scale = 4.0;
    run(&bench, &request);
    assert_eq!(bench.shapes("denoiser", "x"), [[2, 4, 8, 8], [2, 4, 8, 8]]);
    assert_eq!(
        bench.shapes("denoiser", "context"),
        [[2, 77, 4], [2, 77, 4]]
    );
}

#[test]
fn threads_share_an_engine() {
    let bench = Bench::new("swinir", 1, 64);
    let expected = run(&bench, &request(16, 16, 1.0, 4));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(run(&bench, &request(16, 16, 1.0, 4)), expected));
        }
    });
}

/// Every latent of a request's samples, in order.
fn latents(bench: &Bench, request: &Request) -> Vec<Array4<f32>> {
    let mut found = Vec::new();
    let mut keep = |event: Event<'_>| {
        if let Event::Tensor(Intermediate::Z, samples, z) = event {
            assert_eq!((samples.first, samples.count), (found.len(), z.dim().0));
            found.extend(z.axis_chunks_iter(Axis(0), 1).map(|z| z.to_owned()));
        }
        Ok(())
    };
    bench.engine.restore(request, &mut keep).unwrap();
    found
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    let bench = Bench::new("swinir", 1, 64);
    let run = |seed, samples, batch_size| {
        let mut request = request(16, 16, 1.0, 4);
        let sampling = &mut request.options.sampling;
        sampling.sampler = "edm_dpm++_2m_sde".to_owned();
        sampling.noise_aug = 100;
        (sampling.seed, sampling.samples, sampling.batch_size) = (seed, samples, batch_size);
        request.options.guidance.scale = 0.01;
        latents(&bench, &request)
    };
    let batch = run(231, 5, 2);
    assert_eq!(
        bench.shapes("cleaner_sr", "image").len(),
        1,
        "stage 1 runs once"
    );
    assert_eq!(bench.shapes("vae_encoder", "image").len(), 1);
    let first_calls: Vec<usize> = bench.shapes("denoiser", "x").iter().map(|x| x[0]).collect();
    assert_eq!(first_calls, [2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1]);
    for (k, sample) in batch.iter().enumerate() {
        assert_eq!(*sample, run(231 + k as u64, 1, 1)[0], "sample {k}");
    }
}

#[test]
fn a_stream_draws_a_batch_at_once() {
    let bench = Bench::new("swinir", 1, 64);
    let mut request = request(16, 16, 1.0, 3);
    let sampling = &mut request.options.sampling;
    sampling.seed_mode = SeedMode::Stream;
    (sampling.samples, sampling.batch_size) = (2, 2);
    let found = latents(&bench, &request);
    let mut stream = TorchCpu::new(231);
    let draws = (0..4)
        .map(|_| stream.randn([2, 4, 8, 8]).unwrap())
        .collect();
    request.noise = Noise::Replay(draws);
    assert_eq!(latents(&bench, &request), found);
}

#[test]
fn the_start_point_and_the_condition_are_noised_in_the_references_order() {
    let bench = Bench::new("swinir", 1, 64);
    let mut request = request(16, 16, 1.0, 3);
    request.options.sampling.start_point = StartPoint::Cond;
    request.options.sampling.noise_aug = 200;
    let (mut c_img, mut x_t) = (None, None);
    let mut keep = |event: Event<'_>| {
        match event {
            Event::Tensor(Intermediate::CImg, _, x) => c_img = Some(x.clone()),
            Event::Tensor(Intermediate::XT, _, x) => x_t = Some(x.clone()),
            _ => {}
        }
        Ok(())
    };
    bench.engine.restore(&request, &mut keep).unwrap();
    let diffusion = Diffusion::new(&DiffusionConfig::default()).unwrap();
    let noise = TorchCpu::new(231).randn([1, 4, 8, 8]).unwrap();
    let expected = diffusion.q_sample(&c_img.unwrap(), 999, &noise).unwrap();
    assert_eq!(
        x_t.unwrap(),
        expected,
        "x_T comes first, the condition's noise after it"
    );
}

#[test]
fn without_a_cleaner_the_enlarged_picture_is_stage_1() {
    let bench = Bench::new("bsrnet", 4, 64);
    let mut request = request(40, 50, 2.0, 2);
    request.options.restore.cleaner = Cleaner::None;
    let mut stage1 = None;
    let mut keep = |event: Event<'_>| {
        if let Event::Picture(Intermediate::Stage1, _, x) = event {
            stage1 = Some(x.to_array()?);
        }
        Ok(())
    };
    let restored = bench.engine.restore(&request, &mut keep).unwrap();
    assert_eq!(restored.samples[0].size(), (80, 100));
    assert!(bench.shapes("cleaner_sr", "image").is_empty());
    let enlarged = resize::pillow_bicubic(request.lq.to_u8().view(), 80, 100);
    let stage1 = resize::quantise(&stage1.unwrap());
    assert_eq!(tensor::to_hwc(stage1).index_axis_move(Axis(0), 0), enlarged);
    assert!(!restored.provenance.graphs.contains_key("cleaner_sr"));
}

#[test]
fn stages_run_in_tiles_where_they_fit() {
    let bench = Bench::new("bsrnet", 4, 64);
    let mut request = request(40, 50, 4.0, 2);
    request.options.restore.color_fix = ColorFix::None;
    request.options.tiling.memory_budget = Some(Bytes(1 << 50));
    let whole = run(&bench, &request);
    request.options.tiling.cleaner = Some(Tiles {
        size: 32,
        stride: 16,
    });
    request.options.tiling.cldm = DenoiserTiles::Reference(Tiles {
        size: 64,
        stride: 32,
    });
    bench.calls.lock().unwrap().clear();
    let tiled = run(&bench, &request);
    assert_eq!(bench.shapes("cleaner_sr", "image"), [[1, 3, 32, 32]; 6]);
    // 160x200 in windows of 64 every 32, in each of two steps: 4 rows, 6 columns, the last ones moved inwards; four run
    // at once.
    assert_eq!(bench.shapes("denoiser", "x"), [[4, 4, 8, 8]; 2 * 4 * 6 / 4]);
    // The fakes work pixel by pixel, so that tiles change the noise's padding alone: none here but the width's.
    assert_eq!(tiled.dim(), whole.dim());

    request.options.tiling.cldm = DenoiserTiles::Reference(Tiles {
        size: 256,
        stride: 128,
    });
    bench.calls.lock().unwrap().clear();
    run(&bench, &request);
    assert_eq!(bench.shapes("vae_encoder", "image"), [[1, 3, 160, 200]]);
    assert_eq!(
        bench.shapes("denoiser", "x"),
        [[1, 4, 24, 32]; 2],
        "smaller than a tile: padded, whole"
    );
    assert_eq!(bench.shapes("vae_decoder", "latent"), [[1, 4, 20, 25]]);
}

#[test]
fn guidance_draws_to_stage_1_with_every_sampler() {
    let bench = Bench::new("swinir", 1, 64);
    for sampler in SAMPLERS {
        let distance = |scale| {
            let mut request = request(16, 16, 1.0, 4);
            request.options.sampling.sampler = sampler.name.to_owned();
            request.options.guidance.scale = scale;
            request.options.guidance.repeat = Some(1);
            let mut c_img = None;
            let mut keep = |event: Event<'_>| {
                if let Event::Tensor(Intermediate::CImg, _, x) = event {
                    c_img = Some(x.clone());
                }
                if let Event::Step(_, step) = event {
                    assert_eq!(step.guidance_loss.is_some(), scale > 0.0);
                }
                Ok(())
            };
            bench.engine.restore(&request, &mut keep).unwrap();
            let difference = &latents(&bench, &request)[0] - &c_img.unwrap();
            difference.mapv(|x| x * x).sum()
        };
        let distances = [0.0, 10.0, 30.0].map(distance);
        assert!(
            distances.is_sorted_by(|a, b| a > b),
            "{}: {distances:?}",
            sampler.name
        );
    }
}

/// The reference refuses guidance in tiles.
#[test]
fn guidance_works_in_tiles() {
    let bench = Bench::new("bsrnet", 4, 64);
    let run = |scale| {
        let mut request = request(30, 40, 4.0, 3);
        request.options.tiling.cldm = DenoiserTiles::Reference(Tiles {
            size: 64,
            stride: 32,
        });
        request.options.guidance.scale = scale;
        let mut c_img = None;
        let mut keep = |event: Event<'_>| {
            if let Event::Tensor(Intermediate::CImg, _, x) = event {
                c_img = Some(x.clone());
            }
            Ok(())
        };
        bench.engine.restore(&request, &mut keep).unwrap();
        let difference = &latents(&bench, &request)[0] - &c_img.unwrap();
        difference.mapv(|x| x * x).sum()
    };
    let distances = [0.0, 10.0, 30.0].map(run);
    assert!(distances.is_sorted_by(|a, b| a > b), "{distances:?}");
    assert!(
        bench
            .shapes("denoiser", "x")
            .iter()
            .all(|x| x[2..] == [8, 8])
    );
}
