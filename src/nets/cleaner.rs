//! Stage 1: the network that removes the degradation and leaves an over-smooth picture.

use crate::error::Result;
use crate::nets::{Network, expect_shape, run_image};
use crate::tensor::{Image, crop, pad_to_multiple, size};
use crate::tiling::{OnTile, Tiles};

/// What a cleaner graph wants of its input and does to its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerSpec {
    /// Height and width of the input must be multiples of this (SwinIR: 64).
    pub multiple: usize,
    /// Height of the output over height of the input (BSRNet: 4, the others 1).
    pub scale: usize,
    /// Whether a small picture is enlarged to the short edge before the network (SwinIR) or after it.
    pub enlarge_first: bool,
}

/// `lq` `[N, 3, H, W]` in `[0, 1]` to its cleaned picture `[N, 3, scale * H, scale * W]`, nominally in `[0, 1]` and
/// not clamped. The input is padded with zeros to the graph's multiple and the output cropped.
///
/// # Errors
/// What the network reports, or a graph that does not keep its contract.
pub fn clean(net: &mut dyn Network, spec: CleanerSpec, lq: &Image) -> Result<Image> {
    let (h, w) = size(lq);
    let padded = pad_to_multiple(lq, spec.multiple);
    let (n, c, ph, pw) = padded.dim();
    let output = run_image(net, &[("image", (&padded).into())], "clean")?;
    expect_shape(
        "the cleaner",
        &output,
        (n, c, ph * spec.scale, pw * spec.scale),
    )?;
    Ok(crop(&output, h * spec.scale, w * spec.scale))
}

/// As [`clean`], in `tiles` (in pixels of the input), which fit into `lq`.
///
/// # Errors
/// As [`clean`], and [`Option`](crate::error::ErrorKind::Option) for tiles that do not cover the picture.
pub fn clean_tiled(
    net: &mut dyn Network,
    spec: CleanerSpec,
    lq: &Image,
    tiles: Tiles,
    on_tile: &OnTile<'_>,
) -> Result<Image> {
    tiles.blend(lq, spec.scale, on_tile, |tile, _| clean(net, spec, &tile))
}
