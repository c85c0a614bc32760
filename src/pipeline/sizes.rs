//! The sizes during a restoration, and their limit.

use crate::error::{Error, ErrorKind, Result};
use crate::nets::cleaner::CleanerSpec;
use crate::options::Target;
use crate::resize;

/// Maximum aspect ratio of the networks' input. More extreme pictures are padded by reflection: without that, bringing
/// the short edge to 512 pixels would enlarge the long edge without bound.
pub const MAX_ASPECT: usize = 8;

/// Maximum number of pixels of any picture during a restoration. A single 32-bit array of more pixels takes over 24
/// GiB; below the limit no product of sizes and costs overflows 64 bits.
pub const MAX_PIXELS: usize = 1 << 31;

/// The sizes (height, width) during a restoration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// First row and column of the part of the picture that is restored.
    pub origin: (usize, usize),
    /// Its size.
    pub part: (usize, usize),
    /// Of the stage-1 input, before it is resized for the network.
    pub input: (usize, usize),
    /// Of the restoration module's input.
    pub network: (usize, usize),
    /// Of the stage-1 picture, which conditions stage 2.
    pub cond: (usize, usize),
    /// Of the result.
    pub output: (usize, usize),
    /// Of the result with the padding that limits its aspect ratio to [`MAX_ASPECT`].
    pub padded_output: (usize, usize),
}

impl Sizes {
    /// The sizes for a picture of `lq` pixels.
    ///
    /// The part of it that `target` frames is enlarged before a restoration module that keeps the size; a module that upscales (BSRNet)
    /// receives it as it is. A short edge below `min_short_edge` is enlarged to it, before the module for
    /// SwinIR, after it for the others and for SwinIR in the reference's tiles.
    ///
    /// Source: `SwinIRPipeline`, `BSRNetPipeline` and `SCUNetPipeline`, diffbir/pipeline.py at 3f8b530.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if one of them has more than [`MAX_PIXELS`].
    pub(super) fn of(
        lq: (usize, usize),
        target: Target,
        spec: CleanerSpec,
        min_short_edge: usize,
        tiles_fit: impl Fn((usize, usize)) -> bool,
    ) -> Result<Self> {
        let lq = bounded("the picture", lq)?;
        let frame = target.frame(lq);
        let output = bounded("the result", frame.output)?;
        let unpadded = if spec.scale == 1 { output } else { frame.part };
        let input = bounded(
            "stage 1 with the padding of a strip",
            within_aspect(unpadded),
        )?;
        let padded_output = match spec.scale {
            1 => input,
            _ => bounded(
                "the result with the padding of a strip",
                frame.of_padded(input),
            )?,
        };
        let to_short_edge = |(h, w): (usize, usize)| match h.min(w) >= min_short_edge {
            true => (h, w),
            false => resize::short_edge_size(h, w, min_short_edge),
        };
        let network = match spec.enlarge_first && !tiles_fit(input) {
            true => to_short_edge(input),
            false => input,
        };
        let (height, width) = padded_output;
        let cond = match spec.scale > 1 && height.min(width) >= min_short_edge {
            true => padded_output,
            false => to_short_edge((network.0 * spec.scale, network.1 * spec.scale)),
        };
        Ok(Sizes {
            origin: frame.origin,
            part: frame.part,
            input,
            network: bounded("stage 1", network)?,
            cond: bounded("stage 2", cond)?,
            output,
            padded_output,
        })
    }
}

/// `size`, unless it has more than [`MAX_PIXELS`].
fn bounded(what: &str, (height, width): (usize, usize)) -> Result<(usize, usize)> {
    let pixels = height.checked_mul(width);
    if pixels.is_some_and(|pixels| pixels <= MAX_PIXELS) {
        return Ok((height, width));
    }
    Err(Error::new(
        ErrorKind::Resources,
        format!(
            "{what} would have {width}x{height} pixels, more than {MAX_PIXELS}: choose a smaller restore.upscale or size, or \
             restore the picture in pieces"
        ),
    ))
}

/// The smallest size that holds `(height, width)` with an aspect ratio of at most [`MAX_ASPECT`].
fn within_aspect((height, width): (usize, usize)) -> (usize, usize) {
    (
        height.max(width.div_ceil(MAX_ASPECT)),
        width.max(height.div_ceil(MAX_ASPECT)),
    )
}

/// Bytes of a block of picture rows that is processed at once outside of graphs.
const ROW_BLOCK: usize = 32 << 20;

/// Number of rows of a picture of `size` that are processed at once.
pub(super) fn rows_at_once((_, width): (usize, usize)) -> usize {
    (ROW_BLOCK / (12 * width.max(1))).max(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_are_padded_to_the_aspect_bound() {
        assert_eq!(within_aspect((1, 4000)), (500, 4000));
        assert_eq!(within_aspect((17, 2)), (17, 3));
        assert_eq!(within_aspect((100, 800)), (100, 800));
    }

    #[test]
    fn sizes_beyond_the_bound_are_refused() {
        let spec = |scale| CleanerSpec {
            multiple: 64,
            scale,
            enlarge_first: true,
        };
        for scale in [1, 4, 16] {
            let sizes =
                |lq, upscale| Sizes::of(lq, Target::Factor(upscale), spec(scale), 512, |_| false);
            for (lq, upscale) in [
                ((1, 10_000_000), 4.0),
                ((usize::MAX, 1), 1.0),
                ((usize::MAX, usize::MAX), 1000.0),
                ((16, 16), 1e300),
                ((1, 1 << 31), 1.0),
                ((32_768, 65_536), 1.001),
            ] {
                let error = sizes(lq, upscale).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Resources, "{lq:?} {upscale}");
            }
            assert!(sizes((16, 16), 4.0).is_ok());
        }
        assert!(
            Sizes::of((32_768, 65_536), Target::Factor(1.0), spec(1), 512, |_| {
                false
            })
            .is_ok()
        );
    }
}
