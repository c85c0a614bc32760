//! EXIF, which is a TIFF file's directories: read, edited, and written by the `tiff` crate. That crate opens only files
//! with pixels, so directories are read here.

use std::collections::BTreeMap;
use std::io::{Cursor, Seek, Write};

use tiff::TiffResult;
use tiff::encoder::{DirectoryEncoder, TiffEncoder, TiffKindStandard};
use tiff::tags::{Tag, Type};

use super::Resolution;
use super::bounds::METADATA;

/// A tag's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    kind: Type,
    /// In the machine's byte order.
    bytes: Vec<u8>,
    /// Where it lay in its file.
    at: usize,
}

/// One directory.
pub(super) type Directory = BTreeMap<u16, Value>;

/// The writer of a directory.
pub(super) type Encoder<'a, W> = DirectoryEncoder<'a, W, TiffKindStandard>;

impl Value {
    /// Bytes of kind `BYTE`, as XMP is.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::of(Type::BYTE, bytes.to_vec())
    }

    /// Bytes of kind `UNDEFINED`, as a colour profile is.
    pub fn undefined(bytes: &[u8]) -> Self {
        Self::of(Type::UNDEFINED, bytes.to_vec())
    }

    pub fn text(text: &str) -> Self {
        Self::of(Type::ASCII, [text.as_bytes(), b"\0"].concat())
    }

    pub fn shorts(values: &[u16]) -> Self {
        let bytes = values.iter().flat_map(|x| x.to_ne_bytes());
        Self::of(Type::SHORT, bytes.collect())
    }

    pub fn longs(values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|x| x.to_ne_bytes());
        Self::of(Type::LONG, bytes.collect())
    }

    fn ratio(value: f64) -> Self {
        let of = if value.fract() == 0.0 { 1 } else { 10_000 };
        let number = (value * f64::from(of)).round() as u32;
        let bytes = [number.to_ne_bytes(), u32::to_ne_bytes(of)].concat();
        Self::of(Type::RATIONAL, bytes)
    }

    fn of(kind: Type, bytes: Vec<u8>) -> Self {
        Value { kind, bytes, at: 0 }
    }

    /// Its bytes, where it has numbers of one byte.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        (width(self.kind) == 1).then_some(self.bytes)
    }

    /// Its bytes as they are in the file that it was read from.
    pub fn into_raw(self, file: &[u8]) -> Vec<u8> {
        let bytes = file.get(self.at..self.at + self.bytes.len());
        bytes.unwrap_or_default().to_vec()
    }

    /// Its whole numbers and fractions.
    pub fn numbers(&self) -> Vec<f64> {
        let bytes = &self.bytes;
        let u32s = || bytes.as_chunks().0.iter().map(|&x| u32::from_ne_bytes(x));
        match self.kind {
            Type::BYTE | Type::UNDEFINED => bytes.iter().map(|&x| x.into()).collect(),
            Type::SHORT => {
                let values = bytes.as_chunks().0.iter();
                values.map(|&x| u16::from_ne_bytes(x).into()).collect()
            }
            Type::LONG | Type::IFD => u32s().map(f64::from).collect(),
            Type::RATIONAL => {
                let parts: Vec<_> = u32s().map(f64::from).collect();
                parts.as_chunks().0.iter().map(|[a, b]| a / b).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Bytes of a number.
fn width(kind: Type) -> usize {
    match kind {
        Type::BYTE | Type::SBYTE | Type::ASCII | Type::UNDEFINED => 1,
        Type::SHORT | Type::SSHORT => 2,
        Type::LONG | Type::SLONG | Type::FLOAT | Type::IFD => 4,
        _ => 8,
    }
}

/// What a TIFF has behind its colours: 1 for alpha that these were multiplied with, 2 for other alpha.
pub(super) const EXTRA_SAMPLES: u16 = 338;
/// XMP.
pub(super) const XMP: u16 = 700;
/// IPTC.
pub(super) const IPTC: u16 = 33723;
/// A colour profile.
pub(super) const ICC: u16 = 34675;
/// What a picture shows, in words.
const DESCRIPTION: u16 = 270;
const ORIENTATION: u16 = 274;
const RESOLUTION: [u16; 2] = [282, 283];
const RESOLUTION_UNIT: u16 = 296;
const EXIF: u16 = 34665;
const GPS: u16 = 34853;
const INTEROPERABILITY: u16 = 40965;
const COLOR_SPACE: u16 = 40961;
const SIDES: [u16; 2] = [40962, 40963];
const MAKER_NOTE: u16 = 37500;
/// A maker's note that begins later than this loses its place.
const NOTE_MOST: usize = 1 << 16;
/// What describes a picture rather than how its file is built: its name, text, camera, software, date, author, rights,
/// and what Windows adds.
const DESCRIPTIVE: [u16; 15] = [
    269,
    DESCRIPTION,
    271,
    272,
    305,
    306,
    315,
    316,
    18246,
    18249,
    33432,
    40091,
    40092,
    40093,
    40094,
];
/// Tags below this number, and these, say how a file is built: they hold for no other one.
const BASELINE: u16 = 1000;
const STRUCTURE: [u16; 5] = [IPTC, ICC, EXIF, GPS, 34377];

/// What EXIF says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exif {
    pub main: Directory,
    camera: Directory,
    place: Directory,
    /// Whether its colours are Adobe RGB's, as cameras say it without a profile.
    pub is_adobe_rgb: bool,
}

impl Exif {
    /// Of an EXIF block or of a TIFF file, which begin alike. Without thumbnails, with the orientation reset, and
    /// without a resolution, which [`resolution`](Self::resolution) reads. `None` where there is nothing, or nothing
    /// that can be read.
    pub fn read(bytes: &[u8]) -> Option<Exif> {
        let mut reader = Reader::new(bytes)?;
        let (mut main, _) = reader.first()?;
        let mut below = |directory: &Directory, tag| {
            let at = directory.get(&tag).and_then(|value| value.numbers().pop());
            at.and_then(|at| Some(reader.directory(at as usize)?.0))
                .unwrap_or_default()
        };
        let (mut camera, place) = (below(&main, EXIF), below(&main, GPS));
        let interoperability = below(&camera, INTEROPERABILITY);
        camera.remove(&INTEROPERABILITY);
        let has_pixels = main.contains_key(&256) && main.contains_key(&262);
        main.retain(|tag, _| {
            let foreign = *tag >= BASELINE && !STRUCTURE.contains(tag) && !has_pixels;
            DESCRIPTIVE.contains(tag) || foreign
        });
        if main.is_empty() && camera.is_empty() && place.is_empty() {
            return None;
        }
        main.insert(ORIENTATION, Value::shorts(&[1]));
        let number = |tag| camera.get(&tag)?.numbers().pop();
        let r03 = interoperability.get(&1);
        let r03 = r03.is_some_and(|index| index.bytes.starts_with(b"R03"));
        let is_adobe_rgb = match number(COLOR_SPACE) {
            Some(2.0) => true,
            Some(65535.0) => r03,
            _ => false,
        };
        Some(Exif {
            main,
            camera,
            place,
            is_adobe_rgb,
        })
    }

    /// The resolution that an EXIF block or a TIFF file states.
    pub fn resolution(bytes: &[u8]) -> Option<Resolution> {
        let (main, _) = Reader::new(bytes)?.first()?;
        let number = |tag| main.get(&tag)?.numbers().first().copied();
        let unit = match number(RESOLUTION_UNIT).unwrap_or(2.0) {
            2.0 => 1.0,
            3.0 => 2.54,
            _ => return None,
        };
        let [x, y] = RESOLUTION.map(number);
        Resolution::of(x? * unit, y? * unit)
    }

    /// Where it was taken is left out.
    pub fn strip_place(&mut self) {
        self.place.clear();
    }

    /// States the size and resolution of the picture that it describes from now on.
    pub fn describe(&mut self, (height, width): (usize, usize), resolution: Option<Resolution>) {
        for (tag, side) in SIDES.into_iter().zip([width, height]) {
            if let Some(value) = self.camera.get_mut(&tag) {
                *value = Value::longs(&[side as u32]);
            }
        }
        if let Some(Resolution { x, y }) = resolution {
            let values = RESOLUTION.into_iter().zip([x, y].map(Value::ratio));
            self.main.extend(values);
            self.main.insert(RESOLUTION_UNIT, Value::shorts(&[2]));
        }
    }

    /// Says what the picture shows, where nothing does yet.
    pub fn comment(&mut self, text: &str) {
        let told = self.main.entry(DESCRIPTION);
        told.or_insert_with(|| Value::text(text));
    }

    /// As an EXIF block.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        let mut file = TiffEncoder::new(&mut bytes).ok()?;
        let below = self.write_below(&mut file).ok()?;
        let mut directory = file.image_directory().ok()?;
        put(&mut directory, self.main.iter().chain(&below)).ok()?;
        directory.finish().ok()?;
        Some(bytes.into_inner())
    }

    /// Writes the directories below the main one, and returns the tags that lead to them. The maker's note, which may
    /// point into the file, comes where it was.
    pub fn write_below<W: Write + Seek>(&self, file: &mut TiffEncoder<W>) -> TiffResult<Directory> {
        let mut below = Directory::new();
        for (tag, tags) in [(EXIF, &self.camera), (GPS, &self.place)] {
            if tags.is_empty() {
                continue;
            }
            let mut directory = file.extra_directory()?;
            let (note, others): (Vec<_>, Vec<_>) =
                tags.iter().partition(|(tag, _)| **tag == MAKER_NOTE);
            if let Some((_, note)) = note.first().filter(|(_, note)| note.at < NOTE_MOST) {
                let before = vec![0_u8; note.at.saturating_sub(8)];
                directory.write_data(&before[..])?;
            }
            put(&mut directory, note.into_iter().chain(others))?;
            let at = directory.finish_with_offsets()?.offset;
            below.insert(tag, Value::longs(&[at]));
        }
        Ok(below)
    }
}

/// Puts tags into a directory.
pub(super) fn put<'a, W: Write + Seek>(
    directory: &mut Encoder<'_, W>,
    tags: impl IntoIterator<Item = (&'a u16, &'a Value)>,
) -> TiffResult<()> {
    for (tag, value) in tags {
        let entry = directory.write_entry_bytes(value.kind, &value.bytes)?;
        let entry = [(Tag::from_u16_exhaustive(*tag), entry)];
        directory.extend_from(&entry.into_iter().collect());
    }
    Ok(())
}

/// Reads directories, of BigTIFF as well, whatever the file says, without holding more than its length.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Whether offsets have 8 bytes.
    wide: bool,
    /// How much is still taken: what lies in several values at once would be copied as often.
    left: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (big_endian, wide) = match bytes.first_chunk()? {
            b"II*\0" => (false, false),
            b"MM\0*" => (true, false),
            b"II+\0" => (false, true),
            b"MM\0+" => (true, true),
            _ => return None,
        };
        let left = bytes.len().min(METADATA);
        Some(Reader {
            bytes,
            big_endian,
            wide,
            left,
        })
    }

    /// The first directory, and where the next one is.
    pub fn first(&mut self) -> Option<(Directory, Option<usize>)> {
        let at = self.offset(if self.wide { 8 } else { 4 })?;
        self.directory(at)
    }

    /// The directory at `at`, and where the next one is.
    pub fn directory(&mut self, at: usize) -> Option<(Directory, Option<usize>)> {
        let (head, entry) = if self.wide { (8, 20) } else { (2, 12) };
        let count = self.number(at, head)?;
        let entries = at.checked_add(head)?;
        let fit = self.bytes.len().saturating_sub(entries) / entry;
        let count = count.min(fit).min(1 << 16);
        let next = self
            .offset(entries + entry * count)
            .filter(|&next| next > 0);
        let tags = (0..count).map(|i| entries + entry * i);
        // An entry that leads nowhere is left out.
        Some((tags.filter_map(|at| self.entry(at)).collect(), next))
    }

    /// Where the value of `tag` lies in the first directory, where it fits into its entry.
    pub fn place_of(&self, tag: u16) -> Option<usize> {
        let at = self.offset(if self.wide { 8 } else { 4 })?;
        let (head, entry, value) = if self.wide { (8, 20, 12) } else { (2, 12, 8) };
        let places = (0..self.number(at, head)?).map(|i| at + head + entry * i);
        let mut places = places.take_while(|&at| at < self.bytes.len());
        places
            .find(|&at| self.number(at, 2) == Some(tag.into()))
            .map(|at| at + value)
    }

    fn number(&self, at: usize, length: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let number = match self.big_endian {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        };
        usize::try_from(number).ok()
    }

    fn offset(&self, at: usize) -> Option<usize> {
        self.number(at, if self.wide { 8 } else { 4 })
    }

    fn entry(&mut self, at: usize) -> Option<(u16, Value)> {
        let room = if self.wide { 8 } else { 4 };
        let tag = self.number(at, 2)? as u16;
        let kind = Type::from_u16(self.number(at + 2, 2)? as u16)?;
        let length = self.number(at + 4, room)?.checked_mul(width(kind))?;
        let from = match length <= room {
            true => at + 4 + room,
            false => self.offset(at + 4 + room)?,
        };
        let bytes = self.bytes.get(from..from.checked_add(length)?)?;
        self.left = self.left.checked_sub(length)?;
        let mut bytes = bytes.to_vec();
        if self.big_endian != cfg!(target_endian = "big") {
            // The two halves of a fraction are separate.
            let whole = match kind {
                Type::RATIONAL | Type::SRATIONAL => 4,
                _ => width(kind),
            };
            bytes.chunks_mut(whole).for_each(<[u8]>::reverse);
        }
        Some((
            tag,
            Value {
                kind,
                bytes,
                at: from,
            },
        ))
    }
}

#[cfg(test)]
mod tests;
