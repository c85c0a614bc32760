//! Golden arrays and comparisons, shared by the integration tests.

#![allow(dead_code)] // each test program uses another part of this
#![allow(clippy::unwrap_used)] // a golden that cannot be read fails the test

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use ndarray::{Array, ArrayBase, ArrayD, Data, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};

/// The arrays of one safetensors file.
pub struct Goldens {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Goldens {
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_path_buf();
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Goldens { path, bytes }
    }

    /// `tests/goldens/<module>/<module>.safetensors` of this package.
    pub fn of_module(module: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        Goldens::open(folder.join(module).join(format!("{module}.safetensors")))
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes)
            .unwrap_or_else(|e| panic!("{}: {e}", self.path.display()))
    }

    /// The names of all arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tensors()
            .names()
            .iter()
            .map(|n| n.to_string())
            .collect();
        names.sort();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    fn read<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        from: fn([u8; N]) -> T,
    ) -> ArrayD<T> {
        let tensors = self.tensors();
        let tensor = tensors
            .tensor(name)
            .unwrap_or_else(|e| panic!("{}: {name}: {e}", self.path.display()));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        let values = tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| from(b))
            .collect();
        Array::from_shape_vec(IxDyn(tensor.shape()), values).unwrap()
    }

    pub fn f32(&self, name: &str) -> ArrayD<f32> {
        self.read(name, Dtype::F32, f32::from_le_bytes)
    }

    pub fn f64(&self, name: &str) -> ArrayD<f64> {
        self.read(name, Dtype::F64, f64::from_le_bytes)
    }

    pub fn i64(&self, name: &str) -> ArrayD<i64> {
        self.read(name, Dtype::I64, i64::from_le_bytes)
    }

    pub fn u8(&self, name: &str) -> ArrayD<u8> {
        self.read(name, Dtype::U8, |[b]: [u8; 1]| b)
    }

    /// An f32 array of a fixed number of axes.
    pub fn array<D: Dimension>(&self, name: &str) -> Array<f32, D> {
        self.f32(name)
            .into_dimensionality()
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// How far a value may lie from the expected one: `abs + rel * |expected|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub abs: f64,
    pub rel: f64,
}

pub const fn abs(abs: f64) -> Tolerance {
    Tolerance { abs, rel: 0.0 }
}

pub const fn rel(rel: f64) -> Tolerance {
    Tolerance { abs: 0.0, rel }
}

/// Fails where a value is farther from the expected one than `tolerance`, or the shapes differ. Infinities and NaN
/// must be met exactly. Names the first and the worst place. Returns the largest absolute difference.
#[track_caller]
pub fn assert_close<T, S1, S2, D>(
    what: &str,
    found: &ArrayBase<S1, D>,
    expected: &ArrayBase<S2, D>,
    tolerance: Tolerance,
) -> f64
where
    T: Copy + Into<f64>,
    S1: Data<Elem = T>,
    S2: Data<Elem = T>,
    D: Dimension,
    D::Pattern: Debug,
{
    assert_eq!(found.shape(), expected.shape(), "{what}: shape");
    let (mut wrong, mut first, mut max) = (0, None, 0.0_f64);
    for ((index, &f), &e) in found.indexed_iter().zip(expected.iter()) {
        let (f, e): (f64, f64) = (f.into(), e.into());
        if f == e || f.is_nan() && e.is_nan() {
            continue;
        }
        let difference = (f - e).abs();
        max = max.max(difference);
        // Negated so that NaN fails.
        if !(difference <= tolerance.abs + tolerance.rel * e.abs() && e.is_finite()) {
            wrong += 1;
            first.get_or_insert((index, f, e));
        }
    }
    if let Some((index, f, e)) = first {
        panic!(
            "{what}: {wrong} of {} values differ by more than {tolerance:?}, at most by {max:e}; the first is at \
             {index:?}: expected {e:e}, found {f:e}",
            found.len()
        );
    }
    max
}

/// How many representable f32 lie between two, 0 for equal ones.
pub fn ulps(a: f32, b: f32) -> u32 {
    let order = |x: f32| {
        let bits = x.to_bits() as i32;
        i64::from(if bits < 0 { i32::MIN - bits } else { bits })
    };
    if a == b {
        0
    } else {
        order(a).abs_diff(order(b)) as u32
    }
}

/// Where the reference's goldens lie on this machine, if they do.
pub fn reference_folder() -> Option<PathBuf> {
    let folder = match std::env::var_os("DIFFBIR_GOLDEN") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"),
    };
    folder.join("README.md").is_file().then_some(folder)
}

/// Runs `test` on the reference's goldens, or says that they are not here. CI looks for the lines it prints.
pub fn with_reference(name: &str, test: impl FnOnce(&Path)) {
    let outcome = match reference_folder() {
        Some(folder) => {
            test(&folder);
            "GOLDEN RAN"
        }
        None => "SKIPPED (no reference goldens)",
    };
    // One write, so that the line stays whole beside those of other threads.
    let line = format!("{outcome}: {name}\n");
    eprint!("{line}");
}
