//! An engine on several sets of networks.

use std::path::Path;
use std::sync::Barrier;

use diffbir::nets::{Network, NetworkInfo, Networks};

use super::*;

/// Fakes that wait in stage 1 until the other set is there too.
struct Meeting {
    inner: FakeNetworks,
    both: &'static Barrier,
}

impl Networks for Meeting {
    fn stage(&mut self, graphs: &[&str], keep: bool) {
        self.inner.stage(graphs, keep);
    }

    fn get(&mut self, graph: &str) -> diffbir::error::Result<&mut dyn Network> {
        if graph == "vae_encoder" {
            self.both.wait();
        }
        self.inner.get(graph)
    }

    fn info(&self) -> NetworkInfo {
        NetworkInfo {
            sharing: 2,
            ..self.inner.info()
        }
    }
}

fn engine_of_two(dir: &Path) -> Engine {
    let bundle = write_bundle(dir, "bsrnet", 1, 64);
    let both: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    let set = || {
        let (inner, _) = FakeNetworks::of(&bundle);
        Box::new(Meeting { inner, both }) as Box<dyn Networks>
    };
    let sets = vec![set(), set()];
    Engine::from_sets(bundle, sets)
}

#[test]
fn requests_run_at_once_on_sets_of_networks_and_give_the_same_picture() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine_of_two(dir.path());
    assert_eq!(engine.width(), 2);
    let request = request(64, 64, 1.0, 2);
    let restore = || engine.restore(&request, &mut |_| Ok(())).unwrap();
    // With one set the first request would wait for the second for ever.
    let pictures = std::thread::scope(|scope| {
        let other = scope.spawn(restore);
        [restore(), other.join().unwrap()]
    });
    assert_eq!(pictures[0].samples, pictures[1].samples);
    // Each plans with its share of what is free.
    assert_eq!(pictures[0].plan.output, (64, 64));
}

#[test]
fn a_warm_up_reaches_every_set() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine_of_two(dir.path());
    let request = request(64, 64, 1.0, 2);
    // Each set waits for the other in stage 1.
    engine.warm_up((64, 64), &request.options).unwrap();
    engine.warm_up((64, 64), &request.options).unwrap();
}
