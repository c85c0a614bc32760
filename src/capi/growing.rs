//! Structures compiled against an older or newer header: fields that both sides know are read and written.

use std::ptr;

use super::boundary::{Failure, Outcome};
use super::error::diffbir_code;

/// A structure to which fields may be appended.
///
/// # Safety
/// `repr(C)`, begins with its size as a `usize`, and any bit pattern is a valid value.
pub(super) unsafe trait Growing: Copy {
    const NAME: &'static str;
    /// Its size in version 1 of the ABI, the smallest of any host.
    const FIRST_SIZE: usize;
    /// The values of fields that a host does not know.
    fn defaults() -> Self;
}

/// Far above the size of any structure: a larger value means that the host did not initialise it.
const LARGEST: usize = 4096;

/// Reads the caller's structure. Fields missing in its header take their defaults; fields appended by a newer header
/// must be zero.
pub(super) fn read<T: Growing>(given: *const T) -> Outcome<T> {
    let mut value = T::defaults();
    if given.is_null() {
        return Ok(value);
    }
    // SAFETY: not NULL, so by the header a structure that begins with its size.
    let size = unsafe { given.cast::<usize>().read() };
    if !(T::FIRST_SIZE..=LARGEST).contains(&size) {
        return Err(Failure::argument(format!(
            "{}.struct_size is {size}, expected {}: fill the structure with {}_init",
            T::NAME,
            size_of::<T>(),
            T::NAME
        )));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's structure has `size` bytes, ours has at least `known`; any bit pattern is valid.
    unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    let beyond = size - known;
    // SAFETY: these are the caller's last `beyond` bytes.
    let rest = unsafe { std::slice::from_raw_parts(given.cast::<u8>().add(known), beyond) };
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Failure::new(
            diffbir_code::Abi,
            format!(
                "{} has a field set that this library does not know",
                T::NAME
            ),
        ));
    }
    Ok(value)
}

/// Writes the defaults into the caller's structure of `size` bytes; bytes beyond ours become zero.
pub(super) fn init<T: Growing>(place: *mut T, size: usize) {
    if place.is_null() || !(size_of::<usize>()..=LARGEST).contains(&size) {
        return;
    }
    let value = T::defaults();
    let known = size.min(size_of::<T>());
    // SAFETY: by the header `place` has `size` bytes, and `known` is at most that.
    unsafe {
        ptr::write_bytes(place.cast::<u8>(), 0, size);
        ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), place.cast::<u8>(), known);
        place.cast::<usize>().write(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capi::structs::{
        diffbir_encode_options, diffbir_engine_options, diffbir_options, diffbir_pixels,
    };

    /// A future `diffbir_options` with one more field.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        today: diffbir_options,
        appended: u64,
    }

    // SAFETY: repr(C), its size first, integers, floats and pointers.
    unsafe impl Growing for Grown {
        const NAME: &'static str = "diffbir_options";
        const FIRST_SIZE: usize = diffbir_options::FIRST_SIZE;
        fn defaults() -> Self {
            let mut today = diffbir_options::defaults();
            today.struct_size = size_of::<Grown>();
            Grown {
                today,
                appended: 77,
            }
        }
    }

    #[test]
    fn sizes_of_the_first_version_stay() {
        fn check<T: Growing>() {
            assert!(size_of::<T>() >= T::FIRST_SIZE, "{}", T::NAME);
            assert!(T::FIRST_SIZE < LARGEST);
        }
        check::<diffbir_engine_options>();
        check::<diffbir_options>();
        check::<diffbir_pixels>();
        check::<diffbir_encode_options>();
    }

    #[test]
    fn a_host_of_today_works_with_a_library_that_has_grown() {
        let mut host = diffbir_options::defaults();
        init(
            (&raw mut host).cast::<Grown>(),
            size_of::<diffbir_options>(),
        );
        assert_eq!(host.struct_size, size_of::<diffbir_options>());
        host.steps = 9;
        let read = read((&raw const host).cast::<Grown>()).unwrap();
        assert_eq!((read.today.steps, read.appended), (9, 77));
        assert_eq!(read.today.seed, -1);
    }

    #[test]
    fn a_host_of_tomorrow_is_refused_only_where_it_uses_what_is_new() {
        let mut host = Grown::defaults();
        init(
            (&raw mut host).cast::<diffbir_options>(),
            size_of::<Grown>(),
        );
        assert_eq!(
            (host.today.struct_size, host.appended),
            (size_of::<Grown>(), 0)
        );
        assert!(read((&raw const host).cast::<diffbir_options>()).is_ok());
        host.appended = 1;
        let refused = read((&raw const host).cast::<diffbir_options>()).err();
        assert_eq!(refused.unwrap().code, diffbir_code::Abi);
    }

    #[test]
    fn a_size_that_was_not_set_is_refused() {
        for size in [
            0,
            8,
            diffbir_options::FIRST_SIZE - 1,
            LARGEST + 1,
            usize::MAX,
        ] {
            let mut host = diffbir_options::defaults();
            host.struct_size = size;
            let failure = read(&raw const host).err().unwrap();
            assert!(
                failure.message.contains("struct_size"),
                "{}",
                failure.message
            );
        }
        assert!(read::<diffbir_options>(ptr::null()).is_ok());
    }
}
