//! Results.

use std::collections::BTreeMap;
use std::os::raw::c_char;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

use super::boundary::{Failure, Outcome, guard, guard_or, optional_text, path};
use super::error::{diffbir_code, diffbir_error};
use super::growing;
use super::handles;
use super::pixels::Pixels as HostPixels;
use super::strings::give_bytes;
use super::structs::{diffbir_encode_options, diffbir_pixels};
use crate::config::OutputOptions;
use crate::imageio::{self, Alpha, EncodeOptions, Format, Kept, Pixels, Rgb};

/// A result image, owned by the library. Immutable, hence thread-safe.
pub struct diffbir_image {
    _private: [u8; 0],
}

handle!(diffbir_image => ImageObject);

/// The object behind a `diffbir_image`.
pub struct ImageObject {
    pixels: Pixels,
    /// The 8-bit copy of a 16-bit result, made when `diffbir_image_data` is first called.
    eight: OnceLock<Rgb>,
    kept: Kept,
    /// How it was made, by keyword.
    text: BTreeMap<String, String>,
    output: OutputOptions,
}

impl ImageObject {
    pub(super) fn new(
        pixels: Pixels,
        kept: Kept,
        text: BTreeMap<String, String>,
        output: &OutputOptions,
    ) -> Self {
        ImageObject {
            pixels,
            eight: OnceLock::new(),
            kept,
            text,
            output: output.clone(),
        }
    }

    fn alpha(&self) -> Option<Alpha> {
        let (height, width) = self.pixels.size();
        self.kept.alpha_in(height, width)
    }

    fn eight(&self) -> *const u8 {
        let rgb = match &self.pixels {
            Pixels::U8(rgb) => rgb,
            deeper => self.eight.get_or_init(|| deeper.to_u8().into_owned()),
        };
        rgb.as_ptr()
    }

    /// How it was made, if requested.
    fn text(&self, options: &diffbir_encode_options) -> BTreeMap<String, String> {
        match options.metadata != 0 && self.output.metadata {
            true => self.text.clone(),
            false => BTreeMap::new(),
        }
    }

    /// Encodes the picture as `options` say, by default as PNG.
    fn encode(&self, options: &diffbir_encode_options) -> Outcome<Vec<u8>> {
        let encoding = self.encoding(options, None)?;
        Ok(imageio::encode(
            &self.pixels,
            &self.kept,
            encoding,
            &self.text(options),
        )?)
    }

    /// The encoding; `name` is the file name, if there is one.
    fn encoding(
        &self,
        options: &diffbir_encode_options,
        name: Option<&Path>,
    ) -> Outcome<EncodeOptions> {
        if options.reserved != 0 {
            return Err(Failure::argument("reserved is not 0"));
        }
        let named = optional_text("format", options.format)?;
        let by_name = |name: &str| {
            let known = Format::ALL.into_iter().find(|format| format.name() == name);
            known.ok_or_else(|| {
                let all = Format::ALL.map(Format::name).join(", ");
                Failure::new(
                    diffbir_code::Option,
                    format!("format is {name}, expected one of {all}"),
                )
            })
        };
        let format = match named.as_deref() {
            Some(name) => by_name(name)?,
            None => name.and_then(Format::of_name).unwrap_or_default(),
        };
        let quality = match options.quality {
            0 => self.output.quality,
            quality => u8::try_from(quality)
                .ok()
                .filter(|&q| q <= 100)
                .ok_or_else(|| {
                    Failure::new(
                        diffbir_code::Option,
                        format!("quality is {quality}, expected 1 to 100"),
                    )
                })?,
        };
        Ok(EncodeOptions {
            format,
            quality,
            depth: self.output.depth,
            background: self.output.background.0,
        })
    }

    pub(super) fn write(
        &self,
        path: &Path,
        options: &diffbir_encode_options,
        overwrite: bool,
    ) -> Outcome<()> {
        let encoding = self.encoding(options, Some(path))?;
        let place = imageio::Place {
            path,
            replace: overwrite,
        };
        Ok(imageio::write(
            place,
            &self.pixels,
            &self.kept,
            encoding,
            &self.text(options),
        )?)
    }
}

/// Refuses an existing file that may not be replaced.
pub(super) fn refuse_existing(path: &Path, overwrite: bool) -> Outcome<()> {
    match !overwrite && path.exists() {
        true => Err(Failure::new(
            diffbir_code::Option,
            format!(
                "{} exists: set output.existing to overwrite, or `overwrite` of the encode options, to replace it",
                path.display()
            ),
        )),
        false => Ok(()),
    }
}

fn side(image: *const diffbir_image, of: impl FnOnce(&Pixels) -> usize) -> u32 {
    guard_or(0, || {
        let image: Arc<ImageObject> = handles::get(image)?;
        Ok(u32::try_from(of(&image.pixels)).unwrap_or(0))
    })
}

/// Width in pixels; 0 for NULL and freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_width(image: *const diffbir_image) -> u32 {
    side(image, |pixels| pixels.size().1)
}

/// Height in pixels; 0 for NULL and freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_height(image: *const diffbir_image) -> u32 {
    side(image, |pixels| pixels.size().0)
}

/// Whether the result has alpha: true if a pixel of the input was not opaque; false for NULL and freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_has_alpha(image: *const diffbir_image) -> bool {
    guard_or(false, || Ok(handles::get(image)?.kept.alpha.is_some()))
}

/// The pixels without copying: 8-bit sRGB, interleaved RGB, rows contiguous, `3 * width * height` bytes. A 16-bit
/// result is rounded to 8 bits; `diffbir_image_copy` gives all 16. Valid until the image is freed; NULL for NULL and
/// freed handles.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_data(image: *const diffbir_image) -> *const u8 {
    guard_or(ptr::null(), || Ok(handles::get(image)?.eight()))
}

/// Copies the picture into the host's memory, in the type and layout that `pixels` describes; its width and height must
/// equal the image's. Alpha is opaque if the image has none.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_copy(
    image: *const diffbir_image,
    pixels: *const diffbir_pixels,
) -> *mut diffbir_error {
    guard(|| {
        let image = handles::get(image)?;
        let place = HostPixels::of("pixels", pixels)?;
        let (height, width) = image.pixels.size();
        if (place.height, place.width) != (height, width) {
            return Err(Failure::argument(format!(
                "pixels is {}x{}, expected the image's {width}x{height}",
                place.width, place.height
            )));
        }
        place.write(&image.pixels, image.alpha().as_ref());
        Ok(())
    })
}

/// Encodes the picture, with alpha, EXIF, XMP and colour profile of its input. `options` may be NULL. The caller frees
/// `*data` with `diffbir_bytes_free`.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_encode(
    image: *const diffbir_image,
    options: *const diffbir_encode_options,
    data: *mut *mut u8,
    size: *mut usize,
) -> *mut diffbir_error {
    guard(|| {
        let image = handles::get(image)?;
        give_bytes(data, size, image.encode(&growing::read(options)?)?)
    })
}

/// Writes the picture to a file atomically: to a temporary file in the same folder, then renamed. Missing folders are
/// created. `options` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_write(
    image: *const diffbir_image,
    path: *const c_char,
    options: *const diffbir_encode_options,
) -> *mut diffbir_error {
    guard(|| {
        let image = handles::get(image)?;
        let path = self::path("path", path)?;
        let options = growing::read(options)?;
        let overwrite = options.overwrite != 0;
        refuse_existing(&path, overwrite)?;
        image.write(&path, &options, overwrite)
    })
}

/// Frees an image. NULL and freed handles are ignored.
#[unsafe(no_mangle)]
pub extern "C" fn diffbir_image_free(image: *mut diffbir_image) {
    guard_or((), || {
        drop(handles::remove(image));
        Ok(())
    });
}
