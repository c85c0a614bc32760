//! TIFF files to pixels.

use std::borrow::Cow;
use std::io::Cursor;

use half::f16;
use image::error::{DecodingError, ImageFormatHint};
use image::metadata::Orientation;
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use tiff::decoder::{Decoder, Limits};

use super::super::bounds::check_tags;
use super::super::exif::{self, Directory, EXTRA_SAMPLES, Reader};
use super::super::{DecodeOptions, profile};
use super::colors::Space;
use crate::error::{Error, Result};

const SUBFILE_KIND: u16 = 254;
const PHOTOMETRIC: u16 = 262;
const ORIENTATION: u16 = 274;
const SUBFILES: u16 = 330;
const DNG_VERSION: u16 = 50706;

/// A TIFF whose first directory has been read.
pub(in crate::imageio) struct TiffReader<'a> {
    decoder: Decoder<Cursor<Cow<'a, [u8]>>>,
    layout: Layout,
    pub orientation: Orientation,
    /// The profile by which CMYK becomes RGB.
    inks: Option<Vec<u8>>,
    /// What of its pixels is not kept.
    pub dropped: Vec<&'static str>,
    most_bytes: u64,
}

/// How pixels lie.
struct Layout {
    size: (u32, u32),
    samples: usize,
    bits: u32,
    is_float: bool,
    space: Space,
    alpha: bool,
    /// Whether white is 0, where the decoder does not turn that round.
    inverted: bool,
}

impl<'a> TiffReader<'a> {
    /// Reads the directory.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): damage, too many pixels, and colours that are not read.
    pub fn open(bytes: &'a [u8], options: DecodeOptions) -> Result<Self> {
        let missing = || Error::input("damaged picture: a TIFF without directory");
        let mut reader = Reader::new(bytes).ok_or_else(missing)?;
        let (mut tags, _) = reader.first().ok_or_else(missing)?;
        refuse_raw(&tags)?;
        let layout = Layout::of(&tags)?;
        options.check_size(layout.size)?;
        let inks = tags.remove(&exif::ICC).and_then(exif::Value::into_bytes);
        let inks = inks.filter(|icc| {
            let read = options.profiles && layout.bits == 8 && layout.samples == 4;
            read && layout.space == Space::Cmyk && profile::is_cmyk(icc)
        });
        let orientation = number(&tags, ORIENTATION).and_then(|x| u8::try_from(x).ok());
        let bytes = layout.readable(bytes, &reader, &tags);
        check_tags(&bytes)?;
        let most = usize::try_from(options.decoder_bytes()).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = most;
        limits.intermediate_buffer_size = most;
        let decoder = Decoder::new(Cursor::new(bytes)).map_err(unsupported)?;
        Ok(TiffReader {
            decoder: decoder.with_limits(limits),
            dropped: layout.dropped(),
            layout,
            orientation: orientation
                .and_then(Orientation::from_exif)
                .unwrap_or(Orientation::NoTransforms),
            inks,
            most_bytes: options.decoder_bytes(),
        })
    }

    /// Whether CMYK becomes RGB as the file's profile says.
    pub fn has_profile_of_inks(&self) -> bool {
        self.inks.is_some()
    }
}

fn number(tags: &Directory, tag: u16) -> Option<u32> {
    let number = tags.get(&tag)?.numbers().first().copied();
    number.map(|x| x as u32)
}

/// Refuses what a camera measured: its first picture is a small copy, or has no colours yet.
fn refuse_raw(tags: &Directory) -> Result<()> {
    let is_copy = number(tags, SUBFILE_KIND).is_some_and(|bits| bits & 1 == 1);
    let measured = matches!(number(tags, PHOTOMETRIC), Some(32803 | 34892));
    match measured || tags.contains_key(&DNG_VERSION) || is_copy && tags.contains_key(&SUBFILES) {
        true => Err(Error::input(
            "a camera's raw file: develop it first, and restore the TIFF or JPEG",
        )),
        false => Ok(()),
    }
}

fn refused(what: &str) -> Error {
    Error::input(format!(
        "{what} is not read: save the picture as TIFF of 8 or 16 bits in RGB or grey, or as PNG"
    ))
}

impl Layout {
    fn of(tags: &Directory) -> Result<Self> {
        let get = |tag, default| number(tags, tag).unwrap_or(default);
        let samples = get(277, 1) as usize;
        let bits = get(258, 1);
        let is_float = match get(339, 1) {
            1 | 4 => false,
            3 => true,
            2 => return Err(refused("a TIFF of signed numbers")),
            _ => return Err(refused("a TIFF of complex numbers")),
        };
        let compression = match get(259, 1) {
            1..=5 | 7 | 8 | 32773 | 32946 => None,
            6 => Some("JPEG in its old form".to_owned()),
            34887 => Some("LERC".to_owned()),
            34925 => Some("LZMA".to_owned()),
            50000 => Some("Zstandard".to_owned()),
            50001 => Some("WebP".to_owned()),
            50002 => Some("JPEG XL".to_owned()),
            other => Some(format!("compression {other}")),
        };
        if let Some(name) = compression {
            return Err(refused(&format!("a TIFF compressed by {name}")));
        }
        let space = Space::of(get(PHOTOMETRIC, u32::MAX), bits, tags);
        let space = space.map_err(|what| refused(&format!("a TIFF in {what}")))?;
        let read = match (is_float, &space) {
            (true, Space::Grey | Space::Rgb) => matches!(bits, 16 | 32 | 64),
            (false, Space::Grey) => matches!(bits, 1 | 2 | 4 | 8 | 16 | 32),
            (false, Space::Palette(_)) => matches!(bits, 1 | 2 | 4 | 8),
            (false, Space::Rgb) => matches!(bits, 8 | 16 | 32),
            (false, _) => matches!(bits, 8 | 16),
            _ => false,
        };
        if !read {
            return Err(refused(&format!("a TIFF of {bits} bits of this kind")));
        }
        // Some programs write alpha and do not say so.
        let extra = tags.get(&EXTRA_SAMPLES).map(exif::Value::numbers);
        let first = extra.map_or(Some(2.0), |extra| extra.first().copied());
        let channels = space.channels();
        if samples < channels {
            return Err(Error::input("damaged picture: a TIFF of too few channels"));
        }
        Ok(Layout {
            size: (get(256, 0), get(257, 0)),
            samples,
            bits,
            is_float,
            alpha: samples > channels && matches!(first, Some(1.0 | 2.0)),
            inverted: get(PHOTOMETRIC, 0) == 0 && samples > 1,
            space,
        })
    }

    fn dropped(&self) -> Vec<&'static str> {
        let inexact = !self.is_float && self.bits > 16 || self.bits > 32;
        let more = self.samples > self.space.channels() + usize::from(self.alpha);
        let all = [
            (inexact, "bits beyond 16"),
            (more, "channels beyond colours and alpha"),
        ];
        all.into_iter()
            .filter_map(|(is_so, what)| is_so.then_some(what))
            .collect()
    }

    /// The file as the decoder reads it with every channel and without conversions, which is so of what it takes for
    /// greys: where it has to be, colours are called that.
    fn readable<'a>(
        &self,
        bytes: &'a [u8],
        reader: &Reader<'_>,
        tags: &Directory,
    ) -> Cow<'a, [u8]> {
        let is_read = match number(tags, PHOTOMETRIC) {
            Some(0) => self.samples == 1,
            Some(1) => true,
            Some(2 | 5) => self.samples == self.space.channels() + usize::from(self.alpha),
            _ => false,
        };
        let place = reader.place_of(PHOTOMETRIC).filter(|_| !is_read);
        let Some(place) = place.filter(|place| place + 2 <= bytes.len()) else {
            return Cow::Borrowed(bytes);
        };
        let mut changed = bytes.to_vec();
        let grey = if bytes.starts_with(b"MM") {
            [0, 1]
        } else {
            [1, 0]
        };
        changed[place..place + 2].copy_from_slice(&grey);
        Cow::Owned(changed)
    }

    fn color_type(&self) -> ColorType {
        let grey = self.space == Space::Grey;
        match (self.is_float, self.bits > 8, grey, self.alpha) {
            (true, _, _, false) => ColorType::Rgb32F,
            (true, _, _, true) => ColorType::Rgba32F,
            (_, false, true, false) => ColorType::L8,
            (_, false, true, true) => ColorType::La8,
            (_, false, false, false) => ColorType::Rgb8,
            (_, false, false, true) => ColorType::Rgba8,
            (_, true, true, false) => ColorType::L16,
            (_, true, true, true) => ColorType::La16,
            (_, true, false, false) => ColorType::Rgb16,
            (_, true, false, true) => ColorType::Rgba16,
        }
    }

    /// Whether pixels lie in the file as they are given: most files are so, and copying them is far quicker.
    fn is_plain(&self, planes: usize) -> bool {
        let whole = !self.is_float && matches!(self.bits, 8 | 16);
        let all = self.samples == self.space.channels() + usize::from(self.alpha);
        let colors = matches!(self.space, Space::Grey | Space::Rgb);
        planes == 1 && whole && all && colors && !self.inverted
    }

    /// Reads the pixels of `raw`, plane after plane, row after row, into `values`.
    fn convert(&self, raw: &[u8], planes: usize, values: &mut [u8]) -> Option<()> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let per_pixel = if planes > 1 { 1 } else { self.samples };
        let row = (width * per_pixel * self.bits as usize).div_ceil(8);
        let channels = self.space.channels();
        let mut pixel = vec![Number::Whole(0); channels + usize::from(self.alpha)];
        let mut out = values.chunks_exact_mut(self.color_type().bytes_per_pixel().into());
        for y in 0..height {
            for x in 0..width {
                for (c, number) in pixel.iter_mut().enumerate() {
                    let (start, at) = match planes > 1 {
                        true => ((c * height + y) * row, x),
                        false => (y * row, x * self.samples + c),
                    };
                    *number = self.number(raw.get(start..start + row)?, at)?;
                }
                self.put(&pixel, out.next()?)?;
            }
        }
        Some(())
    }

    /// Number `at` of a row: whole ones in 8 or 16 bits.
    fn number(&self, row: &[u8], at: usize) -> Option<Number> {
        let bits = self.bits as usize;
        let bytes = || row.get(at * bits / 8..)?.get(..bits / 8);
        let number = match (self.is_float, bits) {
            (true, 16) => Number::Float(f16::from_ne_bytes(bytes()?.try_into().ok()?).into()),
            (true, 32) => Number::Float(f32::from_ne_bytes(bytes()?.try_into().ok()?)),
            (true, _) => Number::Float(f64::from_ne_bytes(bytes()?.try_into().ok()?) as f32),
            (_, 8) => Number::Whole((*row.get(at)?).into()),
            (_, 16) => Number::Whole(u16::from_ne_bytes(bytes()?.try_into().ok()?).into()),
            (_, 32) => {
                let value = u64::from(u32::from_ne_bytes(bytes()?.try_into().ok()?));
                let most = u64::from(u32::MAX);
                Number::Whole(((value * 65535 + most / 2) / most) as u32)
            }
            (_, few) => {
                let byte = u32::from(*row.get(at * few / 8)?);
                let most = (1 << few) - 1;
                let value = byte >> (8 - few - at * few % 8) & most;
                let is_index = matches!(self.space, Space::Palette(_));
                Number::Whole(if is_index { value } else { value * 255 / most })
            }
        };
        Some(number)
    }

    /// Puts a pixel's colour and alpha as numbers of [`color_type`](Self::color_type).
    fn put(&self, pixel: &[Number], out: &mut [u8]) -> Option<()> {
        let (color, alpha) = pixel.split_at_checked(self.space.channels())?;
        if self.is_float {
            let float = |number: &Number| match *number {
                Number::Float(value) => value,
                Number::Whole(_) => 0.0,
            };
            let color = match color {
                [grey] => [grey; 3],
                [r, g, b] => [r, g, b],
                _ => return None,
            };
            let numbers = color.into_iter().chain(alpha).map(float);
            for (out, value) in out.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                *out = value.to_ne_bytes();
            }
            return Some(());
        }
        let most = if self.bits > 8 { 65535 } else { 255 };
        let whole = |number: &Number| match *number {
            Number::Whole(value) => value,
            Number::Float(_) => 0,
        };
        let mut numbers = [0; 4];
        for (number, whole) in numbers.iter_mut().zip(color.iter().map(whole)) {
            *number = whole;
        }
        let rgb = self.space.rgb(numbers, most);
        let rgb = if self.inverted {
            rgb.map(|x| most - x)
        } else {
            rgb
        };
        let colors = if self.space == Space::Grey {
            &rgb[..1]
        } else {
            &rgb[..]
        };
        let numbers = colors.iter().copied().chain(alpha.first().map(whole));
        match most {
            255 => out
                .iter_mut()
                .zip(numbers)
                .for_each(|(out, x)| *out = x as u8),
            _ => {
                let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(numbers);
                pairs.for_each(|(out, x)| *out = (x as u16).to_ne_bytes());
            }
        }
        Some(())
    }
}

/// A number of a pixel.
#[derive(Clone, Copy)]
enum Number {
    Whole(u32),
    Float(f32),
}

impl ImageDecoder for TiffReader<'_> {
    fn dimensions(&self) -> (u32, u32) {
        self.layout.size
    }

    fn color_type(&self) -> ColorType {
        self.layout.color_type()
    }

    fn original_color_type(&self) -> ExtendedColorType {
        match self.layout.space {
            Space::Cmyk => ExtendedColorType::Cmyk8,
            _ => self.color_type().into(),
        }
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        Ok(self.orientation)
    }

    fn read_image(mut self, values: &mut [u8]) -> ImageResult<()> {
        let buffer = self.decoder.image_buffer_layout().map_err(damaged)?;
        if buffer.complete_len as u64 > self.most_bytes {
            return Err(damaged("more bytes than allowed"));
        }
        let mut raw = Vec::new();
        raw.try_reserve_exact(buffer.complete_len)
            .map_err(damaged)?;
        raw.resize(buffer.complete_len, 0);
        self.decoder.read_image_bytes(&mut raw).map_err(damaged)?;
        if let (Some(inks), 1) = (&self.inks, buffer.planes) {
            return profile::cmyk_to_srgb(&raw, Some(inks), values).map_err(damaged);
        }
        if self.layout.is_plain(buffer.planes) && raw.len() == values.len() {
            values.copy_from_slice(&raw);
            return Ok(());
        }
        let converted = self.layout.convert(&raw, buffer.planes, values);
        converted.ok_or_else(|| damaged("another number of pixels than announced"))
    }

    fn read_image_boxed(self: Box<Self>, values: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(values)
    }
}

fn unsupported(error: tiff::TiffError) -> Error {
    Error::input("damaged or unsupported picture").with_source(error)
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    let format = ImageFormatHint::Exact(ImageFormat::Tiff);
    ImageError::Decoding(DecodingError::new(format, error))
}
