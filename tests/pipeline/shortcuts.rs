//! What the denoiser computes once for all branches, and what it takes over from an earlier evaluation.

use diffbir::options::Speed;

use super::*;

/// A run on networks with every form there is: the sampled latent, and whether another one than the denoiser's whole network
/// ran, on how many rows of `x` and of `context`.
fn sampled(request: &Request, tile_batch: usize) -> (Array4<f32>, Vec<(bool, usize, usize)>) {
    let (z, calls) = sampled_by(request, tile_batch);
    let calls = calls.into_iter();
    let calls = calls.map(|(graph, x, context)| (graph != "denoiser", x, context));
    (z, calls.collect())
}

/// The same with the names of the networks.
fn sampled_by(request: &Request, tile_batch: usize) -> (Array4<f32>, Vec<(String, usize, usize)>) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = write_bundle(dir.path(), "bsrnet", 1, 64);
    let (mut networks, calls) = FakeNetworks::reusing(&bundle);
    let mut z = None;
    let mut keep = |event: Event<'_>| {
        if let Event::Tensor(Intermediate::Z, _, x) = event {
            z = Some(x.clone());
        }
        Ok(())
    };
    run_on(&bundle, &mut networks, request, tile_batch, &mut keep);
    let calls = calls.lock().unwrap();
    let rows = |inputs: &[(String, Vec<usize>)], wanted: &str| {
        inputs.iter().find(|(name, _)| name == wanted).unwrap().1[0]
    };
    let of_denoiser = calls
        .iter()
        .filter(|(graph, _)| graph.starts_with("denoiser"));
    let calls = of_denoiser
        .map(|(graph, inputs)| (graph.clone(), rows(inputs, "x"), rows(inputs, "context")));
    (z.unwrap(), calls.collect())
}

fn seven_steps() -> Request {
    let mut request = request(64, 128, 1.0, 7);
    request.options.sampling.cfg_scale = 4.0;
    request
}

#[test]
fn branches_share_what_does_not_depend_on_the_prompts() {
    let (_, calls) = sampled(&seven_steps(), 1);
    assert_eq!(calls, [(false, 1, 2); 7]);
}

#[test]
fn some_evaluations_compute_the_last_layers_alone() {
    let mut request = seven_steps();
    let (exact, _) = sampled(&request, 1);
    // Seven steps are 166 or 167 timesteps apart: the state of 999 reaches to 666, that of 500 to 333 alone.
    request.options.sampling.deep_reuse = Some(0.5);
    let (reused, calls) = sampled(&request, 1);
    let shallow: Vec<bool> = calls.iter().map(|call| call.0).collect();
    assert_eq!(shallow, [false, true, true, false, true, false, false]);
    assert_ne!(exact, reused);
    // What is said of the reuse itself stands above the preset.
    request.options.sampling.speed = Speed::Fast;
    request.options.sampling.deep_reuse = Some(0.0);
    let (plain, calls) = sampled(&request, 1);
    assert!(calls.iter().all(|call| !call.0));
    // The fakes add the state to the output only where it is asked for.
    assert_eq!(exact, plain);

    // A number of timesteps is no share of them.
    request.options.sampling.deep_reuse = Some(112.0);
    let error = request.options.validate().unwrap_err().to_string();
    assert!(
        error.contains("deep_reuse is 112, expected 0 to 10"),
        "{error}"
    );
}

#[test]
fn presets_reuse_between_timesteps_that_are_close() {
    let shallow = |speed, steps| {
        let mut request = request(64, 64, 1.0, steps);
        request.options.sampling.speed = speed;
        let (_, calls) = sampled(&request, 1);
        calls.iter().filter(|call| call.0).count()
    };
    assert_eq!(shallow(Speed::Exact, 50), 0);
    assert_eq!(shallow(Speed::Balanced, 50), 37);
    assert_eq!(shallow(Speed::Balanced, 10), 3);
    assert_eq!(shallow(Speed::Balanced, 5), 0);
    assert_eq!(shallow(Speed::Fast, 50), 40);
    assert_eq!(shallow(Speed::Fast, 10), 4);
}

#[test]
fn some_evaluations_leave_the_control_module_out() {
    let mut request = seven_steps();
    request.options.sampling.control_reuse = 0.01;
    let (exact, calls) = sampled_by(&request, 1);
    let both = ["denoiser/control", "denoiser/unet"].map(|name| (name.to_owned(), 1, 2));
    assert_eq!(calls, vec![both.clone(); 7].concat());
    request.options.sampling.control_reuse = 0.5;
    let (reused, calls) = sampled_by(&request, 1);
    let [control, unet] = both;
    let expected = [3, 2, 1, 1].map(|evaluations| {
        let mut calls = vec![unet.clone(); 1 + evaluations];
        calls[0] = control.clone();
        calls
    });
    assert_eq!(calls, expected.concat());
    assert_ne!(exact, reused);

    request.options.sampling.speed = Speed::Fast;
    let error = request.options.validate().unwrap_err().to_string();
    assert!(
        error.contains("control_reuse") && error.contains("choose one"),
        "{error}"
    );
}

#[test]
fn what_is_left_belongs_to_its_tile_whatever_runs_at_once() {
    for (deep, control) in [(0.3, 0.0), (0.0, 0.3)] {
        let mut request = seven_steps();
        request.options.sampling.deep_reuse = Some(deep);
        request.options.sampling.control_reuse = control;
        request.options.tiling.cldm = DenoiserTiles::Even(EvenTiles {
            size: 64,
            overlap: 16,
        });
        let (one, calls) = sampled(&request, 1);
        assert!(calls.iter().any(|call| call.0));
        let (four, _) = sampled(&request, 4);
        assert_eq!(one, four);
    }
}

#[test]
fn what_is_left_counts_in_the_plan() {
    let need = |control_reuse| {
        let dir = tempfile::tempdir().unwrap();
        let bundle = write_bundle(dir.path(), "bsrnet", 1, 64);
        let (networks, _) = FakeNetworks::reusing(&bundle);
        let engine = Engine::from_networks(bundle, Box::new(networks));
        let mut request = request(1024, 1024, 1.0, 7);
        request.options.sampling.control_reuse = control_reuse;
        request.options.tiling.cldm = DenoiserTiles::None;
        request.options.tiling.memory_budget = Some(Bytes(1 << 40));
        let plan = engine.plan((1024, 1024), &request.options).unwrap();
        plan.stages[&Stage::Sampling].0
    };
    // Thirteen values for each of 128x128 cells, held and handed over.
    let more = need(0.2) - need(0.0);
    let expected = 2 * 4 * 13 * 128 * 128;
    assert!(
        more.abs_diff(expected) < expected / 4,
        "{more} instead of {expected}"
    );
}

#[test]
fn guidance_can_be_left_out_at_some_timesteps() {
    let mut request = seven_steps();
    request.options.sampling.cfg_interval = Some([300.0, 700.0]);
    let (_, calls) = sampled(&request, 1);
    let contexts: Vec<usize> = calls.iter().map(|call| call.2).collect();
    assert_eq!(contexts, [1, 1, 2, 2, 2, 1, 1]);

    // The state of the positive branch alone serves no other.
    request.options.sampling.deep_reuse = Some(2.6);
    let (_, calls) = sampled(&request, 1);
    let shallow: Vec<bool> = calls.iter().map(|call| call.0).collect();
    assert_eq!(shallow, [false, true, false, true, true, true, false]);

    request.options.sampling.cfg_interval = Some([700.0, 300.0]);
    let error = request.options.validate().unwrap_err();
    assert!(error.to_string().contains("cfg_interval"), "{error}");
}

#[test]
fn reuse_is_refused_where_the_networks_leave_nothing() {
    let bench = Bench::new("bsrnet", 1, 64);
    let mut request = seven_steps();
    request.options.sampling.speed = Speed::Balanced;
    let error = bench.engine.restore(&request, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Option);
    assert!(
        error.to_string().contains("diffbir_export.variants"),
        "{error}"
    );
    assert!(bench.calls.lock().unwrap().is_empty());
}
