//! The configurations that users copy say what they seem to say.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::path::{Path, PathBuf};

use diffbir::config::{Config, Layers};
use diffbir::memory::Bytes;
use diffbir::options::Options;
use diffbir::runtime::provider::{
    ConvSearch, CudaOptions, OpenVinoOptions, Precision, TensorrtOptions,
};
use diffbir::runtime::{MemoryPolicy, Provider, ProviderKind, RuntimeOptions, Scalar, Settings};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

fn read(name: &str) -> (Config, RuntimeOptions) {
    let mut layers = Layers::default();
    layers.file(&folder().join(name)).unwrap();
    let config = layers.resolve(&Options::default()).unwrap();
    let options = config.runtime.clone();
    (config, options)
}

fn cpu() -> Provider {
    Provider::new(ProviderKind::Cpu)
}

fn cuda(options: CudaOptions) -> Provider {
    Provider {
        settings: Settings::Cuda(options),
        ..Provider::new(ProviderKind::Cuda)
    }
}

/// The same with one option passed through.
fn with(mut provider: Provider, key: &str, value: i64) -> Provider {
    provider.options.insert(key.to_owned(), Scalar::Int(value));
    provider
}

#[test]
fn every_file_is_read_here() {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let known = [
        "cpu.yaml",
        "cuda-fp16.yaml",
        "cuda.yaml",
        "low-vram.yaml",
        "multi-gpu.yaml",
        "openvino.yaml",
        "sampling.yaml",
        "tensorrt.yaml",
    ];
    assert_eq!(names, known);
    for name in names {
        let text = std::fs::read_to_string(folder().join(&name)).unwrap();
        assert!(
            text.starts_with('#'),
            "{name} begins without an explanation"
        );
        assert!(
            text.contains(&format!("--config configs/{name}")),
            "{name} shows no command"
        );
    }
}

#[test]
fn cpu_and_sampling_spell_out_the_defaults() {
    let (defaults, options) = (Config::default(), RuntimeOptions::default());
    let (config, found) = read("cpu.yaml");
    assert_eq!(
        (&config.options.sampling, &found),
        (&defaults.options.sampling, &options)
    );
    let (config, found) = read("sampling.yaml");
    assert_eq!(
        (&config.options.sampling, &found),
        (&defaults.options.sampling, &options)
    );
    assert_eq!(config.options.tiling, defaults.options.tiling);
}

#[test]
fn cuda_computes_as_the_reference_does() {
    let (_, options) = read("cuda.yaml");
    assert_eq!(options.providers, [cuda(CudaOptions::default()), cpu()]);
    assert_eq!(options.providers[0].ort_options()["use_tf32"], "0");
    let (_, options) = read("cuda-fp16.yaml");
    let expected = cuda(CudaOptions {
        tf32: true,
        ..CudaOptions::default()
    });
    let expected = with(expected, "cudnn_conv_use_max_workspace", 1);
    assert_eq!(options.providers, [expected, cpu()]);
}

#[test]
fn tensorrt_keeps_engines_and_falls_back_in_order() {
    let (_, options) = read("tensorrt.yaml");
    let settings = Settings::Tensorrt(TensorrtOptions {
        fp16: true,
        engine_cache: Some(dirs::home_dir().unwrap().join(".cache/diffbir/trt")),
        ..TensorrtOptions::default()
    });
    let tensorrt = Provider {
        settings,
        ..Provider::new(ProviderKind::Tensorrt)
    };
    let rest = [cuda(CudaOptions::default()), cpu()];
    assert_eq!(options.providers, [&[tensorrt][..], &rest[..]].concat());
    assert_eq!(options.providers_of("denoiser"), options.providers);
    assert_eq!(options.providers_of("vae_encoder"), rest);
}

#[test]
fn openvino_computes_in_32_bits_on_the_cpu() {
    let (_, options) = read("openvino.yaml");
    let settings = OpenVinoOptions {
        library: None,
        device: "CPU".to_owned(),
        threads: 0,
        precision: Precision::F32,
    };
    let openvino = Provider {
        settings: Settings::OpenVino(settings),
        ..Provider::new(ProviderKind::OpenVino)
    };
    assert_eq!(options.providers, [openvino, cpu()]);
    assert!(options.all_providers().all(Provider::on_host));
}

#[test]
fn two_devices_restore_at_once() {
    let (_, options) = read("multi-gpu.yaml");
    let on = |device_id| {
        let options = CudaOptions {
            device_id,
            ..CudaOptions::default()
        };
        [cuda(options), cpu()]
    };
    let sets = options.sets();
    assert_eq!(sets.len(), 2);
    for (set, device) in sets.iter().zip(0..) {
        assert_eq!(set.providers, on(device));
        assert_eq!((set.sharing(), set.memory), (2, MemoryPolicy::Keep));
    }
}

#[test]
fn a_small_device_holds_one_graph_and_plans_for_its_memory() {
    let (config, options) = read("low-vram.yaml");
    let expected = cuda(CudaOptions {
        memory_limit: Some(Bytes(6 << 30)),
        tight_arena: true,
        conv_search: ConvSearch::Heuristic,
        ..CudaOptions::default()
    });
    let expected = with(expected, "cudnn_conv_use_max_workspace", 0);
    assert_eq!(options.providers, [expected, cpu()]);
    assert_eq!(options.memory, MemoryPolicy::Sequential);
    assert_eq!(config.options.tiling.memory_budget, Some(Bytes(6 << 30)));
    assert_eq!(config.options.sampling.batch_size, 1);
}
