//! Gives the C library its SONAME, so that a host finds the version it was linked with, and the name of its target; sets
//! `decodes_apart` where a decoder can be confined.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=DIFFBIR_TARGET={target}");
    println!("cargo::rustc-check-cfg=cfg(decodes_apart)");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        // Those that the filter of system calls is made for.
        if ["x86_64", "aarch64", "riscv64"].contains(&arch.as_str()) {
            println!("cargo::rustc-cfg=decodes_apart");
        }
        // The ABI is only appended to: the number changes when that promise has to be broken.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libdiffbir.so.1");
    }
}
