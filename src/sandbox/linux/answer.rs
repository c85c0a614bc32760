//! A child's answer: eight bytes, a head in JSON, then the bytes that the head announces.

use std::io::{self, Write};

use bytemuck::{cast_slice, cast_slice_mut};
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::imageio::{
    BitDepth, DROPPED, DecodeOptions, Format, Kept, METADATA, Picture, Pixels, Resolution,
};

/// Before the length of a head. No message of a dying process begins so.
pub const MAGIC: [u8; 4] = *b"\0dba";
/// Bytes of a head at most.
pub const HEAD: u32 = 1 << 16;
/// Characters of an error message at most.
const MESSAGE: usize = 8192;

/// What is known of an answer before its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub enum Head {
    /// Confined, with nothing else to do.
    Ready { landlock: bool },
    /// What a picture's headers say.
    Header {
        format: Format,
        height: u32,
        width: u32,
    },
    /// A picture, whose bytes follow.
    Picture(Box<Described>),
    /// The picture is refused.
    Refused { kind: String, message: String },
    /// There is no seccomp: the file was not looked at.
    Unprotected { why: String },
}

/// A picture without its bytes. These follow: colours, alpha, profile, EXIF, XMP, IPTC, texts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Described {
    height: u32,
    width: u32,
    /// Whether colours have 16 bits.
    sixteen: bool,
    format: Format,
    grey: bool,
    /// [`Kept::depth`]; 16 bits.
    kept_sixteen: bool,
    alpha: bool,
    icc: Option<usize>,
    exif: Option<usize>,
    xmp: Option<usize>,
    iptc: Option<usize>,
    /// The bytes of the texts, as JSON.
    text: usize,
    resolution: Option<(f64, f64)>,
    /// Places in [`DROPPED`].
    dropped: Vec<usize>,
}

/// A checked answer.
pub enum Answer {
    Plain(Head),
    Picture(Box<Picture>),
}

impl Head {
    /// The refusal `error`.
    pub fn refused(error: &Error) -> Self {
        Head::Refused {
            kind: error.kind().name().to_owned(),
            message: error.to_string().chars().take(MESSAGE).collect(),
        }
    }

    /// Writes the start of an answer.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let head = serde_json::to_vec(self)?;
        let length = head.len() as u32;
        to.write_all(&[MAGIC, length.to_le_bytes()].concat())?;
        to.write_all(&head)
    }
}

/// The error of a refusal. Only kinds that concern one picture are believed.
pub fn refusal(kind: &str, message: String) -> Error {
    let kinds = [ErrorKind::Resources, ErrorKind::Internal];
    let kind = kinds.into_iter().find(|known| known.name() == kind);
    let message: String = message.chars().take(MESSAGE).collect();
    Error::new(kind.unwrap_or(ErrorKind::Input), message)
}

/// Writes the answer `picture`.
pub fn write(picture: &Picture, to: &mut impl Write) -> io::Result<()> {
    let unknown = |what: &str| io::Error::other(format!("no place for {what}"));
    let place = |what: &&'static str| {
        let known = DROPPED.iter().position(|known| known == what);
        known.ok_or_else(|| unknown(what))
    };
    let (height, width) = picture.pixels.size();
    let (kept, length) = (&picture.kept, |bytes: &Vec<u8>| bytes.len());
    let text = serde_json::to_vec(&kept.text)?;
    Head::Picture(Box::new(Described {
        height: u32::try_from(height).map_err(io::Error::other)?,
        width: u32::try_from(width).map_err(io::Error::other)?,
        sixteen: picture.pixels.depth() == BitDepth::Sixteen,
        format: kept.format,
        grey: kept.grey,
        kept_sixteen: kept.depth == BitDepth::Sixteen,
        alpha: kept.alpha.is_some(),
        icc: kept.icc.as_ref().map(length),
        exif: kept.exif.as_ref().map(length),
        xmp: kept.xmp.as_ref().map(length),
        iptc: kept.iptc.as_ref().map(length),
        text: text.len(),
        resolution: kept
            .resolution
            .map(|resolution| (resolution.x, resolution.y)),
        dropped: picture
            .dropped
            .iter()
            .map(place)
            .collect::<Result<_, _>>()?,
    }))
    .write(to)?;
    match &picture.pixels {
        Pixels::U8(rgb) => to.write_all(rgb.as_standard_layout().as_slice().unwrap_or_default())?,
        Pixels::U16(rgb) => {
            let rgb = rgb.as_standard_layout();
            to.write_all(cast_slice(rgb.as_slice().unwrap_or_default()))?;
        }
    }
    if let Some(alpha) = &kept.alpha {
        let alpha = alpha.as_standard_layout();
        to.write_all(alpha.as_slice().unwrap_or_default())?;
    }
    let metadata = [&kept.icc, &kept.exif, &kept.xmp, &kept.iptc];
    let metadata = metadata.into_iter().flatten().chain([&text]);
    metadata
        .into_iter()
        .try_for_each(|bytes| to.write_all(bytes))
}

impl Described {
    /// Reads the picture's bytes by `fill`, once its sizes are known to be allowed.
    ///
    /// # Errors
    /// Those of `fill`; [`Input`](ErrorKind::Input): sizes that are not allowed.
    pub fn read(
        self,
        options: DecodeOptions,
        fill: &mut impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Picture> {
        options.check_size((self.width, self.height))?;
        let (height, width) = (self.height as usize, self.width as usize);
        let pixels = if self.sixteen {
            let mut colors = zeros::<u16>(height * width * 3)?;
            fill(cast_slice_mut(&mut colors))?;
            Pixels::U16(Array3::from_shape_vec((height, width, 3), colors).map_err(misshapen)?)
        } else {
            let mut colors = zeros(height * width * 3)?;
            fill(&mut colors)?;
            Pixels::U8(Array3::from_shape_vec((height, width, 3), colors).map_err(misshapen)?)
        };
        let mut filled = |length| -> Result<Vec<u8>> {
            let mut bytes = zeros(length)?;
            fill(&mut bytes)?;
            Ok(bytes)
        };
        let alpha = match self.alpha {
            true => Some(filled(height * width)?),
            false => None,
        };
        let alpha = alpha.map(|alpha| Array2::from_shape_vec((height, width), alpha));
        let mut metadata = |length: Option<usize>| match length {
            Some(length) if length > 2 * METADATA => Err(Error::input("its metadata is too long")),
            length => length.map(&mut filled).transpose(),
        };
        let known = |place: &usize| DROPPED.get(*place).copied();
        Ok(Picture {
            pixels,
            kept: Kept {
                format: self.format,
                grey: self.grey,
                depth: depth(self.kept_sixteen),
                alpha: alpha.transpose().map_err(misshapen)?,
                icc: metadata(self.icc)?,
                exif: metadata(self.exif)?,
                xmp: metadata(self.xmp)?,
                iptc: metadata(self.iptc)?,
                text: metadata(Some(self.text))?
                    .and_then(|text| serde_json::from_slice(&text).ok())
                    .unwrap_or_default(),
                resolution: self.resolution.and_then(|(x, y)| Resolution::of(x, y)),
            },
            dropped: self.dropped.iter().filter_map(known).collect(),
        })
    }
}

fn depth(sixteen: bool) -> BitDepth {
    match sixteen {
        true => BitDepth::Sixteen,
        false => BitDepth::Eight,
    }
}

fn zeros<T: Clone + Default>(length: usize) -> Result<Vec<T>> {
    let mut zeros = Vec::new();
    let room = zeros.try_reserve_exact(length);
    room.map_err(|e| {
        Error::new(ErrorKind::Resources, "no memory for the decoded picture").with_source(e)
    })?;
    zeros.resize(length, T::default());
    Ok(zeros)
}

fn misshapen(error: ndarray::ShapeError) -> Error {
    Error::internal("a decoded picture of another size").with_source(error)
}
