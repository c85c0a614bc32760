//! The process's allocator.

use std::sync::atomic::{AtomicBool, Ordering};

static OURS: AtomicBool = AtomicBool::new(false);

/// Allows the engine to tune this process's allocator: under memory pressure, large blocks are returned to the system
/// at once. It costs a few percent of the time and affects the whole process, so only a program that owns its process
/// calls this.
/// process is its own calls this.
pub fn own_process() {
    OURS.store(true, Ordering::Relaxed);
}

/// Whether [`own_process`] was called.
pub(super) fn is_ours() -> bool {
    OURS.load(Ordering::Relaxed)
}
/// From now on freed blocks of 4 MiB and more are returned to the system (glibc alone; no effect elsewhere). By
/// default glibc keeps freed blocks of up to 32 MiB, several times the memory of a strip.
pub(super) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_MMAP_THRESHOLD: i32 = -3;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: the signature is that of malloc.h, and every value is allowed: unknown ones are refused. mallopt
        // locks the allocator's state, so that other threads may allocate meanwhile.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, 4 << 20);
        }
    }
}
