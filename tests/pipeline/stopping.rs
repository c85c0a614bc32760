//! Values that are not finite, and requests to stop, wherever the work stands.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};

use diffbir::nets::{Input, Network, NetworkInfo, Networks};
use ndarray::ArrayD;

use super::*;

/// Fakes of which one network's output holds `value` from its run number `from` on, counted from 1.
struct Broken {
    fakes: FakeNetworks,
    value: f32,
    graph: &'static str,
    from: usize,
    runs: usize,
    asked: String,
}

impl Networks for Broken {
    fn stage(&mut self, _: &[&str], _: bool) {}

    fn get(&mut self, graph: &str) -> diffbir::error::Result<&mut dyn Network> {
        self.asked = graph.to_owned();
        Ok(self)
    }

    fn info(&self) -> NetworkInfo {
        self.fakes.info()
    }
}

impl Network for Broken {
    fn run(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        outputs: &[&str],
    ) -> diffbir::error::Result<Vec<ArrayD<f32>>> {
        let mut made = self.fakes.get(&self.asked)?.run(inputs, outputs)?;
        if self.asked == self.graph {
            self.runs += 1;
            let last = made[0].iter_mut().last().unwrap();
            *last = if self.runs >= self.from {
                self.value
            } else {
                *last
            };
        }
        Ok(made)
    }
}

/// The error of restoring where `graph` returns `value` from its run `from` on.
fn broken(graph: &'static str, from: usize, value: f32, request: &Request) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let bundle = write_bundle(dir.path(), "swinir", 1, 64);
    let networks = Broken {
        fakes: FakeNetworks::of(&bundle).0,
        value,
        graph,
        from,
        runs: 0,
        asked: String::new(),
    };
    let engine = Engine::from_networks(bundle, Box::new(networks));
    engine.restore(request, &mut |_| Ok(())).unwrap_err()
}

#[test]
fn values_that_are_not_finite_are_an_error_that_names_the_stage() {
    let mut two = request(16, 16, 1.0, 3);
    two.options.sampling.samples = 2;
    for (graph, from, place) in [
        ("cleaner_sr", 1, "cleaner: "),
        ("vae_encoder", 1, "vae_encoder: "),
        ("denoiser", 1, "sampling, samples 0 to 1: timestep 999: "),
        ("denoiser", 2, "sampling, samples 0 to 1: timestep "),
        ("vae_decoder", 2, "vae_decoder, sample 1: "),
    ] {
        let error = broken(graph, from, f32::NAN, &two);
        assert_eq!(error.kind(), ErrorKind::NotFinite, "{graph}: {error}");
        assert_eq!(error.kind().exit_code(), 1);
        let text = error.to_string();
        assert!(text.starts_with(place), "{text}");
        assert!(text.contains("is not finite"), "{text}");
    }
}

#[test]
fn a_latent_that_overflows_between_finite_predictions_is_an_error_of_its_step() {
    let error = broken("denoiser", 2, 3e38, &request(16, 16, 1.0, 3));
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{error}");
    let text = error.to_string();
    assert!(text.contains("the latent after step 2 of 3"), "{text}");
    assert!(text.contains("cfg_scale"), "{text}");
}

/// How many events there are before the end of a run, and those of them that are checkpoints.
fn events(bench: &Bench, request: &Request) -> (usize, usize) {
    let (mut all, mut checkpoints) = (0, 0);
    let mut observe = |event: Event<'_>| {
        all += 1;
        checkpoints += usize::from(matches!(event, Event::Checkpoint));
        Ok(())
    };
    bench.engine.restore(request, &mut observe).unwrap();
    (all, checkpoints)
}

#[test]
fn a_run_stops_at_every_event() {
    let bench = Bench::new("swinir", 1, 64);
    let mut request = request(40, 40, 2.0, 2);
    request.options.guidance.scale = 0.1;
    request.options.restore.color_fix = ColorFix::Adain;
    let (all, _) = events(&bench, &request);
    for stop in 0..all {
        let cancel = Cancel::default();
        let request = Request {
            cancel: cancel.clone(),
            ..request.clone()
        };
        let mut seen = 0;
        let mut observe = |_: Event<'_>| {
            seen += 1;
            if seen == stop + 1 {
                cancel.cancel();
            }
            Ok(())
        };
        let made = bench.engine.restore(&request, &mut observe);
        if stop + 1 < all {
            assert_eq!(made.unwrap_err().kind(), ErrorKind::Cancelled, "{stop}");
            assert_eq!(seen, stop + 1);
        }
    }
}

#[test]
fn every_repeat_of_guidance_and_every_call_can_be_stopped() {
    let bench = Bench::new("swinir", 1, 64);
    let checkpoints = |repeat, steps, sampler: &str| {
        let mut request = request(16, 16, 1.0, steps);
        request.options.guidance.scale = 1e-6;
        request.options.guidance.repeat = Some(repeat);
        request.options.sampling.sampler = sampler.to_owned();
        events(&bench, &request).1
    };
    // Two steps of the spaced sampler, each with its repeats.
    let more = checkpoints(900, 2, "spaced") - checkpoints(1, 2, "spaced");
    assert_eq!(more, 2 * 899);
    // Heun calls the denoiser twice in every step but the last, and guides each.
    let more = checkpoints(1, 3, "edm_heun") - checkpoints(1, 3, "edm_euler");
    assert_eq!(more, 2 * 2);
}

#[test]
fn enlarging_can_be_stopped_at_every_row() {
    let bench = Bench::new("swinir", 1, 64);
    let checkpoints = |upscale| events(&bench, &request(64, 64, upscale, 2)).1;
    // Along the 64 rows, then down to 128.
    assert_eq!(checkpoints(2.0), checkpoints(1.0) + 64 + 128);
}

#[test]
fn a_request_that_waits_for_networks_can_be_stopped() {
    let bench = Bench::new("swinir", 1, 64);
    let (started, has_started) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let events = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (engine, seen) = (&bench.engine, events.clone());
        let busy = scope.spawn(move || {
            let mut observe = |_: Event<'_>| {
                if seen.fetch_add(1, SeqCst) == 0 {
                    started.send(()).unwrap();
                    is_released.recv().unwrap();
                }
                Ok(())
            };
            engine.restore(&request(16, 16, 1.0, 2), &mut observe)
        });
        has_started.recv().unwrap();
        let waiting = request(16, 16, 1.0, 2);
        waiting.cancel.cancel();
        let error = engine.restore(&waiting, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        release.send(()).unwrap();
        busy.join().unwrap().unwrap();
    });
}
