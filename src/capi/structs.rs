//! Structures that begin with their size.

use std::os::raw::{c_char, c_void};
use std::ptr;

use super::callbacks::{diffbir_free_fn, diffbir_log_fn};
use super::growing::{Growing, init};

/// Settings of an engine. Fill it with `diffbir_engine_options_init` first. Strings are copied during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_engine_options {
    /// The structure's size in the host's header; set by `_init`.
    pub struct_size: usize,
    /// Path of a YAML configuration file; see `configs/`. Relative paths in it are resolved against its folder. NULL:
    /// none.
    pub config_file: *const c_char,
    /// YAML text that overrides the file; relative paths are resolved against the working folder. NULL: none.
    pub config_yaml: *const c_char,
    /// Folder of the bundle, in UTF-8; overrides the configuration. NULL: the configuration's.
    pub bundle: *const c_char,
    /// `setting_count` strings `key=value` that override file and text, such as `runtime.providers=[cuda, cpu]`.
    pub settings: *const *const c_char,
    /// Number of settings.
    pub setting_count: usize,
    /// Path of libonnxruntime, in UTF-8. NULL: the configuration's; without one, the library is searched for.
    pub runtime_library: *const c_char,
    /// Not 0: hash every file of the bundle. 0: skip files that were verified before and have not changed.
    pub verify: u32,
    /// Most submitted requests that may wait in the queue; 0: 64. `diffbir_request_submit` returns `DIFFBIR_CODE_BUSY`
    /// when it is full.
    pub queue_limit: u32,
    /// Log callback; NULL disables logging.
    pub log: diffbir_log_fn,
    /// Passed to `log`.
    pub log_data: *mut c_void,
    /// Frees `log_data`, after the engine is freed and the last `log` call has returned, or when `diffbir_engine_new`
    /// fails, unless it fails because this structure is invalid (`struct_size`, an unknown field). NULL: the host frees
    /// `log_data`.
    pub log_free: diffbir_free_fn,
}

// SAFETY: repr(C), its size first, integers, floats, pointers and nullable function pointers.
unsafe impl Growing for diffbir_engine_options {
    const NAME: &'static str = "diffbir_engine_options";
    const FIRST_SIZE: usize = 88;
    fn defaults() -> Self {
        diffbir_engine_options {
            struct_size: size_of::<Self>(),
            config_file: ptr::null(),
            config_yaml: ptr::null(),
            bundle: ptr::null(),
            settings: ptr::null(),
            setting_count: 0,
            runtime_library: ptr::null(),
            verify: 0,
            queue_limit: 0,
            log: None,
            log_data: ptr::null_mut(),
            log_free: None,
        }
    }
}

/// Options of a request. Fill it with `diffbir_options_init` first: every field is then unset and takes its value from
/// the engine's configuration and bundle. Strings are copied during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_options {
    /// The structure's size in the host's header; set by `_init`.
    pub struct_size: usize,
    /// `sr`, `face` (aligned) or `denoise`. NULL: unset.
    pub task: *const c_char,
    /// Name of the sampler; see `docs/samplers.md`. NULL: unset.
    pub sampler: *const c_char,
    /// The positive prompt. NULL: unset.
    pub prompt: *const c_char,
    /// The negative prompt. NULL: unset.
    pub negative_prompt: *const c_char,
    /// Output size over input size, more than 0. NaN: unset.
    pub upscale: f64,
    /// Scale of classifier-free guidance; 1 disables it. NaN: unset.
    pub cfg_scale: f64,
    /// Weight of the ControlNet's residuals, usually 0 to 1. NaN: unset.
    pub strength: f64,
    /// Scale of restoration guidance, which pulls the result toward the stage-1 image; 0 disables it. NaN: unset.
    pub guidance_scale: f64,
    /// Seed of the noise. -1: unset.
    pub seed: i64,
    /// Sampling steps. 0: unset.
    pub steps: u32,
    /// Number of samples. 0: unset.
    pub samples: u32,
    /// `setting_count` strings `key=value` that override the fields above: any key of the sections `restore`,
    /// `size`, `sampling`, `guidance`, `tiling`, `input` and `output`, such as `tiling.cldm=512:256` or `size.width=1920`.
    pub settings: *const *const c_char,
    /// Number of settings.
    pub setting_count: usize,
}

// SAFETY: repr(C), its size first, integers, floats and pointers.
unsafe impl Growing for diffbir_options {
    const NAME: &'static str = "diffbir_options";
    const FIRST_SIZE: usize = 104;
    fn defaults() -> Self {
        diffbir_options {
            struct_size: size_of::<Self>(),
            task: ptr::null(),
            sampler: ptr::null(),
            prompt: ptr::null(),
            negative_prompt: ptr::null(),
            upscale: f64::NAN,
            cfg_scale: f64::NAN,
            strength: f64::NAN,
            guidance_scale: f64::NAN,
            seed: -1,
            steps: 0,
            samples: 0,
            settings: ptr::null(),
            setting_count: 0,
        }
    }
}

/// The type of a value.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_type {
    /// 8 bits, 0 to 255.
    U8 = 1,
    /// 16 bits, 0 to 65535, in the machine's byte order. Restored at full depth; results have 16 bits too unless
    /// `output.depth` is 8.
    U16 = 2,
    /// 32-bit float, 0 to 1. Rounded to 16 bits, then treated as such; values outside are clipped, NaN becomes 0.
    F32 = 3,
}

/// Channels of a pixel, in memory order.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_channels {
    /// Red, green, blue.
    Rgb = 1,
    /// Blue, green, red, as in OpenCV.
    Bgr = 2,
    /// Red, green, blue, alpha (not premultiplied).
    Rgba = 3,
    /// Blue, green, red, alpha (not premultiplied).
    Bgra = 4,
    /// One channel; a colour picture is converted to Rec. 601 luma.
    Grey = 5,
}

/// Memory layout.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_layout {
    /// Interleaved: the channels of a pixel are adjacent.
    Hwc = 1,
    /// Planar: one plane per channel.
    Chw = 2,
}

/// Pixels in the host's memory, in sRGB. Fill it with `diffbir_pixels_init` first. The host keeps ownership of the
/// memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_pixels {
    /// The structure's size in the host's header; set by `_init`.
    pub struct_size: usize,
    /// The first value.
    pub data: *mut c_void,
    /// Size of the buffer at `data` in bytes; nothing beyond is accessed.
    pub size: usize,
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// A `diffbir_type`. Default: U8.
    pub value_type: u32,
    /// A `diffbir_channels`. Default: RGB.
    pub channels: u32,
    /// A `diffbir_layout`. Default: HWC.
    pub layout: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes from one row to the next; 0: rows are contiguous.
    pub row_stride: usize,
    /// Bytes from one plane to the next with CHW; 0: planes are contiguous.
    pub plane_stride: usize,
}

// SAFETY: repr(C), its size first, integers and pointers.
unsafe impl Growing for diffbir_pixels {
    const NAME: &'static str = "diffbir_pixels";
    const FIRST_SIZE: usize = 64;
    fn defaults() -> Self {
        diffbir_pixels {
            struct_size: size_of::<Self>(),
            data: ptr::null_mut(),
            size: 0,
            width: 0,
            height: 0,
            value_type: diffbir_type::U8 as u32,
            channels: diffbir_channels::Rgb as u32,
            layout: diffbir_layout::Hwc as u32,
            reserved: 0,
            row_stride: 0,
            plane_stride: 0,
        }
    }
}

/// How a result is encoded. Fill it with `diffbir_encode_options_init` first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_encode_options {
    /// The structure's size in the host's header; set by `_init`.
    pub struct_size: usize,
    /// `png`, `jpeg`, `webp`, `tiff` or `bmp`. NULL: from the file name's extension, else `png`.
    pub format: *const c_char,
    /// JPEG quality, 1 to 100. 0: the configuration's.
    pub quality: u32,
    /// 1 (default): write the provenance into PNG text chunks. 0: do not.
    pub metadata: u32,
    /// Not 0: replace an existing file. 0 (default): refuse.
    pub overwrite: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), its size first, integers and pointers.
unsafe impl Growing for diffbir_encode_options {
    const NAME: &'static str = "diffbir_encode_options";
    const FIRST_SIZE: usize = 32;
    fn defaults() -> Self {
        diffbir_encode_options {
            struct_size: size_of::<Self>(),
            format: ptr::null(),
            quality: 0,
            metadata: 1,
            overwrite: 0,
            reserved: 0,
        }
    }
}

/// Fills `options` with the defaults. Call it as `DIFFBIR_INIT(diffbir_engine_options, &options)`.
///
/// # Safety
/// `options` has `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn diffbir_engine_options_init(
    options: *mut diffbir_engine_options,
    struct_size: usize,
) {
    init(options, struct_size);
}

/// Marks every field of `options` as unset. Call it as `DIFFBIR_INIT(diffbir_options, &options)`.
///
/// # Safety
/// `options` has `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn diffbir_options_init(options: *mut diffbir_options, struct_size: usize) {
    init(options, struct_size);
}

/// Fills `pixels` with the defaults. Call it as `DIFFBIR_INIT(diffbir_pixels, &pixels)`.
///
/// # Safety
/// `pixels` has `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn diffbir_pixels_init(pixels: *mut diffbir_pixels, struct_size: usize) {
    init(pixels, struct_size);
}

/// Fills `options` with the defaults. Call it as `DIFFBIR_INIT(diffbir_encode_options, &options)`.
///
/// # Safety
/// `options` has `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn diffbir_encode_options_init(
    options: *mut diffbir_encode_options,
    struct_size: usize,
) {
    init(options, struct_size);
}
