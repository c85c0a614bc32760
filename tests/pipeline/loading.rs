//! What is loaded, and how often.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use diffbir::error::Result;
use diffbir::nets::{Network, NetworkInfo, Networks};

use super::*;

/// How often each graph was loaded, in the order of the first time.
type Loads = Arc<Mutex<Vec<(String, usize)>>>;

/// Networks that load a graph when it is first asked for, and release others where a stage does not keep them.
struct Counting {
    networks: FakeNetworks,
    keep: bool,
    loaded: BTreeMap<String, ()>,
    loads: Loads,
}

impl Networks for Counting {
    fn stage(&mut self, graphs: &[&str], keep: bool) {
        if !(keep && self.keep) {
            self.loaded
                .retain(|name, ()| graphs.contains(&name.as_str()));
        }
    }

    fn get(&mut self, graph: &str) -> Result<&mut dyn Network> {
        if self.loaded.insert(graph.to_owned(), ()).is_none() {
            let mut loads = self.loads.lock().unwrap();
            match loads.iter_mut().find(|(name, _)| name == graph) {
                Some((_, count)) => *count += 1,
                None => loads.push((graph.to_owned(), 1)),
            }
        }
        self.networks.get(graph)
    }

    fn info(&self) -> NetworkInfo {
        NetworkInfo {
            keeps: self.keep,
            ..self.networks.info()
        }
    }
}

fn counting(dir: &Path, keep: bool) -> (Engine, Loads) {
    let bundle = write_bundle(dir, "swinir", 1, 64);
    let (networks, _) = FakeNetworks::of(&bundle);
    let loads = Loads::default();
    let counting = Counting {
        networks,
        keep,
        loaded: BTreeMap::new(),
        loads: loads.clone(),
    };
    (Engine::from_networks(bundle, Box::new(counting)), loads)
}

/// What two pictures in one run load; `seen` is what was loaded when the first graph had run.
fn loads_of_two(keep: bool) -> (Vec<(String, usize)>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loads) = counting(dir.path(), keep);
    let mut before_the_first = 0;
    for picture in 0..2 {
        let observe = &mut |event: Event<'_>| {
            if picture == 0 && matches!(event, Event::Finished(Stage::Cleaner, _)) {
                before_the_first = loads.lock().unwrap().len();
            }
            Ok(())
        };
        engine.restore(&request(64, 64, 1.0, 2), observe).unwrap();
    }
    let loads = loads.lock().unwrap().clone();
    (loads, before_the_first)
}

#[test]
fn a_second_picture_loads_nothing() {
    let (loads, before_the_first) = loads_of_two(true);
    let expected = ["cleaner_sr", "vae_encoder", "denoiser", "vae_decoder"];
    let expected: Vec<_> = expected.iter().map(|name| (name.to_string(), 1)).collect();
    assert_eq!(loads, expected);
    assert_eq!(
        before_the_first, 1,
        "the first stage waits for its own graph alone"
    );
}

#[test]
fn after_a_warm_up_the_first_picture_loads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loads) = counting(dir.path(), true);
    let request = request(64, 64, 1.0, 2);
    engine.warm_up((64, 64), &request.options).unwrap();
    let warm = loads.lock().unwrap().clone();
    assert_eq!(warm.len(), 4, "{warm:?}");
    engine.restore(&request, &mut |_| Ok(())).unwrap();
    assert_eq!(*loads.lock().unwrap(), warm);
}

#[test]
fn without_room_to_keep_them_each_picture_loads_each_graph_once() {
    let (loads, _) = loads_of_two(false);
    assert!(loads.iter().all(|(_, count)| *count == 2), "{loads:?}");
}
