//! Strings and bytes whose ownership passes to the host.

use std::ffi::CString;
use std::os::raw::c_char;

use super::boundary::{Outcome, expect_place, give, guard_or};

/// `text` as a C string, without NUL characters.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

/// Passes `text` to the host, which frees it with `diffbir_string_free`.
pub(super) fn give_string(what: &str, place: *mut *mut c_char, text: &str) -> Outcome<()> {
    expect_place(what, place)?;
    give(what, place, c_string(text).into_raw())
}

/// Passes `bytes` to the host, which frees them with `diffbir_bytes_free`.
pub(super) fn give_bytes(data: *mut *mut u8, size: *mut usize, bytes: Vec<u8>) -> Outcome<()> {
    expect_place("data", data)?;
    expect_place("size", size)?;
    let bytes = Box::leak(bytes.into_boxed_slice());
    give("size", size, bytes.len())?;
    give("data", data, bytes.as_mut_ptr())
}

/// Frees a string returned by the library. NULL is ignored.
///
/// # Safety
/// `string` comes from this library and was not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn diffbir_string_free(string: *mut c_char) {
    guard_or((), || {
        if !string.is_null() {
            // SAFETY: by the header it came from `give_string` and is not used any more.
            drop(unsafe { CString::from_raw(string) });
        }
        Ok(())
    });
}

/// Frees bytes returned by the library; `size` is the size returned with them. NULL is ignored.
///
/// # Safety
/// `data` and `size` come together from this library and were not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn diffbir_bytes_free(data: *mut u8, size: usize) {
    guard_or((), || {
        if !data.is_null() {
            let slice = std::ptr::slice_from_raw_parts_mut(data, size);
            // SAFETY: by the header both came from `give_bytes` and are not used any more.
            drop(unsafe { Box::from_raw(slice) });
        }
        Ok(())
    });
}
