//! The calls.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::Ordering;

use diffbir::capi::*;

use super::arguments::{Arguments, COUNTS, FLOATS, NUMBERS, SETTINGS, WORDS, picture};
use super::{Any, FREED, GIVEN, scratch};

/// First place and number of places of a type in the pool.
type Kind = (usize, usize);
const ENGINE: Kind = (0, 2);
const REQUEST: Kind = (2, 4);
const CANCEL: Kind = (6, 2);
const IMAGE: Kind = (8, 3);
const ERROR: Kind = (11, 3);
const POOL: usize = 14;

/// Most calls of a sequence.
const MOST: usize = 64;

/// A sequence.
pub struct Calls<'a> {
    bytes: &'a [u8],
    pool: [Any; POOL],
    arguments: Arguments,
    /// One request to free the engine in 64 is followed; else one in 4.
    pub frees_engine_rarely: bool,
    /// Files written.
    files: usize,
}

/// What a callback does, and on what.
struct Listener {
    action: u8,
    handles: [Any; POOL],
}

extern "C" fn progress(progress: *const diffbir_progress, data: Any) -> c_int {
    // SAFETY: the library passes on what `set_progress` was given, as long as it is not freed.
    let (listener, progress) = unsafe { (&*data.cast::<Listener>(), &*progress) };
    // SAFETY: the stage is valid during the call.
    assert!(!unsafe { CStr::from_ptr(progress.stage) }.is_empty());
    let request = listener.handles[REQUEST.0 + usize::from(listener.action / 8 % 4)];
    let mut done = false;
    match listener.action % 8 {
        0 => return 0,
        1 => diffbir_error_free(diffbir_request_stop(request.cast())),
        2 => diffbir_error_free(diffbir_request_poll(request.cast(), &mut done)),
        3 => {
            let refused = diffbir_request_run(request.cast());
            assert!(!refused.is_null(), "a callback runs a request");
            diffbir_error_free(refused);
        }
        4 => diffbir_request_free(request.cast()),
        5 => diffbir_error_free(diffbir_cancel_trigger(listener.handles[CANCEL.0].cast())),
        6 => diffbir_error_free(diffbir_request_wait(request.cast(), u32::MAX, &mut done)),
        _ => {}
    }
    1
}

extern "C" fn free(data: Any) {
    FREED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: made by `set_progress`, and freed once.
    drop(unsafe { Box::from_raw(data.cast::<Listener>()) });
}

/// The message of an error.
pub fn message(error: *const diffbir_error) -> String {
    let message = diffbir_error_message(error);
    if message.is_null() {
        return String::new();
    }
    // SAFETY: valid until the error is freed.
    unsafe { CStr::from_ptr(message) }
        .to_string_lossy()
        .into_owned()
}

impl<'a> Calls<'a> {
    pub fn new(bytes: &'a [u8], engine: *mut diffbir_engine) -> Self {
        let mut pool = [ptr::null_mut(); POOL];
        pool[0] = engine.cast();
        Calls {
            bytes,
            pool,
            arguments: Arguments::default(),
            frees_engine_rarely: false,
            files: 0,
        }
    }

    /// Makes every call.
    pub fn all(&mut self) {
        for _ in 0..MOST {
            if self.bytes.is_empty() {
                return;
            }
            self.call();
        }
    }

    /// Frees what is in the pool, in any type but that of `kept`.
    pub fn free_all_but(&mut self, kept: Any) {
        for place in (0..POOL).rev() {
            let handle = std::mem::replace(&mut self.pool[place], ptr::null_mut());
            if handle != kept {
                free_any(handle);
            }
        }
    }

    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *byte
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    /// A handle, mostly of `kind`.
    fn handle<H>(&mut self, kind: Kind) -> *mut H {
        let byte = usize::from(self.byte());
        let any = match byte {
            0..224 => self.pool[kind.0 + byte % kind.1],
            224..248 => self.pool[byte % POOL],
            248 | 249 => ptr::null_mut(),
            // Never were handles; the last one is next.
            byte => ptr::without_provenance_mut([1, 16, usize::MAX, 0xd1ff_0001][byte % 4]),
        };
        any.cast()
    }

    /// Keeps a new handle in place of an older one of its type.
    fn keep<H>(&mut self, kind: Kind, handle: *mut H) {
        if handle.is_null() {
            return;
        }
        let place = kind.0 + usize::from(self.byte()) % kind.1;
        // The engine of the sequence stays.
        let place = if place == 0 { 1 } else { place };
        free_any(std::mem::replace(&mut self.pool[place], handle.cast()));
    }

    /// Looks at an error, and keeps some.
    fn settle(&mut self, error: *mut diffbir_error) {
        if error.is_null() {
            return;
        }
        let (code, message) = (diffbir_error_code(error), message(error));
        assert_ne!(code as u32, diffbir_code::Ok as u32);
        assert!(
            !message.is_empty() && !message.contains('\n'),
            "{message:?}"
        );
        let is_defect = code as u32 == diffbir_code::Panic as u32
            || code as u32 == diffbir_code::Internal as u32;
        assert!(
            !is_defect || message.contains("asked for by a test"),
            "{message}"
        );
        match self.byte() % 4 {
            0 => self.keep(ERROR, error),
            _ => diffbir_error_free(error),
        }
    }

    fn call(&mut self) {
        match self.byte() % 32 {
            0 | 1 => self.request_new(),
            2 | 3 => self.set_bytes(),
            4 | 5 => self.set_pixels(),
            6 | 7 => self.set_options(),
            8 => self.set_progress(),
            9 => self.cancels(),
            10..=12 => {
                let request = self.handle(REQUEST);
                self.settle(diffbir_request_run(request));
            }
            13..=15 => {
                let request = self.handle(REQUEST);
                self.settle(diffbir_request_submit(request));
            }
            16 => {
                let request: *mut diffbir_request = self.handle(REQUEST);
                self.settle(diffbir_request_stop(request));
            }
            17 | 18 => self.wait(),
            19 | 20 => self.image(),
            21 => self.encode(),
            22 => self.copy(),
            23 => self.write(),
            24 => self.read_image(),
            25 => self.free_one(),
            26 => self.look(),
            27 => self.describe(),
            28 => self.restore_file(),
            29 => self.set_file(),
            30 => self.engine_new(),
            _ => self.rest(),
        }
    }

    fn request_new(&mut self) {
        let engine: *mut diffbir_engine = self.handle(ENGINE);
        let mut request = ptr::null_mut();
        let place = if self.byte() == 255 {
            ptr::null_mut()
        } else {
            &raw mut request
        };
        self.settle(diffbir_request_new(engine, place));
        self.keep(REQUEST, request);
    }

    fn set_bytes(&mut self) {
        let request = self.handle(REQUEST);
        let side = usize::from(self.byte() % 20) + 1;
        let mut bytes = picture(side);
        if self.byte() > 200 {
            let at = usize::from(self.byte()) % bytes.len();
            bytes[at] = self.byte();
        }
        let count = if self.byte() > 240 { 0 } else { bytes.len() };
        self.settle(diffbir_request_set_bytes(request, bytes.as_ptr(), count));
    }

    /// A description of pixels, whose size is that of its buffer.
    fn pixels(&mut self) -> *const diffbir_pixels {
        let length = [0, 1, 48, 192, 768, 3072, 6144, 16_384][usize::from(self.byte()) % 8];
        let data = self.arguments.buffer(vec![7; length]);
        // SAFETY: a structure of integers and nullable pointers.
        let mut pixels: diffbir_pixels = unsafe { std::mem::zeroed() };
        // SAFETY: the place has that size.
        unsafe { diffbir_pixels_init(&mut pixels, size_of::<diffbir_pixels>()) };
        pixels.data = if self.byte() > 250 {
            ptr::null_mut()
        } else {
            data.cast()
        };
        pixels.size = length;
        (pixels.width, pixels.height) = (self.of(&NUMBERS), self.of(&NUMBERS));
        if self.byte() < 200 {
            let side = [4, 8, 16, 6][usize::from(self.byte()) % 4];
            (pixels.width, pixels.height) = (side, side);
        }
        if self.byte() > 100 {
            pixels.value_type = u32::from(self.byte() % 5);
            pixels.channels = u32::from(self.byte() % 7);
            pixels.layout = u32::from(self.byte() % 4);
        }
        if self.byte() > 220 {
            pixels.reserved = self.of(&NUMBERS);
            pixels.row_stride = self.of(&NUMBERS) as usize;
            pixels.plane_stride =
                (self.of(&NUMBERS) as usize).wrapping_mul(self.of(&NUMBERS) as usize);
        }
        self.structure(pixels)
    }

    /// A structure, mostly of today's size.
    fn structure<T: Copy>(&mut self, value: T) -> *const T {
        let today = size_of::<T>();
        let (size, beyond) = match self.byte() {
            0..230 => (today, 0),
            230..240 => (today + 8, u64::from(self.byte() % 2)),
            byte => (
                [0, 8, today - 8, today + 1, 4096, 4097, usize::MAX, 1][usize::from(byte) % 8],
                0,
            ),
        };
        self.arguments.structure(value, size, beyond)
    }

    fn set_pixels(&mut self) {
        let request = self.handle(REQUEST);
        let pixels = self.pixels();
        self.settle(diffbir_request_set_pixels(request, pixels));
    }

    fn word(&mut self) -> *const std::ffi::c_char {
        match self.byte() {
            0..160 => ptr::null(),
            160..240 => {
                let word = self.of(&WORDS);
                self.arguments.text(word.as_bytes())
            }
            // Not UTF-8, and long.
            byte => self.arguments.text(&vec![byte; usize::from(byte) * 8]),
        }
    }

    fn settings(&mut self) -> (*const *const std::ffi::c_char, usize) {
        let count = usize::from(self.byte() % 4);
        let texts: Vec<&str> = (0..count).map(|_| self.of(&SETTINGS)).collect();
        match self.byte() {
            255 => (ptr::null(), self.of(&NUMBERS) as usize),
            _ => (self.arguments.list(&texts), count),
        }
    }

    fn options(&mut self) -> *const diffbir_options {
        // SAFETY: a structure of integers, floats and nullable pointers.
        let mut options: diffbir_options = unsafe { std::mem::zeroed() };
        // SAFETY: the place has that size.
        unsafe { diffbir_options_init(&mut options, size_of::<diffbir_options>()) };
        if self.byte() > 128 {
            (options.task, options.sampler) = (self.word(), self.word());
            (options.prompt, options.negative_prompt) = (self.word(), self.word());
            options.upscale = self.of(&FLOATS);
            (options.cfg_scale, options.strength) = (self.of(&FLOATS), self.of(&FLOATS));
            options.guidance_scale = self.of(&FLOATS);
        }
        if self.byte() > 128 {
            options.seed = i64::from(self.of(&NUMBERS) as i32);
            (options.steps, options.samples) = (self.of(&COUNTS), self.of(&COUNTS));
        }
        (options.settings, options.setting_count) = self.settings();
        self.structure(options)
    }

    fn set_options(&mut self) {
        let request = self.handle(REQUEST);
        let options = if self.byte() > 240 {
            ptr::null()
        } else {
            self.options()
        };
        self.settle(diffbir_request_set_options(request, options));
    }

    fn set_progress(&mut self) {
        let listener = Box::new(Listener {
            action: self.byte(),
            handles: self.pool,
        });
        let request = self.handle(REQUEST);
        GIVEN.fetch_add(1, Ordering::SeqCst);
        let data = Box::into_raw(listener).cast();
        let call: diffbir_progress_fn = if self.byte() > 240 {
            None
        } else {
            Some(progress)
        };
        self.settle(diffbir_request_set_progress(
            request,
            call,
            data,
            Some(free),
        ));
    }

    fn cancels(&mut self) {
        match self.byte() % 4 {
            0 => {
                let mut cancel = ptr::null_mut();
                self.settle(diffbir_cancel_new(&mut cancel));
                self.keep(CANCEL, cancel);
            }
            1 => {
                let cancel: *mut diffbir_cancel = self.handle(CANCEL);
                self.settle(diffbir_cancel_trigger(cancel));
            }
            2 => {
                let cancel: *mut diffbir_cancel = self.handle(CANCEL);
                diffbir_cancel_is_triggered(cancel);
            }
            _ => {
                let (request, cancel): (_, *mut diffbir_cancel) =
                    (self.handle(REQUEST), self.handle(CANCEL));
                self.settle(diffbir_request_set_cancel(request, cancel));
            }
        }
    }

    fn wait(&mut self) {
        let request: *mut diffbir_request = self.handle(REQUEST);
        let timeout = [0, 1, 2, u32::MAX][usize::from(self.byte()) % 4];
        let mut done = false;
        let place = if self.byte() > 240 {
            ptr::null_mut()
        } else {
            &raw mut done
        };
        self.settle(diffbir_request_wait(request, timeout, place));
    }

    fn image(&mut self) {
        let request: *mut diffbir_request = self.handle(REQUEST);
        diffbir_request_sample_count(request);
        let sample = if self.byte() < 200 {
            0
        } else {
            self.of(&NUMBERS) as usize
        };
        let mut image = ptr::null_mut();
        let error = diffbir_request_image(request, sample, &mut image);
        assert_ne!(error.is_null(), image.is_null());
        self.settle(error);
        self.keep(IMAGE, image);
    }

    fn encoding(&mut self) -> *const diffbir_encode_options {
        if self.byte() > 200 {
            return ptr::null();
        }
        // SAFETY: a structure of integers and nullable pointers.
        let mut options: diffbir_encode_options = unsafe { std::mem::zeroed() };
        // SAFETY: the place has that size.
        unsafe { diffbir_encode_options_init(&mut options, size_of::<diffbir_encode_options>()) };
        options.format = self.word();
        options.quality = if self.byte() < 128 {
            0
        } else {
            self.of(&NUMBERS)
        };
        options.metadata = u32::from(self.byte() % 2);
        options.overwrite = u32::from(self.byte() % 2);
        self.structure(options)
    }

    fn encode(&mut self) {
        let image: *mut diffbir_image = self.handle(IMAGE);
        let options = self.encoding();
        let (mut data, mut size) = (ptr::null_mut(), 0);
        self.settle(diffbir_image_encode(image, options, &mut data, &mut size));
        assert_eq!(data.is_null(), size == 0);
        // SAFETY: NULL, or what the library has just handed over.
        unsafe { diffbir_bytes_free(data, size) };
    }

    fn copy(&mut self) {
        let image: *mut diffbir_image = self.handle(IMAGE);
        let pixels = self.pixels();
        self.settle(diffbir_image_copy(image, pixels));
    }

    fn read_image(&mut self) {
        let image: *mut diffbir_image = self.handle(IMAGE);
        let (width, height) = (diffbir_image_width(image), diffbir_image_height(image));
        diffbir_image_has_alpha(image);
        let data = diffbir_image_data(image);
        assert_eq!(data.is_null(), width * height == 0);
        if !data.is_null() {
            let size = 3 * width as usize * height as usize;
            // SAFETY: `3 * width * height` bytes until the image is freed.
            let sum: u64 = unsafe { std::slice::from_raw_parts(data, size) }
                .iter()
                .map(|&x| u64::from(x))
                .sum();
            std::hint::black_box(sum);
        }
    }

    /// A path of a file to write.
    fn path(&mut self) -> *const std::ffi::c_char {
        self.files += 1;
        let name = match self.byte() {
            0..200 => format!("out{}.png", self.files % 4),
            200..210 => "out.unknown".to_owned(),
            210..220 => "folder/below/out.jpg".to_owned(),
            220..230 => String::new(),
            230..240 => "x".repeat(300),
            _ => "in.png/out.png".to_owned(),
        };
        let path = scratch().join(name);
        self.arguments
            .text(path.to_str().unwrap_or_default().as_bytes())
    }

    fn write(&mut self) {
        let image: *mut diffbir_image = self.handle(IMAGE);
        let (path, options) = (self.path(), self.encoding());
        self.settle(diffbir_image_write(image, path, options));
    }

    fn input(&mut self) -> *const std::ffi::c_char {
        let name = [
            "in.png",
            "missing.png",
            "",
            "bundle",
            "bundle/bundle.yaml",
            "in.png",
        ][usize::from(self.byte()) % 6];
        let path = scratch().join(name);
        match self.byte() {
            0..230 => self
                .arguments
                .text(path.to_str().unwrap_or_default().as_bytes()),
            230..240 => ptr::null(),
            _ => self.arguments.text(b"/dev/zero"),
        }
    }

    fn set_file(&mut self) {
        let (request, path) = (self.handle(REQUEST), self.input());
        self.settle(diffbir_request_set_file(request, path));
    }

    fn restore_file(&mut self) {
        let engine: *mut diffbir_engine = self.handle(ENGINE);
        let (input, output, options) = (self.input(), self.path(), self.options());
        self.settle(diffbir_restore_file(engine, input, output, options));
    }

    fn free_one(&mut self) {
        match self.byte() % 5 {
            0 => diffbir_request_free(self.handle(REQUEST)),
            1 => diffbir_image_free(self.handle(IMAGE)),
            2 => diffbir_error_free(self.handle(ERROR)),
            3 => diffbir_cancel_free(self.handle(CANCEL)),
            _ => {
                let one_in = if self.frees_engine_rarely { 64 } else { 4 };
                if self.byte() % one_in == 1 {
                    diffbir_engine_free(self.handle(ENGINE));
                }
            }
        }
    }

    fn look(&mut self) {
        let error: *mut diffbir_error = self.handle(ERROR);
        let text = message(error);
        let cause = diffbir_error_cause(error);
        // SAFETY: valid until the error is freed.
        assert!(cause.is_null() || unsafe { CStr::from_ptr(cause) }.count_bytes() < 1 << 16);
        assert!(diffbir_error_smallest_budget(error) == 0 || !text.is_empty());
        std::hint::black_box(diffbir_error_code(error));
    }

    fn describe(&mut self) {
        let engine: *mut diffbir_engine = self.handle(ENGINE);
        let request: *mut diffbir_request = self.handle(REQUEST);
        let mut json = ptr::null_mut();
        let error = match self.byte() % 4 {
            0 => diffbir_engine_bundle(engine, &mut json),
            1 if self.frees_engine_rarely => diffbir_engine_runtime(engine, &mut json),
            1 | 2 => diffbir_engine_configuration(engine, &mut json),
            _ => diffbir_request_provenance(request, &mut json),
        };
        assert_ne!(error.is_null(), json.is_null());
        self.settle(error);
        // SAFETY: NULL, or a string that the library has just handed over.
        unsafe { diffbir_string_free(json) };
    }

    /// An engine that cannot be: each call of this kind is refused before a library is loaded.
    fn engine_new(&mut self) {
        // SAFETY: a structure of integers and nullable pointers.
        let mut options: diffbir_engine_options = unsafe { std::mem::zeroed() };
        // SAFETY: the place has that size.
        unsafe { diffbir_engine_options_init(&mut options, size_of::<diffbir_engine_options>()) };
        (options.settings, options.setting_count) = self.settings();
        options.config_yaml = self.word();
        options.config_file = self.word();
        options.bundle = self.arguments.text(b"/nowhere");
        options.queue_limit = self.of(&NUMBERS);
        let options = self.structure(options);
        let mut engine = ptr::null_mut();
        self.settle(diffbir_engine_new(options, &mut engine));
        assert!(engine.is_null());
    }

    fn rest(&mut self) {
        match self.byte() % 6 {
            0 => {
                let wanted = self.of(&NUMBERS);
                self.settle(diffbir_abi_check(wanted));
            }
            1 => self.settle(diffbir_test_panic()),
            2 => assert!(!diffbir_version().is_null() && !diffbir_build_info().is_null()),
            // SAFETY: NULL is ignored.
            3 => unsafe {
                diffbir_string_free(ptr::null_mut());
                diffbir_bytes_free(ptr::null_mut(), 9);
            },
            4 => {
                let size = self.of(&NUMBERS) as usize;
                let mut block = [0_u64; 512];
                let size = if size > 4096 { size } else { size.min(4096) };
                // SAFETY: the place has 4096 bytes, and more are refused.
                unsafe { diffbir_options_init(block.as_mut_ptr().cast(), size) };
            }
            _ => assert!(
                diffbir_live_handles() > 0 || self.pool.iter().all(|handle| handle.is_null())
            ),
        }
    }
}

/// Frees a handle of any type: the wrong functions ignore it.
fn free_any(handle: Any) {
    diffbir_request_free(handle.cast());
    diffbir_image_free(handle.cast());
    diffbir_error_free(handle.cast());
    diffbir_cancel_free(handle.cast());
    diffbir_engine_free(handle.cast());
}
