//! Gives the C library its SONAME, so that a host finds the version it was linked with, and the name of its target.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=DIFFBIR_TARGET={target}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The ABI is only appended to: the number changes when that promise has to be broken.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdiffbir.so.1");
    }
}
