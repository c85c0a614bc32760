//! The bodies of the fuzz targets: each takes any bytes, and panics where a promise is broken. `tests/fuzz.rs` runs them
//! on stable, `fuzz_targets/` under libFuzzer.

pub mod configuration;
pub mod descriptions;
#[path = "../../tests/common/fakes.rs"]
pub mod fakes;
pub mod host;
pub mod ledger;
pub mod metadata;
pub mod pictures;

use std::path::{Path, PathBuf};

use diffbir::error::{Error, ErrorKind};

/// A folder of this process, in memory where that can be had.
pub fn folder(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    let folder = root.join(format!("diffbir-fuzz-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What strangers write is never a defect of the program.
pub fn expect_blame(error: &Error) {
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(!error.to_string().is_empty());
}
