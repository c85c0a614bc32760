//! What files say besides their pixels, kind by kind.

use std::cell::Cell;
use std::io::Cursor;
use std::rc::Rc;

use image::ImageDecoder;
use image::metadata::Orientation;
use moxcms::ColorProfile;

use super::bounds::{Chunks, METADATA, too_much};
use super::exif::{self, Exif, Reader, Value};
use super::{Aspect, DecodeOptions, Format, Resolution, profile, xmp};
use crate::error::Result;

/// The longest text of a PNG, unpacked.
const TEXT: usize = 2 << 20;
/// The keyword of XMP in a PNG.
pub(super) const PNG_XMP: &str = "XML:com.adobe.xmp";
/// What the keywords of ImageMagick's packed metadata begin with.
pub(super) const RAW_PROFILE: &str = "Raw profile type ";
/// The keyword of what is known to be no more than a comment.
pub(super) const COMMENT: &str = "Comment";
/// The keyword of how a result was made.
const OURS: &str = "diffbir";
/// How Photoshop's resources begin in a JPEG, and the one that is IPTC.
pub(super) const RESOURCES: &[u8] = b"Photoshop 3.0\0";
pub(super) const IPTC_RESOURCE: &[u8] = b"8BIM\x04\x04\0\0";

/// What a file says.
#[derive(Default)]
pub(super) struct Said {
    /// A profile, of any colours.
    pub icc: Option<Vec<u8>>,
    /// Whether that is no more than another curve in sRGB's primaries, which costs a result in 8 bits dark tones.
    pub is_curve: bool,
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
    pub iptc: Option<Vec<u8>>,
    pub text: Vec<(String, String)>,
    pub resolution: Option<Resolution>,
    /// `None`: as EXIF says.
    pub orientation: Option<Orientation>,
    /// Whether colours have been multiplied with alpha.
    pub multiplied: bool,
    /// Whether the decoder has converted inks by their profile.
    pub inks: bool,
    /// Whether part of the pixels was missing, which the decoder finds out.
    pub damaged: Rc<Cell<bool>>,
    pub dropped: Vec<&'static str>,
}

impl Said {
    /// What `image`'s decoders tell.
    pub fn by(decoder: &mut impl ImageDecoder) -> Self {
        let mut said = Said::default();
        let parts = [
            (decoder.icc_profile(), &mut said.icc, Aspect::Icc),
            (decoder.exif_metadata(), &mut said.exif, Aspect::Exif),
            (decoder.xmp_metadata(), &mut said.xmp, Aspect::Xmp),
        ];
        for (read, place, aspect) in parts {
            if read.is_err() {
                said.dropped.push(aspect.name());
            }
            *place = read.ok().flatten();
        }
        said
    }

    /// Of a PNG: before its pixels and behind them.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): colours that are not read, or more than [`METADATA`].
    pub fn of_png(bytes: &[u8], options: DecodeOptions) -> Result<Self> {
        let (file, has_profile) = without_pixels(bytes)?;
        let limits = png::Limits {
            bytes: 2 * METADATA,
        };
        let read = png::Decoder::new_with_limits(Cursor::new(file), limits).read_info();
        let Ok(reader) = read else {
            let dropped = vec!["metadata"];
            return Ok(Said {
                dropped,
                ..Said::default()
            });
        };
        let info = reader.info();
        let mut said = Said {
            icc: info.icc_profile.as_deref().map(<[u8]>::to_vec),
            exif: info.exif_metadata.as_deref().map(<[u8]>::to_vec),
            ..Said::default()
        };
        let dims = info.pixel_dims.filter(|dims| dims.unit == png::Unit::Meter);
        let dpi = |per_metre: u32| f64::from(per_metre) * 0.0254;
        said.resolution = dims.and_then(|dims| Resolution::of(dpi(dims.xppu), dpi(dims.yppu)));
        if options.profiles
            && let Some((profile, wide)) = profile::of_png(info)?
        {
            said.icc = Some(profile);
            said.is_curve = !wide;
        }
        said.read_texts(info);
        if has_profile && said.icc.is_none() {
            said.dropped.push(Aspect::Icc.name());
        }
        Ok(said)
    }

    fn read_texts(&mut self, info: &png::Info<'_>) {
        let mut left = METADATA;
        let mut keep = |keyword: &str, text: Option<String>| {
            let Some(text) = text.filter(|text| text.len() <= left) else {
                let lost = if keyword == PNG_XMP {
                    Aspect::Xmp
                } else {
                    Aspect::Text
                };
                self.dropped.push(lost.name());
                return;
            };
            left -= text.len();
            match (keyword, keyword.strip_prefix(RAW_PROFILE)) {
                (PNG_XMP, _) => self.xmp = self.xmp.take().or(Some(text.into_bytes())),
                (_, Some("iptc" | "8bim")) => {
                    let resources = unpacked(&text);
                    self.iptc = resources.map(|bytes| iptc_in(&bytes).unwrap_or(bytes));
                }
                (_, Some("exif" | "APP1")) if self.exif.is_none() => {
                    let exif = unpacked(&text);
                    let start = |exif: Vec<u8>| match exif.strip_prefix(b"Exif\0\0") {
                        Some(exif) => exif.to_vec(),
                        None => exif,
                    };
                    self.exif = exif.map(start);
                }
                (_, Some(_)) => self.dropped.push(Aspect::Text.name()),
                (_, None) => self.text.push((keyword.to_owned(), text)),
            }
        };
        for chunk in &info.uncompressed_latin1_text {
            keep(&chunk.keyword, Some(chunk.text.clone()));
        }
        for mut chunk in info.compressed_latin1_text.iter().cloned() {
            let read = chunk.decompress_text_with_limit(TEXT);
            keep(&chunk.keyword, read.and_then(|()| chunk.get_text()).ok());
        }
        for mut chunk in info.utf8_text.iter().cloned() {
            let read = chunk.decompress_text_with_limit(TEXT);
            keep(&chunk.keyword, read.and_then(|()| chunk.get_text()).ok());
        }
    }

    /// Adds what a JPEG's segments say that its decoder does not tell.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): more than [`METADATA`].
    pub fn add_segments(&mut self, bytes: &[u8]) -> Result<()> {
        let mut left = METADATA;
        for (marker, data) in segments(bytes) {
            left = left
                .checked_sub(data.len())
                .ok_or_else(|| too_much("metadata"))?;
            match marker {
                0xe0 if data.starts_with(b"JFIF\0") && self.resolution.is_none() => {
                    self.resolution = jfif(data);
                }
                0xe2 if data.starts_with(b"urn:iso:std:iso:ts:21496") => self.has_gain_map(),
                0xe2 if data.starts_with(b"MPF\0") && further_pictures(&data[4..]) => {
                    self.dropped.push("further pictures of the file");
                }
                0xed if self.iptc.is_none() => {
                    self.iptc = data.strip_prefix(RESOURCES).and_then(iptc_in);
                }
                0xfe => {
                    let text = String::from_utf8_lossy(data);
                    let text = text.trim_end_matches('\0').to_owned();
                    self.text.push((COMMENT.to_owned(), text));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says that the result has no gain map.
    fn has_gain_map(&mut self) {
        const NAME: &str = "gain map";
        if !self.dropped.contains(&NAME) {
            self.dropped.push(NAME);
        }
    }

    /// Of a TIFF, besides what its decoder says.
    pub fn of_tiff(bytes: &[u8]) -> Self {
        let mut said = Said::default();
        let Some(mut reader) = Reader::new(bytes) else {
            return said;
        };
        let Some((mut tags, next)) = reader.first() else {
            return said;
        };
        let mut take = |tag| tags.remove(&tag).and_then(Value::into_bytes);
        said.icc = take(exif::ICC);
        said.xmp = take(exif::XMP);
        said.iptc = tags.remove(&exif::IPTC).map(|value| value.into_raw(bytes));
        let extra = tags.get(&exif::EXTRA_SAMPLES);
        said.multiplied = extra.is_some_and(|extra| extra.numbers().first() == Some(&1.0));
        said.exif = Exif::read(bytes).and_then(|exif| exif.to_bytes());
        said.resolution = Exif::resolution(bytes);
        let next = next.and_then(|next| reader.directory(next));
        let is_copy = |tags: &exif::Directory| {
            let kind = tags.get(&254).and_then(|kind| kind.numbers().pop());
            kind.is_some_and(|bits| bits as u32 & 1 == 1)
        };
        if next.is_some_and(|(tags, _)| !is_copy(&tags)) {
            said.dropped.push("pages behind the first one");
        }
        said
    }

    /// Of a BMP.
    pub fn of_bmp(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let dpi = |at| number(at).map(|per_metre| f64::from(per_metre) * 0.0254);
        let resolution = match number(14) {
            Some(40..) => dpi(38).zip(dpi(42)),
            _ => None,
        };
        // Of the last version of headers: where the profile lies, from the headers on, and how long it is.
        let embedded = number(14) == Some(124) && number(70) == Some(u32::from_be_bytes(*b"MBED"));
        let profile = number(126).zip(number(130)).filter(|_| embedded);
        let icc = profile.and_then(|(at, length)| {
            let at = usize::try_from(at).ok()?.checked_add(14)?;
            bytes
                .get(at..at.checked_add(length as usize)?)
                .map(<[u8]>::to_vec)
        });
        Said {
            icc,
            resolution: resolution.and_then(|(x, y)| Resolution::of(x, y)),
            ..Said::default()
        }
    }

    /// EXIF and XMP as results have them: upright, without a thumbnail, a gain map, and how an earlier result was made.
    pub fn settle(&mut self) {
        self.text.retain(|(keyword, _)| keyword != OURS);
        if let Some(xmp) = self.xmp.take() {
            if xmp::has_gain_map(&xmp) {
                // It would promise one still.
                self.has_gain_map();
                self.dropped.push(Aspect::Xmp.name());
            } else {
                self.xmp = Some(xmp::settled(xmp));
            }
        }
        self.settle_exif();
    }

    /// Cameras say in EXIF that colours are Adobe RGB's.
    fn settle_exif(&mut self) {
        let Some(bytes) = self.exif.take() else {
            return;
        };
        if self.orientation.is_none() {
            self.orientation = Orientation::from_exif_chunk(&bytes);
        }
        self.resolution = self.resolution.or_else(|| Exif::resolution(&bytes));
        let exif = Exif::read(&bytes);
        if exif.as_ref().is_some_and(|exif| exif.is_adobe_rgb) && self.icc.is_none() {
            self.icc = profile::encoded(&ColorProfile::new_adobe_rgb()).ok();
        }
        self.exif = exif.as_ref().and_then(Exif::to_bytes);
        if Reader::new(&bytes)
            .and_then(|mut reader| reader.first())
            .is_none()
        {
            self.dropped.push(Aspect::Exif.name());
        }
    }
}

/// A PNG without its pixels, what is behind them before them, and whether it has a profile.
fn without_pixels(bytes: &[u8]) -> Result<(Vec<u8>, bool)> {
    let (mut has_pixels, mut length) = (false, 0);
    for chunk in Chunks::of(Format::Png, bytes) {
        match chunk {
            Ok(chunk) => {
                has_pixels |= chunk.kind == *b"IDAT";
                length += chunk.metadata();
            }
            // What is cut behind the pixels costs none of them.
            Err(_) if has_pixels => break,
            Err(error) => return Err(error),
        }
    }
    if length > METADATA {
        return Err(too_much("metadata"));
    }
    let mut file = bytes.get(..8).unwrap_or_default().to_vec();
    let chunks = Chunks::of(Format::Png, bytes).flatten();
    let said = chunks.filter(|chunk| {
        let of_pixels = [b"IDAT", b"IEND", b"fdAT", b"fcTL", b"acTL"];
        !of_pixels.contains(&&chunk.kind)
    });
    let mut has_profile = false;
    for chunk in said {
        has_profile |= chunk.kind == *b"iCCP";
        file.extend(chunk.whole);
    }
    file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    Ok((file, has_profile))
}

/// Bytes that ImageMagick has packed as text: name, length, and digits in base 16.
fn unpacked(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.trim_start().lines();
    let (_, length) = (lines.next()?, lines.next()?);
    let digits: Vec<u32> = lines
        .flat_map(|line| line.trim().chars().map(|digit| digit.to_digit(16)))
        .collect::<Option<_>>()?;
    let bytes = digits.as_chunks().0.iter().map(|[a, b]| (a * 16 + b) as u8);
    let bytes: Vec<u8> = bytes.collect();
    (length.trim().parse() == Ok(bytes.len())).then_some(bytes)
}

/// Bytes as ImageMagick packs them.
pub(super) fn packed(name: &str, bytes: &[u8]) -> String {
    let mut text = format!("\n{name}\n{:8}\n", bytes.len());
    for line in bytes.chunks(36) {
        line.iter().for_each(|byte| text += &format!("{byte:02x}"));
        text.push('\n');
    }
    text
}

/// IPTC as one of Photoshop's resources.
pub(super) fn iptc_resource(iptc: &[u8]) -> Vec<u8> {
    let length = (iptc.len() as u32).to_be_bytes();
    let pad: &[u8] = if iptc.len() % 2 == 1 { b"\0" } else { b"" };
    [IPTC_RESOURCE, &length, iptc, pad].concat()
}

/// IPTC among Photoshop's resources.
fn iptc_in(mut resources: &[u8]) -> Option<Vec<u8>> {
    loop {
        let rest = resources.strip_prefix(b"8BIM")?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        // A name, of one byte for its length, in pairs of bytes.
        let name = (usize::from(*rest.first()?) + 1).next_multiple_of(2);
        let (length, rest) = rest.get(name..)?.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let data = rest.get(..length)?;
        if *kind == [4, 4] {
            return Some(data.to_vec());
        }
        resources = rest.get(length.next_multiple_of(2)..)?;
    }
}

/// The segments of a JPEG before its pixels.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        // Bytes before a marker are filled in by some programs.
        while let [0xff, 0xff, ..] = rest {
            rest = &rest[1..];
        }
        let [0xff, marker, high, low, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda || length < 2 {
            return None;
        }
        let data = rest.get(4..2 + length)?;
        rest = &rest[2 + length..];
        Some((marker, data))
    })
}

fn jfif(data: &[u8]) -> Option<Resolution> {
    let unit = match data.get(7)? {
        1 => 1.0,
        2 => 2.54,
        _ => return None,
    };
    let density = |at: usize| {
        let bytes = data.get(at..)?.first_chunk()?;
        Some(f64::from(u16::from_be_bytes(*bytes)) * unit)
    };
    Resolution::of(density(8)?, density(10)?)
}

/// Whether a file's index of pictures names others than previews of the first one.
fn further_pictures(index: &[u8]) -> bool {
    const ENTRIES: u16 = 0xb002;
    let read = || {
        let (mut tags, _) = Reader::new(index)?.first()?;
        tags.remove(&ENTRIES)?.into_bytes()
    };
    let entries = read().unwrap_or_default();
    let mut kinds = entries.as_chunks::<16>().0.iter().skip(1).map(|entry| {
        let kind = match index.starts_with(b"MM") {
            true => u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]),
            false => u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]),
        };
        kind & 0xff_ffff
    });
    kinds.any(|kind| !matches!(kind, 0x01_0001 | 0x01_0002))
}
