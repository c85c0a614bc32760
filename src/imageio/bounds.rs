//! How much a picture's file may take before it is known to be honest.

#[cfg(feature = "jxl")]
use std::io::Read;

#[cfg(feature = "jxl")]
use brotli_decompressor::Decompressor;

use super::{DecodeOptions, Format};
use crate::error::{Error, Result};

/// Bytes of one picture's metadata (profile, EXIF, XMP), unpacked. Readers hold them twice at most.
pub(crate) const METADATA: usize = 16 << 20;
/// Chunks or boxes that are not pixels.
const CHUNKS: usize = 10_000;
/// Scans of a JPEG. libjpeg-turbo's own programs suggest this many (`-maxscans`); encoders write about ten.
pub(super) const SCANS: usize = 500;
/// Frames of a JPEG XL, whose layers are laid over one another.
#[cfg(feature = "jxl")]
pub(super) const FRAMES: usize = 256;
/// Bytes of a decoded pixel: four channels of 16 bits.
const PIXEL: u64 = 8;

impl DecodeOptions {
    /// Bytes that a decoded picture takes at most.
    fn decoded_bytes(self) -> u64 {
        self.max_pixels.saturating_mul(PIXEL)
    }

    /// Bytes that a file has at most.
    pub(crate) fn file_bytes(self) -> u64 {
        self.decoded_bytes().saturating_add(METADATA as u64)
    }

    /// Bytes that a decoder allocates at most, its result among them.
    pub(crate) fn decoder_bytes(self) -> u64 {
        let twice = self.decoded_bytes().saturating_mul(2);
        twice.saturating_add(256 << 20)
    }

    /// Checks the sides that a file's headers name, before anything of that size is allocated.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): no pixels, or more than allowed.
    pub(crate) fn check_size(self, (width, height): (u32, u32)) -> Result<()> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(Error::input(format!(
                "{width}x{height} is {pixels} pixels, more than the limit of {} (raise it with --max-pixels)",
                self.max_pixels
            )));
        }
        if pixels == 0 {
            return Err(Error::input(format!(
                "{width}x{height}: a picture without pixels"
            )));
        }
        Ok(())
    }

    /// Checks what the decoded picture takes: floats take more than [`PIXEL`].
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input).
    pub(super) fn check_bytes(self, bytes: u64) -> Result<()> {
        if bytes > self.decoded_bytes() {
            return Err(Error::input(format!(
                "its pixels take {bytes} bytes, more than {} pixels of 16 bits (raise the limit with --max-pixels)",
                self.max_pixels
            )));
        }
        Ok(())
    }
}

pub(super) fn with_room<T>(length: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let room = values.try_reserve_exact(length);
    room.map_err(|e| Error::input("there is no memory for its pixels").with_source(e))?;
    Ok(values)
}

/// Where a file's metadata is too long.
pub(super) fn too_much(what: &str) -> Error {
    Error::input(format!(
        "its {what} takes more than {} MiB: remove it from the file",
        METADATA >> 20
    ))
}

/// `packed` by brotli, unpacked.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): more than [`METADATA`] bytes, or damage.
#[cfg(feature = "jxl")]
pub(super) fn unpacked(what: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let damaged = |e| Error::input(format!("its {what} is damaged")).with_source(e);
    let mut bytes = Vec::new();
    // A vector that grows holds its bytes twice.
    let room = bytes.try_reserve_exact(METADATA);
    room.map_err(|e| Error::input(format!("no memory for its {what}")).with_source(e))?;
    let mut source = Decompressor::new(packed, 4096).take(METADATA as u64);
    source.read_to_end(&mut bytes).map_err(damaged)?;
    match source.into_inner().read(&mut [0]).map_err(damaged)? {
        0 => Ok(bytes),
        _ => Err(too_much(what)),
    }
}

/// Most numbers of a tag that a TIFF's decoder reads, which holds each in 32 bytes: strips of one row in a picture of this
/// many rows.
const NUMBERS: u64 = 1 << 20;

/// Checks that the tags that say how a TIFF's pixels lie are in the file: its decoder makes room for what they claim.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input), naming the tag.
pub(super) fn check_tags(file: &[u8]) -> Result<()> {
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at.checked_add(size)?)?.iter();
        let join = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(match file.starts_with(b"MM") {
            true => bytes.fold(0, join),
            false => bytes.rev().fold(0, join),
        })
    };
    // BigTIFF counts and points with 8 bytes.
    let (first, word, head, step) = match number(2, 2) {
        Some(43) => (8, 8, 8, 20),
        _ => (4, 4, 2, 12),
    };
    let directory = number(first, word).and_then(|at| usize::try_from(at).ok());
    let directory = directory
        .filter(|at| *at < file.len())
        .unwrap_or(file.len());
    for entry in 0..number(directory, head).unwrap_or(0) as usize {
        let at = directory + head + step * entry;
        let Some(((tag, kind), count)) = number(at, 2)
            .zip(number(at + 2, 2))
            .zip(number(at + 4, word))
        else {
            break;
        };
        let width = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            _ => 8,
        };
        let is_read = matches!(tag, 254..=262 | 266 | 273..=284 | 317..=347 | 34675);
        let is_long = width > 1 && count > NUMBERS;
        if is_read && (is_long || count.saturating_mul(width) > file.len() as u64) {
            return Err(Error::input(format!(
                "damaged picture: its tag {tag} is to have {count} values"
            )));
        }
    }
    Ok(())
}

/// A PNG's chunk, a RIFF's chunk or a box.
pub(super) struct Chunk<'a> {
    pub kind: [u8; 4],
    pub data: &'a [u8],
    /// With what is before and behind its data.
    pub whole: &'a [u8],
}

impl Chunk<'_> {
    /// Bytes of it that a reader keeps.
    pub fn metadata(&self) -> usize {
        match &self.kind {
            b"VP8 " | b"VP8L" | b"ALPH" | b"ANMF" | b"IDAT" | b"fdAT" => 0,
            _ => self.data.len(),
        }
    }
}

/// Walks over the chunks of a file without unpacking any.
///
/// # Errors
/// [`Input`](crate::error::ErrorKind::Input): a chunk that says it is longer than the file, or too many of them.
pub(super) struct Chunks<'a> {
    bytes: &'a [u8],
    header: fn(&[u8]) -> Option<Header>,
    pixels: &'static [&'static [u8; 4]],
    counted: usize,
}

/// What stands before a chunk's data: the bytes of all that, of the data (`None`: all that is left), and behind them.
struct Header {
    kind: [u8; 4],
    before: usize,
    data: Option<u64>,
    behind: usize,
}

impl<'a> Chunks<'a> {
    /// Those of a PNG or of a WebP; none of other kinds.
    pub fn of(format: Format, bytes: &'a [u8]) -> Self {
        match format {
            Format::Png => Self::new(bytes.get(8..), png, &[b"IDAT", b"fdAT", b"fcTL"]),
            Format::Webp => {
                let size = bytes.get(4..).and_then(<[u8]>::first_chunk);
                let size = size.map_or(0, |size| u32::from_le_bytes(*size) as usize);
                let end = bytes.len().min(size.saturating_add(8));
                Self::new(bytes.get(12..end), riff, &[])
            }
            _ => Self::new(None, riff, &[]),
        }
    }

    /// The boxes of a container in JPEG XL.
    #[cfg(feature = "jxl")]
    pub fn boxes(bytes: &'a [u8]) -> Self {
        Self::new(Some(bytes), iso, &[b"jxlp"])
    }

    fn new(
        bytes: Option<&'a [u8]>,
        header: fn(&[u8]) -> Option<Header>,
        pixels: &'static [&'static [u8; 4]],
    ) -> Self {
        Chunks {
            bytes: bytes.unwrap_or_default(),
            header,
            pixels,
            counted: 0,
        }
    }

    fn chunk(&mut self) -> Option<Result<Chunk<'a>>> {
        let header = (self.header)(self.bytes)?;
        self.counted += usize::from(!self.pixels.contains(&&header.kind));
        if self.counted > CHUNKS {
            return Some(Err(Error::input(format!(
                "more than {CHUNKS} chunks of metadata: damaged, or made to take memory"
            ))));
        }
        let rest = self.bytes.get(header.before..).unwrap_or_default();
        let length = header.data.unwrap_or(rest.len() as u64);
        let split = usize::try_from(length).ok();
        let Some((data, rest)) = split.and_then(|at| rest.split_at_checked(at)) else {
            return Some(Err(Error::input(format!(
                "damaged picture: its chunk {} is to have {length} bytes, of which {} are there",
                header.kind.escape_ascii(),
                rest.len()
            ))));
        };
        let (bytes, kind) = (self.bytes, header.kind);
        self.bytes = rest.get(header.behind..).unwrap_or_default();
        let whole = bytes.get(..bytes.len() - self.bytes.len());
        let whole = whole.unwrap_or_default();
        Some(Ok(Chunk { kind, data, whole }))
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.chunk();
        if !matches!(chunk, Some(Ok(_))) {
            self.bytes = &[];
        }
        chunk
    }
}

fn png(bytes: &[u8]) -> Option<Header> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some(Header {
        kind: *rest.first_chunk()?,
        before: 8,
        data: Some(u32::from_be_bytes(*length).into()),
        behind: 4,
    })
}

fn riff(bytes: &[u8]) -> Option<Header> {
    let (kind, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    Some(Header {
        kind: *kind,
        before: 8,
        data: Some(length.into()),
        behind: length as usize % 2,
    })
}

#[cfg(feature = "jxl")]
fn iso(bytes: &[u8]) -> Option<Header> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (before, data) = match u32::from_be_bytes(*length) {
        0 => (8, None),
        1 => (
            16,
            Some(u64::from_be_bytes(*rest.first_chunk()?).saturating_sub(16)),
        ),
        length => (8, Some(u64::from(length).saturating_sub(8))),
    };
    Some(Header {
        kind: *kind,
        before,
        data,
        behind: 0,
    })
}
