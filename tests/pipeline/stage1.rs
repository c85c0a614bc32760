//! Stage 1 alone: the restoration module's picture is the result, and no diffusion model is needed.

use diffbir::bundle::Bundle;
use diffbir::engine::{Engine, Request};
use diffbir::error::{ErrorKind, Result};
use diffbir::imageio::{BitDepth, Pixels};
use diffbir::options::{Cleaner, Options};
use diffbir::pipeline::{Event, Intermediate, Stage};
use ndarray::Array3;

use crate::fakes::{Calls, FakeNetworks, manifest};

/// A bundle of a restoration module alone: the lines of `bundle.yaml` without the four entries of a diffusion model
/// but those in `kept`.
fn alone(cleaner: &str, scale: usize, kept: &[&str]) -> Result<(Engine, Calls)> {
    let dir = tempfile::tempdir().unwrap();
    let text = manifest(cleaner, scale, 64);
    let (head, graphs) = text.split_once("graphs:\n").unwrap();
    let of_model = ["diffusion", "latent", "defaults", "contexts"];
    let dropped = |line: &&str| {
        let key = line.split(':').next().unwrap();
        of_model.contains(&key) && !kept.contains(&key)
    };
    let head: Vec<&str> = head.lines().filter(|line| !dropped(line)).collect();
    let module = graphs.split("  vae_encoder:").next().unwrap();
    let text = format!("{}\ngraphs:\n{module}", head.join("\n"));
    std::fs::write(dir.path().join("bundle.yaml"), text).unwrap();
    let bundle = Bundle::open(dir.path())?;
    let (networks, calls) = FakeNetworks::of(&bundle);
    Ok((Engine::from_networks(bundle, Box::new(networks)), calls))
}

fn request(upscale: f64) -> Request {
    let lq = Array3::from_shape_fn((20, 24, 3), |(y, x, c)| (y * 7 + x * 3 + c * 50) as u8);
    let mut options = Options::default();
    options.restore.upscale = Some(upscale);
    options.restore.stage1_only = true;
    Request::new(lq, options)
}

#[test]
fn the_modules_picture_is_the_result() {
    let (engine, calls) = alone("bsrnet", 4, &[]).unwrap();
    let request = request(4.0);
    let restored = engine.restore(&request, &mut |_| Ok(())).unwrap();
    let lq = request.lq.to_u8();
    let expected = Array3::from_shape_fn((80, 96, 3), |(y, x, c)| lq[[y / 4, x / 4, c]]);
    assert_eq!(restored.samples.len(), 1);
    assert_eq!(*restored.samples[0].to_u8(), expected);
    let stages: Vec<_> = restored.plan.stages.keys().collect();
    assert_eq!(stages, [&Stage::Cleaner, &Stage::Finish]);
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 1);
    // Not enlarged to the bundle's shortest edge, which is the diffusion model's.
    assert_eq!(calls[0].1[0].1, [1, 3, 20, 24]);
    let ran: Vec<_> = restored.provenance.graphs.keys().collect();
    assert_eq!(ran, ["cleaner_sr"]);
}

#[test]
fn size_and_depth_are_as_ever() {
    for (cleaner, scale) in [("bsrnet", 4), ("bsrnet", 2), ("swinir", 1), ("scunet", 1)] {
        let (engine, _) = alone(cleaner, scale, &[]).unwrap();
        for (upscale, size) in [(1.0, (20, 24)), (2.5, (50, 60)), (4.0, (80, 96))] {
            let mut request = request(upscale);
            request.depth = BitDepth::Sixteen;
            let restored = engine.restore(&request, &mut |_| Ok(())).unwrap();
            let sample = &restored.samples[0];
            assert_eq!(sample.size(), size, "{cleaner} {upscale}");
            assert_eq!(sample.depth(), BitDepth::Sixteen);
        }
    }
}

/// With a diffusion model in the bundle: what the whole pipeline reports as its stage-1 picture.
#[test]
fn a_whole_bundle_stops_after_stage_1_too() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = crate::fakes::write_bundle(dir.path(), "bsrnet", 4, 64);
    let (networks, calls) = FakeNetworks::of(&bundle);
    let engine = Engine::from_networks(bundle, Box::new(networks));
    let mut whole = request(4.0);
    whole.options.restore.stage1_only = false;
    whole.options.sampling.steps = 2;
    let mut stage1 = None;
    let mut observe = |event: Event<'_>| {
        if let Event::Picture(Intermediate::Stage1, _, picture) = event {
            stage1 = Some(Intermediate::Stage1.to_rgb(picture)?);
        }
        Ok(())
    };
    engine.restore(&whole, &mut observe).unwrap();
    calls.lock().unwrap().clear();
    let restored = engine.restore(&request(4.0), &mut |_| Ok(())).unwrap();
    assert_eq!(*restored.samples[0].to_u8(), stage1.unwrap());
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[test]
fn a_module_in_tiles_gives_the_same() {
    let (engine, _) = alone("bsrnet", 2, &[]).unwrap();
    let whole = engine.restore(&request(2.0), &mut |_| Ok(())).unwrap();
    let (engine, calls) = alone("bsrnet", 2, &[]).unwrap();
    let mut tiled = request(2.0);
    tiled.options.tiling.cleaner = Some("8:4".parse().unwrap());
    let tiled = engine.restore(&tiled, &mut |_| Ok(())).unwrap();
    assert!(calls.lock().unwrap().len() > 4);
    // Blended, so that rounding may move a value across a level.
    let (whole, tiled) = (&whole.samples[0], &tiled.samples[0]);
    let levels = |pixels: &Pixels| pixels.to_u8().mapv(f32::from);
    let difference = levels(whole) - levels(tiled);
    assert!(difference.iter().all(|levels| levels.abs() <= 1.0));
}

#[test]
fn what_stage_1_cannot_do_is_refused() {
    let (engine, _) = alone("bsrnet", 4, &[]).unwrap();
    let refused = |change: &dyn Fn(&mut Options), said: &str| {
        let mut options = request(4.0).options;
        change(&mut options);
        let error = engine.check(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    };
    refused(&|o| o.restore.stage1_only = false, "--stage1-only");
    refused(&|o| o.sampling.samples = 2, "sampling.samples is 2");
    refused(
        &|o| o.restore.cleaner = Cleaner::None,
        "no network would run",
    );
    let error = alone("bsrnet", 4, &["diffusion"]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Bundle, "{error}");
}
