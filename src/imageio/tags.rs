//! The tags of TIFF files, which are those of EXIF: a file's directories read, picked over, and laid out again.

use std::collections::BTreeMap;

use super::bounds::METADATA;

/// A tag's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    kind: u16,
    count: u32,
    /// In little-endian order.
    bytes: Vec<u8>,
}

/// One directory.
pub(super) type Directory = BTreeMap<u16, Value>;

/// Bytes per number of each kind, from 1 on, and bytes of what is in one order within a number: the two halves of a
/// fraction are separate.
const KINDS: [(usize, usize); 12] = [
    (1, 1),
    (1, 1),
    (2, 2),
    (4, 4),
    (8, 4),
    (1, 1),
    (1, 1),
    (2, 2),
    (4, 4),
    (8, 4),
    (4, 4),
    (8, 8),
];
const SHORT: u16 = 3;
const LONG: u16 = 4;

impl Value {
    /// Bytes of kind `BYTE`, as XMP is.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::raw(1, bytes)
    }

    /// Bytes of kind `UNDEFINED`, as a colour profile is.
    pub fn undefined(bytes: &[u8]) -> Self {
        Self::raw(7, bytes)
    }

    pub fn shorts(values: &[u16]) -> Self {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self::of(SHORT, values.len(), bytes)
    }

    pub fn longs(values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self::of(LONG, values.len(), bytes)
    }

    fn raw(kind: u16, bytes: &[u8]) -> Self {
        Self::of(kind, bytes.len(), bytes.to_vec())
    }

    fn of(kind: u16, count: usize, bytes: Vec<u8>) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Value { kind, count, bytes }
    }

    fn padded(&self) -> usize {
        match self.bytes.len() {
            0..=4 => 0,
            long => long.next_multiple_of(2),
        }
    }
}

/// What a TIFF's directory is for; its lowest bit says that it is a smaller copy.
const SUBFILE_KIND: u16 = 254;
/// What a TIFF has behind its colours: 1 for alpha that these were multiplied with, 2 for other alpha.
pub(super) const EXTRA_SAMPLES: u16 = 338;
/// XMP.
pub(super) const XMP: u16 = 700;
/// A colour profile.
pub(super) const ICC: u16 = 34675;
const ORIENTATION: u16 = 274;
const EXIF: u16 = 34665;
const GPS: u16 = 34853;
const INTEROPERABILITY: u16 = 40965;
/// What describes a picture rather than how its file is built: its name, text, camera, software, date, author, rights,
/// and what Windows adds. Not its resolution: a result has more pixels.
const DESCRIPTIVE: [u16; 15] = [
    269, 270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094,
];

/// What EXIF says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exif {
    pub main: Directory,
    camera: Directory,
    place: Directory,
}

impl Exif {
    /// Of an EXIF block or of a TIFF file, which begin alike. Without thumbnails, and with the orientation reset.
    /// `None` where there is nothing, or nothing that can be read.
    pub fn read(bytes: &[u8]) -> Option<Exif> {
        let mut reader = Reader::new(bytes)?;
        let main = reader.directory(reader.u32(4)?)?;
        let mut below = |tag| {
            let at = main.get(&tag).and_then(|value| value.bytes.first_chunk());
            at.and_then(|at| reader.directory(u32::from_le_bytes(*at)))
                .unwrap_or_default()
        };
        let (mut camera, place) = (below(EXIF), below(GPS));
        camera.remove(&INTEROPERABILITY);
        let mut main = main;
        main.retain(|tag, _| DESCRIPTIVE.contains(tag));
        if main.is_empty() && camera.is_empty() && place.is_empty() {
            return None;
        }
        main.insert(ORIENTATION, Value::shorts(&[1]));
        Some(Exif {
            main,
            camera,
            place,
        })
    }

    /// The bytes of a tag in the main directory of a TIFF file, such as [`ICC`] and [`XMP`].
    pub fn bytes_in(file: &[u8], tag: u16) -> Option<Vec<u8>> {
        let mut reader = Reader::new(file)?;
        let value = reader.directory(reader.u32(4)?)?.remove(&tag)?;
        // Numbers of one byte each.
        let (width, _) = KINDS.get(usize::from(value.kind).checked_sub(1)?)?;
        (*width == 1).then_some(value.bytes)
    }

    /// Whether a TIFF file's colours have been multiplied with its alpha.
    pub fn is_multiplied(file: &[u8]) -> bool {
        let value = || {
            let mut reader = Reader::new(file)?;
            reader.directory(reader.u32(4)?)?.remove(&EXTRA_SAMPLES)
        };
        value().is_some_and(|value| value.bytes.first() == Some(&1))
    }

    /// Whether a TIFF file has another picture behind the first one; a smaller copy of it does not count.
    pub fn another_follows(file: &[u8]) -> bool {
        let next = || {
            let reader = Reader::new(file)?;
            let first = reader.u32(4)? as usize;
            let entries = usize::from(reader.u16(first)?);
            match reader.u32(first + 2 + 12 * entries)? {
                0 => None,
                next => Some(next),
            }
        };
        let Some(next) = next() else {
            return false;
        };
        let directory = Reader::new(file).and_then(|mut reader| reader.directory(next));
        directory.is_some_and(|directory| {
            let kind = directory.get(&SUBFILE_KIND);
            kind.is_none_or(|kind| kind.bytes.first().is_none_or(|bits| bits & 1 == 0))
        })
    }

    /// As an EXIF block.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend(self.layout(8));
        bytes
    }

    /// Bytes that [`layout`](Self::layout) takes.
    pub fn size(&self) -> usize {
        let below = self.below().map(|(_, directory)| size(directory, 0));
        let below = below.collect::<Vec<_>>();
        size(&self.main, below.len()) + below.iter().sum::<usize>()
    }

    /// The directories, the main one first, as they are from byte `at` of a file on.
    pub fn layout(&self, at: usize) -> Vec<u8> {
        let below: Vec<_> = self.below().collect();
        let mut next = at + size(&self.main, below.len());
        let mut main = self.main.clone();
        let mut tail = Vec::new();
        for (tag, directory) in below {
            main.insert(
                tag,
                Value::longs(&[u32::try_from(next).unwrap_or(u32::MAX)]),
            );
            write(directory, next, &mut tail);
            next += size(directory, 0);
        }
        let mut bytes = Vec::new();
        write(&main, at, &mut bytes);
        bytes.extend(tail);
        bytes
    }

    fn below(&self) -> impl Iterator<Item = (u16, &Directory)> {
        let all = [(EXIF, &self.camera), (GPS, &self.place)];
        all.into_iter()
            .filter(|(_, directory)| !directory.is_empty())
    }
}

/// Bytes of a directory that `more` tags of one number are still to be put into.
fn size(directory: &Directory, more: usize) -> usize {
    let values: usize = directory.values().map(Value::padded).sum();
    2 + 12 * (directory.len() + more) + 4 + values
}

fn write(directory: &Directory, at: usize, bytes: &mut Vec<u8>) {
    let mut place = at + 2 + 12 * directory.len() + 4;
    let mut tail = Vec::new();
    bytes.extend((directory.len() as u16).to_le_bytes());
    for (tag, value) in directory {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(value.kind.to_le_bytes());
        bytes.extend(value.count.to_le_bytes());
        if value.padded() == 0 {
            let mut inline = value.bytes.clone();
            inline.resize(4, 0);
            bytes.extend(inline);
        } else {
            bytes.extend(u32::try_from(place).unwrap_or(u32::MAX).to_le_bytes());
            tail.extend(&value.bytes);
            tail.resize(tail.len().next_multiple_of(2), 0);
            place += value.padded();
        }
    }
    // No further directory.
    bytes.extend([0; 4]);
    bytes.extend(tail);
}

/// Reads directories, whatever the file says, without holding more than its length.
struct Reader<'a> {
    bytes: &'a [u8],
    big: bool,
    /// How much is still taken: what lies in several values at once would be copied as often.
    left: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let big = match bytes.first_chunk()? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        let left = bytes.len().min(METADATA);
        Some(Reader { bytes, big, left })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.big {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }

    fn directory(&mut self, at: u32) -> Option<Directory> {
        let at = at as usize;
        let count = usize::from(self.u16(at)?);
        let entries = (0..count).map(|i| at + 2 + 12 * i);
        // An entry that leads nowhere is left out.
        Some(entries.filter_map(|at| self.entry(at)).collect())
    }

    fn entry(&mut self, at: usize) -> Option<(u16, Value)> {
        let (tag, kind, count) = (self.u16(at)?, self.u16(at + 2)?, self.u32(at + 4)?);
        let (width, ordered) = *KINDS.get(usize::from(kind).checked_sub(1)?)?;
        let length = width.checked_mul(count as usize)?;
        let from = match length {
            0..=4 => at + 8,
            _ => self.u32(at + 8)? as usize,
        };
        let mut bytes = self.bytes.get(from..from.checked_add(length)?)?.to_vec();
        self.left = self.left.checked_sub(length)?;
        if self.big {
            bytes.chunks_mut(ordered).for_each(<[u8]>::reverse);
        }
        Some((tag, Value { kind, count, bytes }))
    }
}

#[cfg(test)]
mod tests;
