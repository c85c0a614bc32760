//! Device name and TensorRT version, from NVIDIA's libraries.

use std::ffi::{CStr, c_char, c_int, c_uint};

use libloading::Library;

/// The name of device `ordinal` in CUDA's numbering; `None` without a driver or such a device.
pub(super) fn device_name(ordinal: u32) -> Option<String> {
    type Init = unsafe extern "C" fn(c_uint) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type GetName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    let ordinal = c_int::try_from(ordinal).ok()?;
    // SAFETY: the driver's library, which CUDA's provider loads as well.
    let driver = unsafe { Library::new("libcuda.so.1") }.ok()?;
    let (mut device, mut name) = (0, [0 as c_char; 256]);
    // SAFETY: the signatures are those of cuda.h, the out-pointers are valid, and the length given is that of `name`
    // less 1.
    let ok = unsafe {
        let init = driver.get::<Init>(b"cuInit\0").ok()?;
        let get = driver.get::<Get>(b"cuDeviceGet\0").ok()?;
        let get_name = driver.get::<GetName>(b"cuDeviceGetName\0").ok()?;
        init(0) == 0
            && get(&mut device, ordinal) == 0
            && get_name(name.as_mut_ptr(), name.len() as c_int - 1, device) == 0
    };
    // The driver stays loaded: it may run threads of its own.
    std::mem::forget(driver);
    // SAFETY: the driver cannot write the last byte, which is 0.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    ok.then(|| name.to_string_lossy().into_owned())
}

/// TensorRT's version, such as 101300; `None` if it is not installed.
pub(super) fn tensorrt_version() -> Option<i32> {
    type GetVersion = unsafe extern "C" fn() -> i32;
    // SAFETY: the library that TensorRT's provider is linked with.
    let library = unsafe { Library::new("libnvinfer.so.10") }.ok()?;
    // SAFETY: the signature is that of NvInferRuntimeBase.h; it takes nothing and returns a constant.
    let version = unsafe {
        library
            .get::<GetVersion>(b"getInferLibVersion\0")
            .map(|get| get())
    };
    std::mem::forget(library);
    version.ok()
}
