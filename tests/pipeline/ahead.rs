//! Graphs that are loaded while the stage before theirs runs.

use diffbir::nets::{Network, NetworkInfo, Networks};

use super::*;

/// Fakes that remember what they were told is needed next, and what ran when.
struct Recording {
    inner: FakeNetworks,
    told: Vec<String>,
}

impl Networks for Recording {
    fn stage(&mut self, graphs: &[&str], keep: bool) {
        self.inner.stage(graphs, keep);
    }

    fn prepare(&mut self, graph: &str) {
        self.told.push(format!("next {graph}"));
    }

    fn get(&mut self, graph: &str) -> diffbir::error::Result<&mut dyn Network> {
        let last = self.told.last().map(String::as_str);
        if last != Some(graph) {
            self.told.push(graph.to_owned());
        }
        self.inner.get(graph)
    }

    fn info(&self) -> NetworkInfo {
        self.inner.info()
    }
}

fn told(budget: Option<Bytes>) -> (bool, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let bundle = write_bundle(dir.path(), "bsrnet", 1, 64);
    let mut request = request(64, 64, 1.0, 2);
    request.options.tiling.memory_budget = budget;
    let (inner, _) = FakeNetworks::of(&bundle);
    let mut networks = Recording {
        inner,
        told: Vec::new(),
    };
    let plan = run_on(&bundle, &mut networks, &request, 1, &mut |_| Ok(()));
    (plan.ahead, networks.told)
}

#[test]
fn the_next_stages_graph_is_loaded_where_memory_suffices_for_both() {
    let (ahead, told_ahead) = told(Some(Bytes(1 << 40)));
    assert!(ahead);
    let expected = [
        "cleaner_sr",
        "next vae_encoder",
        "cleaner_sr",
        "vae_encoder",
        "next denoiser",
        "vae_encoder",
        "denoiser",
        "next vae_decoder",
        "denoiser",
        "vae_decoder",
    ];
    assert_eq!(told_ahead, expected);

    // The least that the picture takes leaves no room for a second graph.
    let smallest = |bytes: u64| {
        let dir = tempfile::tempdir().unwrap();
        let bundle = write_bundle(dir.path(), "bsrnet", 1, 64);
        let mut request = request(64, 64, 1.0, 2);
        request.options.tiling.memory_budget = Some(Bytes(bytes));
        let pipeline = Pipeline::new(&bundle, &request.options, &Prompts::default()).unwrap();
        pipeline
            .plan((64, 64), &FakeNetworks::of(&bundle).0)
            .is_ok()
    };
    let least = (1..).map(|k| k << 23).find(|bytes| smallest(*bytes));
    let (ahead, told_short) = told(least.map(Bytes));
    assert!(!ahead);
    assert!(told_short.iter().all(|what| !what.starts_with("next")));
}
