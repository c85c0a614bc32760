//! Arguments that live as long as the sequence.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;

use diffbir::imageio::encode_png;
use ndarray::Array3;

/// Values that bounds are forgotten at.
pub const NUMBERS: [u32; 16] = [
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    17,
    0,
    64,
    255,
    1001,
    65_536,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];
/// Steps and samples: those that are right are quick.
pub const COUNTS: [u32; 8] = [0, 1, 2, 3, 1, 1001, 65_536, u32::MAX];
/// The same of floats; the last ones are sound.
pub const FLOATS: [f64; 12] = [
    f64::NAN,
    1.0,
    0.0,
    -1.0,
    1e5,
    1e300,
    f64::INFINITY,
    f64::NEG_INFINITY,
    0.01,
    2.0,
    1.5,
    f64::MIN_POSITIVE,
];
pub const WORDS: [&str; 24] = [
    "sr",
    "ddim",
    "spaced",
    "edm_dpm++_2m_sde",
    "unipc",
    "",
    "face",
    "png",
    "jpeg",
    "webp",
    "tiff",
    "bmp",
    "a prompt",
    "\u{1b}[31m",
    "/",
    ".",
    "/dev/null",
    "/proc/self/mem",
    "auto",
    "none",
    "wavelet",
    "ü",
    "\u{fffd}",
    "%s%n",
];
pub const SETTINGS: [&str; 24] = [
    "sampling.seed=5",
    "sampling.steps=2",
    "sampling.samples=2",
    "sampling.samples=18446744073709551615",
    "restore.upscale=1e12",
    "tiling.memory_budget=1",
    "tiling.cldm=64:32",
    "tiling.cleaner_exact=8",
    "guidance.scale=1",
    "guidance.repeat=1000000000",
    "output.depth=8",
    "output.depth=16",
    "output.existing=overwrite",
    "output.existing=refuse",
    "output.quality=0",
    "output.format=jpeg",
    "output.keep_grey=true",
    "input.max_pixels=1",
    "runtime.offline=false",
    "bundle=/",
    "=",
    "no assignment",
    "a.b.c.d.e=1",
    "restore.color_fix=none",
];

/// What is borrowed by pointers.
#[derive(Default)]
pub struct Arguments {
    texts: Vec<CString>,
    lists: Vec<Vec<*const c_char>>,
    /// Zeros beyond a structure, aligned as it.
    blocks: Vec<Box<[u64; 640]>>,
    pub buffers: Vec<Vec<u8>>,
}

impl Arguments {
    pub fn text(&mut self, bytes: &[u8]) -> *const c_char {
        let bytes: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        self.texts.push(CString::new(bytes).unwrap());
        self.texts.last().unwrap().as_ptr()
    }

    pub fn list(&mut self, texts: &[&str]) -> *const *const c_char {
        let list = texts
            .iter()
            .map(|text| self.text(text.as_bytes()))
            .collect();
        self.lists.push(list);
        self.lists.last().unwrap().as_ptr()
    }

    /// `value` at the start of 5120 bytes, with `size` as its size and a word set behind it.
    pub fn structure<T: Copy>(&mut self, value: T, size: usize, beyond: u64) -> *mut T {
        let mut block = Box::new([0_u64; 640]);
        let place = block.as_mut_ptr().cast::<T>();
        // SAFETY: the block is longer than any structure, and aligned to 8 bytes, as they are.
        unsafe {
            place.write(value);
            place.cast::<usize>().write(size);
        }
        block[size_of::<T>().div_ceil(8)] = beyond;
        self.blocks.push(block);
        self.blocks
            .last_mut()
            .map_or(ptr::null_mut(), |block| block.as_mut_ptr().cast())
    }

    pub fn buffer(&mut self, bytes: Vec<u8>) -> *mut u8 {
        self.buffers.push(bytes);
        self.buffers
            .last_mut()
            .map_or(ptr::null_mut(), Vec::as_mut_ptr)
    }
}

/// A PNG of `side` by `side` pixels.
pub fn picture(side: usize) -> Vec<u8> {
    let pixels = Array3::from_shape_fn((side, side, 3), |(y, x, c)| (y * 40 + x * 5 + c) as u8);
    encode_png(&pixels.into(), &BTreeMap::new()).unwrap()
}
