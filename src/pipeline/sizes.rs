//! The sizes during a restoration, and their limit.

use crate::error::{Error, ErrorKind, Result};
use crate::nets::cleaner::CleanerSpec;
use crate::nets::vae::DOWNSCALE;
use crate::options::{DenoiserTiles, Options};
use crate::resize;
use crate::schedule::Fidelity;
use crate::tensor::round_up;
use crate::tiling::Layout;

/// Maximum aspect ratio of the networks' input. More extreme pictures are padded by reflection: without that, bringing
/// the short edge to 512 pixels would enlarge the long edge without bound.
pub const MAX_ASPECT: usize = 8;

/// Maximum number of pixels of any picture during a restoration. A single 32-bit array of more pixels takes over 24
/// GiB; below the limit no product of sizes and costs overflows 64 bits.
pub const MAX_PIXELS: usize = 1 << 31;

/// The VAE encoder's input and the denoiser's picture are padded to multiples of this many pixels, where the reference
/// runs the denoiser in tiles to multiples of [`DOWNSCALE`].
const MULTIPLE: usize = 64;

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
    /// Of its latent, after padding to what the encoder takes.
    pub latent: (usize, usize),
    /// Of the latent during sampling, with the padding that the denoiser needs.
    pub sampled: (usize, usize),
    /// Of the result.
    pub output: (usize, usize),
    /// Of the result with the padding that limits its aspect ratio to [`MAX_ASPECT`].
    pub padded_output: (usize, usize),
}

impl Sizes {
    /// The sizes for a picture of `lq` pixels.
    ///
    /// The part of it that the options frame is enlarged before a restoration module that keeps the size; a module that
    /// upscales (BSRNet) receives it as it is. A short edge below `min_short_edge` is enlarged to it, before the module
    /// for SwinIR, after it for the others and for SwinIR in the reference's tiles. What a module upscaled is brought to
    /// the result's size, or where the result's short edge is below `min_short_edge`, to that short edge, be it larger or
    /// smaller.
    ///
    /// Source: `SwinIRPipeline`, `BSRNetPipeline`, `SCUNetPipeline` and `Pipeline.apply_cldm`, diffbir/pipeline.py at
    /// 3f8b530.
    ///
    /// # Errors
    /// [`Resources`](ErrorKind::Resources) if one of them has more than [`MAX_PIXELS`].
    pub(super) fn of(
        lq: (usize, usize),
        options: &Options,
        spec: CleanerSpec,
        min_short_edge: usize,
    ) -> Result<Self> {
        let lq = bounded("the picture", lq)?;
        let frame = options.target()?.frame(lq);
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
        let is_small = |(h, w): (usize, usize)| h.min(w) < min_short_edge;
        let to_short_edge = |(h, w)| resize::short_edge_size(h, w, min_short_edge);
        let is_tiled = options.tiling.cleaner.is_some_and(|tiles| tiles.fit(input));
        let network = match spec.enlarge_first && !is_tiled && is_small(input) {
            true => to_short_edge(input),
            false => input,
        };
        let cleaned = (network.0 * spec.scale, network.1 * spec.scale);
        let cond = match (spec.scale, is_small(padded_output)) {
            (1, _) if is_small(cleaned) => to_short_edge(cleaned),
            (1, _) => cleaned,
            (_, true) => to_short_edge(cleaned),
            (_, false) => padded_output,
        };
        let cond = bounded("stage 2", cond)?;
        let (latent, sampled) = latent_sizes(cond, options);
        Ok(Sizes {
            origin: frame.origin,
            part: frame.part,
            input,
            network: bounded("stage 1", network)?,
            cond,
            latent,
            sampled,
            output,
            padded_output,
        })
    }
}

/// The sizes of the latent of a stage-1 picture of `cond` pixels: as encoded, and during sampling.
fn latent_sizes(cond: (usize, usize), options: &Options) -> ((usize, usize), (usize, usize)) {
    let tiling = &options.tiling;
    // The reference pads less where its tiles are asked for, even if the picture is too small for one. Strips of the
    // encoder need no other padding, so that rule is followed on request alone.
    let as_reference = options.restore.fidelity == Fidelity::Reference;
    let multiple = match tiling.cldm {
        DenoiserTiles::Reference(_) => DOWNSCALE,
        _ if as_reference && tiling.vae_encoder.is_some() => DOWNSCALE,
        _ => MULTIPLE,
    };
    let padded = |(h, w), multiple| (round_up(h, multiple), round_up(w, multiple));
    let (height, width) = padded(cond, multiple);
    let latent = (height / DOWNSCALE, width / DOWNSCALE);
    let cells = match tiling.cldm.layout(latent) {
        Some(Layout::Reference(_)) => 1,
        _ => MULTIPLE / DOWNSCALE,
    };
    (latent, padded(latent, cells))
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

    fn sizes(lq: (usize, usize), upscale: f64, spec: CleanerSpec) -> Result<Sizes> {
        let mut options = Options::default();
        options.restore.upscale = Some(upscale);
        Sizes::of(lq, &options, spec, 512)
    }

    #[test]
    fn sizes_beyond_the_bound_are_refused() {
        let spec = |scale| CleanerSpec {
            multiple: 64,
            scale,
            enlarge_first: true,
        };
        for scale in [1, 4, 16] {
            let sizes = |lq, upscale| sizes(lq, upscale, spec(scale));
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
        assert!(sizes((32_768, 65_536), 1.0, spec(1)).is_ok());
    }
}
