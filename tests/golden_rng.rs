//! The generators against torch and torchsde. Each golden file lies beside the script that made it, in
//! `tests/goldens/<module>/`.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Goldens, abs, assert_close, rel};
use diffbir::rng::{NoiseSource, TorchCpu, TorchCuda};
use ndarray::{Array1, Axis, Ix4, Ix5};

/// Compares draws with a golden array, bit for bit.
fn check_draw(goldens: &Goldens, name: &str, values: Vec<f32>) {
    let expected = goldens.f32(name).into_raw_vec_and_offset().0;
    assert_close(
        name,
        &Array1::from(values),
        &Array1::from(expected),
        abs(0.0),
    );
}

#[test]
fn rng_is_torchs() {
    let goldens = Goldens::of_module("rng");
    for seed in [0, 1, 231, (1 << 31) - 1, (1 << 32) + 231, u64::MAX] {
        let rng = || TorchCpu::new(seed);
        for n in [1, 2, 15, 16, 17, 31, 32, 33, 100] {
            check_draw(&goldens, &format!("{seed}.rand.{n}"), rng().rand(n));
            check_draw(&goldens, &format!("{seed}.randn.{n}"), rng().randn_f32(n));
        }
        let mut sequence = rng();
        for (i, (draw, n)) in [
            ("randn", 5),
            ("rand", 3),
            ("randn", 48),
            ("randn", 2),
            ("randn", 40),
        ]
        .into_iter()
        .enumerate()
        {
            let values = match draw {
                "rand" => sequence.rand(n),
                _ => sequence.randn_f32(n),
            };
            check_draw(&goldens, &format!("{seed}.sequence.{i}.{draw}.{n}"), values);
        }
        let name = format!("{seed}.latent");
        let latent = rng().randn([1, 4, 24, 20]).unwrap();
        assert_close(&name, &latent, &goldens.array::<Ix4>(&name), abs(0.0));
        let mut integers = rng();
        let integers: Vec<i64> = (0..8).map(|_| integers.randint63()).collect();
        let expected = goldens.i64(&format!("{seed}.randint63"));
        assert_eq!(integers, expected.into_raw_vec_and_offset().0);
        for n in [7, 16, 37] {
            let name = format!("{seed}.randn_f64.{n}");
            let values = Array1::from(rng().randn_f64(n)).into_dyn();
            assert_close(&name, &values, &goldens.f64(&name), rel(1e-14));
        }
    }
}

#[test]
fn brownian_paths_are_torchsdes() {
    let goldens = Goldens::of_module("brownian");
    for case in 0..18 {
        let name = |key: &str| format!("{case}.{key}");
        let seed = goldens.i64(&name("seed"))[[0]];
        let range = goldens.f32(&name("range"));
        let increments = goldens.array::<Ix5>(&name("increments"));
        let shape = increments.index_axis(Axis(0), 0).dim().into();
        let mut rng = TorchCpu::new(seed as u64);
        let mut path = rng.path(shape, range[[0]], range[[1]]).unwrap();
        let times = goldens.f32(&name("times"));
        for (times, expected) in times.outer_iter().zip(increments.outer_iter()) {
            let found = path.increment(times[[0]], times[[1]]).unwrap();
            let what = format!("{case}: {times}");
            assert_close(&what, &found, &expected, abs(0.0));
        }
    }
}

/// What a CUDA device drew, where `benches/gpu/cuda_noise.py` recorded it.
#[test]
fn cuda_noise_is_torchs() {
    let Some(path) = std::env::var_os("DIFFBIR_CUDA_NOISE") else {
        eprintln!("SKIPPED: no DIFFBIR_CUDA_NOISE, see benches/gpu/README.md");
        return;
    };
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let facts = header.metadata().clone().unwrap();
    let number = |key: &str| facts[key].parse::<usize>().unwrap();
    let (multiprocessors, threads) = (number("multiprocessors"), number("threads"));
    let goldens = Goldens::open(&path);
    let mut worst = 0.0_f64;
    for seed in [0, 231, (1 << 40) + 5] {
        let mut rng = TorchCuda::with_threads(seed, multiprocessors, threads);
        for i in 0..8 {
            let name = format!("{seed}.{i}");
            let expected = goldens.array::<Ix4>(&name);
            let (n, c, h, w) = expected.dim();
            let found = rng.randn([n, c, h, w]).unwrap();
            worst = worst.max(assert_close(&name, &found, &expected, abs(1e-5)));
        }
    }
    eprintln!("{facts:?}: largest difference {worst:.1e}");
}
