//! The process's allocator.

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
