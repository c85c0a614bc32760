//! Configurations: YAML, or lines `key=value` where the first byte is `=`.

use std::sync::OnceLock;

use diffbir::config::Layers;
use diffbir::engine::Engine;
use diffbir::options::Options;

use super::fakes::{self, FakeNetworks};
use super::{expect_blame, folder};

/// What a configuration and the plan of a small picture may take.
pub const BYTES: usize = 64_000_000;

/// Resolves a configuration, and plans a small picture with it.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut layers = Layers::default();
    let read = match text.strip_prefix('=') {
        Some(lines) => layers.set(lines.lines()),
        None => layers.yaml(&text),
    };
    let config = read.and_then(|()| layers.resolve(&Options::default()));
    let Ok(config) = config.inspect_err(expect_blame) else {
        return;
    };
    serde_json::to_string(&config).unwrap();
    serde_yaml::to_string(&config).unwrap();
    let engine = engine();
    let plan = engine.plan((16, 24), &config.options);
    let _ = plan.inspect_err(expect_blame);
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let bundle = fakes::write_bundle(&folder("configuration"), "bsrnet", 1, 64);
        let (networks, _) = FakeNetworks::of(&bundle);
        Engine::from_networks(bundle, Box::new(networks))
    })
}
