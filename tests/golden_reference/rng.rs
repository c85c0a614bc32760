//! torch's CPU generator and the Brownian paths drawn from it, bit for bit.

use diffbir::rng::{BrownianTree, Path, TorchCpu};
use ndarray::{ArrayD, IxDyn};

use crate::common::{Goldens, abs, assert_close, with_reference};

const SEEDS: [(&str, u64); 5] = [
    ("s0", 0),
    ("s231", 231),
    ("s2p31m1", (1 << 31) - 1),
    ("s2p40p5", (1 << 40) + 5),
    ("s5", 5),
];

/// Draws of `name` from a generator: `rand.4`, `randn.1x4x64x64` …
fn check_draw(goldens: &Goldens, prefix: &str, name: &str, rng: &mut TorchCpu) {
    let expected = goldens.f32(&format!("{prefix}.{name}"));
    let n = expected.len();
    let values = if name.contains("randn") {
        rng.randn_f32(n)
    } else {
        rng.rand(n)
    };
    let found = ArrayD::from_shape_vec(IxDyn(expected.shape()), values).unwrap();
    assert_close(&format!("{prefix}.{name}"), &found, &expected, abs(0.0));
}

#[test]
fn rng() {
    with_reference("rng", |folder| {
        let goldens = Goldens::open(folder.join("rng.safetensors"));
        for (prefix, seed) in SEEDS {
            let fresh = || TorchCpu::new(seed);
            for n in ["4", "15", "16", "17"] {
                check_draw(&goldens, prefix, &format!("rand.{n}"), &mut fresh());
                check_draw(&goldens, prefix, &format!("randn.{n}"), &mut fresh());
            }
            if prefix == "s5" {
                continue;
            }
            check_draw(&goldens, prefix, "rand.1x4x8x8", &mut fresh());
            let mut rng = fresh();
            check_draw(&goldens, prefix, "randn.1x4x64x64.first", &mut rng);
            check_draw(&goldens, prefix, "randn.1x4x64x64.second", &mut rng);
            let mut rng = fresh();
            for name in ["randn5", "randn16", "randn7", "rand3", "randn16b"] {
                check_draw(&goldens, prefix, &format!("seq.{name}"), &mut rng);
            }
            let mut rng = fresh();
            let integers: Vec<i64> = (0..4).map(|_| rng.randint63()).collect();
            assert_eq!(
                integers,
                goldens
                    .i64(&format!("{prefix}.randint63"))
                    .as_slice()
                    .unwrap()
            );
            let doubles = ArrayD::from_shape_vec(IxDyn(&[16]), fresh().randn_f64(16)).unwrap();
            let expected = goldens.f64(&format!("{prefix}.randn64.16"));
            assert_close("randn64", &doubles, &expected, abs(1e-15));
        }
    });
}

#[test]
fn brownian() {
    with_reference("brownian", |folder| {
        let goldens = Goldens::open(folder.join("rng.safetensors"));
        let sigmas = [14.6146, 6.0, 2.5, 1.1, 0.5, 0.0291];
        let normals = |seed: u32, n| TorchCpu::new(seed.into()).randn_f32(n);
        for (prefix, shape) in [("a", [1, 1, 1, 4]), ("b", [1, 4, 8, 8])] {
            let mut path = BrownianTree::new(shape, 0.0291, 14.6146, 12345, normals).unwrap();
            for (i, step) in sigmas.windows(2).enumerate() {
                let name = format!("brownian.{prefix}.{i}");
                let expected = goldens.f32(&name);
                let found = path.increment(step[0], step[1]).unwrap();
                let found = found.to_shape(expected.raw_dim()).unwrap().into_owned();
                assert_close(&name, &found, &expected, abs(0.0));
            }
        }
    });
}
