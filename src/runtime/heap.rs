//! The process's allocator.

use std::sync::atomic::{AtomicBool, Ordering};

static OURS: AtomicBool = AtomicBool::new(false);

/// Allows the allocator of this process to be set up for ONNX Runtime: once memory is short, large blocks go back to the
/// system at once. It costs a few percent of the time and holds for everybody in the process, so only a program whose
/// process is its own calls this.
pub fn own_process() {
    OURS.store(true, Ordering::Relaxed);
}

/// Whether [`own_process`] was called.
pub(super) fn is_ours() -> bool {
    OURS.load(Ordering::Relaxed)
}
/// From now on blocks of 4 MiB and more are given back to the system when they are freed (glibc alone; elsewhere nothing
/// happens). glibc keeps freed blocks of up to 32 MiB for later by itself, several times what a band works on.
pub(super) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_MMAP_THRESHOLD: i32 = -3;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: the signature is that of malloc.h, and any values are allowed: unknown ones are refused. It locks the
        // allocator's state, so that other threads may allocate meanwhile.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, 4 << 20);
        }
    }
}
