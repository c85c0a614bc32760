//! Versions, and functions for the tests of hosts.

use std::os::raw::c_char;

use super::boundary::{Failure, guard, guard_or};
use super::error::{diffbir_code, diffbir_error};
use super::handles;

/// The version of the ABI. Increased by additions; nothing is ever removed or changed.
pub const DIFFBIR_ABI_VERSION: u32 = 1;

/// A timeout that never ends.
pub const DIFFBIR_FOREVER: u32 = u32::MAX;

/// The library's ABI version. Compare it with `DIFFBIR_ABI_VERSION`, or call `DIFFBIR_ABI_CHECK()`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_abi_version() -> u32 {
    DIFFBIR_ABI_VERSION
}

/// Returns an error with `ABI` if the host was compiled against a newer header than this library's. `wanted` is the
/// header's `DIFFBIR_ABI_VERSION`. Call it as `DIFFBIR_ABI_CHECK()` before anything else.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_abi_check(wanted: u32) -> *mut diffbir_error {
    guard(|| match wanted {
        1..=DIFFBIR_ABI_VERSION => Ok(()),
        0 => Err(Failure::argument("there is no ABI version 0")),
        _ => Err(Failure::new(
            diffbir_code::Abi,
            format!(
                "the host was compiled against ABI version {wanted}, this library has {DIFFBIR_ABI_VERSION}: \
                 install a newer libdiffbir"
            ),
        )),
    })
}

/// The library's version, such as `0.1.0`. Static.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Build information: version, ABI, required ONNX Runtime, target. Static.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_build_info() -> *const c_char {
    concat!(
        "diffbir ",
        env!("CARGO_PKG_VERSION"),
        ", ABI 1, ONNX Runtime 1.31 or newer, ",
        env!("DIFFBIR_TARGET"),
        "\0"
    )
    .as_ptr()
    .cast()
}

/// Number of handles that have not been freed; 0 after a complete clean-up.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_live_handles() -> usize {
    guard_or(0, || Ok(handles::count()))
}

/// For tests of the boundary: panics inside, so it returns an error with `PANIC`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_test_panic() -> *mut diffbir_error {
    guard(|| panic!("asked for by a test"))
}
