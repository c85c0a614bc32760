//! Rows as a file has them.

use super::Alpha;
use super::pixels::{BitDepth, Order, Pixels, Sample};
use super::profile::Conversion;
use crate::error::{Error, Result};

/// A result row by row, in the colours, channels and depth of its file.
pub(super) struct Rows<'a> {
    pixels: &'a Pixels,
    channels: Channels<'a>,
    depth: RowDepth,
}

/// What a pixel of a file consists of.
#[derive(Clone, Copy)]
pub(super) struct Channels<'a> {
    /// One luma in place of three colours.
    pub grey: bool,
    /// How opaque each pixel is, where the file says so.
    pub alpha: Option<&'a Alpha>,
    /// How opaque each pixel is before this colour, where the file does not.
    pub over: Option<(&'a Alpha, [u8; 3])>,
}

/// A file's depth, with the way into its profile.
enum RowDepth {
    Eight(Option<Conversion<u8>>),
    Sixteen(Option<Conversion<u16>>),
}

impl<'a> Rows<'a> {
    /// `pixels` with `channels` in 16 bits or 8, and in the colours of `icc` where there is one.
    ///
    /// # Errors
    /// [`Input`](crate::error::ErrorKind::Input): a profile that cannot be used.
    pub fn new(
        pixels: &'a Pixels,
        channels: Channels<'a>,
        depth: BitDepth,
        icc: Option<&[u8]>,
    ) -> Result<Self> {
        let depth = match depth {
            BitDepth::Sixteen => RowDepth::Sixteen(icc.map_or(Ok(None), Conversion::from_srgb)?),
            BitDepth::Eight => RowDepth::Eight(icc.map_or(Ok(None), Conversion::from_srgb)?),
        };
        Ok(Rows {
            pixels,
            channels,
            depth,
        })
    }

    pub fn height(&self) -> usize {
        self.pixels.size().0
    }

    pub fn width(&self) -> usize {
        self.pixels.size().1
    }

    pub fn grey(&self) -> bool {
        self.channels.grey
    }

    pub fn alpha(&self) -> bool {
        self.channels.alpha.is_some()
    }

    pub fn depth(&self) -> BitDepth {
        match self.depth {
            RowDepth::Eight(_) => BitDepth::Eight,
            RowDepth::Sixteen(_) => BitDepth::Sixteen,
        }
    }

    /// Numbers per pixel.
    pub fn samples(&self) -> usize {
        let colors = if self.grey() { 1 } else { 3 };
        colors + usize::from(self.alpha())
    }

    /// Bytes per row.
    pub fn row_bytes(&self) -> usize {
        self.width() * self.samples() * self.depth().bytes()
    }

    /// Appends the bytes of row `y`.
    ///
    /// # Errors
    /// [`Internal`](crate::error::ErrorKind::Internal) only.
    pub fn append(&self, y: usize, order: Order, bytes: &mut Vec<u8>) -> Result<()> {
        match &self.depth {
            RowDepth::Eight(conversion) => self.interleave(y, conversion.as_ref(), order, bytes),
            RowDepth::Sixteen(conversion) => self.interleave(y, conversion.as_ref(), order, bytes),
        }
    }

    fn interleave<T: Sample>(
        &self,
        y: usize,
        conversion: Option<&Conversion<T>>,
        order: Order,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let mut colors: Vec<T> = self.pixels.row(y);
        if let Some((alpha, behind)) = self.channels.over {
            let (pixels, _) = colors.as_chunks_mut::<3>();
            for (color, alpha) in pixels.iter_mut().zip(alpha.row(y)) {
                for (value, behind) in color.iter_mut().zip(behind) {
                    *value = value.over(*alpha, T::of(behind));
                }
            }
        }
        if let Some(conversion) = conversion {
            colors = conversion.apply(&colors)?;
        }
        for (x, color) in colors.as_chunks::<3>().0.iter().enumerate() {
            match self.channels.grey {
                true => T::luma(*color).put(order, bytes),
                false => color.iter().for_each(|value| value.put(order, bytes)),
            }
            if let Some(alpha) = self.channels.alpha {
                let alpha = alpha.get((y, x)).ok_or_else(|| {
                    Error::internal("the transparency has another size than the colours")
                })?;
                T::of(*alpha).put(order, bytes);
            }
        }
        Ok(())
    }
}
