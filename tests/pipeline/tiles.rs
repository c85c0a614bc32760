//! The denoiser's tiles: which there are, in which batches, and that they change no noise.

use diffbir::options::DenoiserTiles;
use diffbir::tiling::{EvenTiles, Tiles};

use super::*;

/// What two steps on a picture of this size ask of the denoiser: the shape of each tile's `x`, whatever ran at once.
fn asked(tiles: DenoiserTiles, height: usize, width: usize) -> Vec<Vec<usize>> {
    let bench = Bench::new("bsrnet", 1, 64);
    let mut request = request(height, width, 1.0, 2);
    request.options.restore.color_fix = ColorFix::None;
    request.options.tiling.cldm = tiles;
    // The fakes need nothing like what networks would.
    request.options.tiling.memory_budget = Some(Bytes(1 << 50));
    run(&bench, &request);
    let shapes = bench.shapes("denoiser", "x").into_iter();
    let tiles = shapes.flat_map(|shape| vec![[&[1], &shape[1..]].concat(); shape[0]]);
    tiles.collect()
}

#[test]
fn pictures_up_to_1024x1024_are_whole_and_larger_ones_in_even_tiles() {
    let auto = |height, width| asked(DenoiserTiles::Auto, height, width);
    assert_eq!(auto(1000, 1020), [[1, 4, 128, 128]; 2]);
    // Padded to 1024x1088.
    assert_eq!(auto(1000, 1025), [[1, 4, 96, 96]; 2 * 2 * 2]);
    // A strip is whole in its short direction.
    assert_eq!(auto(384, 3000), [[1, 4, 48, 96]; 2 * 5]);
    assert_eq!(
        asked(DenoiserTiles::None, 1000, 1025),
        [[1, 4, 128, 136]; 2]
    );
}

/// The two plans, small.
fn plans() -> [DenoiserTiles; 2] {
    let (size, stride, overlap) = (64, 32, 16);
    [
        DenoiserTiles::Reference(Tiles { size, stride }),
        DenoiserTiles::Even(EvenTiles { size, overlap }),
    ]
}

/// `x_T`, and the sampled latent.
fn noise_and_latent(bench: &Bench, request: &Request, tile_batch: usize) -> [Array4<f32>; 2] {
    let bundle = bench.engine.bundle();
    let (mut networks, calls) = FakeNetworks::of(bundle);
    let (mut x_t, mut z) = (None, None);
    let mut keep = |event: Event<'_>| {
        match event {
            Event::Tensor(Intermediate::XT, _, x) => x_t = Some(x.clone()),
            Event::Tensor(Intermediate::Z, _, x) => z = Some(x.clone()),
            _ => {}
        }
        Ok(())
    };
    run_on(bundle, &mut networks, request, tile_batch, &mut keep);
    bench
        .calls
        .lock()
        .unwrap()
        .append(&mut calls.lock().unwrap());
    [x_t.unwrap(), z.unwrap()]
}

/// Two samples with classifier-free guidance, noise in every step and on the condition.
fn noisy_request() -> Request {
    let mut request = request(128, 192, 1.0, 4);
    let sampling = &mut request.options.sampling;
    sampling.sampler = "edm_dpm++_2m_sde".to_owned();
    (sampling.samples, sampling.batch_size) = (2, 2);
    (sampling.noise_aug, sampling.cfg_scale) = (100, 4.0);
    request
}

#[test]
fn noise_does_not_depend_on_the_tiles() {
    let bench = Bench::new("bsrnet", 1, 64);
    let mut request = noisy_request();
    request.options.tiling.cldm = DenoiserTiles::None;
    let [noise, whole] = noise_and_latent(&bench, &request, 1);
    for tiles in plans() {
        request.options.tiling.cldm = tiles;
        let [x_t, z] = noise_and_latent(&bench, &request, 1);
        assert_eq!(x_t, noise, "{tiles:?}");
        // The fake works cell by cell, so that only noise of another value or place could change the latent.
        let largest = (z - &whole).iter().fold(0.0_f32, |max, d| max.max(d.abs()));
        assert!(largest < 1e-4, "{tiles:?}: {largest:e}");
    }
}

#[test]
fn tiles_run_in_batches_with_their_own_hints() {
    for tiles in plans() {
        let bench = Bench::new("bsrnet", 1, 64);
        let mut request = noisy_request();
        request.options.tiling.cldm = tiles;
        let [_, single] = noise_and_latent(&bench, &request, 1);
        let calls = bench.shapes("denoiser", "x").len();
        for batch in [4, 7] {
            bench.calls.lock().unwrap().clear();
            let [_, batched] = noise_and_latent(&bench, &request, batch);
            assert_eq!(batched, single, "{tiles:?} in batches of {batch}");
            // 16x24 cells in windows of 8: 3x5 tiles every 4 cells, or 3x4 that share 2 and more.
            let count = if matches!(tiles, DenoiserTiles::Even(_)) {
                12
            } else {
                15
            };
            assert_eq!(calls % count, 0);
            let of_step = (0..count).step_by(batch).map(|k| 4 * batch.min(count - k));
            let found = bench.shapes("denoiser", "x");
            let found: Vec<usize> = found.iter().map(|shape| shape[0]).collect();
            let steps = calls / count;
            let expected: Vec<usize> = of_step.collect::<Vec<_>>().repeat(steps);
            assert_eq!(found, expected, "branches * tiles * samples");
            assert_eq!(
                bench.shapes("denoiser", "hint"),
                bench.shapes("denoiser", "x")
            );
        }
    }
}
