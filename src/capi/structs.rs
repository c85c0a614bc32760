//! Structures that begin with their size.

use std::os::raw::{c_char, c_void};
use std::ptr;

use super::callbacks::{diffbir_free_fn, diffbir_log_fn};
use super::growing::{Growing, init};

/// What an engine is made of. Fill it with `diffbir_engine_options_init` first. Strings are copied during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_engine_options {
    /// The size of this structure in the host's header; `_init` sets it.
    pub struct_size: usize,
    /// A YAML file; see `configs/`. Relative paths in it are taken from its folder. NULL: none.
    pub config_file: *const c_char,
    /// YAML text that goes over the file; relative paths are taken from the working folder. NULL: none.
    pub config_yaml: *const c_char,
    /// The bundle's folder, in UTF-8; goes over what the configuration names. NULL: the configuration's.
    pub bundle: *const c_char,
    /// `setting_count` strings `key=value` that go over file and text, such as `runtime.providers=[cuda, cpu]`.
    pub settings: *const *const c_char,
    /// How many.
    pub setting_count: usize,
    /// The path of libonnxruntime, in UTF-8; NULL: the configuration's, else it is looked for.
    pub runtime_library: *const c_char,
    /// Not 0: read every file of the bundle and compare its hash, also those that were found sound before.
    pub verify: u32,
    /// How many submitted requests may wait; 0: 64. One more is refused with `DIFFBIR_CODE_BUSY`.
    pub queue_limit: u32,
    /// Receives log messages; NULL: none are made.
    pub log: diffbir_log_fn,
    /// Passed to `log`.
    pub log_data: *mut c_void,
    /// Frees `log_data` once the engine is freed and `log` does not run any more, and where `diffbir_engine_new` fails,
    /// unless it refuses this structure itself (`struct_size`, an unknown field). NULL: `log_data` stays the host's.
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

/// How a picture is restored. Fill it with `diffbir_options_init` first: every field then says "as the engine's
/// configuration and bundle say". Strings are copied during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_options {
    /// The size of this structure in the host's header; `_init` sets it.
    pub struct_size: usize,
    /// `sr`, `face` (aligned) or `denoise`. NULL: unset.
    pub task: *const c_char,
    /// The sampler, by its name in README. NULL: unset.
    pub sampler: *const c_char,
    /// The positive prompt. NULL: unset.
    pub prompt: *const c_char,
    /// The negative prompt. NULL: unset.
    pub negative_prompt: *const c_char,
    /// Output size over input size, more than 0. NaN: unset.
    pub upscale: f64,
    /// Scale of classifier-free guidance, 1 for none. NaN: unset.
    pub cfg_scale: f64,
    /// Weight of the control module, 0 to 1 and beyond. NaN: unset.
    pub strength: f64,
    /// Scale of restoration guidance towards stage 1, 0 for none. NaN: unset.
    pub guidance_scale: f64,
    /// Seed of the noise. -1: unset.
    pub seed: i64,
    /// Sampling steps. 0: unset.
    pub steps: u32,
    /// How many samples to make. 0: unset.
    pub samples: u32,
    /// `setting_count` strings `key=value` that go over the fields above: any key of the sections `restore`,
    /// `sampling`, `guidance`, `tiling`, `input` and `output`, such as `tiling.cldm=512:256`.
    pub settings: *const *const c_char,
    /// How many.
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
    /// 16 bits, 0 to 65535, in the machine's byte order. All of them count; results then have 16 bits as well, unless
    /// `output.depth` says otherwise.
    U16 = 2,
    /// 32-bit float, 0 to 1. Rounded to 16 bits, and as those; values outside are clipped, NaN is 0.
    F32 = 3,
}

/// Which channels a pixel has, in this order.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_channels {
    /// Red, green, blue.
    Rgb = 1,
    /// Blue, green, red, as in OpenCV.
    Bgr = 2,
    /// Red, green, blue, and how opaque it is (not premultiplied).
    Rgba = 3,
    /// Blue, green, red, and how opaque it is (not premultiplied).
    Bgra = 4,
    /// One channel. From a colour picture: Rec. 601 luma.
    Grey = 5,
}

/// How values lie in memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum diffbir_layout {
    /// A pixel's channels stand together.
    Hwc = 1,
    /// One plane for each channel.
    Chw = 2,
}

/// The host's pixels, in sRGB. Fill it with `diffbir_pixels_init` first. The memory stays the host's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct diffbir_pixels {
    /// The size of this structure in the host's header; `_init` sets it.
    pub struct_size: usize,
    /// The first value.
    pub data: *mut c_void,
    /// Bytes from `data` on that belong to the picture; nothing beyond is touched.
    pub size: usize,
    /// Pixels in a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// A `diffbir_type`. Default: U8.
    pub value_type: u32,
    /// A `diffbir_channels`. Default: RGB.
    pub channels: u32,
    /// A `diffbir_layout`. Default: HWC.
    pub layout: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes from one row to the next; 0: rows stand close together.
    pub row_stride: usize,
    /// Bytes from one plane to the next with CHW; 0: planes stand close together.
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
    /// The size of this structure in the host's header; `_init` sets it.
    pub struct_size: usize,
    /// `png`, `jpeg`, `webp`, `tiff` or `bmp`. NULL: what the file's name says, else `png`.
    pub format: *const c_char,
    /// Quality of JPEG, 1 to 100. 0: the configuration's.
    pub quality: u32,
    /// 0: no text chunk in a PNG. Default: 1, how the picture was made is written into it.
    pub metadata: u32,
    /// Not 0: an existing file is replaced. Default: 0, it is refused.
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

/// Fills `options` with "unset" everywhere. Call it as `DIFFBIR_INIT(diffbir_options, &options)`.
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
